"""Value and gradient of PyMC models of large order, unchanged code, against PyMC alone.

python benchmarks/large_models.py [--only "ICM"] [--scale 0.2]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.blocking import DictToArrayBijection
from tables import MarkdownTable

import autotune


def matern(scale: float) -> pm.Model:
    """A Gaussian process of times, `gp.Marginal` with Matern 3/2: n = 5000."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, 100, round(5000 * scale)))
    with pm.Model() as model:
        size, length, noise = pm.HalfNormal("size"), pm.Gamma("length", 2, 1), pm.HalfNormal("noise")
        gp = pm.gp.Marginal(cov_func=size**2 * pm.gp.cov.Matern32(1, length))
        gp.marginal_likelihood("y", X=t[:, None], y=np.sin(t) + rng.normal(size=len(t)), sigma=noise)
    return model


def random_walk(scale: float) -> pm.Model:
    """A random walk of order two with a weight for each step, as a precision: n = 2000."""
    n = round(2000 * scale)
    D = np.diff(np.eye(n), 2, axis=0)
    with pm.Model() as model:
        tau, weights = pm.HalfNormal("tau"), pm.Gamma("weights", 2, 2, shape=n - 2)
        Q = tau * pt.constant(D).T @ (weights[:, None] * pt.constant(D)) + 1e-3 * pt.eye(n)
        pm.MvNormal("f", mu=np.zeros(n), tau=Q, observed=np.random.default_rng(0).normal(size=n))
    return model


def lattice(scale: float) -> pm.Model:
    """Areas on a lattice of 50 x 100, conditionally autoregressive: n = 5000."""
    rows, columns = 50, round(100 * scale)
    line = [np.eye(n, k=1) + np.eye(n, k=-1) for n in (rows, columns)]
    W = np.kron(np.eye(columns), line[0]) + np.kron(line[1], np.eye(rows))
    n = rows * columns
    with pm.Model() as model:
        tau, alpha = pm.HalfNormal("tau"), pm.Uniform("alpha", 0, 1)
        Q = tau * (np.diag(W.sum(axis=1)) - alpha * W)
        pm.MvNormal("phi", mu=np.zeros(n), tau=Q, observed=np.random.default_rng(0).normal(size=n))
    return model


def several_outputs(scale: float) -> pm.Model:
    """Three outputs at 500 inputs each, Coregion times a kernel (ICM): n = 1500."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 10, round(500 * scale)))
    X = np.c_[np.tile(x, 3), np.repeat(np.arange(3), len(x))]
    with pm.Model() as model:
        length, noise = pm.Gamma("length", 2, 1), pm.HalfNormal("noise")
        W, kappa = pm.Normal("W", shape=(3, 2)), pm.HalfNormal("kappa", shape=3)
        kernel = pm.gp.cov.ExpQuad(2, length, active_dims=[0])
        coregion = pm.gp.cov.Coregion(2, W=W, kappa=kappa, active_dims=[1])
        gp = pm.gp.Marginal(cov_func=kernel * coregion)
        gp.marginal_likelihood("y", X=X, y=np.sin(X[:, 0]) + rng.normal(size=len(X)), sigma=noise)
    return model


MODELS: dict[str, Callable[[float], pm.Model]] = {
    "Matern 3/2 of times": matern,
    "random walk of order two": random_walk,
    "CAR on a lattice": lattice,
    "ICM, three outputs": several_outputs,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="what the names of the models begin with")
    parser.add_argument("--scale", type=float, default=1.0, help="of all orders")
    arguments = parser.parse_args()
    table = MarkdownTable(
        "model", "PyMC [ms]", "autotune [ms]", "ratio", "largest difference", "first call [s]"
    )
    for name, make in MODELS.items():
        if name.startswith(tuple(arguments.only)):
            model = make(arguments.scale)
            ours, here, first = timed(model, autotune.enabled(), calls=20)
            plain, alone, first_alone = timed(model, nullcontext(), calls=2)
            error = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, plain, strict=True))
            times = f"{1e3 * alone:.4g}", f"{1e3 * here:.3g}", f"{alone / here:.3g}"
            table.add_row(name, *times, f"{error:.1e}", f"{first:.0f} ({first_alone:.0f} alone)")


def timed(model: pm.Model, context: Any, calls: int) -> tuple[list[np.ndarray], float, float]:
    """Value and gradient at a point, least seconds a call, and those of compiling and the first call."""
    start = time.perf_counter()
    with context:
        fn = model.logp_dlogp_function(ravel_inputs=True)
    fn.set_extra_values({})
    point = {name: x + 0.1 for name, x in model.initial_point().items()}
    x = DictToArrayBijection.map(point).data
    compiled = fn._pytensor_function
    compiled.trust_input = True
    found = [np.asarray(out) for out in compiled(x)]
    first, seconds = time.perf_counter() - start, []
    for _ in range(calls):
        before = time.perf_counter()
        compiled(x)
        seconds.append(time.perf_counter() - before)
    return found, min(seconds), first


if __name__ == "__main__":
    main()
