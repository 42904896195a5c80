"""Banded matrices: factors, solves, products, and the entries of the inverse on the band. Runs in Python and
Numba.

A band is stored by diagonals, as LAPACK and SciPy do: ``ab[upper + i - j, j] = A[i, j]``, shape
``(lower + upper + 1, n)``; of a ``mirrored`` (symmetric) one only ``ab[i - j, j]``, i >= j. Factors are
stored by rows, so that inner loops run along memory.
"""

import numpy as np


def factor(ab, lower, upper, mirrored, definite, checked):
    """``(F, M, pivots, sign, log|det|)``: ``L D L'`` if that exists with a positive D, else LU by partial
    pivoting.

    ``L D L'``: ``F[j, 0] = D_j``, ``F[j, k] = L_{j + k, j}``; no pivots. LU: ``F[k, lower + m]`` is
    ``U_{k, k + m}``, M (n, lower) the multipliers of each step, ``pivots`` (n,) the rows exchanged.
    ``definite``: of a mirrored band the first is tried; ``checked``: all is NaN where it does not exist.
    Golub & Van Loan 2013, 4.3.
    """
    n = ab.shape[1]
    if lower < 0:
        lower = upper = ab.shape[0] - 1
    no_multipliers, no_pivots = np.empty((0, 0), ab.dtype), np.empty(0, np.int64)
    if mirrored and definite:
        F = by_rows(ab)
        if ldl(F):
            logdet = 0.0
            for j in range(n):
                logdet += np.log(np.float64(F[j, 0]))
            return F, no_multipliers, no_pivots, 1.0, logdet
        if checked:
            return np.full_like(F, np.nan), no_multipliers, no_pivots, np.nan, np.nan
    F = rows_of_matrix(ab, lower, upper, mirrored)
    M, pivots = np.zeros((n, lower), ab.dtype), np.empty(n, np.int64)
    sign, logabsdet = lu(F, M, pivots)
    return F, M, pivots, sign, logabsdet


def by_rows(ab):
    """The transposed array, in blocks that stay in the cache."""
    rows, n = ab.shape
    out = np.empty((n, rows), ab.dtype)
    for start in range(0, n, 64):
        for k in range(rows):
            for j in range(start, min(start + 64, n)):
                out[j, k] = ab[k, j]
    return out


def rows_of_matrix(ab, lower, upper, mirrored):
    """``W[i, lower + j - i] = A[i, j]``, with room for ``lower`` more diagonals that exchanges fill."""
    n = ab.shape[1]
    W = np.zeros((n, 2 * lower + upper + 1), ab.dtype)
    for i in range(n):
        for j in range(max(i - lower, 0), min(i + upper + 1, n)):
            if not mirrored:
                W[i, lower + j - i] = ab[upper + i - j, j]
            elif j <= i:
                W[i, lower + j - i] = ab[i - j, j]
            else:
                W[i, lower + j - i] = ab[j - i, i]
    return W


def ldl(F):
    """In place: ``L D L'`` of a mirrored band by rows; whether every pivot is positive."""
    n, width = F.shape
    if width == 2:
        return ldl_of_tridiagonal(F)
    for j in range(n):
        pivot = F[j, 0]
        if not pivot > 0:
            return False
        last = min(width, n - j)
        for k in range(1, last):
            ratio = F[j, k] / pivot
            for m in range(last - k):
                F[j + k, m] -= ratio * F[j, k + m]
            F[j, k] = ratio
    return True


def ldl_of_tridiagonal(F):
    pivot = F[0, 0] if F.shape[0] else 1.0
    for j in range(F.shape[0] - 1):
        if not pivot > 0:
            return False
        ratio = F[j, 1] / pivot
        pivot = F[j + 1, 0] - ratio * F[j, 1]
        F[j, 1] = ratio
        F[j + 1, 0] = pivot
    return pivot > 0


def subtract(row, ratio, other):
    """``row -= ratio other``, of two rows that do not overlap."""
    for m in range(other.size):
        row[m] -= ratio * other[m]


def assign(row, other):
    for m in range(other.size):
        row[m] = other[m]


def swap(row, other):
    for m in range(other.size):
        kept = row[m]
        row[m] = other[m]
        other[m] = kept


def lu(W, M, pivots):
    """In place: U in ``W``, the multipliers in ``M``; the sign and ``log|det|``."""
    n, lower = M.shape
    width = W.shape[1] - lower
    sign, logabsdet = 1.0, 0.0
    for k in range(n):
        below, across = min(lower, n - 1 - k), min(width, n - k)
        p, largest = 0, abs(W[k, lower])
        for r in range(1, below + 1):
            if abs(W[k + r, lower - r]) > largest:
                p, largest = r, abs(W[k + r, lower - r])
        pivots[k] = k + p
        if p > 0:
            sign = -sign
            swap(W[k, lower : lower + across], W[k + p, lower - p : lower - p + across])
        pivot = W[k, lower]
        if pivot == 0:
            sign, logabsdet = 0.0, -np.inf
            continue
        sign = -sign if pivot < 0 else sign
        logabsdet += np.log(np.float64(abs(pivot)))
        for r in range(1, below + 1):
            ratio = W[k + r, lower - r] / pivot
            M[k, r - 1] = ratio
            row = W[k + r, lower - r + 1 : lower - r + across]
            subtract(row, ratio, W[k, lower + 1 : lower + across])
    return (np.nan if np.isnan(logabsdet) else sign), logabsdet


def solve(F, M, pivots, B, transposed):
    """``A^-1 B`` (n, m) from `factor`, or ``A^-T B``."""
    X = np.empty(B.shape, B.dtype)
    for i in range(B.shape[0]):
        for c in range(B.shape[1]):
            X[i, c] = B[i, c]
    if pivots.size == 0:
        solve_by_ldl(F, X)
    elif transposed:
        solve_by_lu_transposed(F, M, pivots, X)
    else:
        solve_by_lu(F, M, pivots, X)
    return X


def solve_by_ldl(F, X):
    (n, width), m = F.shape, X.shape[1]
    if m == 1:
        solve_one_by_ldl(F, X)
        return
    for j in range(n):
        for k in range(1, min(width, n - j)):
            for c in range(m):
                X[j + k, c] -= F[j, k] * X[j, c]
    for j in range(n - 1, -1, -1):
        for c in range(m):
            X[j, c] /= F[j, 0]
        for k in range(1, min(width, n - j)):
            for c in range(m):
                X[j, c] -= F[j, k] * X[j + k, c]


def solve_one_by_ldl(F, X):
    n, width = F.shape
    if width == 2:
        for j in range(1, n):
            X[j, 0] -= F[j - 1, 1] * X[j - 1, 0]
        for j in range(n):
            X[j, 0] /= F[j, 0]
        for j in range(n - 2, -1, -1):
            X[j, 0] -= F[j, 1] * X[j + 1, 0]
        return
    for j in range(n):
        for k in range(1, min(width, n - j)):
            X[j + k, 0] -= F[j, k] * X[j, 0]
    for j in range(n - 1, -1, -1):
        total = X[j, 0] / F[j, 0]
        for k in range(1, min(width, n - j)):
            total -= F[j, k] * X[j + k, 0]
        X[j, 0] = total


def exchange(X, i, j):
    if i != j:
        swap(X[i], X[j])


def solve_by_lu(F, M, pivots, X):
    (n, lower), m = M.shape, X.shape[1]
    width = F.shape[1] - lower
    for k in range(n):
        exchange(X, k, pivots[k])
        for r in range(1, min(lower, n - 1 - k) + 1):
            for c in range(m):
                X[k + r, c] -= M[k, r - 1] * X[k, c]
    for k in range(n - 1, -1, -1):
        for right in range(1, min(width, n - k)):
            for c in range(m):
                X[k, c] -= F[k, lower + right] * X[k + right, c]
        for c in range(m):
            X[k, c] /= F[k, lower]


def solve_by_lu_transposed(F, M, pivots, X):
    (n, lower), m = M.shape, X.shape[1]
    width = F.shape[1] - lower
    for k in range(n):
        for c in range(m):
            X[k, c] /= F[k, lower]
        for right in range(1, min(width, n - k)):
            for c in range(m):
                X[k + right, c] -= F[k, lower + right] * X[k, c]
    for k in range(n - 1, -1, -1):
        for r in range(1, min(lower, n - 1 - k) + 1):
            for c in range(m):
                X[k, c] -= M[k, r - 1] * X[k + r, c]
        exchange(X, k, pivots[k])


def logdet_pullback(F, M, pivots, lower, upper, mirrored):
    """``d log|det A| / d ab``: the entries of ``A^-T`` on the band; of a mirrored one those off the diagonal
    stand for two.

    From the last row of the factor to the first (Takahashi, Fagan & Chin 1973; Erisman & Tinney 1975).
    """
    if pivots.size == 0:
        return inverse_by_ldl(F)
    Z = inverse_by_lu(F, M, pivots, lower, upper)
    if not mirrored:
        return Z
    n = F.shape[0]
    out = np.zeros((lower + 1, n), F.dtype)
    for k in range(lower + 1):
        for j in range(n - k):
            out[k, j] = Z[upper + k, j] + Z[upper - k, j + k] if k else Z[upper, j]
    return out


def inverse_by_ldl(F):
    """``Z_ij = -sum_m L_{i + m, i} Z_{i + m, j}`` above the diagonal, whose entries add ``1 / D_i``."""
    n, width = F.shape
    out = np.zeros((width, n), F.dtype)
    if width == 2:
        following = F.dtype.type(0)
        for i in range(n - 1, -1, -1):
            ratio = F[i, 1] if i < n - 1 else following
            out[1, i] = -2 * ratio * following
            following = 1 / F[i, 0] + ratio * ratio * following
            out[0, i] = following
        return out
    Z = np.zeros((n + width, width), F.dtype)  # Z[j, k] is the entry (j + k, j) of the inverse
    for i in range(n - 1, -1, -1):
        last = min(width, n - i)
        for m in range(1, last):
            ratio = F[i, m]
            total = ratio * Z[i + m, 0]
            for k in range(1, last - m):
                total += F[i, m + k] * Z[i + m, k]
            for k in range(1, last - m):
                Z[i, m + k] -= ratio * Z[i + m, k]
            Z[i, m] -= total
        on_diagonal = 1 / F[i, 0]
        for m in range(1, last):
            on_diagonal -= F[i, m] * Z[i, m]
        Z[i, 0] = on_diagonal
    for start in range(0, n, 64):
        for k in range(width):
            for j in range(start, min(start + 64, n)):
                out[k, j] = Z[j, k] if k == 0 else 2 * Z[j, k]
    return out


def inverse_by_lu(F, M, pivots, lower, upper):
    """``out[upper + i - j, j] = (A^-1)[j, i]``.

    The inverse of what is left after k steps, of which the first rows and columns are kept, as many as U has
    diagonals, gives that after k - 1: ``[[(1 + u' Z l) / pivot, -u' Z / pivot], [-Z l, Z]]``, its first
    column exchanged with another.
    """
    n = F.shape[0]
    room = lower + upper
    out = np.zeros((lower + upper + 1, n), F.dtype)
    Z, W = np.zeros((room, room), F.dtype), np.zeros((room + 1, room + 1), F.dtype)
    for k in range(n - 1, -1, -1):
        size, below = min(room, n - 1 - k), min(lower, n - 1 - k)
        pivot = F[k, lower]
        for i in range(size):
            total = F.dtype.type(0)
            row, multipliers = Z[i], M[k]
            for r in range(below):
                total -= row[r] * multipliers[r]
            W[i + 1, 0] = total
            assign(W[i + 1, 1 : size + 1], row[:size])
        W[0, 0] = 1
        for j in range(size):
            W[0, j + 1] = 0
        for i in range(size):
            subtract(W[0, : size + 1], F[k, lower + 1 + i], W[i + 1, : size + 1])
        for j in range(size + 1):
            W[0, j] /= pivot
        p = pivots[k] - k
        if p > 0:
            swap(W[: size + 1, 0], W[: size + 1, p])
        for j in range(min(lower, size) + 1):
            out[upper + j, k] = W[0, j]
        for i in range(1, min(upper, size) + 1):
            out[upper - i, k + i] = W[i, 0]
        if p > 0:
            for i in range(max(p - lower, 1), min(p + upper, size) + 1):
                out[upper + p - i, k + i] = W[i, p]
        kept = min(room, size + 1)
        for i in range(kept):
            assign(Z[i, :kept], W[i, :kept])
    return out


def dot(ab, lower, upper, mirrored, X, transposed):
    """``A X`` (n, m), or ``A' X``, in 2 n m flops for each diagonal."""
    n, m = X.shape
    Y = np.zeros((n, m), X.dtype)
    for k in range(-upper, lower + 1):
        row, shift = (abs(k), min(k, 0)) if mirrored else (upper + k, 0)
        here, there = (0, k) if transposed else (k, 0)  # A[j + k, j] meets X[j], or X[j + k]
        first, last = max(0, -k), min(n, n - k)
        if m == 1:
            for j in range(first, last):
                Y[j + here, 0] += ab[row, j + shift] * X[j + there, 0]
        else:
            for j in range(first, last):
                for c in range(m):
                    Y[j + here, c] += ab[row, j + shift] * X[j + there, c]
    return Y


def outer(left, right, lower, upper, mirrored):
    """The pullback onto ``ab`` of the matrix cotangent ``left right'``: its entries on the band."""
    n, m = left.shape
    out = np.zeros((lower + 1 if mirrored else lower + upper + 1, n), left.dtype)
    for k in range(0 if mirrored else -upper, lower + 1):
        row, both = k if mirrored else upper + k, mirrored and k > 0
        first, last = max(0, -k), min(n, n - k)
        if m == 1:
            for j in range(first, last):
                out[row, j] = left[j + k, 0] * right[j, 0]
            if both:
                for j in range(first, last):
                    out[row, j] += left[j, 0] * right[j + k, 0]
            continue
        for j in range(first, last):
            total = left.dtype.type(0)
            for c in range(m):
                total += left[j + k, c] * right[j, c]
                if both:
                    total += left[j, c] * right[j + k, c]
            out[row, j] = total
    return out
