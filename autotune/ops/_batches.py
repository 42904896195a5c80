"""Batches of matrices under Numba: one loop over the batch for each Op, in several threads where that pays.

PyTensor's own loop calls a function for each matrix, which allocates, and copies what it returns. OpenBLAS
runs LAPACK in one thread up to 40,000 entries; of larger matrices its threads share each.
"""

import numpy as np
from numba.core import types
from numba.core.extending import register_jitable

from autotune.ops._batch_loops import (
    FLAG,
    KINDS,
    NEW_KINDS,
    NEW_PIVOTS,
    PIVOTS,
    cholesky_loop,
    either_loop,
    inverse_loop,
    lu_loop,
    slogdet_loop,
    solve_loop,
)
from autotune.ops._by_address import by_address, c_array, readable
from autotune.ops._layout import relabel_c
from autotune.ops._threads import parts_of

# Entries of a matrix from which on BLAS runs in threads of its own.
OF_BLAS = 40_000


@register_jitable
def _parts(batch, n, cubes, squares):
    """Into how many threads to cut a loop of ``cubes n^3 + squares n^2`` operations for each matrix."""
    return 1 if n * n >= OF_BLAS else parts_of(batch, n * n * (cubes * n + squares))


@register_jitable
def _new(A):
    """Room for a factor of each matrix."""
    if A.shape[1] != A.shape[2]:
        raise ValueError("The matrix must be square. It has another number of rows than of columns.")
    return np.empty(A.shape, A.dtype)


@register_jitable
def _in_order(F):
    """The transposed factors, by rows: as they were made, or copied."""
    T = F.transpose((0, 2, 1))
    return relabel_c(T) if T.flags.c_contiguous else T.copy()


@register_jitable
def _check_factors(F, pivots):
    n = F.shape[1]
    if F.shape[2] != n or pivots.shape[1] != n:
        raise ValueError("The factors must be a square matrix and one pivot for each row.")
    for b in range(pivots.shape[0]):
        for k in range(n):
            if pivots[b, k] < 0 or pivots[b, k] >= n:
                raise ValueError("A pivot lies outside the matrix. It is no row's number.")


def _cholesky(A):
    T = _new(A)
    cholesky_loop(len(A), _parts(len(A), A.shape[1], 0.33, 6.0), A, T)
    return T.transpose((0, 2, 1))


def _lu(A):
    T, pivots = _new(A), np.empty(A.shape[:2], np.int32)
    lu_loop(len(A), _parts(len(A), A.shape[1], 0.67, 6.0), A, T, pivots)
    return T.transpose((0, 2, 1)), pivots


def _either(A):
    T, pivots, is_cholesky = _new(A), np.empty(A.shape[:2], np.int32), np.empty(len(A), np.int8)
    either_loop(len(A), _parts(len(A), A.shape[1], 0.67, 8.0), A, T, pivots, is_cholesky)
    return T.transpose((0, 2, 1)), pivots, is_cholesky


def _solve_all(F, pivots, is_cholesky, B, transposed):
    _check_factors(F, pivots)
    if B.shape[1] != F.shape[1]:
        raise ValueError("The right-hand side must have as many rows as the matrix. It differs in length.")
    batch = len(B) if len(F) == 1 else len(F)
    X = np.empty((batch, *B.shape[1:]), B.dtype)
    parts = _parts(batch, F.shape[1], 0.0, 2.0 * B.shape[2] + 1.0)
    solve_loop(batch, parts, _in_order(F), pivots, is_cholesky, B, transposed, X)
    return X


def _inverse(F, pivots, is_cholesky):
    _check_factors(F, pivots)
    T = np.empty(F.shape, F.dtype)
    inverse_loop(len(F), _parts(len(F), F.shape[1], 1.33, 8.0), F, T, pivots, is_cholesky)
    return T


def _slogdet(F, pivots, is_cholesky):
    _check_factors(F, pivots)
    sign, logabsdet = np.empty(len(F), F.dtype), np.empty(len(F), F.dtype)
    slogdet_loop(len(F), _parts(len(F), 1, 0.0, 4.0 * F.shape[1]), F, pivots, is_cholesky, sign, logabsdet)
    return sign, logabsdet


register_jitable(_inverse)
register_jitable(_solve_all)


def _inverse_from_cholesky(L):
    return _inverse(L, np.zeros((1, L.shape[1]), np.int32), np.ones(1, np.int8))


def _solve_from_cholesky(L, B):
    none = np.zeros((1, L.shape[1]), np.int32)
    return _solve_all(L, none, np.ones(1, np.int8), B, False)


def _inverse_from_lu(F, pivots):
    return _inverse(F, pivots, np.zeros(1, np.int8))


def _whole(function, returned, *arguments):
    """``function`` of matrices in any order, with what else it takes."""

    def signature(T):
        kinds = {"matrices": types.Array(T, 3, "A"), "inverses": c_array(T, 3), "numbers": c_array(T, 1)}
        found = [kinds.get(r, r) if isinstance(r, str) else r for r in returned]
        out = found[0] if len(found) == 1 else types.Tuple(found)
        return out(*(readable(T, 3) if a == "matrices" else a for a in arguments))

    return by_address(function, signature)


cholesky = _whole(_cholesky, ["matrices"], "matrices")
lu = _whole(_lu, ["matrices", NEW_PIVOTS], "matrices")
either = _whole(_either, ["matrices", NEW_PIVOTS, NEW_KINDS], "matrices")
solve = _whole(_solve_all, ["inverses"], "matrices", PIVOTS, KINDS, "matrices", FLAG)
inverse = _whole(_inverse, ["inverses"], "matrices", PIVOTS, KINDS)
inverse_from_cholesky = _whole(_inverse_from_cholesky, ["inverses"], "matrices")
solve_from_cholesky = _whole(_solve_from_cholesky, ["inverses"], "matrices", "matrices")
inverse_from_lu = _whole(_inverse_from_lu, ["inverses"], "matrices", PIVOTS)
slogdet = _whole(_slogdet, ["numbers", "numbers"], "matrices", PIVOTS, KINDS)
