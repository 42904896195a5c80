"""PyMC's log-density with its gradient: PyMC as it is against the same model compiled under autotune.

    python benchmarks/pymc_models.py --models mvnormal marginal --sizes 1000 2000
    python benchmarks/pymc_models.py --sample --draws 200 --tune 200

Every function is compiled once by ``logp_dlogp_function`` and timed in alternation. ``--sample`` instead
draws from the posterior of factor analysis both ways, with different seeds, and compares the posterior means
in units of their Monte Carlo error: z = (a - b) / sqrt(mcse_a^2 + mcse_b^2), about standard normal.
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import pytensor.tensor as pt
from tables import MarkdownTable
from timing import alternate

import autotune


def mvnormal(n: int) -> pm.Model:
    """One observed vector; a squared-exponential covariance, written by hand."""
    x, y = curve(n)
    with pm.Model() as model:
        lengthscale, s, noise = hyperparameters()
        K = s**2 * pt.exp(-0.5 * (x - x.T) ** 2 / lengthscale**2) + noise**2 * pt.eye(n)
        pm.MvNormal("y", 0, cov=K, observed=y)
    return model


def marginal(n: int) -> pm.Model:
    """``pm.gp.Marginal`` with ``ExpQuad``."""
    x, y = curve(n)
    with pm.Model() as model:
        lengthscale, s, noise = hyperparameters()
        gp = pm.gp.Marginal(cov_func=s**2 * pm.gp.cov.ExpQuad(1, ls=lengthscale))
        gp.marginal_likelihood("y", X=x, y=y, sigma=noise)
    return model


def hyperparameters():
    return pm.HalfNormal("lengthscale"), pm.HalfNormal("s"), pm.HalfNormal("noise")


def curve(n: int):
    """x (n, 1) in [0, 10] and a noisy curve (n,)."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 10, n))[:, None]
    return x, np.sin(x[:, 0]) + rng.normal(scale=0.3, size=n)


def factor_analysis(n: int, *, rows: int = 200, factors: int = 5) -> pm.Model:
    """``rows`` vectors of length n from N(0, W W' + diag(psi)); the data are drawn from such a model."""
    rng = np.random.default_rng(0)
    loadings, psi = rng.normal(size=(n, factors)), rng.uniform(0.5, 1.5, n)
    observed = rng.normal(size=(rows, factors)) @ loadings.T + np.sqrt(psi) * rng.normal(size=(rows, n))
    with pm.Model() as model:
        W = pm.Normal("W", shape=(n, factors))
        psi = pm.HalfNormal("psi", shape=n)
        pm.MvNormal("y", 0, cov=W @ W.T + pt.diag(psi), observed=observed)
    return model


GAUSSIAN_PROCESSES = {"mvnormal": mvnormal, "marginal": marginal}


def joint(model: pm.Model, **kwargs: Any) -> Any:
    """Value and gradient of a raveled point."""
    fn = model.logp_dlogp_function(ravel_inputs=True, **kwargs)
    fn.set_extra_values({})
    return fn


def compile_both(make: Any, **kwargs: Any) -> dict[str, Any]:
    """``{"plain": ..., "autotune": ...}`` of the model that ``make()`` returns."""
    plain = joint(make(), **kwargs)
    with autotune.enabled():
        tuned = joint(make(), **kwargs)
    return {"plain": plain, "autotune": tuned}


def point_of(model: pm.Model) -> np.ndarray:
    size = sum(value.size for value in model.initial_point().values())
    return 0.3 * np.random.default_rng(0).normal(size=size)


def difference(found: Any, expected: Any) -> float:
    """Largest difference relative to the largest entry."""
    return float(np.max(np.abs(np.subtract(found, expected))) / np.max(np.abs(expected)))


def measure(name: str, make: Any, rounds: int) -> list[str]:
    """One row of the table."""
    functions, point = compile_both(make), point_of(make())
    (value, gradient), (expected, expected_gradient) = functions["autotune"](point), functions["plain"](point)
    times = alternate(functions, [point], rounds=(rounds, rounds))
    return [
        name,
        ", ".join(d.chosen for d in autotune.explain(functions["autotune"]).decisions),
        *(f"{1e3 * times[way]:.3g}" for way in ("plain", "autotune")),
        f"{times['plain'] / times['autotune']:.3g}",
        f"{difference(value, expected):.0e}",
        f"{difference(gradient, expected_gradient):.0e}",
    ]


TIMES = ("PyMC (ms)", "autotune (ms)", "PyMC / autotune")
COLUMNS = ("model", "chosen", *TIMES, "value differs", "gradient differs")


# -- sampling ----------------------------------------------------------------------------------------


def draw(model: pm.Model, *, tuned: bool, **kwargs: Any) -> tuple[dict[str, np.ndarray], list[float]]:
    """Draws (chain, draw, ...) of psi and of W W'; seconds of sampling, of all with compiling, of a gradient.

    The last is the time of sampling by the gradients taken, the sampler's own work included. W itself is not
    identified: any rotation of it has the same likelihood.
    """
    start = time.perf_counter()
    with autotune.enabled() if tuned else nullcontext(), model:
        # PyMC's own sampler, whatever else is installed. One core: the threads of BLAS use the others.
        quiet = {"progressbar": False, "compute_convergence_checks": False}
        trace = pm.sample(nuts_sampler="pymc", cores=1, discard_tuned_samples=False, **quiet, **kwargs)
    elapsed, sampling = time.perf_counter() - start, trace.posterior.attrs["sampling_time"]
    gradients = sum(int(stats["n_steps"].sum()) for stats in (trace.warmup_sample_stats, trace.sample_stats))
    seconds = [sampling, elapsed, sampling / gradients]
    W, psi = trace.posterior["W"].values, trace.posterior["psi"].values
    # 20 rows and columns: the errors of all n^2 entries would take minutes.
    some = np.linspace(0, W.shape[2] - 1, min(20, W.shape[2])).astype(int)
    rows, columns = np.triu_indices(len(some))
    covariance = np.einsum("cdif,cdif->cdi", W[:, :, some[rows]], W[:, :, some[columns]])
    return {"psi": psi, "W W'": covariance}, seconds


def z_scores(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Difference of the means of draws (chain, draw, quantity) in units of its Monte Carlo error."""
    means, errors = zip(*(mean_and_error(draws) for draws in (a, b)), strict=True)
    return (means[0] - means[1]) / np.sqrt(errors[0] ** 2 + errors[1] ** 2)


def mean_and_error(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    errors = [float(az.mcse(draws[..., i], method="mean")) for i in range(draws.shape[-1])]
    return draws.mean(axis=(0, 1)), np.array(errors)


def compare_posteriors(model: pm.Model, **kwargs: Any) -> None:
    """Print a table of the quantities and one of the times."""
    plain, plain_seconds = draw(model, tuned=False, random_seed=1, **kwargs)
    tuned, tuned_seconds = draw(model, tuned=True, random_seed=2, **kwargs)
    table = MarkdownTable("quantity", "number", "root mean square z", "largest abs(z)", "% with abs(z) > 2")
    for name in plain:
        z = z_scores(plain[name], tuned[name])
        figures = (np.sqrt(np.mean(z**2)), np.abs(z).max(), 100 * np.mean(np.abs(z) > 2))
        table.add_row(name, str(z.size), *(f"{figure:.2f}" for figure in figures))
    table = MarkdownTable("time", "PyMC (s)", "autotune (s)", "PyMC / autotune")
    rows = ("sampling", "with compiling", "sampling, a gradient")
    for what, a, b in zip(rows, plain_seconds, tuned_seconds, strict=True):
        table.add_row(what, f"{a:.3g}", f"{b:.3g}", f"{a / b:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=[*GAUSSIAN_PROCESSES, "factors"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 1500, 2000, 3000])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dims", type=int, default=300, help="length of a vector in factor analysis")
    parser.add_argument("--rows", type=int, default=200, help="observed vectors in factor analysis")
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--tune", type=int, default=200)
    parser.add_argument("--chains", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.sample:
        model = factor_analysis(arguments.dims, rows=arguments.rows)
        lengths = {name: getattr(arguments, name) for name in ("draws", "tune", "chains")}
        compare_posteriors(model, **lengths)
        return
    cases = {
        f"{name}, n = {n}": lambda make=make, n=n: make(n)
        for name, make in GAUSSIAN_PROCESSES.items()
        if name in arguments.models
        for n in arguments.sizes
    }
    if "factors" in arguments.models:
        title = f"factor analysis, n = {arguments.dims}, {arguments.rows} rows"
        cases[title] = lambda: factor_analysis(arguments.dims, rows=arguments.rows)
    table = MarkdownTable(*COLUMNS)
    for name, make in cases.items():
        table.add_row(*measure(name, make, arguments.rounds))


if __name__ == "__main__":
    main()
