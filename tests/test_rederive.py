"""A gradient that was taken before the compile gets the choice that ``tune`` gives before it is taken."""

import itertools
from collections import Counter

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import (
    chosen,
    compile_raw,
    compile_with,
    forced,
    in_turn,
    op_names,
    python_mode,
    relative_error,
)
from pytensor.compile.builders import OpFromGraph
from pytensor.tensor.linalg import inv, slogdet, solve
from taken_gradients import (
    EXACT,
    LOSSES,
    LOW_RANK_VALUES,
    MATRICES,
    STYLES,
    Y_VALUE,
    N,
    a_case,
    assert_same,
    by_factor,
    by_inverse,
    by_solve,
    dense,
    low_rank,
)

import autotune
from autotune.ops._base import LinalgOp

FORMS = {
    "value and gradient": lambda c: c.outputs(),
    "gradient alone": lambda c: pt.grad(c.loss, c.wrt),
    "negated afterwards": lambda c: [-c.loss, *(-g for g in pt.grad(c.loss, c.wrt))],
    "negated before": lambda c: c.outputs(-c.loss),
    "mean over data": lambda c: c.outputs(c.loss / c.inputs[1].shape[0]),
    "one flat gradient": lambda c: [c.loss, pt.concatenate([g.ravel() for g in pt.grad(c.loss, c.wrt)])],
    "with a prior": lambda c: c.outputs(c.loss + sum((v**2).sum() for v in c.wrt)),
    "norm of the gradient": lambda c: [sum((g**2).sum() for g in pt.grad(c.loss, c.wrt))],
    "one step": lambda c: [v - 0.1 * g for v, g in zip(c.wrt, pt.grad(c.loss, c.wrt), strict=True)],
    "of two losses": lambda c: [
        *c.outputs(),
        *c.outputs(3 * by_inverse(2 * pt.eye(N), c.inputs[1]) - c.loss),
    ],
}
CASES = [
    *[(matrix, loss, "separate", "value and gradient") for matrix in MATRICES for loss in LOSSES],
    *[(matrix, "inverse", style, "value and gradient") for matrix in MATRICES for style in STYLES],
    *[("low_rank", "inverse", "separate", form) for form in FORMS],
    *[("dense", "factor", "flat", form) for form in ("gradient alone", "one flat gradient", "one step")],
]
CASES = list(dict.fromkeys(CASES))


def algebra(fn) -> Counter:
    """The Ops of a compiled graph that are linear algebra."""
    counted = Counter()
    for node in fn.maker.fgraph.apply_nodes:
        core = getattr(node.op, "core_op", node.op)
        module = type(core).__module__
        if isinstance(core, LinalgOp) or ".linalg" in module or "blas" in module or "autotune.ops" in module:
            counted[str(core)] += 1
    return counted


@pytest.mark.parametrize(("matrix", "loss", "style", "form"), in_turn(CASES, 12))
def test_value_and_gradient_are_those_of_pytensor(matrix, loss, style, form):
    case = a_case(matrix, loss, style)
    outputs = FORMS[form](case)
    fn = compile_with(case.inputs, outputs, EXACT)
    assert all(d.before_autodiff for d in autotune.explain(fn).decisions)
    assert_same(fn, compile_raw(case.inputs, outputs), case.values)


@pytest.mark.parametrize(
    ("matrix", "loss", "style", "policy"),
    in_turn(
        [
            *[(matrix, "inverse", style, EXACT) for style in STYLES for matrix in MATRICES],
            *[(matrix, loss, "separate", EXACT) for matrix in MATRICES for loss in ("factor", "solve")],
            *[(matrix, "inverse", "separate", None) for matrix in MATRICES],
        ],
        5,
    ),
)
def test_linear_algebra_is_that_of_what_was_tuned_first(matrix, loss, style, policy):
    case = a_case(matrix, loss, style)
    taken = compile_with(case.inputs, case.outputs(), policy)
    if style == "pieces_of_flat":  # what `tune` gives has other pieces
        case = a_case(matrix, loss, "flat")
    tuned = compile_with(case.inputs, case.outputs(autotune.tune(case.loss, policy)), policy)
    assert algebra(taken) == algebra(tuned)
    assert chosen(taken) == chosen(tuned)


@pytest.mark.parametrize(("loss", "matrix"), in_turn(itertools.product(LOSSES, MATRICES), 3))
def test_without_static_shapes(loss, matrix):
    case = a_case(matrix, loss, known=False)
    fn = compile_with(case.inputs, case.outputs(), EXACT)
    tuned = compile_with(case.inputs, case.outputs(autotune.tune(case.loss, EXACT)), EXACT)
    assert algebra(fn) == algebra(tuned)
    assert_same(fn, compile_raw(case.inputs, case.outputs()), case.values)


@pytest.mark.parametrize("matrix", MATRICES)
def test_under_the_global_door(matrix):
    case = a_case(matrix)
    with autotune.enabled(EXACT) as session:
        fn = pytensor.function(case.inputs, case.outputs(), mode=python_mode(), on_unused_input="ignore")
    assert [d.before_autodiff for d in session.plans[0].decisions] == [True]
    assert algebra(fn) == algebra(compile_with(case.inputs, case.outputs(), EXACT))
    assert_same(fn, compile_raw(case.inputs, case.outputs()), case.values)


def test_the_policy_of_the_mode_decides_under_the_global_door():
    case = a_case("low_rank")
    with autotune.enabled(forced("cholesky_or_lu")):
        fn = compile_with(case.inputs, case.outputs(), forced("woodbury"))
    assert chosen(fn) == ["woodbury"]


def test_expressions_that_were_written_twice():
    """The gradient is a sum over both, which merging would make another graph."""
    case = a_case("low_rank")
    _, y, U, d = case.inputs
    case.loss = 0.5 * y @ inv(U @ U.T + pt.diag(d**2)) @ y + 0.5 * slogdet(U @ U.T + pt.diag(d**2))[1]
    fn = compile_with(case.inputs, case.outputs(), EXACT)
    assert [d.before_autodiff for d in autotune.explain(fn).decisions] == [True]
    assert_same(fn, compile_raw(case.inputs, case.outputs()), case.values)


def test_shared_parameters_and_their_updates():
    """As an optimiser compiles them: no gradient is an output."""
    case = a_case("low_rank")
    shared = [pytensor.shared(v, name=f"shared_{i}") for i, v in enumerate(LOW_RANK_VALUES)]
    X, y = case.inputs[:2]
    loss = by_inverse(low_rank(X, *shared), y)
    updates = [(v, v - 0.01 * g) for v, g in zip(shared, pt.grad(loss, shared), strict=True)]
    results = []
    for mode in (python_mode(), autotune.mode(EXACT, python_mode())):
        for v, value in zip(shared, LOW_RANK_VALUES, strict=True):
            v.set_value(value)
        fn = pytensor.function([y], loss, updates=updates, mode=mode)
        results.append([fn(Y_VALUE), fn(Y_VALUE), *(v.get_value() for v in shared)])
    assert [d.before_autodiff for d in autotune.explain(fn).decisions] == [True]
    for ours, plain in zip(*results, strict=True):
        assert relative_error(ours, plain) < 1e-9


def test_random_numbers_are_drawn_once():
    case = a_case("low_rank")
    rng = pytensor.shared(np.random.default_rng(3), name="rng")
    next_rng, noise = pt.random.normal(0, 1, size=(N,), rng=rng, return_next_rng=True)
    case.loss = by_inverse(low_rank(*[case.inputs[i] for i in (0, 2, 3)]), case.inputs[1] + noise)
    results = []
    for mode in (python_mode(), autotune.mode(EXACT, python_mode())):
        rng.set_value(np.random.default_rng(3))
        outputs = [*case.outputs(), noise]
        fn = pytensor.function(
            case.inputs, outputs, updates={rng: next_rng}, mode=mode, on_unused_input="ignore"
        )
        results.append([*fn(*case.values), *fn(*case.values)])
    assert [d.before_autodiff for d in autotune.explain(fn).decisions] == [True]
    for ours, plain in zip(*results, strict=True):
        assert relative_error(ours, plain) < 1e-9


def test_what_else_is_asked_of_the_matrix_shares_the_decision():
    case = a_case("dense")
    X, y, *parameters = case.inputs
    A = dense(X, *parameters)
    outputs = [*case.outputs(), inv(A) @ pt.sin(y), slogdet(A)[1], y.sum(), A[0]]
    fn = compile_with(case.inputs, outputs, EXACT)
    assert len(chosen(fn)) == 1
    assert_same(fn, compile_raw(case.inputs, outputs), case.values)


def test_other_matrices_are_not_priced_as_if_differentiated():
    case = a_case("low_rank")
    outputs = [*case.outputs(), solve(case.inputs[0].T @ case.inputs[0], case.inputs[0].T @ case.inputs[1])]
    fn = compile_with(case.inputs, outputs, EXACT)
    decided = {d.problem.structure: d.before_autodiff for d in autotune.explain(fn).decisions}
    assert decided == {("diagonal", "low_rank"): True, ("dense",): False}
    assert_same(fn, compile_raw(case.inputs, outputs), case.values)


# -- graphs inside ----------------------------------------------------------------------------------------


def in_a_scan(case):
    X, y, U, d = case.inputs
    steps = pytensor.scan(
        lambda s, total: total + by_inverse(low_rank(X, U, s * d), y),
        sequences=[pt.constant(np.array([1.0, 2.0]))],
        outputs_info=[pt.constant(np.float64(0))],
        return_updates=False,
    )
    return case.loss + steps[-1]


def in_an_op(case):
    X, y, U, d = case.inputs
    inner = OpFromGraph([U, d, y], [by_inverse(low_rank(X, U, d), y)])
    return case.loss + inner(U, 2 * d, y)


def in_an_inlined_op(case):
    X, y, U, d = case.inputs
    a, b = U.type(), d.type()
    return OpFromGraph([a, b, y], [by_inverse(low_rank(X, a, b), y)], inline=True)(U, 2 * d, y) + case.loss


@pytest.mark.parametrize("wrap", [in_a_scan, in_an_op, in_an_inlined_op])
def test_beside_graphs_inside(wrap):
    case = a_case("low_rank")
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        outputs = case.outputs(wrap(case))
        fn = compile_with(case.inputs, outputs, EXACT)
        assert any(d.before_autodiff for d in autotune.explain(fn).decisions)
        assert_same(fn, compile_raw(case.inputs, outputs), case.values)


# -- plans --------------------------------------------------------------------------------------------------


def an_entry(A, y):
    return pt.diagonal(inv(A) @ pt.outer(y, y))[1]


WOODBURY = {"rules": [{"force": "woodbury"}]}
PINNED = [
    *[(matrix, by_inverse, True, None) for matrix in MATRICES],
    *[(matrix, an_entry, False, None) for matrix in MATRICES],
    ("dense", by_factor, False, None),
    ("dense", by_solve, False, {"runtime_dispatch": False}),
    *[("low_rank", loss, False, policy) for loss in (by_inverse, by_solve) for policy in (None, WOODBURY)],
    ("low_rank", by_factor, False, {"rules": [{"force": "keep"}]}),
]


@pytest.mark.parametrize(
    ("matrix", "loss", "known", "policy", "tuned"),
    in_turn([(*case, tuned) for case in PINNED for tuned in (False, True)], 6),
)
def test_saved_pins_find_their_problems(matrix, loss, known, policy, tuned, tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(LOSSES, "pinned", loss)
    case = a_case(matrix, "pinned", known=known)

    def compiled(policy):
        return compile_with(
            case.inputs, case.outputs(autotune.tune(case.loss, policy) if tuned else None), policy
        )

    fn = compiled(policy)
    pins = autotune.explain(fn).save(tmp_path / "pins.yaml")
    again = compiled(pins)
    assert "finds nothing" not in caplog.text
    assert sorted(op_names(again)) == sorted(op_names(fn))
    assert not autotune.explain(fn).diff(autotune.explain(again))


def test_several_precisions_are_left_as_they_are(caplog):
    X, y = pt.matrix("X", shape=(6, 2)), pt.vector("y", shape=(6,), dtype="float32")
    K = X @ X.T + pt.eye(6)
    loss = pt.sqr(solve(K, y)).sum() + slogdet(K)[1]
    outputs = [loss, *pt.grad(loss, [X, y])]
    with caplog.at_level("WARNING", logger="autotune"):
        fn = compile_with([X, y], outputs)
    assert not caplog.records
    values = np.random.default_rng(0).normal(size=(6, 2)), np.arange(6, dtype="float32")
    for mine, plain in zip(fn(*values), compile_raw([X, y], outputs)(*values), strict=True):
        assert mine.dtype == plain.dtype
        assert relative_error(mine, plain) < 1e-5
