"""Products with thin matrices under Numba: plain loops where they win, BLAS where there is work for its
threads.

BLAS wakes its threads from about ten thousand entries on, which costs more than a thin product itself: with
n = 1000 and five columns the loops are several times faster than gemm. All matrices are C-contiguous;
Fortran sees transposes.
"""

import numpy as np
from numba.core.extending import overload
from pytensor.link.numba.dispatch.basic import numba_njit

from autotune.ops import kernels
from autotune.ops._lapack import integer_pointer, routine

# Multiplications up to which loops win (2 cores; a factor of two either way changes little).
LOOP_WORK = 400_000
SOLVE_WORK = 50_000
# Sums may be reassociated, so that they vectorise; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "arcp"}


@numba_njit(fastmath=FAST)
def gram_loops(U, w, V, out, lower):
    """``out = U' diag(w) V``, or its lower triangle only."""
    out[:, :] = 0
    for i in range(U.shape[0]):
        for a in range(U.shape[1]):
            scale = w[i] * U[i, a]
            for b in range(a + 1 if lower else V.shape[1]):
                out[a, b] += scale * V[i, b]


@numba_njit(fastmath=FAST)
def product_loops(U, V, out):
    """``out = U V'``."""
    if V.shape[0] > U.shape[1]:
        _product_by_rows(U, np.ascontiguousarray(V.T), out)
        return
    for i in range(U.shape[0]):
        for j in range(V.shape[0]):
            total = out.dtype.type(0)
            for a in range(U.shape[1]):
                total += U[i, a] * V[j, a]
            out[i, j] = total


@numba_njit(fastmath=FAST)
def _product_by_rows(U, V, out):
    """``out = U V``: the innermost loop is the long one."""
    for i in range(U.shape[0]):
        out[i, :] = 0
        for a in range(U.shape[1]):
            for j in range(V.shape[1]):
                out[i, j] += U[i, a] * V[a, j]


@numba_njit(fastmath=FAST)
def scaled_rows(w, U, root):
    """``diag(w) U``, or ``diag(sqrt(w)) U``."""
    out = np.empty_like(U)
    for i in range(U.shape[0]):
        scale = np.sqrt(w[i]) if root else w[i]
        for a in range(U.shape[1]):
            out[i, a] = scale * U[i, a]
    return out


def gemm(A, B, out, left):
    """``out = A' B`` if ``left``, else ``out = A B'``."""
    out[:] = A.T @ B if left else A @ B.T


@overload(gemm)
def _gemm(A, B, out, left):
    call = routine("blas", "gemm", "iiiiiTTiTiTTi", A.dtype)

    def gemm(A, B, out, left):
        p, q = out.shape
        inner = A.shape[0] if left else A.shape[1]
        one, zero = np.ones(1, A.dtype), np.zeros(1, A.dtype)
        # Fortran computes out' = B' A (left) or B A', from the transposes it sees.
        first, second = integer_pointer(ord("N" if left else "T")), integer_pointer(ord("T" if left else "N"))
        lead_a, lead_b = integer_pointer(max(1, A.shape[1])), integer_pointer(max(1, B.shape[1]))
        size_p, size_q, size_k = integer_pointer(p), integer_pointer(q), integer_pointer(inner)
        lead_out = integer_pointer(max(1, q))
        call(
            first, second, size_q, size_p, size_k, one.ctypes, B.ctypes, lead_b, A.ctypes, lead_a,
            zero.ctypes, out.ctypes, lead_out,
        )  # fmt: skip

    return gemm


def syrk(A, out):
    """``out = A' A``, its lower triangle at least."""
    out[:] = A.T @ A


@overload(syrk)
def _syrk(A, out):
    call = routine("blas", "syrk", "iiiiTTiTTi", A.dtype)

    def syrk(A, out):
        n, k = A.shape
        one, zero = np.ones(1, A.dtype), np.zeros(1, A.dtype)
        uplo, trans = integer_pointer(ord("U")), integer_pointer(ord("N"))
        size, inner, leading = integer_pointer(k), integer_pointer(n), integer_pointer(max(1, k))
        call(uplo, trans, size, inner, one.ctypes, A.ctypes, leading, zero.ctypes, out.ctypes, leading)

    return syrk


@numba_njit(fastmath=FAST)
def _solve_rows(L, rows, transposed):
    """In place ``L^-1 r``, or ``L'^-1 r`` if ``transposed``, of every row r."""
    k = L.shape[0]
    reciprocal = 1 / np.diag(L)
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


@numba_njit
def solve_lower(L, rows, transposed):
    """`kernels.solve_lower`."""
    if rows.size * L.shape[0] <= SOLVE_WORK:
        _solve_rows(L, rows, transposed)
    else:
        kernels.solve_lower(L, rows, transposed)


@numba_njit
def gram(U, w, V):
    """``U' diag(w) V`` (p, q)."""
    out = np.empty((U.shape[1], V.shape[1]), U.dtype)
    if U.size * V.shape[1] <= LOOP_WORK or U.shape[1] == 1:
        if V.shape[1] < U.shape[1]:
            # The innermost loop is the long one.
            transposed = np.empty((V.shape[1], U.shape[1]), U.dtype)
            gram_loops(V, w, U, transposed, False)
            # Entry by entry: assigning a whole array costs Numba seconds to compile.
            for a in range(out.shape[0]):
                for b in range(out.shape[1]):
                    out[a, b] = transposed[b, a]
        else:
            gram_loops(U, w, V, out, False)
    else:
        gemm(scaled_rows(w, U, False), V, out, True)
    return out


@numba_njit
def gram_symmetric(U, w):
    """The lower triangle of ``U' diag(w) U`` (k, k), for ``w >= 0``."""
    out = np.empty((U.shape[1], U.shape[1]), U.dtype)
    if U.size * U.shape[1] <= 2 * LOOP_WORK:
        gram_loops(U, w, U, out, True)
    else:
        syrk(scaled_rows(w, U, True), out)
    return out


@numba_njit
def product(U, V):
    """``U V'`` (n, m)."""
    out = np.empty((U.shape[0], V.shape[0]), U.dtype)
    if U.size * V.shape[0] <= LOOP_WORK or V.shape[0] == 1:
        product_loops(U, V, out)
    else:
        gemm(U, V, out, False)
    return out
