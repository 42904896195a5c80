"""The direct way that an iterative solve falls back to: Cholesky, or Woodbury's identity for thin parts.

A factor is one matrix, so that solves of a graph can hand it on: the upper Cholesky factor T of ``A = T' T``
(n, n), its lower triangle meaning nothing; or ``(k + 1, n)`` for ``diag(d) + U diag(c) U'``: the weights
``w`` of a `LowRankFactor` and below them its ``F`` (k, k). NaN stands for the factor of what has none; an
empty matrix for no factor yet, or none that could be handed on.
Source: Anderson et al. (1999), LAPACK Users' Guide.
"""

import numpy as np
from scipy.linalg import get_lapack_funcs

from autotune.ops import lowrank
from autotune.ops.core_factor import CHOLESKY, FAILED
from autotune.ops.core_operator import as_operator


def cholesky_factor(A):
    """The factor of an array or a `SymmetricOperator`; NaN everywhere if A has none. n^3/3 flops.

    OpenBLAS factorises the lower triangle of a matrix in Fortran order up to twice as fast as the upper one.
    Of a symmetric A in C order that triangle is the upper one; else it is copied over.
    """
    A = as_operator(A)
    M = A.to_dense()
    F = M.T if A.is_symmetric and M.flags.c_contiguous else np.asfortranarray(M)
    (potrf,) = get_lapack_funcs(("potrf",), (F,))
    L, info = potrf(F, lower=1, clean=False)
    if info != 0 or np.isnan(np.diagonal(L)).any():
        return np.full_like(L.T, np.nan)
    return L.T


def check_factor(A, L):
    """ValueError unless ``L`` may be a factor of the `SymmetricOperator`: empty, NaN, or of A's order."""
    n = A.order
    if L.size and L.shape not in ((1, 1), (1 + A.c.size, n) if A.thin else (n, n)):
        raise ValueError(f"The factor is of {L.shape}, the matrix of order {n}. They must fit together.")


def factor_solve(T, B):
    """``(T' T)^-1 b`` for every row b; NaN from a factor that does not exist."""
    if np.isnan(T[0, 0]):
        return np.full_like(B, np.nan)
    (potrs,) = get_lapack_funcs(("potrs",), (T, B))
    return potrs(T.T, B.T, lower=1)[0].T


def solve_rows(A, B, L):
    """``(X, L)``: ``A^-1 b`` for every row of B, NaN if A is not positive definite, and the factor used."""
    if A.thin:
        return _thin_solve(A, B, L)
    L = L if L.size else cholesky_factor(A)
    return factor_solve(L, B), L


def low_rank_parts(A):
    """``(d, U, c)`` of a thin operator, U (n, 0) where it is a diagonal."""
    return A.d, A.U if A.c.size else np.zeros((A.order, 0), A.dtype), A.c


def low_rank_factor(A, L):
    """All fields but the last two of a thin operator's `LowRankFactor`: ``L`` if it is one, or a new one."""
    k = A.c.size
    if L.shape != (1 + k, A.order) or np.isnan(L[0, 0]):
        return lowrank.factorise(True, *low_rank_parts(A))[:6]
    none = np.zeros((0, k), A.dtype)
    return CHOLESKY, L[0], L[1:, :k], np.empty(0, np.int32), np.empty(0, np.int64), none


def packed(factor, A):
    """The factor as one matrix; empty for one that has rows eliminated last, and is made anew each time."""
    mode, w, F, _, S, _ = factor
    if mode == FAILED:
        return np.full((1, 1), np.nan, A.dtype)
    if mode != CHOLESKY or S.size:
        return np.zeros((0, 0), A.dtype)
    L = np.zeros((1 + A.c.size, A.order), A.dtype)
    L[0], L[1:, : A.c.size] = w, F
    return L


def _thin_solve(A, B, L):
    """As accurate as a Cholesky factorisation for any diagonal; see `woodbury`. O(n k^2) for the factor."""
    if L.size and np.isnan(L[0, 0]):
        return np.full_like(B, np.nan), L
    (d, U, c), factor = low_rank_parts(A), low_rank_factor(A, L)
    mode, w, F, pivots, S, FS = factor
    X = lowrank.solve(False, d, U, c, mode, w, F, pivots, S, FS, np.ascontiguousarray(B.T)).T
    return X, L if L.size else packed(factor, A)
