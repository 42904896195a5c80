"""What Lanczos' log-determinant and gradient promise where eigenvalues are far apart: the error asked for, or
the exact way."""

import numpy as np
import pytest
from lanczos_helpers import EMPTY, NONE, SPECTRA, WELL_CONDITIONED, no_preconditioner, with_spectrum

from autotune.ops import core_lanczos, core_preconditioner
from autotune.ops import core_lanczos_inverse as core
from autotune.ops.core_operator import as_operator

RTOL = 0.1


def log_uniform(condition, n=120):
    values = np.exp(np.random.default_rng(1).uniform(0, np.log(condition), n))
    return np.r_[1.0, condition, values[2:]]


def beside_a_cluster(small, n=120):
    """Few small eigenvalues below many between 1 and 2: seen soon, told apart late."""
    return np.r_[small, np.random.default_rng(1).uniform(1, 2, n - len(small))]


ILL_CONDITIONED = {
    "log-uniform, 1e6": log_uniform(1e6),
    "log-uniform, 1e8": log_uniform(1e8),
    "log-uniform, 1e10": log_uniform(1e10),
    "five small": beside_a_cluster(10.0 ** -np.arange(4, 9)),
    "twelve small": beside_a_cluster(np.geomspace(1e-8, 1e-1, 12)),
}


def quadrature_and_truth(A, allowed, condition_number):
    """The `Estimate` of a block of probes, and the mean of their forms ``z' log(A) z``."""
    n = len(A)
    Z = core_lanczos.signs(core_lanczos.BLOCK, n, 0, np.float64)
    values, Q = np.linalg.eigh(A)
    found = core_lanczos.quadrature(
        lambda V: V @ A, Z, lambda mean: allowed * abs(mean), n, condition_number=condition_number
    )
    return found, ((Z @ Q) ** 2 @ np.log(values)).mean()


@pytest.mark.parametrize("name", ILL_CONDITIONED)
@pytest.mark.parametrize("declared", [False, True])
def test_quadrature_has_no_more_than_its_share_of_the_error(name, declared):
    values = ILL_CONDITIONED[name]
    told = values.max() / values.min() if declared else np.inf
    found, truth = quadrature_and_truth(with_spectrum(values), RTOL, told)
    error = found.forms.mean() - truth
    assert abs(error) <= core_lanczos.QUADRATURE_SHARE * RTOL * abs(truth) + 1e-6
    assert error <= found.bias + 1e-6


@pytest.mark.parametrize("name", ["five small", "twelve small"])
def test_a_condition_number_that_is_false_is_seen_to_be(name):
    found, truth = quadrature_and_truth(with_spectrum(ILL_CONDITIONED[name]), RTOL, 2.0)
    assert abs(found.forms.mean() - truth) <= core_lanczos.QUADRATURE_SHARE * RTOL * abs(truth) + 1e-6


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("allowed", [0.3, 0.03])
def test_a_true_condition_number_bounds_the_error_by_itself(name, allowed, monkeypatch):
    """Without a second opinion, however few the steps."""
    monkeypatch.setattr(core_lanczos, "remaining", lambda means: 1e-300)
    found, truth = quadrature_and_truth(SPECTRA[name], allowed, np.linalg.cond(SPECTRA[name]))
    assert -1e-9 <= found.forms.mean() - truth <= found.bias + 1e-9
    assert found.bias > 0 or name == "two_clusters"


@pytest.mark.parametrize("name", ILL_CONDITIONED)
def test_the_error_reported_holds_for_ill_conditioned_matrices(name):
    A, truth = with_spectrum(ILL_CONDITIONED[name]), np.log(ILL_CONDITIONED[name]).sum()
    for seed in range(2):
        value, error, *_ = core_lanczos.logdet(A, RTOL, 2 * len(A), no_preconditioner(), seed)
        assert abs(value - truth) <= max(error, 1e-6 * abs(truth)) <= RTOL * abs(truth)


# -- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECTRA)
def test_a_value_whose_gradient_would_be_poor_is_exact(name):
    A, truth = SPECTRA[name], np.linalg.slogdet(SPECTRA[name])[1]
    poor = np.linalg.cond(A) > 10 + 1e-9
    value, _, probes, factor, krylov = core_lanczos.logdet(A, RTOL, 500, no_preconditioner(), 0, 64)
    assert (probes == 0) == (krylov.shape[1] == 0) == (factor.size > 0) == poor
    assert value == pytest.approx(truth, rel=1e-12 if poor else RTOL)
    if poor:
        Y = core.inverse(A, RTOL, 0.01, 500, no_preconditioner(), 0, krylov, factor)
        np.testing.assert_allclose(Y, np.linalg.inv(A), atol=1e-12)
    assert core_lanczos.logdet(A, RTOL, 500, no_preconditioner(), 0)[2] > 0


def test_a_preconditioner_brings_the_estimate_back():
    """It is the condition number of the preconditioned matrix that counts."""
    X = np.random.default_rng(0).uniform(size=(120, 2))
    A = np.exp(-2 * ((X[:, None] - X[None]) ** 2).sum(-1)) + 0.01 * np.eye(120)
    for rank, estimated in ((NONE, False), (30, True)):
        found = core_lanczos.logdet(A, 0.01, 500, core_preconditioner.build(A, rank), 0, 64)
        assert (found[2] > 0) == estimated


def test_no_more_probes_are_drawn_than_the_gradient_can_take_over():
    A = WELL_CONDITIONED["uniform"]
    *_, probes, factor, krylov = core_lanczos.logdet(A, 0.03, 500, no_preconditioner(), 0, 10**6)
    assert probes == krylov.shape[1] > 2 * core_lanczos.BLOCK
    *_, probes, factor, krylov = core_lanczos.logdet(A, 0.03, 500, no_preconditioner(), 0, 9)
    assert (probes, krylov.shape[1]) == (0, 0)
    assert factor.size


@pytest.mark.parametrize("name", WELL_CONDITIONED)
@pytest.mark.parametrize("rank", [NONE, 20])
def test_estimates_are_good_in_every_direction(name, rank):
    """Of a relative change of at most one in any direction, the root mean square error is below the one that
    the user allows for the log-determinant."""
    A = WELL_CONDITIONED[name]
    parts, truth = core_preconditioner.build(A, rank), np.linalg.slogdet(A)[1]
    values, Q = np.linalg.eigh(A)
    root, E = (Q * np.sqrt(values)) @ Q.T, np.random.default_rng(3).normal(size=A.shape)
    E = root @ (E + E.T) @ root / np.abs(np.linalg.eigvalsh(E + E.T)).max()
    off = A - np.diag(np.diagonal(A))
    errors = []
    for seed in range(12):
        krylov = core_lanczos.estimate(A, RTOL, 500, parts, seed, 64)[3]
        Y = core.inverse(A, RTOL, 0.1 * RTOL, 500, parts, seed, krylov, EMPTY)
        errors.append([((Y - np.linalg.inv(A)) * change).sum() for change in (E, off)])
    assert np.sqrt(np.mean(np.square(errors), axis=0)).max() <= RTOL * abs(truth)


def test_the_scale_of_a_matrix_is_no_error_of_its_inverse():
    """Near a multiple of the identity next to nothing is left to the probes."""
    A = 1000 * np.eye(120) + WELL_CONDITIONED["geometric"]
    krylov = core_lanczos.estimate(A, RTOL, 500, no_preconditioner(), 0, 64)[3]
    Y = core.estimate_inverse(as_operator(A), RTOL, 0.01, 500, no_preconditioner(), 0, krylov).to_dense()
    np.testing.assert_allclose(1000 * Y, 1000 * np.linalg.inv(A), atol=0.01)
