"""What is chosen where a probe knows the iterations: a pure function of its outcome."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import diagonal_plus_low_rank
from probing_cases import (
    DENSE,
    PLAIN,
    PROFILE,
    decide,
    decided_on,
    gaussian_kernel,
    geometric,
    reflected,
    stiffness,
)

from autotune.choose import strategy
from autotune.choose.candidates import GUARD
from autotune.evidence import probe
from autotune.evidence.convergence import try_out
from autotune.policy.files import load_policy
from autotune.policy.sections import Preconditioner
from autotune.problem import Options, dense
from autotune.problem.spectrum import Convergence, Spectrum


@pytest.mark.parametrize(
    ("make", "n"),
    [
        (lambda: gaussian_kernel(1000, 0.3, 1e-3), 4000),
        (lambda: stiffness(400), 4000),
        (lambda: reflected(geometric(400, 1e8)), 4000),
    ],
    ids=["kernel", "stiffness", "condition-1e8"],
)
def test_what_converges_slowly_is_solved_directly(make, n):
    assert decided_on(make(), n).chosen not in ("cg", "lanczos")


def test_the_finite_element_matrix_is_ill_conditioned():
    assert 1e6 < np.linalg.cond(stiffness(400)) < 1e8


@pytest.mark.parametrize(
    ("make", "n", "policy"),
    [
        (lambda: reflected(geometric(400, 10)), 4000, {}),
        (lambda: gaussian_kernel(400, 0.3, 20.0, dims=2), 8000, {}),
        (lambda: gaussian_kernel(400, 0.3, 1e-1, dims=2), 4000, {"accuracy": {"solve_rtol": 1e-6}}),
    ],
    ids=["condition-10", "strong-noise", "preconditioned"],
)
def test_what_converges_fast_is_iterated_on(make, n, policy):
    decision = decided_on(make(), n, **policy)
    assert decision.chosen == "cg"
    assert decision.candidate("cg").seconds < decision.candidate("cholesky").seconds


def test_a_sum_with_a_dense_and_a_low_rank_term_is_iterated_on_when_probed():
    """Woodbury's identity does not serve it."""
    V = np.random.default_rng(0).normal(size=(400, 10)) / 20
    A = reflected(geometric(400, 4)) + V @ V.T + np.diag(np.linspace(0, 1, 400))
    problem = replace(DENSE, term=diagonal_plus_low_rank(DENSE.n, 10, beside=[DENSE.term]))
    kinds = probe.kinds_to_try(problem, load_policy({}, layers=False))
    decision = decide(replace(problem, spectrum=try_out(A, kinds, probe.MOST_PRODUCTS)))
    assert decision.chosen == "cg"
    assert decide(problem).chosen != "cg"


def test_the_preconditioner_is_the_one_of_the_least_predicted_time():
    decision = decided_on(gaussian_kernel(400, 0.3, 1e-1, dims=2), 4000, accuracy={"solve_rtol": 1e-6})
    assert decision.preconditioner.name == "pivoted_cholesky"
    for convergence in decision.problem.spectrum.convergence:
        given = {"name": convergence.preconditioner, "rank": convergence.rank}
        rules = [{"options": {"preconditioner": {k: v for k, v in given.items() if v is not None}}}]
        other = decide(decision.problem, accuracy={"solve_rtol": 1e-6}, rules=rules).candidate("cg")
        assert other.seconds is None or other.seconds >= decision.candidate("cg").seconds


def test_a_preconditioner_is_paid_for_from_the_budget():
    """Iterating in vain, the preconditioner included, costs at most a share of the direct way."""
    rules = [{"options": {"condition_number": 2, "preconditioner": {"name": "pivoted_cholesky", "rank": 60}}}]
    problem = replace(DENSE, term=dense(8000))
    decision = decide(problem, rules=rules)
    options = Options(condition_number=2.0, preconditioner=decision.preconditioner)
    cg = strategy("cg")
    kernels = (*cg.guarded(problem, options), cg.preparation(problem, options))
    direct, step, setup = (sum(PROFILE.seconds(c, "float64") for c in calls) for calls in kernels)
    assert decision.max_iterations * step + setup <= GUARD * direct
    assert (decision.max_iterations + 1) * step + setup > GUARD * direct


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"name": "jacobi"}, ("jacobi", None)),
        ({"name": "pivoted_cholesky"}, ("pivoted_cholesky", 18)),
        ({"name": "pivoted_cholesky", "rank": 7}, ("pivoted_cholesky", 7)),
        ({"name": "pivoted_cholesky", "rank": 5000}, ("pivoted_cholesky", 300)),
    ],
)
def test_a_preconditioner_that_is_named_is_the_one_probed(given, kind):
    policy = {"accuracy": {"solve_rtol": 1e-6}, "rules": [{"options": {"preconditioner": given}}]}
    problem = replace(DENSE, term=dense(300))
    kinds = probe.kinds_to_try(problem, load_policy(policy, layers=False))
    assert set(kinds) == {PLAIN, kind}
    found = try_out(reflected(geometric(300, 10)), kinds, 30)
    assert (
        "no condition number" not in decide(replace(problem, spectrum=found), **policy).candidate("cg").reason
    )


@pytest.mark.parametrize(("condition", "may"), [(1e4, True), (1e6, False)])
def test_an_ill_conditioned_matrix_is_factorised_though_a_preconditioner_would_help(condition, may):
    """A preconditioner makes the residual small, not the error that it leaves."""
    tried = tuple(
        Convergence("pivoted_cholesky" if rank else "none", rank, c, (1, 2, 3, 4, 5, 6, 7, 8), 8)
        for rank, c in ((None, condition), (40, 2.0))
    )
    problem = replace(DENSE, term=dense(2000), spectrum=Spectrum("probe", convergence=tried))
    cg = strategy("cg")
    options = Options(solve_rtol=1e-8, preconditioner=Preconditioner(name="pivoted_cholesky", rank=40))
    no = cg.declines(problem, options)
    assert (no is None) == may
    assert may or "condition number of 1e+06" in no.reason
    assert cg.declines(problem, replace(options, condition_number=2.0)) is None
