"""The full algorithms of `core_factor` and `core_solve` on the arrays of a graph: any memory order, any
values.

``perform`` calls these, and compiled code does in object mode whenever its own, common case does not apply.
A third input of one dimension is c of ``diag(d) + U diag(c) U'``; of two dimensions, V of ``diag(d) + U V'``.
"""

import numpy as np

from autotune.ops import core_factor, core_solve, kernels


def check_lengths(d, U, last):
    """ValueError unless the run-time shapes are those of one matrix. Runs in Python and Numba."""
    if U.shape[0] != d.shape[0] or U.shape[1] != last.shape[-1]:
        raise ValueError("The diagonal and the low-rank parts do not fit together.")
    if last.ndim == 2 and last.shape[0] != d.shape[0]:
        raise ValueError("The two low-rank parts differ in length.")


def check_rhs(d, B):
    """ValueError unless B has a row for each of the matrix. Runs in Python and Numba."""
    if B.shape[0] != d.shape[0]:
        raise ValueError("The right-hand side and the matrix differ in length.")


def factorise(positive_definite, d, U, last):
    """The eight outputs of a LowRankFactor, as arrays of the promised dtypes."""
    check_lengths(d, U, last)
    d, U, last = (kernels.c_layout(x) for x in (d, U, last))
    with np.errstate(all="ignore"):
        if last.ndim == 1:
            factor = core_factor.symmetric_factor(d, U, last, positive_definite)
        else:
            factor = core_factor.general_factor(d, U, last, False)
    dtypes = (np.int8, d.dtype, d.dtype, np.int32, np.int64, d.dtype, d.dtype, d.dtype)
    return tuple(
        np.array(x, dtype=dtype, order="C", copy=None) for x, dtype in zip(factor, dtypes, strict=True)
    )


def solve(transposed, d, U, last, mode, w, F, pivots, S, FS, B):
    """``K^-1 B``, or ``K'^-1 B`` if ``transposed``."""
    check_rhs(d, B)
    d, U, last, w, F, pivots, S, FS, B = (kernels.c_layout(x) for x in (d, U, last, w, F, pivots, S, FS, B))
    with np.errstate(all="ignore"):
        if last.ndim == 1:
            X = core_solve.symmetric_solve(d, U, last, mode, w, F, pivots, S, FS, B)
        else:
            X = core_solve.general_solve(d, U, last, mode, w, F, pivots, B, transposed)
    return kernels.c_layout(X)


def solve_columns(d, U, c, mode, w, F, pivots, S, FS):
    """``K^-1 U``."""
    d, U, c, w, F, pivots, S, FS = (kernels.c_layout(x) for x in (d, U, c, w, F, pivots, S, FS))
    with np.errstate(all="ignore"):
        return kernels.c_layout(core_solve.symmetric_solve_columns(d, U, c, mode, w, F, pivots, S, FS))


def inverse_diagonal(d, U, last, mode, w, F, pivots, S, FS):
    """``diag(K^-1)``."""
    d, U, last, w, F, pivots, S, FS = (kernels.c_layout(x) for x in (d, U, last, w, F, pivots, S, FS))
    with np.errstate(all="ignore"):
        if last.ndim == 1:
            return core_solve.symmetric_inverse_diagonal(d, U, last, mode, w, F, pivots, S, FS)
        return core_solve.general_inverse_diagonal(d, U, last, mode, w, F, pivots)
