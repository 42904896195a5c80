"""The full algorithms of `core_factor` and `core_solve` on the arrays of a graph: any memory order, any
values.

``perform`` calls these, and compiled code does in object mode whenever its own, common case does not apply.
A third input of one dimension is c of ``diag(d) + U diag(c) U'``; of two dimensions, V of ``diag(d) + U V'``.
"""

import numpy as np

from autotune.ops import core_factor, core_solve, kernels
from autotune.ops.shapes import check_low_rank, check_low_rank_factor, check_rhs, check_square


def factorise(positive_definite, d, U, last):
    """The eight outputs of a LowRankFactor, as arrays of the promised dtypes."""
    check_low_rank(d, U, last)
    d, U, last = (kernels.c_layout(x) for x in (d, U, last))
    with np.errstate(all="ignore"):
        if last.ndim == 1:
            factor = core_factor.symmetric_factor(d, U, last, positive_definite)
        else:
            factor = core_factor.factor_of_two(d, U, last, positive_definite)
    dtypes = (np.int8, d.dtype, d.dtype, np.int32, np.int64, d.dtype, d.dtype, d.dtype)
    return tuple(
        np.array(x, dtype=dtype, order="C", copy=None) for x, dtype in zip(factor, dtypes, strict=True)
    )


def symmetric_root(M):
    """``(B, c, B^-1)`` with ``M = B diag(c) B'``; NaN where M is."""
    check_square(M)
    k, dtype = M.shape[0], M.dtype
    if not np.isfinite(M).all():
        return np.full((k, k), np.nan, dtype), np.ones(k, dtype), np.full((k, k), np.nan, dtype)
    L = kernels.owned(M, False)
    if kernels.potrf(L) == 0:
        L = np.tril(L)
        return L, np.ones(k, dtype), kernels.c_layout(np.linalg.inv(L))
    w, V = np.linalg.eigh(M)
    w[abs(w) <= k * np.finfo(dtype).eps * abs(w).max(initial=0)] = 0
    return kernels.c_layout(V), w, kernels.c_layout(V.T)


def solve(transposed, d, U, last, mode, w, F, pivots, S, FS, B):
    """``K^-1 B``, or ``K'^-1 B`` if ``transposed``."""
    check_low_rank_factor(d, U, last, mode, w, F, pivots, S, FS)
    check_rhs(d.shape[0], B)
    d, U, last, w, F, pivots, S, FS, B = (kernels.c_layout(x) for x in (d, U, last, w, F, pivots, S, FS, B))
    with np.errstate(all="ignore"):
        if last.ndim == 1:
            X = core_solve.symmetric_solve(d, U, last, mode, w, F, pivots, S, FS, B)
        else:
            X = core_solve.general_solve(d, U, last, mode, w, F, pivots, B, transposed)
    return kernels.c_layout(X)


def solve_columns(d, U, c, mode, w, F, pivots, S, FS):
    """``K^-1 U``."""
    return solve_in_range(d, U, c, mode, w, F, pivots, S, FS, np.eye(c.shape[0], dtype=d.dtype))


def solve_in_range(d, U, c, mode, w, F, pivots, S, FS, Z):
    """``K^-1 U Z``."""
    check_low_rank_factor(d, U, c, mode, w, F, pivots, S, FS)
    check_rhs(c.shape[0], Z)
    d, U, c, w, F, pivots, S, FS, Z = (kernels.c_layout(x) for x in (d, U, c, w, F, pivots, S, FS, Z))
    with np.errstate(all="ignore"):
        return kernels.c_layout(core_solve.symmetric_solve_in_range(d, U, c, mode, w, F, pivots, S, FS, Z))


def inverse_diagonal(d, U, last, mode, w, F, pivots, S, FS):
    """``diag(K^-1)``."""
    check_low_rank_factor(d, U, last, mode, w, F, pivots, S, FS)
    d, U, last, w, F, pivots, S, FS = (kernels.c_layout(x) for x in (d, U, last, w, F, pivots, S, FS))
    with np.errstate(all="ignore"):
        if last.ndim == 1:
            return core_solve.symmetric_inverse_diagonal(d, U, last, mode, w, F, pivots, S, FS)
        return core_solve.general_inverse_diagonal(d, U, last, mode, w, F, pivots)
