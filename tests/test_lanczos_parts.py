"""Lanczos' log-determinants through choice and compile: in parts, with their gradients, and their prices."""

from dataclasses import replace

import numpy as np
import pytensor.tensor as pt
import pytest
from cubic import core_of
from helpers import (
    compile_raw,
    compile_with,
    diagonal_plus_low_rank,
    largest_array,
    relative_error,
)
from lanczos_helpers import with_spectrum
from pytensor.assumptions import assume

import autotune
from autotune.choose import choose, strategy
from autotune.policy.files import load_policy
from autotune.problem import Options, Problem, Request, dense
from cost_models import generic_profile

PROFILE = generic_profile()
N, K = 60, 12
A, U, V = pt.matrix("A", shape=(N, N)), pt.matrix("U", shape=(N, K)), pt.matrix("V", shape=(N, 2))
d, b = pt.vector("d", shape=(N,)), pt.vector("b", shape=(N,))
_rng = np.random.default_rng(0)
VALUES = {
    A: with_spectrum(np.geomspace(1, 5, N)),
    U: _rng.normal(size=(N, K)) / 4,
    V: _rng.normal(size=(N, 2)) / 4,
    d: _rng.uniform(2, 3, N),
    b: _rng.normal(size=N),
}
# A matrix, what it depends on, the Op of its gradient, and whether nothing n x n is made for it.
MATRICES = {
    "diagonal_low_rank": (U @ U.T + pt.diag(d), [U, d], "LowRankInverseDiagonal", True),
    "two_low_ranks": (U @ U.T + V @ V.T + pt.diag(d), [U, V, d], "LowRankInverseDiagonal", True),
    "dense_sum": (A + U @ U.T + pt.diag(d), [A, U, d], "CholeskyInverse", False),
    "dense": (A + pt.diag(d), [A, d], "CholeskyInverse", False),
}
LOGDET = Request("logdet", form="cholesky")
DENSE = Problem(
    requests=(Request("solve", 1, form="pos"), LOGDET),
    term=dense(4000),
    positive_definite=True,
    symmetric=True,
)
THIN = replace(DENSE, requests=(LOGDET,), term=diagonal_plus_low_rank(12000, 4000))


def policy(rtol=0.05):
    return {"accuracy": {"logdet_rtol": rtol}, "rules": [{"force": "lanczos"}]}


def value_and_gradient(loss, wrt, rtol):
    tuned = autotune.tune(loss, policy(rtol))
    return compile_with(list(VALUES), [tuned, *pt.grad(tuned, wrt)], policy(rtol))


# -- values and gradients -------------------------------------------------------------------------


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("rtol", [0.2, 1e-10])
def test_values_are_within_the_tolerance_and_gradients_exact(name, rtol):
    matrix, wrt, gradient, thin = MATRICES[name]
    matrix = assume(matrix, positive_definite=True)
    loss = b @ pt.linalg.solve(matrix, b) + pt.linalg.slogdet(matrix)[1]
    fn = value_and_gradient(loss, [*wrt, b], rtol)
    counted = {type(core_of(node.op)).__name__ for node in fn.maker.fgraph.apply_nodes}
    assert {"LanczosLogdet", gradient} <= counted
    assert (largest_array(fn) < N * N) == thin
    plain = compile_raw(list(VALUES), [loss, *pt.grad(loss, [*wrt, b])])
    (value, *slopes), (truth, *expected) = fn(*VALUES.values()), plain(*VALUES.values())
    assert value == pytest.approx(truth, rel=max(rtol, 1e-9))
    assert (value == pytest.approx(truth, rel=1e-9)) == (rtol < 0.1)
    for found, exact in zip(slopes, expected, strict=True):
        assert relative_error(found, exact) < 1e-10


@pytest.mark.parametrize("name", MATRICES)
def test_estimates_in_parts_are_those_of_the_formed_matrix(name):
    """With the same probes."""
    matrix = MATRICES[name][0]
    whole = pt.matrix("whole", shape=(N, N))
    formed = pt.linalg.slogdet(assume(whole, positive_definite=True))[1]
    values = compile_raw(list(VALUES), [matrix])(*VALUES.values())
    loss = pt.linalg.slogdet(assume(matrix, positive_definite=True))[1]
    [found] = compile_with(list(VALUES), [loss], policy(0.2))(*VALUES.values())
    assert found == pytest.approx(compile_with([whole], [formed], policy(0.2))(*values)[0], rel=1e-12)
    assert found != pytest.approx(np.linalg.slogdet(values[0])[1])


def test_an_inverse_that_is_asked_for_is_not_estimated():
    options = Options(logdet_rtol=0.05, condition_number=5.0, forced=True)
    for kind in ("inverse", "inverse_diagonal"):
        declined = strategy("lanczos").declines(replace(THIN, requests=(LOGDET, Request(kind))), options)
        assert "not estimated" in declined.reason


# -- prices ---------------------------------------------------------------------------------------


def count(problem, kernel, **options):
    work = strategy("lanczos").work(problem, Options(logdet_rtol=0.05, **options))
    return sum(c.count for c in work.calls if c.kernel == kernel)


def test_a_gradient_is_priced_as_the_exact_one_beside_the_value():
    """One factor serves it and the solves."""
    value = count(replace(DENSE, requests=(LOGDET,)), "cg_iteration", condition_number=10.0)
    problem = replace(DENSE, differentiated=True)
    for kernel, times in (("potrf", 1), ("potri", 1), ("cg_iteration", value)):
        assert count(problem, kernel, condition_number=10.0) == times
    assert count(replace(THIN, differentiated=True), "low_rank_diagonal", condition_number=10.0) == 1


def test_thin_parts_are_priced_and_held_as_such():
    options = Options(logdet_rtol=0.05, condition_number=5.0)
    for problem in (THIN, replace(THIN, differentiated=True)):
        work = strategy("lanczos").work(problem, options)
        assert max(n for c in work.calls if c.kernel == "cg_iteration" for n in c.dims) < 100
        assert work.peak_bytes < 8 * THIN.n**2
        direct, _ = strategy("lanczos").guarded(problem, options)
        assert {c.kernel for c in direct} <= {"low_rank_factor", "low_rank_solve", "low_rank_diagonal"}


def test_near_a_third_of_the_order_columns_are_cheaper_multiplied_than_factorised():
    """For a value. A gradient needs the factor."""
    policy = {"accuracy": {"logdet_rtol": 0.05}, "rules": [{"options": {"condition_number": 5}}]}
    few = replace(THIN, term=diagonal_plus_low_rank(12000, 10))
    differentiated = replace(THIN, differentiated=True)
    for problem, chosen in ((THIN, "lanczos"), (differentiated, "woodbury"), (few, "woodbury")):
        assert choose(problem, load_policy(policy, layers=False), PROFILE).chosen == chosen
