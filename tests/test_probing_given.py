"""Probes of a matrix whose preconditioner the user gives: `autotune.precondition`."""

import logging
from dataclasses import replace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import chosen, python_mode, relative_error
from probing_cases import DENSE, decide, geometric, reflected
from pytensor.assumptions import assume

import autotune
from autotune.algebra.diagonal import diagonal_term
from autotune.algebra.low_rank import low_rank_term
from autotune.evidence import probe
from autotune.evidence.convergence import try_out
from autotune.policy.files import load_policy
from autotune.problem import dense
from autotune.problem.spectrum import GIVEN

N = 1500
A, M = pt.matrix("A", shape=(N, N)), pt.matrix("M", shape=(N, N))
d, b = pt.vector("d", shape=(N,)), pt.vector("b", shape=(N,))
EIGENVALUES = geometric(N, 1e4)
RHS = np.random.default_rng(4).normal(size=N)
EXAMPLES = {"A": reflected(EIGENVALUES), "M": reflected(1.2 / EIGENVALUES) + 1e-5 * np.eye(N)}
MARKED = {"positive_definite": True}


def compiled(inverse=M, policy=None, **given):
    K = assume(autotune.precondition(A, inverse), **MARKED)
    K.name = "K"
    mode = autotune.mode(policy, base=python_mode(), **given)
    return pytensor.function([A, M, d, b], pt.linalg.solve(K, b), mode=mode, on_unused_input="ignore")


def decision_of(fn):
    [decision] = autotune.explain(fn).decisions
    return decision


@pytest.fixture(scope="module")
def probed():
    return compiled(example_inputs=EXAMPLES)


def test_a_good_preconditioner_is_probed_and_iterated_with(probed):
    decision = decision_of(probed)
    found = decision.problem.spectrum.under(*GIVEN)
    assert chosen(probed) == ["cg"]
    of_the_product = 1.2 + 1e-5 * EIGENVALUES
    assert decision.condition_number == found.condition_number
    assert found.condition_number == pytest.approx(of_the_product.max() / of_the_product.min(), rel=0.05)
    told = " ".join(str(autotune.explain(probed)).split())
    assert f"probed: {found.iterations(1e-10)} iterations expected" in told
    assert "with the given preconditioner" in told
    x = probed(EXAMPLES["A"], EXAMPLES["M"], np.ones(N), RHS)
    assert np.linalg.norm(EXAMPLES["A"] @ x - RHS) <= 1e-9 * np.linalg.norm(RHS)


def test_pins_iterate_with_it_without_a_probe(probed, tmp_path):
    again = compiled(policy=autotune.explain(probed).save(tmp_path / "pins.yaml"))
    first, second = decision_of(probed), decision_of(again)
    assert second.problem.spectrum is None
    for key in ("chosen", "preconditioner", "condition_number", "max_iterations", "solve_rtol"):
        assert getattr(first, key) == getattr(second, key)


def test_a_useless_preconditioner_is_declined():
    fn = compiled(pt.diag(1 / pt.diag(A)), example_inputs=EXAMPLES)
    decision = decision_of(fn)
    assert decision.problem.spectrum.under(*GIVEN) is not None
    assert decision.chosen not in ("cg", "keep")
    assert "may need" in decision.candidate("cg").reason


def test_a_diagonal_preconditioner_is_probed_as_the_one_that_it_is():
    scale = np.geomspace(1, 1e3, N)
    K = scale[:, None] * reflected(geometric(N, 2)) * scale
    fn = compiled(pt.diag(d), example_inputs={"A": K, "d": scale**-2})
    assert decision_of(fn).problem.spectrum.under(*GIVEN).condition_number == pytest.approx(2, rel=0.1)
    assert chosen(fn) == ["cg"]


def test_before_autodiff_it_is_probed_too():
    loss = b @ pt.linalg.solve(assume(autotune.precondition(A, M), **MARKED), b)
    tuned = autotune.tune(loss, example_inputs=EXAMPLES)
    fn = pytensor.function([A, M, b], pt.grad(tuned, b), mode=autotune.mode(base=python_mode()))
    assert chosen(fn) == ["cg"]
    expected = 2 * np.linalg.solve(EXAMPLES["A"], RHS)
    assert relative_error(fn(EXAMPLES["A"], EXAMPLES["M"], RHS), expected) < 1e-6


@pytest.mark.parametrize(
    ("example", "told"),
    [
        (-np.eye(N), "not positive definite"),
        (np.full((N, N), np.nan), "not positive definite"),
        (np.eye(5), "order 5, the matrix 1500"),
    ],
    ids=["negative", "nan", "too-small"],
)
def test_what_is_no_preconditioner_is_told_and_compiled_all_the_same(example, told, caplog):
    inverse = pt.matrix("M")
    K = assume(autotune.precondition(A, inverse), **MARKED)
    K.name = "K"
    mode = autotune.mode(base=python_mode(), example_inputs=EXAMPLES | {"M": example})
    with caplog.at_level(logging.WARNING, logger="autotune"):
        fn = pytensor.function([A, inverse, b], pt.linalg.solve(K, b), mode=mode)
    assert "could not probe matrix 'K'" in caplog.text
    assert told in caplog.text
    assert decision_of(fn).problem.spectrum is None
    assert chosen(fn) != ["cg"]


def test_without_an_example_of_the_preconditioner_nothing_is_probed():
    fn = compiled(example_inputs={"A": EXAMPLES["A"]})
    found = decision_of(fn).problem.spectrum
    assert (found.convergence, found.unprobed) == ((), "no example of 'M'")


@pytest.mark.parametrize(
    ("inverse", "numbers"),
    [
        (lambda n: None, N**2),
        (diagonal_term, N**2),
        (lambda n: low_rank_term(n, n // 2), N**2 + N // 2 * N),
        (dense, 2 * N**2),
    ],
)
def test_memory_and_products_count_what_is_given(inverse, numbers):
    problem = replace(DENSE, term=dense(N), inverse=inverse(N))
    needed = 8 * probe.MATRICES_HELD * numbers
    for limit, expected in ((needed, True), (needed - 1, False)):
        policy = load_policy({"probe": True, "memory_limit": limit}, layers=False)
        assert probe.may_be_probed(problem, policy, None) is expected
    huge = replace(problem, term=dense(40 * N), inverse=inverse(40 * N))
    assert probe.products_for(huge) == int(probe.MOST_READ / (numbers * 40**2))


def test_the_given_preconditioner_comes_before_one_that_a_policy_names():
    rules = [{"options": {"preconditioner": {"name": "pivoted_cholesky", "rank": 30}}}]
    problem = replace(DENSE, term=dense(300), inverse=dense(300))
    kinds = probe.kinds_to_try(problem, load_policy({"rules": rules}, layers=False))
    assert set(kinds) == {("none", None), GIVEN}
    assert decide(replace(problem, term=dense(4000)), rules=rules).preconditioner is None


def test_a_log_determinant_is_probed_without_it():
    """Its estimate does not use the matrix given, so that what is told of it would be wrong."""
    both = (*DENSE.requests, replace(DENSE.requests[0], kind="logdet"))
    problem = replace(DENSE, term=dense(300), inverse=dense(300), requests=both)
    policy = {"accuracy": {"logdet_rtol": 0.1}}
    kinds = probe.kinds_to_try(problem, load_policy(policy, layers=False))
    assert GIVEN not in kinds
    found = try_out(reflected(geometric(300, 10)), kinds, 30)
    marked, unmarked = (
        decide(replace(problem, spectrum=found, inverse=inverse), **policy) for inverse in (dense(300), None)
    )
    assert marked.condition_number == unmarked.condition_number is not None
    assert marked.preconditioner == unmarked.preconditioner
