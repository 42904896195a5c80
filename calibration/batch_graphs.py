"""Kernels on batches of matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from calibration.dense_graphs import from_lu, general, lu, scipy_lu, spd
from calibration.timing_graph import Array, TimingGraph, normal, ops

BATCH = 200
"""Matrices in the graphs of kernels on batches."""


def _batched(op: Any) -> Any:
    from pytensor.tensor.blockwise import Blockwise

    return Blockwise(op)


def _batch(make: Callable[..., Any], rng: np.random.Generator, n: int) -> Array:
    """`BATCH` matrices; every eighth is made anew."""
    made = np.stack([make(rng, n) for _ in range(BATCH // 8)])
    found: Array = np.concatenate([made] * 8)
    return found


def _batch_of_lu(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Packed LU factors as `SharedLU` leaves them, and pivots."""
    packed, pivots = zip(*(lu(rng, n) for _ in range(BATCH // 8)), strict=True)
    by_columns = np.concatenate([np.stack([factor.T for factor in packed])] * 8)
    return by_columns.swapaxes(1, 2), np.concatenate([np.stack(pivots)] * 8)


def _matrices_of_lu(packed: Array, pivots: Array) -> Array:
    found: Array = np.stack([from_lu(*one) for one in zip(packed, pivots, strict=True)])
    return found


BATCHES = (
    TimingGraph(
        "batch_cholesky",
        "t",
        lambda a: _batched(ops().SharedCholesky())(a),
        lambda g, n: (_batch(spd, g, n),),
        np.linalg.cholesky,
        BATCH,
    ),
    TimingGraph(
        "batch_lu",
        "t",
        lambda a: _batched(ops().SharedLU())(a)[0],
        lambda g, n: (_batch(general, g, n),),
        lambda a: np.stack([scipy_lu(one) for one in a]),
        BATCH,
    ),
    TimingGraph(
        "batch_inverse",
        "tq",
        lambda lu, pivots: _batched(ops().LUInverse())(lu, pivots),
        _batch_of_lu,
        lambda lu, pivots: np.linalg.inv(_matrices_of_lu(lu, pivots)),
        BATCH,
    ),
    TimingGraph(
        "batch_solve",
        "tqbt",
        lambda *inputs: _batched(ops().CholeskyOrLUSolve())(*inputs),
        lambda g, n, m: (*_batch_of_lu(g, n), np.int8(0), normal(g, BATCH, n, m)),
        lambda lu, pivots, _, b: np.linalg.solve(_matrices_of_lu(lu, pivots), b),
        BATCH,
    ),
)
