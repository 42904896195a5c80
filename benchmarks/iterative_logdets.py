"""The table of `iterative.py` about log-determinants: how often the error reported is kept, and times.

Every row has a matrix and probes of its own, so that the shares of all rows add up to one statistic.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache, partial
from zlib import crc32

import numpy as np
import pytensor
import pytensor.tensor as pt
from iterative_matrices import kernel, with_spectrum
from iterative_solves import SIZES, Row, Rows
from pytensor.assumptions import assume
from timing import alternate

import autotune
from autotune.ops import LanczosLogdet, PartialCholesky

# Independent sets of probes for every row's matrix.
DRAWS = 10
RANKS, TOLERANCES = (-1, 20, 50), (1e-1, 1e-2)
MATRICES: dict[str, Callable] = {
    "geometric, condition 10": lambda n, rng: with_spectrum(np.geomspace(1, 10, n), rng),
    "geometric, condition 1e3": lambda n, rng: with_spectrum(np.geomspace(1, 1e3, n), rng),
    "uniform, condition 100": lambda n, rng: with_spectrum(np.linspace(1, 100, n), rng),
    "kernel, lengthscale 0.3, noise 0.1": partial(kernel, lengthscale=0.3, noise=0.1),
    "kernel, lengthscale 0.3, noise 1e-3": partial(kernel, lengthscale=0.3, noise=1e-3),
}


@cache
def estimate_function():
    """``(A, rtol, steps, rank, seed) -> log-determinant, error, probes``; no probes: refused, and exact."""
    A, rtol = pt.matrix("A"), pt.dscalar("rtol")
    steps, rank, seed = pt.lscalar("steps"), pt.lscalar("rank"), pt.lscalar("seed")
    outputs = LanczosLogdet()(A, rtol, steps, seed, *PartialCholesky()(A, rank))[:3]
    return pytensor.function([A, rtol, steps, rank, seed], outputs, mode="NUMBA")


@cache
def cholesky_function():
    """The log-determinant by Cholesky."""
    A = pt.matrix("A")
    exact = pt.linalg.slogdet(assume(A, positive_definite=True))[1]
    return pytensor.function([A], exact, mode=autotune.mode({"rules": [{"force": "cholesky"}]}))


def logdet_rows(arguments) -> Rows:
    """The fourth table."""
    sizes = [n for n in SIZES if n <= arguments.largest]
    for n, name, rank, rtol in itertools.product(sizes, MATRICES, RANKS, TOLERANCES):
        key = f"{n} {name} {rank} {rtol}"
        yield key, partial(logdet_row, arguments, n, name, rank, rtol, crc32(key.encode()))


def logdet_row(arguments, n, name, rank, rtol, seed) -> Row:
    """Errors relative to the log-determinant, of the draws that were not refused."""
    rng = np.random.default_rng(seed)
    A, seeds = MATRICES[name](n, rng), rng.integers(2**31, size=DRAWS)
    truth = float(cholesky_function()(A))
    estimate = partial(estimate_function(), rtol=rtol, steps=n // 4, rank=rank)
    drawn = np.array([[float(v) for v in estimate(A, seed=s)] for s in seeds])
    value, reported, probes = drawn[drawn[:, 2] > 0].T
    error = np.abs(value - truth)
    functions = {"lanczos": partial(estimate, seed=seeds[0]), "cholesky": cholesky_function()}
    times = alternate(functions, [A], rounds=(arguments.rounds, arguments.rounds))
    row = {"n": n, "matrix": name, "rank": rank, "rtol": rtol, "estimates": len(error)}
    row |= {"within error reported": int((error <= reported).sum())}
    row |= {"within rtol": int((error <= rtol * abs(truth)).sum())}
    if len(error):
        row |= {"probes": float(np.median(probes)), "error reported": float(np.median(reported)) / abs(truth)}
        row |= {"largest error": float(error.max()) / abs(truth)}
        row |= {"mean of error / reported": float(np.mean((value - truth) / reported))}
    return row | {f"{key} (ms)": 1e3 * t for key, t in times.items()}
