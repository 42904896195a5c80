"""Lanczos' log-determinants through choice and compile: in parts, with their gradients, and their prices."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import (
    compile_plain,
    compile_with,
    diagonal_plus_low_rank,
    largest_array,
    python_mode,
    relative_error,
)
from lanczos_helpers import with_spectrum
from pytensor.assumptions import assume

import autotune
from autotune.algebra.dense import Dense
from autotune.choose import choose, seconds, strategy
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
    "diagonal_low_rank": (U @ U.T + pt.diag(d), [U, d], "LanczosInverseOfParts", True),
    "two_low_ranks": (U @ U.T + V @ V.T + pt.diag(d), [U, V, d], "LanczosInverseOfParts", True),
    "dense_sum": (A + U @ U.T + pt.diag(d), [A, U, d], "LanczosInverse", False),
    "dense": (A + pt.diag(d), [A, d], "LanczosInverse", False),
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


def ops(fn):
    return Counter(type(node.op).__name__ for node in fn.maker.fgraph.apply_nodes)


# -- values and gradients -------------------------------------------------------------------------


@pytest.mark.parametrize("name", MATRICES)
def test_a_marginal_likelihood_in_parts_falls_back_to_the_exact_one(name):
    matrix, wrt, gradient, thin = MATRICES[name]
    matrix = assume(matrix, positive_definite=True)
    loss = b @ pt.linalg.solve(matrix, b) + pt.linalg.slogdet(matrix)[1]
    fn = value_and_gradient(loss, [*wrt, b], 1e-10)
    counted = ops(fn)
    assert (counted["LanczosLogdet"], counted[gradient], counted["BlockCG"]) == (1, 1, 1)
    assert (largest_array(fn) < N * N) == thin
    plain = compile_plain(list(VALUES), [loss, *pt.grad(loss, [*wrt, b])])
    for found, expected in zip(fn(*VALUES.values()), plain(*VALUES.values()), strict=True):
        assert relative_error(found, expected) < 1e-8


@pytest.mark.parametrize("name", MATRICES)
def test_estimates_in_parts_are_those_of_the_formed_matrix(name):
    """With the same probes: by the chain rule, the gradient onto the parts of the one onto the matrix."""
    matrix, wrt, _, _ = MATRICES[name]
    whole = pt.matrix("whole", shape=(N, N))
    formed = autotune.tune(pt.linalg.slogdet(assume(whole, positive_definite=True))[1], policy(0.2))
    of_whole = compile_with([whole], [formed, pt.grad(formed, whole)], policy(0.2))
    inputs = list(VALUES)
    value, bar = of_whole(compile_plain(inputs, [matrix])(*VALUES.values())[0])
    loss = pt.linalg.slogdet(assume(matrix, positive_definite=True))[1]
    found, *slopes = value_and_gradient(loss, wrt, 0.2)(*VALUES.values())
    assert found == pytest.approx(value, rel=1e-12)
    chained = {A: bar, U: 2 * bar @ VALUES[U], V: 2 * bar @ VALUES[V], d: np.diagonal(bar)}
    for variable, slope in zip(wrt, slopes, strict=True):
        assert relative_error(slope, chained[variable]) < 1e-10
    assert found != pytest.approx(np.linalg.slogdet(compile_plain(inputs, [matrix])(*VALUES.values())[0])[1])


def test_few_columns_of_a_gradient_are_solved_for():
    matrix = assume(V @ V.T + pt.diag(d), positive_definite=True)
    loss = pt.linalg.slogdet(matrix)[1]
    fn = value_and_gradient(loss, [V, d], 0.05)
    assert ops(fn)["BlockCG"] == 1
    _, by_columns, by_diagonal = fn(*VALUES.values())
    dense = VALUES[V] @ VALUES[V].T + np.diag(VALUES[d])
    assert relative_error(by_columns, 2 * np.linalg.solve(dense, VALUES[V])) < 1e-8
    assert relative_error(by_diagonal, np.diagonal(np.linalg.inv(dense))) > 1e-8


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Request("solve", 4000), "look like its gradient's"),
        (Request("inv_quad", 4000), "look like its gradient's"),
        (Request("inverse_diagonal"), "not estimated"),
    ],
)
def test_what_the_user_may_ask_for_is_never_estimated(request_, reason):
    options = Options(logdet_rtol=0.05, condition_number=5.0, forced=True)
    declined = strategy("lanczos").declines(replace(THIN, requests=(LOGDET, request_)), options)
    assert reason in declined.reason
    for columns, rank in ((3999, 4000), (2, 2), (None, 4000), (1, None)):
        other = replace(
            THIN, term=diagonal_plus_low_rank(12000, rank), requests=(LOGDET, Request("solve", columns))
        )
        assert strategy("lanczos").declines(other, options) is None
    unknown = replace(
        THIN, term=diagonal_plus_low_rank(12000, None), requests=(LOGDET, Request("solve", None))
    )
    assert strategy("lanczos").declines(unknown, options) is not None


# -- sharing --------------------------------------------------------------------------------------


def krylov_for(kinds):
    options = Options(logdet_rtol=0.2)
    system = SimpleNamespace(operator=Dense(A), kinds=kinds)
    return strategy("lanczos").solver(system, options).krylov


def test_the_gradient_takes_up_what_the_value_hands_on():
    fn = value_and_gradient(pt.linalg.slogdet(assume(A, positive_definite=True))[1], [A], 0.05)
    nodes = {type(n.op).__name__: n for n in fn.maker.fgraph.apply_nodes}
    assert nodes["LanczosInverse"].inputs[9] is nodes["LanczosLogdet"].outputs[4]


@pytest.mark.parametrize(("kinds", "probes"), [({"logdet", "solve"}, 0), ({"logdet", "inverse"}, 8)])
def test_a_value_alone_hands_nothing_on(kinds, probes):
    fn = pytensor.function([A], krylov_for(kinds), mode=python_mode())
    assert fn(VALUES[A]).shape == (3, probes, N)


# -- prices ---------------------------------------------------------------------------------------


def count(problem, kernel, **options):
    work = strategy("lanczos").work(problem, Options(logdet_rtol=0.05, **options))
    return sum(c.count for c in work.calls if c.kernel == kernel)


def test_the_gradient_is_priced_by_the_steps_that_it_adds():
    """Not by all that its solves need."""
    problem = replace(DENSE, requests=(LOGDET,))
    value = count(problem, "cg_iteration", condition_number=10.0)
    joint = count(replace(problem, differentiated=True), "cg_iteration", condition_number=10.0)
    alone = count(replace(problem, requests=(Request("inverse"),)), "cg_iteration", condition_number=10.0)
    assert joint == value + alone
    assert alone > 0
    assert joint < 2.5 * value


@pytest.mark.parametrize("told", [{"condition_number": 11.0}, {}])
def test_a_gradient_that_is_not_estimated_is_priced_as_the_exact_one(told):
    """Then one factor serves all."""
    problem = replace(DENSE, differentiated=True)
    for kernel, times in (("potrf", 1), ("potri", 1), ("cg_iteration", 1)):
        assert count(problem, kernel, **told) == times
    assert count(problem, "potri", condition_number=10.0) == 0
    assert count(replace(THIN, differentiated=True), "low_rank_diagonal", **told) == 1


def test_thin_parts_are_priced_and_held_as_such():
    options = Options(logdet_rtol=0.05, condition_number=5.0)
    for problem in (THIN, replace(THIN, differentiated=True)):
        work = strategy("lanczos").work(problem, options)
        assert max(n for c in work.calls if c.kernel == "cg_iteration" for n in c.dims) < 100
        assert work.peak_bytes < 8 * THIN.n**2
        direct, _ = strategy("lanczos").guarded(problem, options)
        assert {c.kernel for c in direct} <= {"low_rank_factor", "low_rank_solve", "low_rank_diagonal"}


def test_near_a_third_of_the_order_columns_are_cheaper_multiplied_than_factorised():
    policy = {"accuracy": {"logdet_rtol": 0.05}, "rules": [{"options": {"condition_number": 5}}]}
    for problem in (THIN, replace(THIN, differentiated=True)):
        decision = choose(problem, load_policy(policy, layers=False), PROFILE)
        assert decision.chosen == "lanczos"
        assert (
            seconds(problem, ("lanczos",), Options(logdet_rtol=0.05, condition_number=5.0), PROFILE)[0]
            < (seconds(problem, ("woodbury",), Options(), PROFILE)[0])
        )
    few = choose(
        replace(THIN, term=diagonal_plus_low_rank(12000, 10)), load_policy(policy, layers=False), PROFILE
    )
    assert few.chosen == "woodbury"
