"""Products with thin matrices under Numba: plain loops where they win, BLAS where there is work for its
threads.

BLAS wakes its threads from about ten thousand entries on, which costs more than a thin product itself: with
n = 1000 and five columns the loops are several times faster than gemm. All matrices are C-contiguous;
Fortran sees transposes.
"""

import numpy as np
from numba.core import types

from autotune.ops import _lapack, kernels
from autotune.ops._by_address import by_address, c_array, readable_c
from autotune.ops._lapack import FAST, PLAIN, TRANSPOSED, UPPER

# Multiplications up to which loops win (2 cores; a factor of two either way changes little).
LOOP_WORK = 400_000
SOLVE_WORK = 50_000


def _gram(U, w, V):
    """``U' diag(w) V`` (p, q)."""
    (n, p), q = U.shape, V.shape[1]
    if U.size * q > LOOP_WORK and p > 1:
        scaled, out = np.empty_like(U), np.empty((p, q), U.dtype)
        for i in range(n):
            for a in range(p):
                scaled[i, a] = w[i] * U[i, a]
        # Fortran computes out' = V' (diag(w) U), from the transposes that it sees.
        _lapack.gemm(PLAIN, TRANSPOSED, q, p, n, 1.0, V, max(1, q), scaled, p, 0.0, out, max(1, q))
        return out
    # The innermost loop is the long one.
    short, long = (V, U) if q < p else (U, V)
    out = np.zeros((short.shape[1], long.shape[1]), U.dtype)
    for i in range(n):
        for a in range(short.shape[1]):
            scale = w[i] * short[i, a]
            for b in range(long.shape[1]):
                out[a, b] += scale * long[i, b]
    return out if q >= p else kernels.owned(out.T, False)


def _gram_symmetric(U, w):
    """The lower triangle of ``U' diag(w) U`` (k, k), for ``w >= 0``."""
    n, k = U.shape
    out = np.zeros((k, k), U.dtype)
    if U.size * k > 2 * LOOP_WORK:
        scaled = np.empty_like(U)
        for i in range(n):
            root = np.sqrt(w[i])
            for a in range(k):
                scaled[i, a] = root * U[i, a]
        _lapack.syrk(UPPER, PLAIN, k, n, 1.0, scaled, k, 0.0, out, k)
        return out
    for i in range(n):
        for a in range(k):
            scale = w[i] * U[i, a]
            for b in range(a + 1):
                out[a, b] += scale * U[i, b]
    return out


def _product(U, V):
    """``U V'`` (n, m)."""
    (n, k), m = U.shape, V.shape[0]
    out = np.zeros((n, m), U.dtype)
    if U.size * m > LOOP_WORK and m > 1:
        _lapack.gemm(TRANSPOSED, PLAIN, m, n, k, 1.0, V, k, U, k, 0.0, out, m)
    elif m > k:
        # The innermost loop is the long one.
        transposed = kernels.owned(V.T, False)
        for i in range(n):
            for a in range(k):
                for j in range(m):
                    out[i, j] += U[i, a] * transposed[a, j]
    else:
        for i in range(n):
            for j in range(m):
                total = out.dtype.type(0)
                for a in range(k):
                    total += U[i, a] * V[j, a]
                out[i, j] = total
    return out


def _solve_lower(L, rows, transposed):
    """`kernels.solve_lower`."""
    k = L.shape[0]
    if rows.size * k > SOLVE_WORK:
        kernels.solve_lower(L, rows, transposed)
        return
    reciprocal = np.empty(k, L.dtype)
    for a in range(k):
        reciprocal[a] = 1 / L[a, a]
    for i in range(rows.shape[0]):
        if transposed:
            for a in range(k - 1, -1, -1):
                total = rows[i, a]
                for b in range(a + 1, k):
                    total -= L[b, a] * rows[i, b]
                rows[i, a] = total * reciprocal[a]
        else:
            for a in range(k):
                total = rows[i, a]
                for b in range(a):
                    total -= L[a, b] * rows[i, b]
                rows[i, a] = total * reciprocal[a]


def _of_two_matrices(T):
    return c_array(T, 2)(readable_c(T, 2), readable_c(T, 2))


gram = by_address(
    _gram, lambda T: c_array(T, 2)(readable_c(T, 2), readable_c(T, 1), readable_c(T, 2)), fastmath=FAST
)
gram_symmetric = by_address(
    _gram_symmetric, lambda T: c_array(T, 2)(readable_c(T, 2), readable_c(T, 1)), fastmath=FAST
)
product = by_address(_product, _of_two_matrices, fastmath=FAST)
solve_lower = by_address(
    _solve_lower,
    lambda T: types.void(readable_c(T, 2), c_array(T, 2), types.boolean),
    fastmath=FAST,
)
