"""Factor analysis and structural equations: few latent variables behind many observed ones."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from .data import drawn, lkj, scales


def responses(rng, rows, p, factors=2):
    """Rows from a random factor model."""
    return rng.normal(size=(rows, factors)) @ rng.normal(size=(factors, p)) + rng.normal(size=(rows, p))


def factor_analysis(seed=0, scale=1.0):
    """Exploratory: W W' + diag(psi), many rows."""
    rng, p = drawn(seed, scale, 40)
    with pm.Model() as model:
        W, psi = pm.Normal("W", shape=(p, 3)), pm.HalfNormal("psi", shape=p)
        pm.MvNormal("y", 0, cov=W @ W.T + pt.diag(psi**2 + 0.01), observed=responses(rng, 60, p, 3))
    return model


def probabilistic_pca(seed=0, scale=1.0):
    """W W' + s^2 I, one column of W below the diagonal at a time."""
    rng, p = drawn(seed, scale, 50)
    rows, columns = np.tril_indices(p, m=3)
    with pm.Model() as model:
        W = pt.zeros((p, 3))[rows, columns].set(pm.Normal("w", shape=len(rows)))
        s, mean = pm.HalfNormal("s"), pm.Normal("mean", 0, 2, shape=p)
        pm.MvNormal("y", mean, cov=pt.dot(W, W.T) + s**2 * pt.eye(p), observed=responses(rng, 40, p, 3))
    return model


def confirmatory_factors(seed=0, scale=1.0):
    """Each item loads on one of three correlated factors: L Phi L' + diag(theta), zeros in L."""
    rng, items = drawn(seed, scale, 8)
    p = 3 * items
    factor = np.repeat(np.arange(3), items)
    with pm.Model() as model:
        L = pt.zeros((p, 3))[np.arange(p), factor].set(pm.Normal("loading", 1, 0.5, shape=p))
        chol, theta = lkj(3), pm.HalfNormal("theta", shape=p)
        cov = L @ (chol @ chol.T) @ L.T + pt.diag(theta)
        pm.MvNormal("y", 0, cov=cov, observed=responses(rng, 80, p))
    return model


def bifactor(seed=0, scale=1.0):
    """A general factor beside one for each group of items: g g' + (masked s) (masked s)' + diag(theta)."""
    rng, items = drawn(seed, scale, 6)
    p = 4 * items
    mask = np.kron(np.eye(4), np.ones((items, 1)))
    with pm.Model() as model:
        g, s = pm.Normal("general", 1, 0.5, shape=p), pm.Normal("special", 1, 0.5, shape=p)
        L = mask * s[:, None]
        cov = pt.outer(g, g) + L @ L.T + pt.diag(pm.HalfNormal("theta", shape=p))
        pm.MvNormal("y", 0, cov=cov, observed=responses(rng, 60, p))
    return model


def structural_equations(seed=0, scale=1.0):
    """Three latent variables cause each other: L (I - B)^-1 Psi (I - B)^-T L' + diag(theta)."""
    rng, items = drawn(seed, scale, 5)
    p = 3 * items
    with pm.Model() as model:
        B = pt.zeros((3, 3))[[1, 2, 2], [0, 0, 1]].set(pm.Normal("path", 0, 0.5, shape=3))
        loading = pm.Normal("loading", 1, 0.5, shape=p)
        L = np.kron(np.eye(3), np.ones((items, 1))) * loading[:, None]
        total = pt.linalg.inv(pt.eye(3) - B)
        latent = total @ pt.diag(pm.HalfNormal("psi", shape=3) ** 2) @ total.T
        cov = L @ latent @ L.T + pt.diag(pm.HalfNormal("theta", shape=p) ** 2)
        pm.MvNormal("y", 0, cov=cov, observed=responses(rng, 60, p))
    return model


def latent_growth(seed=0, scale=1.0):
    """Level and slope of each child over the waves: L Psi L' + t^2 I, L = [1, t] constant."""
    rng, waves = drawn(seed, scale, 12)
    L = np.column_stack([np.ones(waves), np.arange(waves) / waves])
    y = rng.normal(size=(50, 2)) @ L.T + rng.normal(size=(50, waves))
    with pm.Model() as model:
        chol, mean, t = lkj(2), pm.Normal("mean", 0, 2, shape=2), pm.HalfNormal("t")
        cov = L @ pt.dot(chol, chol.T) @ L.T + t**2 * np.eye(waves)
        pm.MvNormal("y", pt.dot(L, mean), cov=cov, observed=y)
    return model


def path_analysis(seed=0, scale=1.0):
    """Observed variables cause later ones: the precision (I - B)' diag(1 / psi) (I - B), B triangular."""
    rng, p = drawn(seed, scale, 8)
    causes = np.tril_indices(p, k=-1)
    with pm.Model() as model:
        B = pt.zeros((p, p))[causes].set(pm.Normal("path", 0, 0.3, shape=len(causes[0])))
        psi, A = pm.HalfNormal("psi", shape=p), pt.eye(p) - B
        pm.MvNormal("y", 0, tau=A.T @ pt.diag(1 / psi) @ A, observed=responses(rng, 60, p))
    return model


def fit_to_sample_covariance(seed=0, scale=1.0):
    """The discrepancy log det Sigma + tr(S Sigma^-1) as a Potential: one matrix, slogdet and inverse."""
    rng, p = drawn(seed, scale, 20)
    S = np.cov(responses(rng, 200, p), rowvar=False)
    with pm.Model() as model:
        W, (psi,) = pm.Normal("W", shape=(p, 2)), scales("psi")
        Sigma = W @ W.T + (psi**2 + 0.1) * pt.eye(p)
        discrepancy = pt.linalg.slogdet(Sigma)[1] + pt.trace(S @ pt.linalg.inv(Sigma))
        pm.Potential("fit", -100 * discrepancy)
    return model


def mixture_of_factor_analysers(seed=0, scale=1.0):
    """Two clusters with a low-rank covariance each: ``pm.Mixture`` of W_k W_k' + diag(psi)."""
    rng, p = drawn(seed, scale, 20)
    with pm.Model() as model:
        psi, weights = pm.HalfNormal("psi", shape=p), pm.Dirichlet("weights", np.ones(2))
        clusters = []
        for k in range(2):
            W, mean = pm.Normal(f"W{k}", shape=(p, 2)), pm.Normal(f"mean{k}", 0, 3, shape=p)
            clusters.append(pm.MvNormal.dist(mean, cov=W @ W.T + pt.diag(psi + 0.1)))
        pm.Mixture("y", w=weights, comp_dists=clusters, observed=responses(rng, 40, p))
    return model


MODELS = (
    factor_analysis,
    probabilistic_pca,
    confirmatory_factors,
    bifactor,
    structural_equations,
    latent_growth,
    path_analysis,
    fit_to_sample_covariance,
    mixture_of_factor_analysers,
)
