"""From examples of a function's inputs to a choice: what is probed, what is told of it, and that it lasts."""

import json
import logging
import math
import pickle

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import chosen, python_mode, relative_error
from probing_cases import (
    FORCE,
    INPUTS,
    ORDER,
    VALUES,
    compiled,
    gaussian_kernel,
    geometric,
    kernel_solve,
    noise,
    points,
    reflected,
    rhs,
    spectrum_of,
)
from pytensor.assumptions import assume

import autotune
from autotune.evidence import probe
from autotune.evidence.examples import Examples, examples_from, joined


@pytest.mark.parametrize("keys", ["variables", "names"])
def test_example_inputs_are_probed(keys):
    variables = dict(zip((points, noise, rhs), VALUES.values(), strict=True))
    fn = compiled(example_inputs=variables if keys == "variables" else VALUES)
    found = spectrum_of(fn)
    exact = np.linalg.cond(gaussian_kernel(ORDER, math.sqrt(0.5), 1.0, seed=1, dims=2))
    assert found.origin == "probe"
    assert found.under("none", None).condition_number == pytest.approx(exact, rel=0.1)
    assert found.products <= probe.MOST_PRODUCTS
    told = str(autotune.explain(fn))
    assert "probed: " in told
    assert f"{found.products} products" in " ".join(told.split())
    assert relative_error(fn(*VALUES.values()), compiled()(*VALUES.values())) < 1e-8


def test_examples_tell_sizes_that_types_do_not():
    A, b = pt.matrix("A"), pt.vector("b")
    given = {"A": reflected(geometric(ORDER, 10)), "b": VALUES["rhs"]}
    mode = autotune.mode(base=python_mode(), example_inputs=given)
    fn = pytensor.function([A, b], pt.linalg.solve(assume(A, positive_definite=True), b), mode=mode)
    [decision] = autotune.explain(fn).decisions
    assert decision.problem.n == ORDER
    assert decision.problem.spectrum is not None
    assert relative_error(fn(np.eye(5) * 2, np.ones(5)), np.full(5, 0.5)) < 1e-12


def test_a_right_hand_side_needs_no_example():
    given = {k: v for k, v in VALUES.items() if k != "rhs"}
    assert spectrum_of(compiled(example_inputs=given)) is not None


@pytest.mark.parametrize(
    ("policy", "given"),
    [
        ({}, {}),
        ({"probe": False}, {"example_inputs": VALUES}),
        ({"probe": True}, {}),
        ({"rules": [{"force": "cholesky"}]}, {"example_inputs": VALUES}),
        ({"rules": [{"forbid": ["cg", "lanczos"]}]}, {"example_inputs": VALUES}),
        ({"rules": [{"options": {"condition_number": 5}}]}, {"example_inputs": VALUES}),
        ({"memory_limit": "1MB"}, {"example_inputs": VALUES}),
    ],
    ids=[
        "none",
        "not-allowed",
        "no-values",
        "forced",
        "forbidden",
        "declared",
        "memory",
    ],
)
def test_nothing_is_probed_without_a_use_an_example_and_leave(policy, given):
    fn = compiled(policy, **given)
    assert spectrum_of(fn) is None
    assert "probed" not in str(autotune.explain(fn))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"points": VALUES["points"]}, "no example of 'noise'"),
        ({"pionts": VALUES["points"], "noise": 1.0}, "no example of 'points'"),
        (VALUES | {"points": np.zeros((3, 3, 3))}, "the example of 'points' does not fit: Wrong number"),
        (VALUES | {"points": np.zeros((ORDER, 3))}, "the example of 'points' does not fit: The type's shape"),
        (VALUES | {"noise": -5.0}, "of the examples it is not positive definite"),
    ],
    ids=["missing", "misspelt", "dimensions", "shape", "indefinite"],
)
def test_examples_that_cannot_be_used_are_told_in_the_plan(given, why, caplog):
    fn = compiled(example_inputs=given)
    assert spectrum_of(fn).convergence == ()
    assert f"not probed: {why}" in " ".join(str(autotune.explain(fn)).split())
    assert "no condition number is declared" in autotune.explain(fn).decisions[0].candidate("cg").reason
    assert not caplog.records
    assert relative_error(fn(*VALUES.values()), compiled()(*VALUES.values())) < 1e-12


@pytest.mark.parametrize(
    ("example", "sizes", "why"),
    [
        (np.ones((220, 7)), {}, "the examples do not tell its order"),
        (np.ones((220, 7)), {"v[0]": 220}, "of the examples it is 220 x 7, where n = 220"),
        (np.eye(ORDER), {"A[0]": 5000}, f"of the examples it is {ORDER} x {ORDER}, where n = 5000"),
    ],
    ids=["not-square", "not-square-either", "other-than-the-hint"],
)
def test_an_example_of_another_order_than_the_matrix_is_told(example, sizes, why):
    A, v = pt.matrix("A"), pt.vector("v")
    mode = autotune.mode({"sizes": sizes}, base=python_mode(), example_inputs={"A": example})
    fn = pytensor.function([A, v], pt.linalg.solve(assume(A, positive_definite=True), v), mode=mode)
    assert f"not probed: {why}" in " ".join(str(autotune.explain(fn)).split())


def test_what_the_structure_says_stays_known_where_examples_cannot_be_used():
    U = pt.matrix("U", shape=(ORDER, 3))
    K = assume(U @ U.T + noise * pt.eye(ORDER), positive_definite=True)
    mode = autotune.mode(base=python_mode(), example_inputs={"U": np.ones((ORDER, 3))})
    fn = pytensor.function([U, noise, rhs], pt.linalg.solve(K, rhs), mode=mode)
    found = spectrum_of(fn)
    assert (found.origin, found.eigenvalues, found.unprobed) == ("bound", 4, "no example of 'noise'")


def test_what_fails_on_the_example_is_told_and_compiled_all_the_same(caplog):
    mode = autotune.mode(base=python_mode(), example_inputs={"A": np.eye(ORDER), "shift": np.zeros(7)})
    A, shift = pt.matrix("A", shape=(ORDER, ORDER)), pt.vector("shift")
    K = assume(A + pt.diag(shift), positive_definite=True)
    K.name = "K"
    with caplog.at_level(logging.WARNING, logger="autotune"):
        fn = pytensor.function([A, shift, rhs], pt.linalg.solve(K, rhs), mode=mode)
    assert "could not probe matrix 'K'" in caplog.text
    assert relative_error(fn(np.eye(ORDER), np.ones(ORDER), VALUES["rhs"]), VALUES["rhs"] / 2) < 1e-12


def test_shared_variables_are_probed_where_the_policy_says_so():
    held = pytensor.shared(reflected(geometric(ORDER, 10)), name="A")
    x = pt.linalg.solve(assume(held, positive_definite=True), rhs)
    fns = [
        pytensor.function([rhs], x, mode=autotune.mode(policy, base=python_mode()))
        for policy in ({"probe": True}, None)
    ]
    assert spectrum_of(fns[0]).under("none", None).condition_number == pytest.approx(10, rel=0.1)
    assert spectrum_of(fns[1]) is None


def test_a_probe_leaves_shared_variables_as_they_are():
    count = pytensor.shared(np.array(1.0), name="count")
    K = assume(pt.eye(ORDER) * count + pt.eye(ORDER)[::-1] / 2, positive_definite=True)
    mode = autotune.mode({"probe": True}, base=python_mode())
    fn = pytensor.function([rhs], pt.linalg.solve(K, rhs), mode=mode, updates={count: count + 1})
    assert spectrum_of(fn).under("none", None).condition_number == pytest.approx(3, rel=0.1)
    assert count.get_value() == 1


def test_gradients_carry_what_was_probed():
    K = pt.matrix("A", shape=(ORDER, ORDER))
    given = {"A": reflected(geometric(ORDER, 10))}
    loss = rhs @ pt.linalg.solve(assume(K, positive_definite=True), rhs)
    tuned = autotune.tune(loss, FORCE, example_inputs=given)
    fn = pytensor.function([K, rhs], pt.grad(tuned, rhs), mode=autotune.mode(FORCE, base=python_mode()))
    assert chosen(fn) == ["cg"]
    assert spectrum_of(fn).origin == "probe"
    A, b = given["A"], VALUES["rhs"]
    assert relative_error(fn(A, b), 2 * np.linalg.solve(A, b)) < 1e-8


def test_an_example_unlike_the_values_costs_no_accuracy():
    fn = compiled(FORCE, example_inputs=VALUES)
    assert chosen(fn) == ["cg"]
    for given in (1e-4, 1e4):
        values = [VALUES["points"], np.array(given), VALUES["rhs"]]
        K = gaussian_kernel(ORDER, math.sqrt(0.5), given, seed=1, dims=2)
        residual = K @ fn(*values) - VALUES["rhs"]
        assert np.linalg.norm(residual) <= 1e-9 * np.linalg.norm(VALUES["rhs"])


def test_a_plan_with_a_probe_is_valid_json():
    [data] = json.loads(autotune.explain(compiled(example_inputs=VALUES)).to_json())["decisions"]
    assert data["problem"]["spectrum"]["origin"] == "probe"


def test_enabled_examples_reach_every_compile_and_end_with_the_block():
    with autotune.enabled(example_inputs=VALUES):
        fn = pytensor.function(INPUTS, kernel_solve(), mode=python_mode())
    assert spectrum_of(fn) is not None
    with autotune.enabled():
        fn = pytensor.function(INPUTS, kernel_solve(), mode=python_mode())
    assert spectrum_of(fn) is None


def test_pins_make_the_same_choice_without_a_probe(tmp_path):
    fn = compiled(FORCE, example_inputs=VALUES)
    decision = autotune.explain(fn).decisions[0]
    assert decision.preconditioner is not None or decision.condition_number is not None
    again = compiled(autotune.explain(fn).save(tmp_path / "pins.yaml"))
    pinned = autotune.explain(again).decisions[0]
    for key in ("chosen", "preconditioner", "condition_number", "max_iterations", "solve_rtol"):
        assert getattr(pinned, key) == getattr(decision, key)
    np.testing.assert_array_equal(fn(*VALUES.values()), again(*VALUES.values()))


def test_the_same_example_gives_the_same_plan():
    first, second = (autotune.explain(compiled(example_inputs=VALUES)) for _ in range(2))
    assert first == second
    assert hash(first.decisions) == hash(second.decisions)


# -- examples as values ----------------------------------------------------------------------------


def test_modes_and_functions_with_examples_can_be_pickled():
    fn = compiled(example_inputs=VALUES)
    again = pickle.loads(pickle.dumps(fn))
    assert autotune.explain(again).decisions == autotune.explain(fn).decisions
    mode = pickle.loads(pickle.dumps(autotune.mode(base=python_mode(), example_inputs=VALUES)))
    assert spectrum_of(pytensor.function(INPUTS, kernel_solve(), mode=mode)) is not None


def test_examples_are_equal_where_their_arrays_are():
    first, second = Examples(VALUES), Examples({points: VALUES["points"], **VALUES})
    assert first == second
    assert hash(first) == hash(second)
    assert first != Examples(VALUES | {"noise": np.array(2.0)})
    assert joined(None, first, Examples({"noise": 2.0}))["noise"] == 2.0
    assert joined(None, None) is None


def test_examples_do_not_change_with_the_array_given():
    given = np.ones((2, 2))
    examples = Examples({"K": given})
    given[0, 0] = 7
    assert examples["K"][0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        examples["K"][0, 0] = 7


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ([1, 2], TypeError, "found list; give a mapping"),
        ({pt.matrix(): np.ones((2, 2))}, ValueError, "without a name; name the variable"),
        ({points: np.ones(3)}, TypeError, "'points' does not fit"),
        ({3: np.ones(3)}, ValueError, "found 3 without a name"),
    ],
)
def test_malformed_examples_are_errors_at_the_door(given, error, told):
    with pytest.raises(error, match=told):
        autotune.mode(example_inputs=given)
    with pytest.raises(error, match=told):
        examples_from(given)


# -- accuracy on both sides --------------------------------------------------------------------------


@pytest.mark.parametrize("rtol", [1e-4, 1e-10])
def test_iterative_and_direct_results_agree_to_the_tolerance_at_every_size(rtol):
    """Nothing in the values tells where the choice turns from one to the other."""
    A, b = pt.matrix("A"), pt.vector("b")
    x = pt.linalg.solve(assume(A, positive_definite=True), b)
    fns = [
        pytensor.function(
            [A, b],
            x,
            mode=autotune.mode(
                {"accuracy": {"solve_rtol": rtol}, "rules": [{"force": name}]}, base=python_mode()
            ),
        )
        for name in ("cg", "cholesky")
    ]
    for n in (50, 51, 199, 200, 201, 400):
        values = reflected(geometric(n, 10), seed=n), np.random.default_rng(n).normal(size=n)
        found, exact = (fn(*values) for fn in fns)
        assert np.linalg.norm(values[0] @ (found - exact)) <= 1.01 * rtol * np.linalg.norm(values[1])
