"""Areas and places: conditional and simultaneous autoregressions, kriging, aggregation, space and time."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from .data import distances, drawn, lags, lattice, lkj, places, scales, standardised


def counts(rng, log_rate):
    pm.Poisson("y", pt.exp(log_rate), observed=rng.poisson(3, size=log_rate.type.shape))


def proper_car(seed=0, scale=1.0):
    """Counts in areas: the precision t (D - a W), D and W constant and sparse."""
    rng, rows, columns = drawn(seed, scale**0.5, 8, 9)
    W = lattice(rows, columns)
    with pm.Model() as model:
        t, a = pm.Gamma("t", 2, 2), pm.Beta("a", 4, 1)
        phi = pm.MvNormal("phi", 0, tau=t * (np.diag(W.sum(1)) - a * W), shape=len(W))
        counts(rng, pm.Normal("level") + phi)
    return model


def leroux_car(seed=0, scale=1.0):
    """Leroux's prior: the precision (r R + (1 - r) I) / s^2, R the constant Laplacian."""
    rng, rows, columns = drawn(seed, scale**0.5, 8, 9)
    W = lattice(rows, columns)
    R = np.diag(W.sum(1)) - W
    with pm.Model() as model:
        r, (s, noise) = pm.Beta("r", 2, 2), scales("s", "noise")
        phi = pm.MvNormal("phi", 0, tau=(r * R + (1 - r) * np.eye(len(R))) / s**2, shape=len(R))
        pm.Normal("y", phi, noise, observed=rng.normal(size=len(R)))
    return model


def spatial_errors(seed=0, scale=1.0):
    """Regression with simultaneous errors: the precision (I - r W)' (I - r W) / s^2, W constant."""
    rng, rows, columns = drawn(seed, scale**0.5, 9, 10)
    W = standardised(lattice(rows, columns))
    x, n = rng.normal(size=len(W)), len(W)
    with pm.Model() as model:
        r, s, slope = pm.Uniform("r", -1, 1), pm.HalfNormal("s"), pm.Normal("slope")
        A = pt.eye(n) - r * W
        pm.MvNormal("y", slope * x, tau=A.T @ A / s**2, observed=x + rng.normal(size=n))
    return model


def spatial_lag(seed=0, scale=1.0):
    """Spatial lag: residuals (I - r W) y - x b, and log |det(I - r W)| as a Potential, W constant."""
    rng, rows, columns = drawn(seed, scale**0.5, 9, 10)
    W = standardised(lattice(rows, columns))
    x, y = rng.normal(size=(2, len(W)))
    with pm.Model() as model:
        r, s, slope = pm.Uniform("r", -1, 1), pm.HalfNormal("s"), pm.Normal("slope")
        A = pt.eye(len(W)) - r * W
        pm.Potential("jacobian", pt.linalg.slogdet(A)[1])
        pm.Potential("residuals", pm.logp(pm.Normal.dist(slope * x, s), A @ y).sum())
    return model


def bym_integrated(seed=0, scale=1.0):
    """Structured and unstructured effects of areas: s^2 (r G + (1 - r) I), G constant."""
    rng, rows, columns = drawn(seed, scale**0.5, 8, 9)
    W = lattice(rows, columns)
    G = np.linalg.pinv(np.diag(W.sum(1)) - W, rcond=1e-10)
    G /= np.exp(np.log(np.diag(G)).mean())
    with pm.Model() as model:
        r, s = pm.Beta("r", 2, 2), pm.HalfNormal("s")
        cov = s**2 * (r * G + (1 - r) * np.eye(len(G)))
        pm.MvNormal("y", pm.Normal("level"), cov=cov, observed=rng.normal(size=len(G)))
    return model


def kriging(seed=0, scale=1.0):
    """Exponential covariance with a nugget, trend in the coordinates: dense."""
    rng, n = drawn(seed, scale, 100)
    at = places(rng, n, 2)
    D = distances(at)
    with pm.Model() as model:
        reach, (sill, nugget) = pm.InverseGamma("reach", 3, 6), scales("sill", "nugget")
        trend = pm.Normal("level") + pt.dot(at, pm.Normal("slope", shape=2))
        cov = sill**2 * pt.exp(-D / reach) + pt.eye(n) * nugget**2
        pm.MvNormal("y", trend, cov=cov, observed=rng.normal(size=n))
    return model


def restricted_likelihood(seed=0, scale=1.0):
    """The trend integrated out (REML) as a Potential: solves with K, log det K and log det X' K^-1 X."""
    rng, n = drawn(seed, scale, 80)
    at = places(rng, n, 2)
    D, X, y = distances(at), np.column_stack([np.ones(n), at]), rng.normal(size=n)
    with pm.Model() as model:
        reach, (sill, nugget) = pm.InverseGamma("reach", 3, 6), scales("sill", "nugget")
        K = sill**2 * pt.exp(-D / reach) + (nugget**2 + 1e-4) * pt.eye(n)
        KX, Ky = pt.linalg.solve(K, X, assume_a="pos"), pt.linalg.solve(K, y, assume_a="pos")
        normal = X.T @ KX
        explained = (X.T @ Ky) @ pt.linalg.solve(normal, X.T @ Ky)
        logdets = pt.linalg.slogdet(K)[1] + pt.linalg.slogdet(normal)[1]
        pm.Potential("reml", -0.5 * (logdets + y @ Ky - explained))
    return model


def aggregated_areas(seed=0, scale=1.0):
    """Averages of a field over areas: A K A' + s^2 I, A constant, K over many more points."""
    rng, areas = drawn(seed, scale, 30)
    at = places(rng, 4 * areas, 2)
    A = np.kron(np.eye(areas), np.full((1, 4), 0.25))
    D2 = distances(at) ** 2
    with pm.Model() as model:
        reach, (sill, s) = pm.InverseGamma("reach", 3, 6), scales("sill", "s")
        K = sill**2 * pt.exp(-0.5 * D2 / reach**2)
        pm.MvNormal("y", 0, cov=A @ K @ A.T + s**2 * pt.eye(areas), observed=rng.normal(size=areas))
    return model


def space_and_time(seed=0, scale=1.0):
    """Separable, on all sites at all times: kron(K_space, K_time) + s^2 I."""
    rng, sites, times = drawn(seed, scale**0.5, 10, 10)
    D, gaps = distances(places(rng, sites, 2)), lags(times)
    with pm.Model() as model:
        reach, memory = pm.InverseGamma("reach", 3, 6), pm.InverseGamma("memory", 3, 6)
        sill, s = scales("sill", "s")
        K = pt.linalg.kron(pt.exp(-D / reach), pt.exp(-gaps / memory))
        n = sites * times
        pm.MvNormal("y", 0, cov=sill**2 * K + s**2 * pt.eye(n), observed=rng.normal(size=n))
    return model


def multivariate_car(seed=0, scale=1.0):
    """Two diseases in each area: the precision kron(D - a W, Omega), Omega 2 x 2."""
    rng, rows, columns = drawn(seed, scale**0.5, 5, 6)
    W = lattice(rows, columns)
    with pm.Model() as model:
        a, chol = pm.Beta("a", 4, 1), lkj(2)
        tau = pt.linalg.kron(np.diag(W.sum(1)) - a * W, chol @ chol.T)
        phi = pm.MvNormal("phi", 0, tau=tau, shape=2 * len(W))
        counts(rng, phi)
    return model


def finite_elements(seed=0, scale=1.0):
    """Finite elements on a line: the precision t (k^4 C + 2 k^2 G + G C^-1 G), constants, banded."""
    rng, nodes = drawn(seed, scale, 60)
    C = np.diag(np.r_[0.5, np.ones(nodes - 2), 0.5])
    G = 2 * np.eye(nodes) - np.eye(nodes, k=1) - np.eye(nodes, k=-1)
    G[0, 0] = G[-1, -1] = 1
    G2 = G @ np.linalg.inv(C) @ G
    A = np.eye(nodes)[rng.integers(nodes, size=2 * nodes)]
    with pm.Model() as model:
        t, k, noise = scales("t", "k", "noise")
        u = pm.MvNormal("u", 0, tau=(t + 0.1) * ((k**4 + 1e-3) * C + 2 * k**2 * G + G2), shape=nodes)
        pm.Normal("y", pt.dot(A, u), noise, observed=rng.normal(size=2 * nodes))
    return model


MODELS = (
    proper_car,
    leroux_car,
    spatial_errors,
    spatial_lag,
    bym_integrated,
    kriging,
    restricted_likelihood,
    aggregated_areas,
    space_and_time,
    multivariate_car,
    finite_elements,
)
