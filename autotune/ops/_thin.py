"""Products with thin matrices under Numba: plain loops where they win, BLAS where there is work for its
threads.

BLAS wakes its threads from about ten thousand entries on, which costs more than a thin product itself: with
n = 1000 and five columns the loops are several times faster than gemm. All matrices are C-contiguous;
Fortran sees transposes. Of a thin matrix that comes in Fortran's order the array is the transpose, and it is
``turned``: nothing is copied.
"""

import numpy as np
from numba.core import types

from autotune.ops import _lapack, kernels
from autotune.ops._by_address import by_address, c_array, readable_c
from autotune.ops._lapack import FAST, PLAIN, TRANSPOSED, UPPER

# Multiplications up to which loops win (2 cores; a factor of two either way changes little).
LOOP_WORK = 400_000
SOLVE_WORK = 50_000


def _gram(B, w, U, turned):
    """``B' diag(w) U`` (m, k); of a ``turned`` U the array is the transpose."""
    n, m = B.shape
    k = U.shape[0] if turned else U.shape[1]
    scaled, out = np.empty((m, n), U.dtype), np.zeros((m, k), U.dtype)
    for i in range(n):
        for j in range(m):
            scaled[j, i] = w[i] * B[i, j]
    if U.size * m > LOOP_WORK:
        # Fortran computes out' = U' (diag(w) B), from the transposes that it sees.
        side, lead = (TRANSPOSED, n) if turned else (PLAIN, k)
        if m == 1:
            _lapack.gemv(side, lead, n + k - lead, 1.0, U, lead, scaled, 1, 0.0, out, 1)
        else:
            _lapack.gemm(side, PLAIN, k, m, n, 1.0, U, lead, scaled, n, 0.0, out, k)
    elif turned:
        for j in range(m):
            for a in range(k):
                total = out.dtype.type(0)
                for i in range(n):
                    total += scaled[j, i] * U[a, i]
                out[j, a] = total
    elif m < k:
        for i in range(n):
            for j in range(m):
                for a in range(k):
                    out[j, a] += scaled[j, i] * U[i, a]
    else:  # the innermost loop is the long one
        long = np.zeros((k, m), U.dtype)
        for i in range(n):
            for a in range(k):
                for j in range(m):
                    long[a, j] += U[i, a] * w[i] * B[i, j]
        return kernels.owned(long.T, False)
    return out


def _gram_symmetric(U, w, turned):
    """The lower triangle of ``U' diag(w) U`` (k, k), for ``w >= 0``; U as in `gram`."""
    n, k = U.shape[::-1] if turned else U.shape
    out = np.zeros((k, k), U.dtype)
    if U.size * k > 2 * LOOP_WORK:
        equal = True
        for i in range(n):
            equal = equal and w[i] == w[0]
        half, scale = U, w[0]
        if not equal:
            half, scale = np.empty_like(U), U.dtype.type(1)
            for i in range(U.shape[0]):
                for j in range(U.shape[1]):
                    half[i, j] = np.sqrt(w[j if turned else i]) * U[i, j]
        side, lead = (TRANSPOSED, n) if turned else (PLAIN, k)
        _lapack.syrk(UPPER, side, k, n, scale, half, lead, 0.0, out, k)
    elif turned:
        for a in range(k):
            for b in range(a + 1):
                total = out.dtype.type(0)
                for i in range(n):
                    total += w[i] * U[a, i] * U[b, i]
                out[a, b] = total
    else:
        for i in range(n):
            for a in range(k):
                scale = w[i] * U[i, a]
                for b in range(a + 1):
                    out[a, b] += scale * U[i, b]
    return out


def _product(U, V, turned):
    """``U V'`` (n, m); U as in `gram`."""
    m, k = V.shape
    n = U.shape[1] if turned else U.shape[0]
    out = np.zeros((n, m), U.dtype)
    if U.size * m > LOOP_WORK:
        side, lead = (TRANSPOSED, n) if turned else (PLAIN, k)
        if m == 1:
            _lapack.gemv(PLAIN if turned else TRANSPOSED, lead, n + k - lead, 1.0, U, lead, V, 1, 0.0, out, 1)
        else:
            _lapack.gemm(TRANSPOSED, side, m, n, k, 1.0, V, k, U, lead, 0.0, out, m)
    elif turned:
        rows = np.zeros((m, n), U.dtype)
        for j in range(m):
            for a in range(k):
                for i in range(n):
                    rows[j, i] += V[j, a] * U[a, i]
        return kernels.owned(rows.T, False)
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


gram = by_address(
    _gram,
    lambda T: c_array(T, 2)(readable_c(T, 2), readable_c(T, 1), readable_c(T, 2), types.boolean),
    fastmath=FAST,
)
gram_symmetric = by_address(
    _gram_symmetric,
    lambda T: c_array(T, 2)(readable_c(T, 2), readable_c(T, 1), types.boolean),
    fastmath=FAST,
)
product = by_address(
    _product, lambda T: c_array(T, 2)(readable_c(T, 2), readable_c(T, 2), types.boolean), fastmath=FAST
)
solve_lower = by_address(
    _solve_lower,
    lambda T: types.void(readable_c(T, 2), c_array(T, 2), types.boolean),
    fastmath=FAST,
)
