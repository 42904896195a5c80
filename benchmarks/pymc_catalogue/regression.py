"""Regressions whose weights are integrated out, splines, evidence by Laplace."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from .data import distances, drawn, places, scales


def design(rng, n, p):
    X = rng.normal(size=(n, p))
    return X, X[:, 0] - 0.5 * X[:, 1] + rng.normal(size=n)


def ridge(seed=0, scale=1.0):
    """Weights integrated out: t^2 X X' + s^2 I, X constant."""
    rng, n = drawn(seed, scale, 120)
    X, y = design(rng, n, 6)
    with pm.Model() as model:
        t, s = scales("t", "s")
        pm.MvNormal("y", 0, cov=t**2 * pt.dot(X, X.T) + s**2 * pt.eye(n), observed=y)
    return model


def horseshoe(seed=0, scale=1.0):
    """Local and global shrinkage: X diag(t^2 l^2) X' + s^2 I, nearly as many columns as rows."""
    rng, n = drawn(seed, scale, 60)
    X, y = design(rng, n, n * 2 // 3)
    with pm.Model() as model:
        t, local, s = pm.HalfCauchy("t", 1), pm.HalfCauchy("local", 1, shape=X.shape[1]), pm.HalfNormal("s")
        pm.MvNormal("y", 0, cov=X @ pt.diag(t**2 * local**2) @ X.T + s**2 * pt.eye(n), observed=y)
    return model


def conjugate_student_t(seed=0, scale=1.0):
    """Noise integrated out too: a Student-t vector with scale b / a (I + g X X')."""
    rng, n = drawn(seed, scale, 100)
    X, y = design(rng, n, 5)
    with pm.Model() as model:
        g, (b,) = pm.LogNormal("g"), scales("b")
        shape = pt.eye(n) + g * X @ X.T
        pm.MvStudentT("y", nu=6, mu=0, scale=(b + 0.1) / 3 * shape, observed=y)
    return model


def basis(rng, n, q):
    """Bumps over [0, 10] (n, q), a noisy curve, and the penalty on second differences of the weights."""
    x, knots = places(rng, n), np.linspace(0, 10, q)
    D = np.diff(np.eye(q), n=2, axis=0)
    return np.exp(-0.5 * (x - knots) ** 2), np.sin(x[:, 0]) + 0.3 * rng.normal(size=n), D.T @ D


def penalised_spline(seed=0, scale=1.0):
    """Smooth weights drawn with the precision l P + e I, P constant and banded."""
    rng, n, q = drawn(seed, scale, 100, 20)
    B, y, P = basis(rng, n, q)
    with pm.Model() as model:
        smooth, s = pm.Exponential("smooth", 1), pm.HalfNormal("s")
        weights = pm.MvNormal("weights", 0, tau=smooth * P + 1e-2 * np.eye(q), shape=q)
        pm.Normal("y", pt.dot(B, weights), s, observed=y)
    return model


def spline_evidence(seed=0, scale=1.0):
    """The weights integrated out by hand: solve and slogdet of B' B / s^2 + l P + e I, all constant."""
    rng, n, q = drawn(seed, scale, 100, 20)
    B, y, P = basis(rng, n, q)
    with pm.Model() as model:
        smooth, s = pm.Exponential("smooth", 1), pm.HalfNormal("s")
        prior = smooth * P + 1e-2 * pt.eye(q)
        A, b = B.T @ B / s**2 + prior, B.T @ y / s**2
        logdets = pt.linalg.slogdet(A)[1] - pt.linalg.slogdet(prior)[1] + 2 * n * pt.log(s)
        misfit = y @ y / s**2 - b @ pt.linalg.solve(A, b, assume_a="pos")
        pm.Potential("evidence", -0.5 * (logdets + misfit))
    return model


def laplace_evidence(seed=0, scale=1.0):
    """Logistic regression, its curvature at the weights as a Potential: log det(X' W X + I / t^2)."""
    rng, n, p = drawn(seed, scale, 100, 12)
    X, y = design(rng, n, p)
    with pm.Model() as model:
        t = pm.HalfNormal("t")
        weights = pm.Normal("weights", 0, t + 0.1, shape=p)
        chance = pm.math.sigmoid(X @ weights)
        hessian = X.T @ (X * (chance * (1 - chance))[:, None]) + pt.eye(p) / (t + 0.1) ** 2
        pm.Potential("curvature", -0.5 * pt.log(pt.linalg.det(hessian)))
        pm.Bernoulli("y", p=chance, observed=(y > 0).astype(int))
    return model


def shares_of_variance(seed=0, scale=1.0):
    """A Dirichlet divides a variance: s^2 (w1 X X' + w2 K + w3 I), X X' and K constant."""
    rng, n = drawn(seed, scale, 100)
    X, y = design(rng, n, 4)
    linear, smooth = X @ X.T / 4, np.exp(-0.5 * distances(places(rng, n)) ** 2)
    with pm.Model() as model:
        w, s = pm.Dirichlet("w", np.ones(3)), pm.HalfNormal("s")
        pm.MvNormal("y", 0, cov=s**2 * (w[0] * linear + w[1] * smooth + w[2] * np.eye(n)), observed=y)
    return model


MODELS = (
    ridge,
    horseshoe,
    conjugate_student_t,
    penalised_spline,
    spline_evidence,
    laplace_evidence,
    shares_of_variance,
)
