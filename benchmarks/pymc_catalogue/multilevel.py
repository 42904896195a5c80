"""Multilevel models: effects of groups integrated out, or drawn with a covariance of their own."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from .data import drawn, lags, lkj, members, one_hot, scales


def random_intercepts(seed=0, scale=1.0):
    """Random intercepts integrated out: tau^2 Z Z' + s^2 I, Z one-hot."""
    rng, n, groups = drawn(seed, scale, 120, 12)
    group, x = members(rng, n, groups), rng.normal(size=n)
    y, Z = 0.5 * x + rng.normal(size=groups)[group] + rng.normal(size=n), one_hot(group, groups)
    with pm.Model() as model:
        intercept, slope = pm.Normal("intercept", 0, 5), pm.Normal("slope", 0, 2)
        tau, s = scales("tau", "s")
        pm.MvNormal("y", intercept + slope * x, cov=tau**2 * Z @ Z.T + s**2 * np.eye(n), observed=y)
    return model


def random_slopes(seed=0, scale=1.0):
    """Independent random intercepts and slopes: (Z w) Z' + s^2 I, Z of constants, w the variances."""
    rng, n, groups = drawn(seed, scale, 120, 8)
    group, x = members(rng, n, groups), rng.normal(size=n)
    intercepts = one_hot(group, groups)
    Z = np.hstack([intercepts, intercepts * x[:, None]])
    with pm.Model() as model:
        mean, tau, s = pm.Normal("mean", shape=2), pm.HalfNormal("tau", shape=2), pm.HalfNormal("s")
        variances = pt.repeat(tau**2, groups)
        cov = (Z * variances) @ Z.T + s**2 * pt.eye(n)
        pm.MvNormal("y", mean[0] + mean[1] * x, cov=cov, observed=x + rng.normal(size=n))
    return model


def crossed_effects(seed=0, scale=1.0):
    """Subjects crossed with items: Z1 (t1^2 I) Z1' + Z2 (t2^2 I) Z2' + s^2 I, both one-hot."""
    rng, subjects, items = drawn(seed, scale**0.5, 12, 10)
    subject, item = np.divmod(np.arange(subjects * items), items)
    Z1, Z2 = one_hot(subject, subjects), one_hot(item, items)
    y = rng.normal(size=subjects)[subject] + rng.normal(size=items)[item] + rng.normal(size=len(item))
    with pm.Model() as model:
        mean, (t1, t2, s) = pm.Normal("mean", 0, 3), scales("t_subject", "t_item", "s")
        cov = Z1 @ (t1**2 * pt.eye(subjects)) @ Z1.T + Z2 @ (t2**2 * pt.eye(items)) @ Z2.T
        pm.MvNormal("y", mean, cov=cov + s**2 * pt.eye(len(y)), observed=y)
    return model


def nested_effects(seed=0, scale=1.0):
    """Pupils in schools in districts: t1^2 E1 + t2^2 E2 + s^2 I, E constant: who shares which."""
    rng, n, schools = drawn(seed, scale, 120, 16)
    school = members(rng, n, schools)
    district = school // 4
    same_school, same_district = (np.equal.outer(of, of).astype(float) for of in (school, district))
    y = rng.normal(size=schools)[school] + rng.normal(size=n)
    with pm.Model() as model:
        mean, (t1, t2, s) = pm.Normal("mean", 0, 3), scales("t_school", "t_district", "s")
        cov = t1**2 * same_school + t2**2 * same_district + s**2 * np.eye(n)
        pm.MvNormal("y", mean, cov=cov, observed=y)
    return model


def correlated_slopes(seed=0, scale=1.0):
    """Correlated intercepts and slopes, each group a vector: a batch of Z_j G Z_j' + s^2 I."""
    rng, groups, size = drawn(seed, scale**0.5, 15, 10)
    x = rng.normal(size=(groups, size))
    Z = np.stack([np.ones_like(x), x], axis=-1)
    with pm.Model() as model:
        chol, mean, s = lkj(2), pm.Normal("mean", 0, 2, shape=2), pm.HalfNormal("s")
        cov = Z @ (chol @ chol.T) @ Z.transpose(0, 2, 1) + s**2 * pt.eye(size)
        pm.MvNormal("y", mean[0] + mean[1] * x, cov=cov, observed=1 + x + rng.normal(size=x.shape))
    return model


def compound_symmetry(seed=0, scale=1.0):
    """Repeated measures, exchangeable: s^2 ((1 - r) I + r), r added to every entry."""
    rng, times = drawn(seed, scale, 30)
    y = rng.normal(size=(20, 1)) + rng.normal(size=(20, times))
    with pm.Model() as model:
        s, r = pm.HalfNormal("s", 2), pm.Beta("r", 2, 2)
        mean = pm.Normal("mean", 0, 2, shape=times)
        pm.MvNormal("y", mean, cov=s**2 * ((1 - r) * pt.eye(times) + r), observed=y)
    return model


def repeated_measures(seed=0, scale=1.0):
    """Patients with a random intercept and errors of order one: t^2 1 1' + s^2 phi^|i - j|, many vectors."""
    rng, times = drawn(seed, scale, 20)
    y = rng.normal(size=(25, 1)) + rng.normal(size=(25, times))
    with pm.Model() as model:
        (t, s), phi = scales("t", "s"), pm.Beta("phi", 2, 2)
        cov = t**2 * pt.ones((times, times)) + s**2 * phi ** lags(times)
        pm.MvNormal("y", pm.Normal("mean", 0, 2), cov=cov, observed=y)
    return model


def meta_analysis(seed=0, scale=1.0):
    """Two outcomes of many studies: a batch of S_j + Sigma, S_j known, Sigma under LKJ."""
    rng, studies = drawn(seed, scale, 25)
    roots = rng.normal(size=(studies, 2, 2))
    within = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(2)
    with pm.Model() as model:
        chol, mean = lkj(2), pm.Normal("mean", 0, 2, shape=2)
        pm.MvNormal("effect", mean, cov=within + chol @ chol.T, observed=rng.normal(size=(studies, 2)))
    return model


MODELS = (
    random_intercepts,
    random_slopes,
    crossed_effects,
    nested_effects,
    correlated_slopes,
    compound_symmetry,
    repeated_measures,
    meta_analysis,
)
