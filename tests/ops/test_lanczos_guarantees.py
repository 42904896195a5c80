"""What Lanczos' log-determinant promises where eigenvalues are far apart: the error asked for, or
the exact way."""

import numpy as np
import pytest
from lanczos_helpers import SPECTRA, no_preconditioner, with_spectrum

from autotune.ops import core_lanczos

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
