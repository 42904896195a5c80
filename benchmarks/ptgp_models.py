"""ptgp as it is, and naive spellings with its kernels, value and gradient: against plain PyTensor.

    python benchmarks/ptgp_models.py [--models exact vfe-naive]

ptgp tells no sizes: X and y are a matrix and a vector. ``exact``, ``vfe``, ``fitc``, ``svgp``: ptgp's own
objectives by ``compile_scipy_objective``, no hint, no rule. ``vfe-naive`` writes the covariance of the
collapsed bound as ``Kuf' solve(Kuu, Kuf) + s² I`` and takes `slogdet` and `solve` of it; written by hand it
is the usual form in the m x m matrix ``Kuu + Kuf Kuf' / s²``, compiled by plain PyTensor.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import ptgp as pg
import pymc as pm
import pytensor
import pytensor.tensor as pt
from tables import COMPARED, MarkdownTable, compared
from timing import alternate

import autotune

SIZES = {
    "exact": (1000, 0),
    "vfe-naive": (1500, 50),
    "vfe": (1500, 50),
    "fitc": (1500, 50),
    "svgp": (1500, 50),
}


def data(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    X = np.sort(rng.uniform(0, 10, n))[:, None]
    return X, np.sin(X[:, 0]) + 0.1 * rng.normal(size=n), np.linspace(0.1, 9.9, max(m, 1))[:, None]


def by_ptgp(name: str, n: int, m: int, mode: Any) -> Any:
    """ptgp's objective with its gradient, of one vector of parameters."""
    X, y, Z = data(n, m)
    inducing = pt.matrix("Z")
    extra: dict[str, Any] = {}
    objectives = {
        "exact": lambda *given: pg.objectives.marginal_log_likelihood(*given).mll,
        "vfe": lambda *given: pg.objectives.collapsed_elbo(*given).elbo,
        "fitc": lambda *given: pg.objectives.fitc_log_marginal_likelihood(*given).fitc,
        "svgp": lambda *given: pg.objectives.elbo(*given).elbo,
    }
    with pm.Model() as model:
        length, scale = pm.LogNormal("length"), pm.HalfNormal("scale")
        kernel = scale**2 * pg.kernels.Matern52(input_dim=1, ls=0.3 + length)
        noise = 0.1 + pm.HalfNormal("noise")
        if name == "exact":
            gp = pg.gp.Unapproximated(kernel=kernel, sigma=noise)
        elif name == "svgp":
            variational = pg.gp.init_variational_params(m)
            gp = pg.gp.SVGP(
                kernel=kernel,
                likelihood=pg.likelihoods.Gaussian(sigma=noise),
                inducing_variable=pg.inducing.Points(pt.as_tensor(Z)),
                variational_params=variational,
            )
            extra = {
                "extra_vars": list(variational.extra_vars),
                "extra_init": list(variational.extra_init),
            }
        else:
            kind = pg.gp.VFE
            gp = kind(kernel=kernel, sigma=noise, inducing_variable=pg.inducing.Points(inducing))
            extra = {"extra_vars": [inducing], "extra_init": [Z]}
    fun, theta, *_ = pg.optim.compile_scipy_objective(
        objectives[name],
        gp,
        pt.matrix("X"),
        pt.vector("y"),
        model=model,
        init="unconstrained_zero",
        **extra,
        **({} if mode is None else {"compile_kwargs": {"mode": mode}}),
    )
    return lambda: fun(theta, X, y)


def naive(n: int, m: int, *, by_hand: bool) -> Any:
    """The log-density of the collapsed bound's Gaussian, with its gradient by three parameters."""
    X_value, y_value, Z = data(n, m)
    X, y, z = pt.matrix("X"), pt.vector("y"), pt.matrix("z")
    length, scale, noise = pt.dscalars("length", "scale", "noise")
    with pm.Model():
        kernel = scale**2 * pg.kernels.Matern52(input_dim=1, ls=length)
        Kuu = kernel(z) + 1e-6 * pt.eye(z.shape[0])
        Kuf = kernel(z, X)
        diagonal = kernel.diag(X) if hasattr(kernel, "diag") else scale**2 * pt.ones(X.shape[0])
    v, rows = noise**2, X.shape[0]
    if by_hand:
        L = pt.linalg.cholesky(Kuu)
        A = pt.linalg.solve_triangular(L, Kuf, lower=True) / noise
        B = pt.eye(z.shape[0]) + A @ A.T
        LB = pt.linalg.cholesky(B)
        c = pt.linalg.solve_triangular(LB, A @ y, lower=True) / noise
        logdet = 2 * pt.log(pt.diag(LB)).sum() + rows * pt.log(v)
        quadratic = (y**2).sum() / v - (c**2).sum()
        trace = (diagonal.sum() - v * (A**2).sum()) / v
    else:
        Q = Kuf.T @ pt.linalg.solve(Kuu, Kuf)
        S = Q + v * pt.eye(rows)
        logdet = pt.linalg.slogdet(S)[1]
        quadratic = y @ pt.linalg.solve(S, y)
        trace = (diagonal.sum() - pt.trace(Q)) / v
    value = -0.5 * (rows * np.log(2 * np.pi) + logdet + quadratic + trace)
    wrt = [length, scale, noise]
    fn = pytensor.function([X, y, z, *wrt], [value, *pt.grad(value, wrt)])
    return lambda: fn(X_value, y_value, Z, 1.3, 1.0, 0.2)


def functions(name: str) -> dict[str, Any]:
    n, m = SIZES[name]
    if name == "vfe-naive":
        with autotune.enabled():
            found = {"autotune": naive(n, m, by_hand=False)}
        return {
            **found,
            "plain": naive(n, m, by_hand=False),
            "by hand": naive(n, m, by_hand=True),
        }
    with autotune.enabled():
        found = {"autotune": by_ptgp(name, n, m, None)}
    return {**found, "plain": by_ptgp(name, n, m, None)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--budget", type=float, default=8.0, help="seconds of calls for each model")
    arguments = parser.parse_args()
    table = MarkdownTable("model", "n, m", *COMPARED)
    for name in arguments.models:
        found = functions(name)
        values = {key: np.concatenate([np.ravel(part) for part in fn()]) for key, fn in found.items()}
        reference = values["by hand" if "by hand" in values else "plain"]
        error = np.max(np.abs(values["autotune"] - reference)) / np.max(np.abs(reference))
        seconds = alternate(found, (), budget=arguments.budget)
        table.add_row(
            name,
            ", ".join(map(str, SIZES[name])),
            *compared(seconds, error),
        )


if __name__ == "__main__":
    main()
