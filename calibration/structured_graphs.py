"""Kernels of iterations, and of a diagonal plus a low rank."""

from __future__ import annotations

from typing import Any

import numpy as np

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
)
