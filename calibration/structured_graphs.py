"""Kernels of iterations, of a diagonal plus a low rank, of bands, of points on a line, and Toeplitz ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg

from calibration.timing_graph import Array, TimingGraph, normal, ops

EIGENVALUES = 8
"""Distinct eigenvalues of the matrix for `cg_iteration`: CG needs one iteration for each."""


def _few_eigenvalues(rng: np.random.Generator, n: int) -> Array:
    """A dense symmetric matrix with the eigenvalues 1 to `EIGENVALUES`: `H D H` with a reflection H."""
    eigenvalues = 1.0 + np.arange(n) % EIGENVALUES
    v = normal(rng, n)
    v /= np.linalg.norm(v)
    w = eigenvalues * v
    reflected = np.diag(eigenvalues) - 2 * np.outer(v, w) - 2 * np.outer(w, v)
    matrix: Array = reflected + 4 * (v @ w) * np.outer(v, v)
    return matrix


def _conjugate_gradients(a: Any, b: Any) -> Any:
    return ops().BlockCG()(a, b, 1e-8 if a.type.dtype == "float64" else 1e-4, 100)[0]


def _low_rank(rng: np.random.Generator, n: int, k: int) -> tuple[Array, Array, Array]:
    """A positive diagonal, U with columns of length about one, and their weights, all one."""
    return 0.5 + rng.random(n), normal(rng, n, k) / max(n, 1) ** 0.5, np.ones(k)


def _low_rank_dense(d: Array, u: Array, c: Array) -> Array:
    """The matrix `diag(d) + U diag(c) U'`."""
    matrix: Array = np.diag(d) + (u * c) @ u.T
    return matrix


def _low_rank_factored(rng: np.random.Generator, n: int, k: int) -> tuple[Array, ...]:
    """The parts of the matrix and the factor that `LowRankFactor` makes of them."""
    parts = _low_rank(rng, n, k)
    op = _low_rank_factor_op()
    node = op.make_node(*parts)
    storage: list[list[Any]] = [[None] for _ in node.outputs]
    op.perform(node, list(parts), storage)
    return (*parts, *(cell[0] for cell in storage[: len(ops().FACTOR_FIELDS)]))


def _low_rank_factor_op() -> Any:
    return ops().LowRankFactor(symmetric=True, positive_definite=True)


def _band(rng: np.random.Generator, n: int, b: int) -> Array:
    """The lower diagonals of a positive definite matrix, as `scipy.linalg.solveh_banded` takes them."""
    bands = normal(rng, b + 1, n)
    bands[0] = 4 + 4 * b + rng.random(n)
    for k in range(1, b + 1):
        bands[k, max(n - k, 0) :] = 0
    return bands


def _dense_band(bands: Array) -> Array:
    n = bands.shape[1]
    below = sum(np.diag(row[: n - k], -k) for k, row in enumerate(bands) if 0 < k < n)
    matrix: Array = np.diag(bands[0]) + below + np.transpose(below)
    return matrix


def _factored_band(rng: np.random.Generator, n: int, b: int) -> tuple[Array, ...]:
    """What `BandedFactor` makes of one, no multipliers and no exchanges of rows."""
    found = ops().banded.core_banded.factor(_band(rng, n, b), b, b, True, True, True)
    return tuple(found[:3])


def _band_of_factor(F: Array) -> Array:
    """The lower diagonals of ``L D L'``."""
    n, rows = F.shape
    L = np.eye(n) + sum(np.diag(F[: n - k, k], -k) for k in range(1, min(rows, n)))
    A = (L * F[:, 0]) @ L.T
    return A


def _entries_on_band(A: Array, rows: int) -> Array:
    """Those of the lower diagonals, twice but for the main one."""
    n = len(A)
    out = np.zeros((rows, n))
    for k in range(min(rows, n)):
        out[k, : n - k] = np.diagonal(A, -k) * (1 if k == 0 else 2)
    return out


def _band_op(name: str, **options: Any) -> Any:
    """For a symmetric band of any width: `LDL'` goes by the array."""
    return getattr(ops(), name)(lower=-1, upper=-1, mirrored=True, **options)


def _sparse(rng: np.random.Generator, n: int, b: int) -> tuple[Array, ...]:
    """A band with b entries in each column, as a sparse matrix, and its plan."""
    from autotune.ops.pattern import Pattern

    columns = np.repeat(np.arange(n), b)
    rows = columns + np.tile(np.arange(b), n)
    pattern = Pattern.of(n, (columns * n + rows)[rows < n])
    data = rng.random(len(pattern.rows))
    data[pattern.diagonal] += 2.0 * b
    return data, pattern.plan


def _factored_sparse(rng: np.random.Generator, n: int, b: int, *rhs: Array) -> tuple[Array, ...]:
    """What `SparseFactor` makes of one."""
    data, plan = _sparse(rng, n, b)
    return ops().sparse.core_sparse.factor(data, plan)[0], *rhs, plan


def _on_line(rng: np.random.Generator, n: int, k: int) -> tuple[Array, ...]:
    """Diagonal, steps, coefficients and rates of a sum of so many exponentials."""
    steps = 0.05 + rng.random(n) / 10
    return 2.0 + rng.random(n), steps, np.full(k, 1.0 / k), 0.5 + np.arange(k)


def _dense_on_line(d: Array, steps: Array, c: Array, rates: Array) -> Array:
    t = np.cumsum(steps)
    r = np.abs(t[:, None] - t[None, :])
    matrix = np.asarray(sum(a * np.exp(-b * r) for a, b in zip(c, rates, strict=True)))
    np.fill_diagonal(matrix, d)
    return matrix


def _factored_on_line(rng: np.random.Generator, n: int, k: int) -> tuple[Array, ...]:
    """What `QuasiseparableFactor` makes of it, the steps and the coefficients."""
    parts = _on_line(rng, n, k)
    core = ops().quasiseparable.core_quasiseparable
    found = core.factor(*parts, np.ones(k, np.int64), np.zeros(k, np.int64))
    return (*found[:3], *parts[1:3])


STRUCTURED = (
    TimingGraph(
        "cg_iteration",
        "mm",
        _conjugate_gradients,
        lambda g, n, m: (_few_eigenvalues(g, n), normal(g, n, m)),
        np.linalg.solve,
        repeats=EIGENVALUES + 1,
    ),
    TimingGraph(
        "low_rank_factor",
        "vmv",
        lambda *parts: _low_rank_factor_op()(*parts)[-1],
        _low_rank,
        lambda *parts: np.linalg.slogdet(_low_rank_dense(*parts))[1],
    ),
    TimingGraph(
        "low_rank_solve",
        "vmvbvmplmm",
        lambda *inputs: ops().LowRankSolve(symmetric=True)(*inputs),
        lambda g, n, k, m: (*_low_rank_factored(g, n, k), normal(g, n, m)),
        lambda d, u, c, *rest: np.linalg.solve(_low_rank_dense(d, u, c), rest[-1]),
    ),
    TimingGraph(
        "low_rank_diagonal",
        "vmvbvmplm",
        lambda *inputs: ops().LowRankInverseDiagonal(symmetric=True)(*inputs),
        _low_rank_factored,
        lambda d, u, c, *rest: np.diag(np.linalg.inv(_low_rank_dense(d, u, c))),
    ),
    TimingGraph(
        "band_factor",
        "m",
        lambda ab: _band_op("BandedFactor", definite=True, checked=True)(ab)[-1],
        lambda g, n, b: (_band(g, n, b),),
        lambda ab: np.linalg.slogdet(_dense_band(ab))[1],
    ),
    TimingGraph(
        "band_solve",
        "mmlm",
        lambda *inputs: _band_op("BandedSolve")(*inputs),
        lambda g, n, b, m: (*_factored_band(g, n, b), normal(g, n, m)),
        lambda F, M, pivots, B: np.linalg.solve(_band_of_factor(F), B),
    ),
    TimingGraph(
        "band_inverse",
        "mml",
        lambda *inputs: _band_op("BandedLogdetPullback")(*inputs),
        _factored_band,
        lambda F, M, pivots: _entries_on_band(np.linalg.inv(_band_of_factor(F)), F.shape[1]),
    ),
    TimingGraph(
        "sparse_factor",
        "vp",
        lambda data, plan: ops().SparseFactor()(data, plan)[-1],
        _sparse,
    ),
    TimingGraph(
        "sparse_solve",
        "vmp",
        lambda L, B, plan: ops().SparseSolve()(L, B, plan),
        lambda g, n, b, m: _factored_sparse(g, n, b, normal(g, n, m)),
    ),
    TimingGraph(
        "sparse_inverse",
        "vp",
        lambda L, plan: ops().SparseLogdetPullback()(L, plan),
        _factored_sparse,
    ),
    TimingGraph(
        "line_factor",
        "vvvvcc",
        lambda *inputs: ops().QuasiseparableFactor()(*inputs)[-1],
        lambda g, n, k: (*_on_line(g, n, k), np.ones(k, int), np.zeros(k, int)),
        lambda *parts: np.linalg.slogdet(_dense_on_line(*parts[:4]))[1],
    ),
    TimingGraph(
        "line_solve",
        "vmmvvcm",
        lambda *inputs: ops().QuasiseparableSolve()(*inputs),
        lambda g, n, k, m: (*_factored_on_line(g, n, k), np.ones(k, int), normal(g, n, m)),
    ),
    TimingGraph(
        "toeplitz_factor",
        "v",
        lambda c: ops().ToeplitzFactor()(c)[-1],
        lambda g, n: (np.exp(-0.3 * np.arange(n)),),
        lambda c: np.linalg.slogdet(scipy.linalg.toeplitz(c))[1],
    ),
    TimingGraph(
        "toeplitz_product",
        "vm",
        lambda c, X: ops().ToeplitzDot()(c, X),
        lambda g, n, m: (normal(g, n), normal(g, n, m)),
        lambda c, X: scipy.linalg.toeplitz(c) @ X,
    ),
    TimingGraph(
        "line_inverse",
        "vmmvvvcc",
        lambda *inputs: ops().QuasiseparableLogdetPullback()(*inputs)[0],
        lambda g, n, k: (
            *_factored_on_line(g, n, k),
            0.5 + np.arange(k),
            np.ones(k, int),
            np.zeros(k, int),
        ),
    ),
)
