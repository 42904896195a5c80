"""How well the iterations of conjugate gradients are known beforehand.

    python benchmarks/expected_iterations.py [--sizes 500 2000 8000] [--probe-size 600]

Two tables. From the condition number alone: the factor by which shares of the Chebyshev bound are off, over
orders, condition numbers and tolerances; `autotune.strategies.iterations.SHARE_OF_BOUND` is the largest of
these shares that is never off by more than three. From a probe: iterations predicted and needed on matrices,
with the preconditioner that the probe prefers and without. Counts, no times: any machine gives the same.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
from iterative_matrices import SPECTRA, with_spectrum
from tables import MarkdownTable

from autotune.evidence.convergence import rank_of, try_out
from autotune.ops import core_cg, core_preconditioner
from autotune.strategies.iterations import chebyshev_bound, default_rank

SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
CONDITIONS = (10, 100, 1000)
RTOLS = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12)
PRODUCTS = 60


def iterations_on(eigenvalues: np.ndarray, rtols=RTOLS, seed: int = 0) -> list[int]:
    """Iterations to each of the falling ``rtols``: of a diagonal matrix, for the basis does not matter."""
    r = np.random.default_rng(seed).standard_normal(len(eigenvalues))
    p, rho, start = r.copy(), r @ r, np.linalg.norm(r)
    reached: list[int] = []
    for used in itertools.count(1):
        q = eigenvalues * p
        r = r - rho / (p @ q) * q
        before, rho = rho, r @ r
        reached += [used] * sum(math.sqrt(rho) <= rtol * start for rtol in rtols[len(reached) :])
        if len(reached) == len(rtols):
            return reached
        p = r + rho / before * p
    return reached


def observations(sizes, conditions=CONDITIONS, names=("uniform", "geometric", "clustered")) -> Iterator:
    """Order, Chebyshev bound and iterations needed, over spectra and tolerances."""
    for n, condition, name in itertools.product(sizes, conditions, names):
        needed = iterations_on(SPECTRA[name](n, condition))
        for rtol, used in zip(RTOLS, needed, strict=True):
            yield n, chebyshev_bound(condition, rtol), used


def factors(observed: list, share: float) -> np.ndarray:
    """By how much the estimates of one share are off, in either direction."""
    expected = [max(1, min(n, math.ceil(share * bound))) for n, bound, _ in observed]
    return np.array([max(e / used, used / e) for e, (*_, used) in zip(expected, observed, strict=True)])


def shares_of_the_bound(sizes) -> None:
    observed = list(observations(sizes))
    table = MarkdownTable("share of the bound", "median factor", "90th percentile", "worst")
    for share in SHARES:
        off = factors(observed, share)
        table.add_row(f"{share}", f"{np.median(off):.2f}", f"{np.quantile(off, 0.9):.2f}", f"{off.max():.2f}")


def kernel(n: int, noise: float) -> np.ndarray:
    """A Gaussian kernel of lengthscale 0.3 on the unit square, and noise."""
    X = np.random.default_rng(0).uniform(size=(n, 2))
    distances = ((X[:, None] - X[None]) ** 2).sum(axis=-1)
    return np.exp(-0.5 * distances / 0.09) + noise * np.eye(n)


MATRICES: dict[str, Callable[[int], np.ndarray]] = {
    **{
        f"{name}, condition {condition:g}": (
            lambda n, name=name, condition=condition: with_spectrum(
                SPECTRA[name](n, condition), np.random.default_rng(0)
            )
        )
        for name in ("uniform", "geometric", "clustered")
        for condition in (10, 1000, 1e5, 1e8)
    },
    **{f"kernel, noise {noise:g}": (lambda n, noise=noise: kernel(n, noise)) for noise in (1.0, 1e-2, 1e-3)},
}


def probes(n: int) -> None:
    table = MarkdownTable("matrix", "preconditioner", "rtol", "predicted", "needed", "factor")
    kinds = (("none", None), ("pivoted_cholesky", default_rank(n)))
    for name, make in MATRICES.items():
        A = make(n)
        found = try_out(A, kinds, PRODUCTS)
        for kind, rtol in itertools.product(kinds, (1e-4, 1e-8)):
            convergence = found.under(*kind)
            predicted, needed = convergence.iterations(rtol), _needed(A, kind, rtol)
            seen = needed > 0 and convergence.reaches(rtol)
            off = f"{max(predicted / needed, needed / predicted):.2f}" if seen else "-"
            table.add_row(
                name, f"{kind[0]} {kind[1] or ''}".strip(), f"{rtol:g}", str(predicted), str(needed), off
            )


def _needed(A: np.ndarray, kind, rtol: float) -> int:
    """By the project's own recurrence with another right-hand side; 0 where it gives up."""
    b = np.random.default_rng(1).standard_normal((len(A), 1))
    parts = core_preconditioner.build(A, rank_of(kind))
    used = core_cg.block_cg(core_cg.as_operator(A), b, rtol, 10 * len(A), parts, np.zeros((0, 0)))[1]
    return max(int(used), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--probe-size", type=int, default=600)
    given = parser.parse_args()
    shares_of_the_bound(given.sizes)
    probes(given.probe_size)


if __name__ == "__main__":
    main()
