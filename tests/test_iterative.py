"""Iterative solvers in compiled graphs: right by the demanded tolerances, in values and in gradients."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_with, python_mode, relative_error
from pytensor.assumptions import assume

import autotune
from autotune.algebra.dense import Dense
from autotune.choose import choose, seconds, strategy
from autotune.ops import BlockCG, PartialCholesky, core_cg, core_direct
from autotune.policy.files import load_policy
from autotune.problem import Options, Problem, Request, dense
from autotune.strategies import System
from autotune.strategies.iterations import expected_iterations
from cost_models import generic_profile

PROFILE = generic_profile()
SOLVE, LOGDET = Request("solve", 1, form="pos"), Request("logdet", form="cholesky")
DENSE = Problem(requests=(SOLVE,), term=dense(4000), positive_definite=True, symmetric=True)


def options_for(**given):
    """What a solver reads of the choice's options."""
    defaults = {"solve_rtol": 1e-10, "condition_number": None, "max_iterations": None, "preconditioner": None}
    return SimpleNamespace(**(defaults | {"logdet_rtol": 0.05, "forced": False, "carried": False} | given))


PIVOTED = {"name": "pivoted_cholesky", "rank": 20}


def with_spectrum(eigenvalues, seed=0):
    n = len(eigenvalues)
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]
    A = (Q * eigenvalues) @ Q.T
    return (A + A.T) / 2


def decide(problem, **policy):
    return choose(problem, load_policy(policy, layers=False), PROFILE)


def solver_for(name, matrix, **given):
    kinds = frozenset({"solve", "logdet"})
    system = System(Dense(matrix), positive_definite=True, symmetric=True, kinds=kinds)
    return strategy(name).solver(system, options_for(**given))


def preconditioner(**given):
    return SimpleNamespace(**({"rank": None} | given))


# -- solvers, without the choice -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cg", "lanczos"])
@pytest.mark.parametrize(
    "given", [None, {"name": "none"}, {"name": "jacobi"}, PIVOTED, {"name": "pivoted_cholesky"}]
)
def test_every_preconditioner_solves(name, given):
    K, B = pt.matrix("K"), pt.matrix("B")
    solver = solver_for(name, K, preconditioner=given and preconditioner(**given), condition_number=100.0)
    values = [with_spectrum(np.geomspace(1, 30, 60)), np.random.default_rng(1).normal(size=(60, 3))]
    fn = pytensor.function([K, B], solver.solve(B), mode=python_mode())
    assert relative_error(fn(*values), np.linalg.solve(*values)) < 1e-8


def test_solves_of_one_matrix_share_the_preconditioner_and_the_factor():
    K, B = pt.matrix("K"), pt.matrix("B")
    solver = solver_for("cg", K, preconditioner=preconditioner(**PIVOTED), max_iterations=2)
    first = solver.solve(B)
    fn = pytensor.function([K, B], [first, solver.solve(first)], mode=python_mode())
    nodes = [node for node in fn.maker.fgraph.toposort() if isinstance(node.op, BlockCG)]
    assert len(nodes) == 2
    assert sum(isinstance(n.op, PartialCholesky) for n in fn.maker.fgraph.apply_nodes) == 1
    assert nodes[1].inputs[7] is nodes[0].outputs[2]
    A, b = with_spectrum(np.geomspace(1, 1e8, 50)), np.ones((50, 1))
    calls = []
    original = core_direct.cholesky_factor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core_direct, "cholesky_factor", lambda M: calls.append(1) or original(M))
        fn(A, b)
    assert len(calls) == 1


def test_a_refused_log_determinant_leaves_its_factor_to_the_solves():
    K, B = pt.matrix("K"), pt.matrix("B")
    solver = solver_for("lanczos", K, logdet_rtol=1e-9, max_iterations=30)
    logdet, solution = solver.logdet(), solver.solve(B)
    assert isinstance(solution.owner.op, BlockCG)
    outputs = [*logdet, solution, solution.owner.outputs[1]]
    fn = pytensor.function([K, B], outputs, mode=python_mode())
    A, b = with_spectrum(np.geomspace(1, 50, 40)), np.ones((40, 2))
    sign, logabsdet, x, iterations = fn(A, b)
    assert sign == 1
    assert logabsdet == pytest.approx(np.linalg.slogdet(A)[1], rel=1e-13)
    assert iterations == -1  # none, and directly
    assert relative_error(x, np.linalg.solve(A, b)) < 1e-12


def test_a_log_determinant_of_nothing_positive_definite_is_nan():
    K = pt.matrix("K")
    fn = pytensor.function([K], list(solver_for("lanczos", K).logdet()), mode=python_mode())
    assert np.isnan(fn(np.diag([1.0, -1.0]))).all()


# -- expectations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [10, 100, 1000])
@pytest.mark.parametrize("rtol", [1e-4, 1e-8])
def test_expected_iterations_are_those_of_spread_spectra(condition, rtol):
    n = 300
    expected = expected_iterations(
        replace(DENSE, term=dense(n)), options_for(condition_number=condition, solve_rtol=rtol)
    )
    for spectrum in (np.geomspace(1, condition, n), np.linspace(1, condition, n)):
        A, b = with_spectrum(spectrum), np.random.default_rng(0).normal(size=(n, 1))
        parts = (np.zeros(0), np.zeros((0, 0)), np.zeros(0))
        used = core_cg.block_cg(A, b, rtol, 4 * n, parts, np.zeros((0, 0)))[1]
        assert 0.7 <= expected / used <= 3  # a bound: many small eigenvalues are found faster


def test_a_preconditioner_costs_what_it_adds():
    plain, partial = (
        seconds(DENSE, ("cg",), replace(Options(condition_number=10.0), preconditioner=p), PROFILE)[0]
        for p in (None, preconditioner(name="pivoted_cholesky", rank=100))
    )
    assert partial > plain


def test_the_guard_weighs_the_direct_solve_against_one_iteration():
    direct, step = strategy("cg").guarded(replace(DENSE, differentiated=True), options_for())
    assert [(c.kernel, c.dims) for c in direct] == [("potrf", (4000,))] + [("potrs", (4000, 1))] * 2
    assert [(c.kernel, c.dims) for c in step] == [("cg_iteration", (4000, 1))] * 2
    both = replace(DENSE, requests=(SOLVE, LOGDET), differentiated=True)
    direct, step = strategy("lanczos").guarded(both, options_for())
    assert {c.kernel for c in direct} == {"potrf", "potrs", "potri"}
    assert {c.kernel for c in step} == {"cg_iteration"}


@pytest.mark.parametrize(
    ("change", "given", "reason"),
    [
        ({}, {"logdet_rtol": None}, "logdet_rtol"),
        ({"requests": (SOLVE,)}, {}, "no log-determinant"),
        ({"requests": (LOGDET, Request("inverse"))}, {}, "not estimated"),
        ({"positive_definite": False}, {}, "positive definite"),
        ({}, {"condition_number": None}, "no condition number"),
        ({}, {"max_iterations": 1}, "budget"),
    ],
)
def test_lanczos_declines_with_a_reason(change, given, reason):
    problem = replace(DENSE, requests=(LOGDET,))
    declined = strategy("lanczos").declines(
        replace(problem, **change), options_for(**{"condition_number": 10.0} | given)
    )
    assert reason in declined.reason
    assert strategy("lanczos").declines(problem, options_for(condition_number=10.0)) is None


# -- through the choice ------------------------------------------------------------------------------


def test_the_choice_sets_the_budget_from_predicted_seconds():
    told = decide(DENSE, rules=[{"options": {"condition_number": 10}}])
    direct, step = strategy("cg").guarded(DENSE, options_for())
    share = told.max_iterations * sum(PROFILE.seconds(c, "float64") for c in step)
    assert told.chosen == "cg"
    assert share <= 0.3 * sum(PROFILE.seconds(c, "float64") for c in direct)
    given = decide(DENSE, rules=[{"options": {"condition_number": 10, "max_iterations": 77}}])
    assert given.max_iterations == 77


def test_where_no_iterations_are_left_beside_the_set_up_none_are_tried():
    told = decide(replace(DENSE, term=dense(100)), rules=[{"options": {"condition_number": 1.5}}])
    assert told.chosen != "cg"
    assert "budget beside a direct solve is 0" in told.candidate("cg").reason


def test_what_needs_more_than_the_budget_is_solved_directly():
    told = decide(DENSE, accuracy={"solve_rtol": 1e-6}, rules=[{"options": {"condition_number": 1e8}}])
    assert told.chosen != "cg"
    assert "the budget beside a direct solve is" in told.candidate("cg").reason


def test_lanczos_needs_the_users_tolerance():
    problem = replace(DENSE, term=dense(20000), requests=(SOLVE, LOGDET))
    rules = [{"options": {"condition_number": 2}}]
    assert "logdet_rtol" in decide(problem, rules=rules).candidate("lanczos").reason
    assert (
        decide(problem, accuracy={"logdet_rtol": 0.05, "solve_rtol": 1e-4}, rules=rules).chosen == "lanczos"
    )


def test_gradients_reach_conjugate_gradients_with_the_same_preconditioner():
    policy = {"rules": [{"force": "cg", "options": {"preconditioner": PIVOTED}}]}
    n = 80
    K, b = pt.matrix("K", shape=(n, n)), pt.vector("b", shape=(n,))
    loss = pt.linalg.solve(assume(K, positive_definite=True), b).sum()
    tuned = autotune.tune(loss, policy)
    fn = compile_with([K, b], [tuned, *pt.grad(tuned, [K, b])], policy)
    nodes = [node for node in fn.maker.fgraph.toposort() if isinstance(node.op, BlockCG)]
    assert len(nodes) == 2
    assert nodes[0].inputs[5] is nodes[1].inputs[5]
    assert isinstance(nodes[0].inputs[5].owner.op, PartialCholesky)
    A = with_spectrum(np.geomspace(1, 100, n))
    rhs = np.random.default_rng(4).normal(size=n)
    x, z = (np.linalg.solve(A, v) for v in (rhs, np.ones(n)))
    value, by_K, by_b = fn(A, rhs)
    for found, expected in ((value, x.sum()), (by_K, -np.outer(z, x)), (by_b, z)):
        assert relative_error(found, expected) < 1e-8
