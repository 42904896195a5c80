"""Gaussian processes: marginal, latent, sparse, on grids, with several outputs."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from .data import distances, drawn, members, places, scales


def curve(rng, x):
    """A noisy curve over the first column."""
    return np.sin(x[:, 0]) + 0.3 * rng.normal(size=len(x))


def observed_with_noise(cov, x, y):
    """``pm.gp.Marginal`` with a noise of unknown size."""
    pm.gp.Marginal(cov_func=cov).marginal_likelihood("y", X=x, y=y, sigma=pm.HalfNormal("noise"))


def length(name="length", **kwargs):
    return pm.InverseGamma(name, 4, 6, **kwargs)


def gp_marginal(seed=0, scale=1.0):
    """A squared-exponential process with noise: dense, positive definite."""
    rng, n = drawn(seed, scale, 100)
    x = places(rng, n)
    with pm.Model() as model:
        observed_with_noise(pm.HalfNormal("eta") ** 2 * pm.gp.cov.ExpQuad(1, ls=length()), x, curve(rng, x))
    return model


def gp_trend_and_season(seed=0, scale=1.0):
    """A trend, a season that fades and short weather, as for the CO2 of Mauna Loa: a sum of dense kernels."""
    rng, n = drawn(seed, scale, 96)
    x = np.linspace(0, 8, n)[:, None]
    with pm.Model() as model:
        trend, season, weather = scales("trend", "season", "weather")
        fading = pm.gp.cov.Periodic(1, period=1.0, ls=1.0) * pm.gp.cov.Matern52(1, ls=length("decay"))
        cov = trend**2 * pm.gp.cov.ExpQuad(1, ls=5 + length("slow")) + season**2 * fading
        observed_with_noise(cov + weather**2 * pm.gp.cov.RatQuad(1, alpha=1.0, ls=0.5), x, curve(rng, x))
    return model


def gp_latent_counts(seed=0, scale=1.0):
    """Counts over time with a latent log-rate, L z: the Cholesky factor itself is needed."""
    rng, n = drawn(seed, scale, 60)
    x = places(rng, n)
    with pm.Model() as model:
        gp = pm.gp.Latent(cov_func=pm.HalfNormal("eta") ** 2 * pm.gp.cov.Matern52(1, ls=length()))
        pm.Poisson("y", pt.exp(gp.prior("f", X=x)), observed=rng.poisson(np.exp(np.sin(x[:, 0]))))
    return model


def gp_islands(seed=0, scale=1.0):
    """Societies on islands, similar if near: latent, centred, eta^2 exp(-rho D^2) + e I, D constant."""
    rng, n = drawn(seed, scale, 30)
    squared = distances(places(rng, n, 2)) ** 2
    with pm.Model() as model:
        eta, rho = pm.Exponential("eta", 2), pm.Exponential("rho", 0.5)
        cov = eta**2 * pt.exp(-rho * squared) + 0.01 * np.eye(n)
        k = pm.MvNormal("k", 0, cov=cov, shape=n)
        pm.Poisson("tools", pt.exp(2 + k), observed=rng.poisson(8, size=n))
    return model


def gp_linear_kernel(seed=0, scale=1.0):
    """A linear kernel with noise, Bayesian regression in disguise: low rank plus diagonal."""
    rng, n = drawn(seed, scale, 120)
    X = rng.normal(size=(n, 4))
    with pm.Model() as model:
        tau, level = scales("tau", "level")
        cov = tau**2 * pm.gp.cov.Linear(4, c=0.0) + pm.gp.cov.Constant(level**2)
        observed_with_noise(cov, X, X @ [1.0, -1, 0.5, 0] + rng.normal(size=n))
    return model


def gp_sparse(seed=0, scale=1.0):
    """Inducing points, the variational bound (VFE): two small Cholesky factors."""
    rng, n = drawn(seed, scale, 150)
    x = places(rng, n)
    with pm.Model() as model:
        cov = pm.HalfNormal("eta") ** 2 * pm.gp.cov.ExpQuad(1, ls=length())
        gp = pm.gp.MarginalApprox(cov_func=cov, approx="VFE")
        noise = 0.1 + pm.HalfNormal("noise")
        gp.marginal_likelihood("y", X=x, Xu=np.linspace(0, 10, 12)[:, None], y=curve(rng, x), sigma=noise)
    return model


def gp_basis_integrated(seed=0, scale=1.0):
    """Hilbert-space basis, its weights integrated out: Phi diag(S) Phi' + s^2 I, Phi constant."""
    rng, n = drawn(seed, scale, 150)
    x = places(rng, n)
    with pm.Model() as model:
        cov = pm.HalfNormal("eta") ** 2 * pm.gp.cov.ExpQuad(1, ls=length())
        phi, root = pm.gp.HSGP(m=[15], c=1.5, cov_func=cov).prior_linearized(x)
        noise = pm.HalfNormal("noise")
        pm.MvNormal("y", 0, cov=phi @ pt.diag(root**2) @ phi.T + noise**2 * pt.eye(n), observed=curve(rng, x))
    return model


def gp_grid(seed=0, scale=1.0):
    """A full grid of two inputs (``MarginalKron``): eigenvectors of both factors."""
    rng, rows, columns = drawn(seed, scale**0.5, 9, 11)
    grid = [places(rng, m) for m in (rows, columns)]
    with pm.Model() as model:
        covs = [pm.gp.cov.Matern32(1, ls=length(f"length_{i}")) for i in range(2)]
        gp = pm.gp.MarginalKron(cov_funcs=covs)
        y = rng.normal(size=rows * columns)
        gp.marginal_likelihood("y", Xs=grid, y=y, sigma=pm.HalfNormal("noise"))
    return model


def gp_coregionalised(seed=0, scale=1.0):
    """Three outputs stacked: a kernel times an indexed 3 x 3 matrix W W' + diag(kappa)."""
    rng, n = drawn(seed, scale, 30)
    x = np.vstack([np.hstack([places(rng, n), np.full((n, 1), float(i))]) for i in range(3)])
    with pm.Model() as model:
        W, kappa = pm.Normal("W", shape=(3, 2)), pm.HalfNormal("kappa", shape=3)
        outputs = pm.gp.cov.Coregion(2, W=W, kappa=kappa, active_dims=[1])
        cov = pm.gp.cov.ExpQuad(2, ls=length(), active_dims=[0]) * outputs
        observed_with_noise(cov, x, curve(rng, x))
    return model


def gp_replicates(seed=0, scale=1.0):
    """Several measurements at each of few times: K[i][:, i] + s^2 I, K over the times."""
    rng, n, times = drawn(seed, scale, 120, 20)
    x, of = places(rng, times), members(rng, n, times)
    with pm.Model() as model:
        K = pm.HalfNormal("eta") ** 2 * pm.gp.cov.Matern52(1, ls=length())(x)
        s = pm.HalfNormal("s")
        pm.MvNormal("y", 0, cov=K[of][:, of] + s**2 * pt.eye(n), observed=curve(rng, x[of]))
    return model


def gp_by_group(seed=0, scale=1.0):
    """A curve of its own for each group: a kernel masked to blocks on the diagonal, plus noise."""
    rng, n, groups = drawn(seed, scale, 100, 10)
    x, group = rng.uniform(0, 10, size=(n, 1)), members(rng, n, groups)
    same = np.equal.outer(group, group).astype(float)
    with pm.Model() as model:
        eta, s = scales("eta", "s")
        K = eta**2 * same * pm.gp.cov.ExpQuad(1, ls=length())(x)
        pm.MvNormal("y", 0, cov=K + s**2 * pt.eye(n), observed=curve(rng, x))
    return model


MODELS = (
    gp_marginal,
    gp_trend_and_season,
    gp_latent_counts,
    gp_islands,
    gp_linear_kernel,
    gp_sparse,
    gp_basis_integrated,
    gp_grid,
    gp_coregionalised,
    gp_replicates,
    gp_by_group,
)
