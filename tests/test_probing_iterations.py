"""How well the iterations are known: from a probe, a condition number, and the structure."""

from dataclasses import replace

import numpy as np
import pytensor.tensor as pt
import pytest
from probing_cases import (
    DENSE,
    PLAIN,
    SPECTRA,
    Diagonal,
    gaussian_kernel,
    geometric,
    iterations_taken,
    probing_parts,
    reflected,
)

from autotune.evidence.bounds import bound, is_uniform
from autotune.evidence.convergence import try_out
from autotune.ops import core_cg
from autotune.ops.core_operator import as_operator
from autotune.problem import Decision, Options, dense
from autotune.problem.spectrum import GIVEN, NEVER, Convergence, Spectrum
from autotune.read.matrices import recognise
from autotune.strategies.iterations import (
    SHARE_OF_BOUND,
    expected_iterations,
    iterations_to_allow,
    iterations_told,
)

# -- by a probe, and by a condition number ----------------------------------------------------------------


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("condition", [10, 100])
def test_a_probe_knows_the_iterations_that_it_saw_and_else_the_least(spectrum, condition):
    A = reflected(spectrum(300, condition))
    [found] = try_out(A, [PLAIN], 60).convergence
    for rtol in (1e-2, 1e-5, 1e-8, 1e-10):
        taken = iterations_taken(A, rtol)
        if found.reaches(rtol):
            assert 0.8 <= found.iterations(rtol) / taken <= 1.25
        else:
            assert found.iterations(rtol) == 60 < 1.1 * taken
    assert found.reaches(1e-2)
    assert found.reaches(1e-10) or condition == 100
    assert 0.8 * condition < found.condition_number < 1.1 * condition


@pytest.mark.parametrize("scale", [2.0**power for power in (-950, -600, -1, 500, 950)])
def test_multiples_of_a_matrix_and_of_its_preconditioner_converge_alike(scale):
    A = reflected(geometric(220, 300))
    M = np.diag(1 / np.diag(A))
    kinds = (PLAIN, ("jacobi", None), ("pivoted_cholesky", 15), GIVEN)
    found, alike = (try_out(s * A, kinds, 60, as_operator(M / s)) for s in (1.0, scale))
    assert found == alike


def test_a_matrix_of_no_positive_or_finite_diagonal_is_not_tried():
    for value in (0.0, -1.0, np.inf, np.nan):
        assert try_out(np.full((3, 3), value), [PLAIN], 5) is None


@pytest.mark.parametrize("made", [1, 2, 3, 4, 7])
def test_a_probe_of_few_products_says_no_more_than_it_made(made):
    [found] = try_out(reflected(geometric(300, 1e4)), [PLAIN], made).convergence
    assert not found.reaches(1e-4)
    assert found.made == found.iterations(1e-4) == found.iterations(1e-8) == made


def test_what_a_probe_did_not_see_the_end_of_is_allowed_twice_as_long():
    def allowed(made, decades):
        seen = Convergence("none", None, 1e3, decades, made)
        problem = replace(DENSE, spectrum=Spectrum("probe", None, (seen,)))
        return iterations_to_allow(problem, Options(solve_rtol=0.1))

    assert (allowed(20, (20,)), allowed(20, ())) == (22, 40)


@pytest.mark.parametrize(
    ("decades", "told"),
    [((20,), "probed: 20 iterations expected to 0.1,"), ((), "probed: at least 30 iterations")],
)
def test_a_plan_tells_whether_the_iterations_were_seen(decades, told):
    seen = Convergence("none", None, 1e3, decades, 30)
    problem = replace(DENSE, spectrum=Spectrum("probe", None, (seen,)))
    decision = Decision(problem, "cg", ("cg",), (), solve_rtol=0.1)
    assert told in iterations_told(decision)


def test_estimates_from_a_condition_number_are_within_a_factor_of_three():
    """Uniform, geometric and clustered spectra, the spectrum unknown; the median within 1.3."""
    factors = []
    for n in (400, 1500):
        for condition in (10, 100, 1000):
            for spectrum in SPECTRA:
                A = Diagonal(spectrum(n, condition))
                for rtol in (1e-2, 1e-6, 1e-10):
                    options = Options(condition_number=condition, solve_rtol=rtol)
                    ratio = expected_iterations(replace(DENSE, term=dense(n)), options) / iterations_taken(
                        A, rtol
                    )
                    factors.append(max(ratio, 1 / ratio))
    assert np.median(factors) <= 1.3
    assert max(factors) <= 3.0


@pytest.mark.parametrize("kind", [PLAIN, ("jacobi", None), ("pivoted_cholesky", 20)])
def test_a_probe_knows_the_iterations_under_each_preconditioner(kind):
    A = gaussian_kernel(400, 0.3, 1e-2, dims=2)
    parts = probing_parts(A, kind)
    b = np.random.default_rng(5).normal(size=(400, 1))
    found = next(c for c in try_out(A, [PLAIN, kind], 60).convergence if (c.preconditioner, c.rank) == kind)
    for rtol in (1e-2, 1e-3):
        used = core_cg.block_cg(core_cg.as_operator(A), b, rtol, 400, parts, np.zeros((0, 0)))[1]
        assert 0.7 <= found.iterations(rtol) / used <= 1.4


def test_a_tolerance_below_rounding_is_never_reached():
    A = gaussian_kernel(600, 0.3, 1e-6)
    found = try_out(A, [PLAIN, ("pivoted_cholesky", 30)], 60)
    assert [c.iterations(1e-10) for c in found.convergence] == [NEVER, NEVER]
    assert found.under("pivoted_cholesky", 30).iterations(1e-6) < 20


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -1.0])
def test_what_is_not_positive_definite_is_not_known(spoilt):
    A = reflected(geometric(50, 10))
    A[3, 3] = spoilt
    assert try_out(A, [PLAIN], 30) is None


def test_iterations_do_not_fall_as_the_tolerance_does():
    found = Convergence("none", None, 10.0, (3, 7, 7, 12), 14)
    rtols = np.logspace(-0.1, -12, 60)
    counts = [found.iterations(rtol) for rtol in rtols]
    assert counts == sorted(counts)
    assert [found.iterations(r) for r in (0.1, 1e-2, 1e-4, 1e-6)] == [3, 7, 12, 14]


def test_a_declared_condition_number_wins_over_a_probe():
    known = replace(DENSE, spectrum=Spectrum("probe", None, (Convergence("none", None, 2.0, (1, 1), 5),)))
    declared, told = Options(condition_number=100.0), Options()
    assert expected_iterations(known, declared) == expected_iterations(DENSE, declared)
    assert expected_iterations(known, told) == 5
    assert expected_iterations(DENSE, told) == 4000


def test_a_guard_allows_the_whole_of_the_bound():
    """What is declared must not end in a fallback, though the price counts fewer iterations."""
    options = Options(condition_number=100.0)
    expected, allowed = (f(DENSE, options) for f in (expected_iterations, iterations_to_allow))
    assert allowed == pytest.approx(expected / SHARE_OF_BOUND, abs=2)
    assert iterations_taken(reflected(geometric(300, 100)), options.solve_rtol) <= allowed


# -- what the structure tells --------------------------------------------------------------------------


N, RANK = 60, 4
U, d, s = pt.matrix("U", shape=(N, RANK)), pt.vector("d", shape=(N,)), pt.scalar("s")


@pytest.mark.parametrize(
    ("matrix", "eigenvalues"),
    [
        (U @ U.T + s**2 * pt.eye(N), RANK + 1),
        (U @ U.T + 1e-3 * pt.eye(N), RANK + 1),
        (U @ U.T + pt.diag(pt.alloc(s, N)), RANK + 1),
        (U @ U.T + pt.diag(d), None),
        (U @ U.T + pt.diag(s * d), None),
        (U @ U.T + np.diag(np.arange(1.0, N + 1)), None),
    ],
    ids=["scaled", "constant", "alloc", "diagonal", "scaled-diagonal", "constants"],
)
def test_a_scaled_identity_plus_low_rank_has_few_eigenvalues(matrix, eigenvalues):
    found = bound(recognise(matrix), recognise(matrix).static)
    assert (None if found is None else found.eigenvalues) == eigenvalues


def test_as_many_iterations_as_eigenvalues_suffice():
    rng = np.random.default_rng(0)
    for k in (1, 5, 20):
        V = rng.normal(size=(200, k))
        assert iterations_taken(V @ V.T + 0.1 * np.eye(200), 1e-8) <= k + 1
    known = replace(DENSE, spectrum=Spectrum("bound", 21))
    assert expected_iterations(known, Options()) == 21
    assert expected_iterations(known, Options(condition_number=2.0)) < 21


def test_entries_are_the_same_only_where_that_is_proven():
    assert is_uniform(pt.alloc(s, N) * 2 + 1)
    assert not is_uniform(pt.alloc(s, N) * d)
    assert not is_uniform(pt.as_tensor(np.zeros(0)))
