"""Time series: as one Gaussian vector, and by Kalman filters."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt

from .data import drawn, lags, lkj, places, scales, shift

STEP = np.array([[1.0, 1.0], [0.0, 1.0]])


def walk(rng, n):
    return np.cumsum(rng.normal(size=n)) + rng.normal(size=n)


def autoregression_by_covariance(seed=0, scale=1.0):
    """AR(1) as one vector: s^2 / (1 - phi^2) phi^|i - j|, whose inverse is tridiagonal."""
    rng, n = drawn(seed, scale, 100)
    with pm.Model() as model:
        phi, s = pm.Uniform("phi", -1, 1), pm.HalfNormal("s")
        pm.MvNormal("y", 0, cov=s**2 / (1 - phi**2) * phi ** lags(n), observed=rng.normal(size=n))
    return model


def autoregression_by_precision(seed=0, scale=1.0):
    """AR(1) by its precision, (I + phi^2 J - phi (S + S')) / s^2: constants, tridiagonal."""
    rng, n = drawn(seed, scale, 100)
    S = shift(n)
    inside = np.diag(np.r_[0.0, np.ones(n - 2), 0.0])
    with pm.Model() as model:
        phi, s = pm.Uniform("phi", -1, 1), pm.HalfNormal("s")
        tau = (np.eye(n) + phi**2 * inside - phi * (S + S.T)) / s**2
        pm.MvNormal("y", pm.Normal("mean"), tau=tau, observed=rng.normal(size=n))
    return model


def moving_average(seed=0, scale=1.0):
    """MA(2) with noise of measurement: s^2 L L' + e^2 I, L = I + a S + b S^2, banded."""
    rng, n = drawn(seed, scale, 100)
    with pm.Model() as model:
        a, b, (s, e) = pm.Normal("a", 0, 0.5), pm.Normal("b", 0, 0.5), scales("s", "e")
        L = np.eye(n) + a * shift(n) + b * shift(n, 2)
        pm.MvNormal("y", 0, cov=s**2 * L @ L.T + e**2 * pt.eye(n), observed=rng.normal(size=n))
    return model


def arma_by_autocovariances(seed=0, scale=1.0):
    """ARMA(1, 1): autocovariances gathered by lag, a Toeplitz matrix."""
    rng, n = drawn(seed, scale, 100)
    with pm.Model() as model:
        phi, theta, s = pm.Uniform("phi", -1, 1), pm.Uniform("theta", -1, 1), pm.HalfNormal("s")
        first = (1 + 2 * phi * theta + theta**2) / (1 - phi**2)
        later = (1 + phi * theta) * (phi + theta) / (1 - phi**2) * phi ** np.arange(n - 1)
        gamma = s**2 * pt.concatenate([first[None], later])
        pm.MvNormal("y", 0, cov=gamma[lags(n)], observed=rng.normal(size=n))
    return model


def local_level(seed=0, scale=1.0):
    """A random walk under noise: s1^2 min(i, j) + s2^2 I, both constant."""
    rng, n = drawn(seed, scale, 120)
    steps = np.arange(1.0, n + 1)
    with pm.Model() as model:
        level, noise = scales("level", "noise")
        cov = level**2 * np.minimum.outer(steps, steps) + noise**2 * np.eye(n)
        pm.MvNormal("y", 0, cov=cov, observed=walk(rng, n))
    return model


def trend_season_integrated(seed=0, scale=1.0):
    """Level, slope and twelve months integrated out: Z diag(q) Z' + s^2 I, Z constant."""
    rng, n = drawn(seed, scale, 120)
    t = np.arange(n)
    Z = np.column_stack([np.ones(n), t / n, np.eye(12)[t % 12]])
    with pm.Model() as model:
        trend, season, s = pm.HalfNormal("trend", 5, shape=2), *scales("season", "s")
        q = pt.concatenate([trend, pt.ones(12) * season]) ** 2
        pm.MvNormal("y", 0, cov=Z @ pt.diag(q) @ Z.T + s**2 * pt.eye(n), observed=walk(rng, n))
    return model


def irregular_times(seed=0, scale=1.0):
    """An Ornstein-Uhlenbeck process at irregular times, with noise: exp(-|ti - tj| / l) + s^2 I."""
    rng, n = drawn(seed, scale, 100)
    t = places(rng, n)[:, 0]
    gaps = np.abs(np.subtract.outer(t, t))
    with pm.Model() as model:
        length, (eta, s) = pm.InverseGamma("length", 3, 3), scales("eta", "s")
        pm.MvNormal("y", 0, cov=eta**2 * pt.exp(-gaps / length) + s**2 * pt.eye(n), observed=walk(rng, n))
    return model


def kalman_trend(seed=0, scale=1.0):
    """A local linear trend by a Kalman filter in a Scan: 2 x 2 covariances, scalar observations."""
    rng, n = drawn(seed, scale, 40)
    with pm.Model() as model:
        q, h = pm.HalfNormal("q", shape=2), pm.HalfNormal("h")
        T, Z = pt.as_tensor(STEP), np.array([1.0, 0.0])

        def step(y, a, P, q, h):
            F = Z @ P @ Z + h**2
            gain, error = P @ Z / F, y - Z @ a
            a, P = a + gain * error, P - pt.outer(gain, Z @ P)
            return T @ a, T @ P @ T.T + pt.diag(q**2), -0.5 * (pt.log(2 * np.pi * F) + error**2 / F)

        start = [pt.zeros(2), 10 * pt.eye(2), None]
        _, _, terms = pytensor.scan(step, walk(rng, n), start, [q, h], strict=True, return_updates=False)
        pm.Potential("loglike", terms.sum())
    return model


def kalman_dynamic_factors(seed=0, scale=1.0):
    """Five series driven by two factors, in a Scan: F = Z P Z' + diag(h), solve and slogdet."""
    rng, n = drawn(seed, scale, 20)
    with pm.Model() as model:
        Z, h = pm.Normal("Z", shape=(5, 2)), pm.HalfNormal("h", shape=5)
        T = pt.diag(pm.Beta("phi", 4, 2, shape=2))

        def step(y, a, P, Z, h, T):
            F, error = Z @ P @ Z.T + pt.diag(h**2 + 0.01), y - Z @ a
            weighted = pt.linalg.solve(F, pt.concatenate([error[:, None], Z @ P], axis=1), assume_a="pos")
            a, P = a + P @ Z.T @ weighted[:, 0], P - P @ Z.T @ weighted[:, 1:]
            return T @ a, T @ P @ T.T + pt.eye(2), -0.5 * (pt.linalg.slogdet(F)[1] + error @ weighted[:, 0])

        observed = rng.normal(size=(n, 5))
        start = [pt.zeros(2), pt.eye(2), None]
        _, _, terms = pytensor.scan(step, observed, start, [Z, h, T], strict=True, return_updates=False)
        pm.Potential("loglike", terms.sum())
    return model


def kalman_by_hand(seed=0, scale=1.0):
    """The filter of three series written out for five steps, with explicit inverses and determinants."""
    (rng,) = drawn(seed, scale)
    with pm.Model() as model:
        T, h = pt.as_tensor(STEP), pm.HalfNormal("h", shape=3)
        Z, Q = pm.Normal("Z", shape=(3, 2)), pt.diag(pm.HalfNormal("q", shape=2) ** 2)
        a, P, loglike = pt.zeros(2), pt.eye(2), 0.0
        for y in rng.normal(size=(5, 3)):
            F, error = Z @ P @ Z.T + pt.diag(h**2 + 0.01), y - Z @ a
            inverse = pt.linalg.inv(F)
            loglike += -0.5 * (pt.log(pt.linalg.det(F)) + error @ inverse @ error)
            gain = P @ Z.T @ inverse
            a, P = T @ (a + gain @ error), T @ (P - gain @ Z @ P) @ T.T + Q
        pm.Potential("loglike", loglike)
    return model


def vector_autoregression(seed=0, scale=1.0):
    """VAR(1) begun in its stationary state: solve(I - A kron A, vec Q), Q under LKJ."""
    rng, n = drawn(seed, scale, 60)
    y = rng.normal(size=(n, 3))
    with pm.Model() as model:
        A, chol = pm.Normal("A", 0, 0.1, shape=(3, 3)), lkj(3)
        Q = chol @ chol.T
        start = pt.linalg.solve(pt.eye(9) - pt.linalg.kron(A, A), Q.ravel()).reshape((3, 3))
        pm.MvNormal("first", 0, cov=0.5 * (start + start.T), observed=y[0])
        pm.MvNormal("rest", y[:-1] @ A.T, chol=chol, observed=y[1:])
    return model


MODELS = (
    autoregression_by_covariance,
    autoregression_by_precision,
    moving_average,
    arma_by_autocovariances,
    local_level,
    trend_season_integrated,
    irregular_times,
    kalman_trend,
    kalman_dynamic_factors,
    kalman_by_hand,
    vector_autoregression,
)
