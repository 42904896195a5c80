"""The products of `kernels` under Numba: plain loops where matrices are thin, BLAS where there is work for threads.

BLAS wakes its threads from about ten thousand entries on, which costs more than a thin product itself: with n = 1000
and five columns the loops are several times faster than gemm.
"""

import numba
import numpy as np
from numba.core import types
from numba.core.extending import overload
from pytensor.link.numba.dispatch.basic import numba_njit

from autotune.ops import kernels
from autotune.ops._lapack import integer_pointer, routine

# Multiplications up to which loops win (2 cores; a factor of two either way changes little).
LOOP_WORK = 400_000
# Reductions may be reassociated, so that they vectorise; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "arcp"}


@numba_njit(fastmath=FAST)
def _gram_loops(U, w, V, lower):
    n, p = U.shape
    q = V.shape[1]
    out = np.zeros((p, q), U.dtype)
    for i in range(n):
        for a in range(p):
            scale = w[i] * U[i, a]
            for b in range(a + 1 if lower else q):
                out[a, b] += scale * V[i, b]
    return out


@overload(kernels.gram)
def _gram(U, w, V):
    def gram(U, w, V):
        work = U.size * V.shape[1]
        if work <= LOOP_WORK or min(U.shape[1], V.shape[1]) == 1:
            return _gram_loops(U, w, V, False)
        # Scale the smaller of the two.
        if U.size < V.size:
            return np.dot((w.reshape(-1, 1) * U).T, V)
        return np.dot(U.T, w.reshape(-1, 1) * V)

    return gram


@overload(kernels.gram_symmetric)
def _gram_symmetric(U, w):
    call = routine("blas", "syrk", "iiiiTTiTTi", U.dtype)

    def gram_symmetric(U, w):
        n, k = U.shape
        if n * k * k <= 2 * LOOP_WORK or k == 1:
            return _gram_loops(U, w, U, True)
        half = np.sqrt(w).reshape(-1, 1) * U
        out = np.empty((k, k), U.dtype)
        one, zero = np.ones(1, U.dtype), np.zeros(1, U.dtype)
        size, leading = integer_pointer(k), integer_pointer(max(1, k))
        # Fortran sees half' (k, n); its upper triangle is our lower one.
        uplo, trans = integer_pointer(ord("U")), integer_pointer(ord("N"))
        call(
            uplo, trans, size, integer_pointer(n), one.ctypes, half.ctypes, leading, zero.ctypes, out.ctypes, leading
        )
        return out

    return gram_symmetric


@numba_njit(fastmath=FAST)
def _product_loops(U, V):
    n, k = U.shape
    m = V.shape[0]
    out = np.empty((n, m), U.dtype)
    for i in range(n):
        for j in range(m):
            total = U.dtype.type(0)
            for a in range(k):
                total += U[i, a] * V[j, a]
            out[i, j] = total
    return out


@overload(kernels.outer)
def _outer(U, V):
    def outer(U, V):
        if U.size * V.shape[0] <= LOOP_WORK or V.shape[0] == 1:
            return _product_loops(U, V)
        return np.dot(U, V.T)

    return outer


@overload(kernels.subtract_product)
def _subtract_product(B, U, rows):
    def subtract_product(B, U, rows):
        return B - kernels.outer(U, rows)

    return subtract_product


@numba_njit(fastmath=FAST)
def _row_dots_loops(U, c, V):
    out = np.empty(U.shape[0], U.dtype)
    for i in range(U.shape[0]):
        total = U.dtype.type(0)
        for a in range(U.shape[1]):
            total += U[i, a] * c[a] * V[i, a]
        out[i] = total
    return out


@overload(kernels.row_dots)
def _row_dots(U, c, V):
    return lambda U, c, V: _row_dots_loops(U, c, V)


@numba_njit(fastmath=FAST)
def _column_dots_loops(U, w):
    out = np.zeros(U.shape[1], U.dtype)
    for i in range(U.shape[0]):
        for a in range(U.shape[1]):
            out[a] += w[i] * U[i, a] * U[i, a]
    return out


@overload(kernels.column_dots)
def _column_dots(U, w):
    return lambda U, w: _column_dots_loops(U, w)


@overload(kernels.cancellation)
def _cancellation(d, w, B, X):
    zero = numba.np.numpy_support.as_dtype(B.dtype).type(0) if isinstance(B.dtype, types.Float) else 0.0

    def cancellation(d, w, B, X):
        before, after = _column_dots_loops(B, np.abs(w)), _column_dots_loops(X, np.abs(d))
        largest = zero
        for j in range(before.size):
            if after[j] > 0:
                largest = max(largest, before[j] / after[j])
        return largest

    return cancellation
