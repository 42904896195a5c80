"""LanczosLogdet: within the tolerance and honest about its error, or exact."""

import numpy as np
import pytest
from lanczos_helpers import NONE, PARTS, SPECTRA, no_preconditioner, with_spectrum

from autotune.ops import core_lanczos, core_preconditioner
from autotune.ops.core_operator import SymmetricOperator


def exact(A):
    return np.linalg.slogdet(A)[1]


@pytest.mark.parametrize(("name", "rank"), [("geometric", NONE), ("uniform", 0), ("gaussian_process", 20)])
@pytest.mark.parametrize("seeds", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_intervals_of_95_percent_cover_that_often(name, rank, seeds):
    """Within three standard deviations of the count."""
    A = SPECTRA[name]
    parts, truth = core_preconditioner.build(A, rank), exact(A)
    found = [core_lanczos.estimate(A, 0.05, 10**6, parts, seed) for seed in range(seeds)]
    covered = np.mean([abs(value - truth) <= error for value, error, *_ in found])
    assert abs(covered - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / seeds)


@pytest.mark.parametrize("name", SPECTRA)
def test_the_error_is_what_was_asked_for_or_nothing(name):
    A = SPECTRA[name]
    for rtol in (0.1, 0.03):
        value, error, probes, factor = core_lanczos.logdet(A, rtol, 10**6, no_preconditioner(), 0)
        assert factor.size == 0
        assert probes >= core_lanczos.BLOCK
        assert error <= rtol * abs(value)
        assert abs(value - exact(A)) <= 2 * error


@pytest.mark.parametrize("rtol", [1e-6, 1e-12])
def test_what_probes_cannot_give_is_exact(rtol):
    A = SPECTRA["uniform"]
    value, error, probes, factor = core_lanczos.logdet(A, rtol, 50, no_preconditioner(), 0)
    assert value == pytest.approx(exact(A), rel=1e-13)
    assert (error, probes) == (0, 0)
    np.testing.assert_allclose(np.triu(factor), np.linalg.cholesky(A).T, atol=1e-12)


def test_a_determinant_of_one_is_exact():
    """No relative error can be met by probes where the logarithm is zero."""
    values = np.geomspace(0.1, 10, 50)
    value, error, _, factor = core_lanczos.logdet(with_spectrum(values), 0.01, 1000, no_preconditioner(), 0)
    assert factor.size
    assert error == 0
    assert abs(value) < 1e-10


@pytest.mark.parametrize("max_steps", [0, 2, 30])
def test_steps_stay_within_the_budget(max_steps, monkeypatch):
    A, taken = SPECTRA["geometric"], []
    step = core_lanczos.Tridiagonal.step
    monkeypatch.setattr(core_lanczos.Tridiagonal, "step", lambda self: taken.append(1) or step(self))
    core_lanczos.logdet(A, 0.005, max_steps, no_preconditioner(), 0)
    assert len(taken) <= max_steps


def test_quadrature_lies_between_the_bounds_of_bai_and_golub():
    """Gauss' rule for the logarithm is an upper bound, Gauss-Radau's with a node at the least eigenvalue a
    lower one, for every probe (Bai & Golub 1996)."""
    A = with_spectrum(np.geomspace(0.5, 50, 60))
    least = np.linalg.eigvalsh(A)[0]
    values, Q = np.linalg.eigh(A)
    Z = core_lanczos.signs(4, 60, 3, np.float64)
    truth = ((Z @ Q) ** 2 @ np.log(values)) / 60
    lanczos = core_lanczos.Tridiagonal(lambda V: V @ A, Z / np.sqrt(60))
    previous = np.inf
    for _ in range(12):
        lanczos.step()
        upper, lower = lanczos.log_forms(), lanczos.lower_log_forms(least)
        np.testing.assert_allclose(lower, radau(lanczos, least), atol=1e-8)
        assert (upper >= truth - 1e-12).all()
        assert (lower <= truth + 1e-12).all()
        assert (upper <= previous + 1e-12).all()
        previous = upper
    assert (upper - lower < 3e-3).all()


def radau(lanczos, node):
    """``e_1' log(T) e_1`` with T extended so that ``node`` is an eigenvalue (Golub 1973)."""
    out = []
    for i in range(len(lanczos.basis)):
        alpha = np.array([a[i] for a in lanczos.alpha])
        beta = np.array([b[i] for b in lanczos.beta])
        k = len(alpha)
        T = np.zeros((k + 1, k + 1))
        T[np.arange(k), np.arange(k)] = alpha
        T[np.arange(k), np.arange(1, k + 1)] = T[np.arange(1, k + 1), np.arange(k)] = beta
        last = np.zeros(k)
        last[-1] = beta[-1] ** 2
        T[k, k] = node + np.linalg.solve(T[:k, :k] - node * np.eye(k), last)[-1]
        theta, V = np.linalg.eigh(T)
        out.append(V[0] ** 2 @ np.log(np.maximum(theta, node)))
    return np.array(out)


def test_reorthogonalised_vectors_stay_orthogonal():
    A = with_spectrum(np.geomspace(1e-6, 1, 80))
    lanczos = core_lanczos.Tridiagonal(
        lambda V: V @ A, core_lanczos.signs(2, 80, 0, np.float64) / np.sqrt(80)
    )
    for _ in range(60):
        lanczos.step()
    for basis in lanczos.basis:
        np.testing.assert_allclose(basis @ basis.T, np.eye(61), atol=1e-12)


@pytest.mark.parametrize(
    "A", [np.eye(7), np.array([[3.0]]), np.diag([1.0, 2.0]), with_spectrum(np.repeat([2.0, 5.0], 4))]
)
def test_an_exhausted_krylov_space_is_exact_quadrature(A):
    n = len(A)
    estimate = core_lanczos.quadrature(
        lambda V: V @ A, core_lanczos.signs(8, n, 0, np.float64), lambda mean: 0.0, n
    )
    values, Q = np.linalg.eigh(A)
    Z = core_lanczos.signs(8, n, 0, np.float64)
    np.testing.assert_allclose(estimate.forms, (Z @ Q) ** 2 @ np.log(values), atol=1e-12)
    assert estimate.bias == 0


def test_the_preconditioner_takes_its_share_exactly():
    """With a rank as high as the kernel's next to nothing is left to estimate."""
    X = np.random.default_rng(0).uniform(size=(150, 2))
    A = np.exp(-2 * ((X[:, None] - X[None]) ** 2).sum(-1)) + 0.1 * np.eye(150)
    parts = core_preconditioner.build(A, 40)
    value, _, probes, *_ = core_lanczos.logdet(A, 1e-4, 200, parts, 0)
    assert probes == core_lanczos.BLOCK
    assert abs(value - exact(A)) < 1e-4 * abs(value)
    assert core_lanczos.estimate(A, 1e-4, 200, no_preconditioner(), 0) is None


def test_probes_are_those_of_the_seed():
    A = SPECTRA["geometric"]
    first, again, other = (core_lanczos.logdet(A, 0.05, 500, no_preconditioner(), s)[0] for s in (1, 1, 2))
    assert first == again != other
    few, many = (core_lanczos.signs(count, 30, 5, np.float64) for count in (8, 24))
    np.testing.assert_array_equal(few, many[:8])


INDEFINITE = with_spectrum(np.r_[-3.0, np.geomspace(1, 10, 29)])
SINGULAR = np.ones((4, 4))


@pytest.mark.parametrize(
    "A", [INDEFINITE, SINGULAR - 0.5 * np.eye(4), np.diag([1.0, -2.0]), np.zeros((3, 3))]
)
def test_what_is_not_positive_definite_gives_nan(A):
    assert np.isnan(core_lanczos.logdet_arrays(A, 0.1, 500, 0, *no_preconditioner(), np.inf)[0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_gives_nan(value):
    A = SPECTRA["geometric"].copy()
    A[3, 2] = A[2, 3] = value
    assert np.isnan(core_lanczos.logdet_arrays(A, 0.1, 500, 0, *no_preconditioner(), np.inf)[0])


def test_order_zero_and_one():
    assert core_lanczos.logdet_arrays(np.zeros((0, 0)), 0.1, 9, 0, *no_preconditioner(), np.inf)[0] == 0
    value = core_lanczos.logdet_arrays(np.array([[7.0]]), 1e-8, 9, 0, *no_preconditioner(), np.inf)[0]
    assert value == pytest.approx(np.log(7), rel=1e-14)
    with pytest.raises(ValueError, match="square"):
        core_lanczos.logdet_arrays(np.zeros((2, 3)), 0.1, 9, 0, *no_preconditioner(), np.inf)


# -- matrices in parts ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("rank", [NONE, 0, 6])
@pytest.mark.parametrize("rtol", [0.05, 1e-10])
def test_parts_have_the_log_determinant_of_their_sum(name, rank, rtol):
    """With the same probes: estimated or, at 1e-10, by Woodbury's identity or Cholesky."""
    A = PARTS[name]
    preconditioner = core_preconditioner.build(A, rank)
    found = core_lanczos.logdet(A, rtol, 1000, preconditioner, 0)
    formed = core_lanczos.logdet(A.to_dense(), rtol, 1000, preconditioner, 0)
    assert found[0] == pytest.approx(formed[0], rel=1e-12)
    assert found[2] == formed[2]
    assert abs(found[0] - exact(A.to_dense())) <= 2 * found[1] + 1e-10


@pytest.mark.parametrize("rtol", [0.05, 1e-10])
def test_thin_parts_are_never_formed(rtol, monkeypatch):
    monkeypatch.setattr(SymmetricOperator, "to_dense", None)
    value, _, _, factor = core_lanczos.logdet(PARTS["thin"], rtol, 1000, no_preconditioner(), 0)
    assert np.isfinite(value)
    assert factor.shape == ((0, 0) if rtol == 0.05 else (1 + PARTS["thin"].c.size, PARTS["thin"].order))


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -100.0])
def test_parts_that_are_not_positive_definite_give_nan(place, value):
    """But for an infinite diagonal entry: noise without bound has a determinant without bound."""
    d, U, c = (x.copy() for x in (PARTS["thin"].d, PARTS["thin"].U, PARTS["thin"].c))
    (d, U, c)[place].flat[1] = value
    if place == 1 and value < 0:
        c[1] = -1.0
    none = np.zeros((0, 0))
    found = core_lanczos.logdet_arrays(none, 0.1, 500, 0, *no_preconditioner(), np.inf, d, U, c)
    assert found[0] == np.inf if (place, value) == (0, np.inf) else np.isnan(found[0])
