"""Kernels on one dense matrix: LAPACK's factorisations, solves and inverses."""

from __future__ import annotations

import numpy as np

from calibration.timing_graph import Array, TimingGraph, linalg, normal, ops


def spd(rng: np.random.Generator, n: int) -> Array:
    """A well-conditioned positive definite matrix: `2 I` and symmetric noise of norm below 1."""
    noise = normal(rng, n, n) / (4 * max(n, 1) ** 0.5)
    matrix: Array = 2 * np.eye(n) + noise + noise.T
    return matrix


def _factor(rng: np.random.Generator, n: int) -> Array:
    """A lower Cholesky factor in Fortran order."""
    return np.asfortranarray(np.linalg.cholesky(spd(rng, n)))


def general(rng: np.random.Generator, n: int) -> Array:
    matrix: Array = normal(rng, n, n) + n**0.5 * np.eye(n)
    return matrix


def lu(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """LAPACK's packed LU factors in Fortran order, and its pivots."""
    from scipy.linalg import lu_factor

    packed, pivots = lu_factor(general(rng, n))
    return np.asfortranarray(packed), pivots.astype(np.int32)


def from_lu(packed: Array, pivots: Array) -> Array:
    """The matrix that was factored."""
    matrix = (np.tril(packed, -1) + np.eye(len(packed))) @ np.triu(packed)
    for row, pivot in reversed(list(enumerate(pivots))):
        matrix[[row, pivot]] = matrix[[pivot, row]]
    return matrix


def scipy_lu(matrix: Array) -> Array:
    from scipy.linalg import lu_factor

    packed: Array = lu_factor(matrix)[0]
    return packed


DENSE = (
    TimingGraph(
        "potrf",
        "m",
        lambda a: ops().SharedCholesky()(a),
        lambda g, n: (spd(g, n),),
        np.linalg.cholesky,
    ),
    TimingGraph(
        "potrs",
        "mm",
        lambda c, b: linalg().cho_solve((c, True), b),
        lambda g, n, m: (_factor(g, n), normal(g, n, m)),
        lambda c, b: np.linalg.solve(c @ c.T, b),
    ),
    TimingGraph(
        "potri",
        "m",
        lambda c: ops().CholeskyInverse()(c),
        lambda g, n: (_factor(g, n),),
        lambda c: np.linalg.inv(c @ c.T),
    ),
    TimingGraph(
        "getrf",
        "m",
        lambda a: linalg().lu_factor(a)[0],
        lambda g, n: (general(g, n),),
        lambda a: scipy_lu(a),
    ),
    TimingGraph(
        "getrs",
        "mpm",
        lambda lu, pivots, b: linalg().lu_solve((lu, pivots), b),
        lambda g, n, m: (*lu(g, n), normal(g, n, m)),
        lambda lu, pivots, b: np.linalg.solve(from_lu(lu, pivots), b),
    ),
    TimingGraph(
        "getri",
        "mp",
        lambda lu, pivots: ops().LUInverse()(lu, pivots),
        lambda g, n: lu(g, n),
        lambda lu, pivots: np.linalg.inv(from_lu(lu, pivots)),
    ),
    TimingGraph(
        "inv",
        "m",
        lambda a: linalg().inv(a),
        lambda g, n: (general(g, n),),
        np.linalg.inv,
    ),
    TimingGraph(
        "slogdet",
        "m",
        lambda a: linalg().slogdet(a)[1],
        lambda g, n: (general(g, n),),
        lambda a: np.linalg.slogdet(a)[1],
    ),
    TimingGraph(
        "gesv",
        "mm",
        lambda a, b: linalg().solve(a, b, assume_a="gen"),
        lambda g, n, m: (general(g, n), normal(g, n, m)),
        np.linalg.solve,
    ),
    TimingGraph(
        "sysv",
        "mm",
        lambda a, b: linalg().solve(a, b, assume_a="sym"),
        lambda g, n, m: (spd(g, n), normal(g, n, m)),
        np.linalg.solve,
    ),
    TimingGraph(
        "trsm",
        "mm",
        lambda c, b: linalg().solve_triangular(c, b, lower=True),
        lambda g, n, m: (_factor(g, n), normal(g, n, m)),
        np.linalg.solve,
    ),
    TimingGraph(
        "syevr",
        "m",
        lambda a: linalg().eigh(a)[1][:, -1] ** 2,
        lambda g, n: (spd(g, n),),
        lambda a: np.linalg.eigh(a)[1][:, -1] ** 2,
    ),
)
