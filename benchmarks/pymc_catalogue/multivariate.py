"""Several quantities at once: covariances under LKJ and Wishart, mixtures, matrices, copulas, graphs."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from scipy.stats import norm, rankdata

from .data import drawn, lags, lkj


def rows_of(rng, rows, p):
    """Correlated rows."""
    return rng.normal(size=(rows, p)) + rng.normal(size=(rows, 1))


def covariance_under_lkj(seed=0, scale=1.0):
    """Many rows, the covariance by its Cholesky factor: nothing is factorised."""
    rng, rows = drawn(seed, scale, 100)
    with pm.Model() as model:
        mean, chol = pm.Normal("mean", 0, 2, shape=5), lkj(5)
        pm.MvNormal("y", mean, chol=chol, observed=rows_of(rng, rows, 5))
    return model


def covariance_from_factor(seed=0, scale=1.0):
    """The same with the covariance multiplied out, as older examples do: chol chol' is factorised again."""
    rng, rows = drawn(seed, scale, 100)
    with pm.Model() as model:
        mean, chol = pm.Normal("mean", 0, 2, shape=6), lkj(6)
        sigma = pm.Deterministic("sigma", chol.dot(chol.T))
        pm.MvNormal("y", mean, cov=sigma, observed=rows_of(rng, rows, 6))
    return model


def wishart_scatter(seed=0, scale=1.0):
    """An observed scatter matrix, Wishart with scale W W' + diag(psi)."""
    rng, p = drawn(seed, scale, 20)
    y = rows_of(rng, 3 * p, p)
    with pm.Model() as model:
        W, psi = pm.Normal("W", shape=(p, 1)), pm.HalfNormal("psi", shape=p)
        pm.Wishart("S", nu=3 * p, V=W @ W.T + pt.diag(psi + 0.1), observed=y.T @ y)
    return model


def inverse_wishart(seed=0, scale=1.0):
    """An inverse-Wishart prior as a Potential beside the likelihood: one matrix in both."""
    rng, p = drawn(seed, scale, 15)
    with pm.Model() as model:
        W, psi = pm.Normal("W", shape=(p, 2)), pm.HalfNormal("psi", shape=p)
        Sigma = W @ W.T + pt.diag(psi + 0.1)
        logdet, trace = (
            pt.linalg.slogdet(Sigma)[1],
            pt.trace(pt.linalg.solve(Sigma, np.eye(p), assume_a="pos")),
        )
        pm.Potential("prior", -0.5 * ((2 * p + 3) * logdet + trace))
        pm.MvNormal("y", 0, cov=Sigma, observed=rows_of(rng, 40, p))
    return model


def robust_factors(seed=0, scale=1.0):
    """Heavy tails: Student-t with scale W W' + diag(psi)."""
    rng, p = drawn(seed, scale, 30)
    with pm.Model() as model:
        W, psi = pm.Normal("W", shape=(p, 2)), pm.HalfNormal("psi", shape=p)
        nu = 2 + pm.Gamma("nu", 2, 0.1)
        pm.MvStudentT("y", nu=nu, mu=0, scale=W @ W.T + pt.diag(psi + 0.1), observed=rows_of(rng, 50, p))
    return model


def matrix_normal(seed=0, scale=1.0):
    """Rows correlated in time, columns under LKJ: ``pm.MatrixNormal``."""
    rng, rows = drawn(seed, scale, 30)
    with pm.Model() as model:
        phi, chol = pm.Beta("phi", 2, 2), lkj(4)
        y = rows_of(rng, rows, 4)
        pm.MatrixNormal("y", mu=np.zeros((rows, 4)), rowcov=phi ** lags(rows), colchol=chol, observed=y)
    return model


def hierarchical_covariances(seed=0, scale=1.0):
    """A covariance for each group around a common correlation: a batch of diag(s_j) R diag(s_j) + w w'."""
    rng, groups = drawn(seed, scale, 12)
    y = rng.normal(size=(20, groups, 6))
    with pm.Model() as model:
        common = pm.HalfNormal("common", shape=6)
        s = common * pt.exp(pm.Normal("deviation", 0, 0.3, shape=(groups, 6)))
        w = pm.Normal("w", shape=(groups, 6))
        cov = w[:, :, None] * w[:, None, :] + (s**2 + 0.05)[:, :, None] * np.eye(6)
        pm.MvNormal("y", 0, cov=cov, observed=y)
    return model


def seemingly_unrelated_regressions(seed=0, scale=1.0):
    """Three equations with correlated errors, stacked: kron(Sigma, I)."""
    rng, n = drawn(seed, scale, 40)
    x = rng.normal(size=(3, n))
    with pm.Model() as model:
        slope, chol = pm.Normal("slope", shape=(3, 1)), lkj(3)
        cov = pt.linalg.kron(chol @ chol.T, pt.eye(n))
        pm.MvNormal("y", (slope * x).ravel(), cov=cov, observed=(x + rng.normal(size=(3, n))).ravel())
    return model


def gaussian_copula(seed=0, scale=1.0):
    """Ranks tied by a correlation matrix, a Potential with slogdet and inverse of D (W W' + I) D."""
    rng, p = drawn(seed, scale, 12)
    y = rows_of(rng, 60, p)
    z = norm.ppf(np.apply_along_axis(rankdata, 0, y) / (len(y) + 1))
    with pm.Model() as model:
        W = pm.Normal("W", shape=(p, 2))
        cov = W @ W.T + pt.eye(p)
        sd = pt.sqrt(pt.diag(cov))
        R = cov / pt.outer(sd, sd)
        spread = pt.linalg.inv(R) - pt.eye(p)
        pm.Potential("copula", -0.5 * (len(z) * pt.linalg.slogdet(R)[1] + pt.sum((z @ spread) * z)))
    return model


def graphical_model(seed=0, scale=1.0):
    """A sparse precision on a known graph: partial correlations set at its edges, diagonally dominant."""
    rng, p = drawn(seed, scale, 20)
    i = np.arange(p - 1)
    with pm.Model() as model:
        edge = pt.zeros((p, p))[i, i + 1].set(pm.Uniform("edge", -0.45, 0.45, shape=p - 1))
        d = pm.HalfNormal("d", shape=p) + 0.3
        tau = d[:, None] * (pt.eye(p) + edge + edge.T) * d[None, :]
        pm.MvNormal("y", 0, tau=tau, observed=rows_of(rng, 60, p))
    return model


MODELS = (
    covariance_under_lkj,
    covariance_from_factor,
    wishart_scatter,
    inverse_wishart,
    robust_factors,
    matrix_normal,
    hierarchical_covariances,
    seemingly_unrelated_regressions,
    gaussian_copula,
    graphical_model,
)
