"""Factorisations, solves and inverses of small matrices without LAPACK. Run in Python and Numba.

LAPACK's algorithms, unblocked and left-looking (Golub & Van Loan 2013, 3.2, 4.2; Higham 2002, 14.3), behind
the names of `kernels` and on the same layouts: of a C-ordered matrix T, Fortran sees the transpose. Up to
some order LAPACK's calls cost more than its blocks save. All innermost loops run along rows of T, four rows
at a time where they can. ``first``: the number that row exchanges are counted from.
"""

import numpy as np

from autotune.ops import kernels


def getrf(T, pivots, first):
    """In place: ``T.T`` to its packed LU factors by partial pivoting, and ``pivots`` to its row exchanges.

    A column without a pivot is left as it is: the determinant is 0. Returns INFO, the first of these or 0.
    """
    n, info = T.shape[0], 0
    tiny = np.finfo(T.dtype).tiny
    for j in range(n):
        for k in range(j):
            other = pivots[k] - first
            T[j, k], T[j, other] = T[j, other], T[j, k]
        _eliminate(T, j, T, j)
        chosen, largest = j, abs(T[j, j])
        for i in range(j + 1, n):
            size = abs(T[j, i])
            if size > largest:
                chosen, largest = i, size
        pivots[j] = chosen + first
        pivot = T[j, chosen]
        if pivot == 0:
            info = j + 1 if info == 0 else info
            continue
        if chosen != j:
            for r in range(j + 1):
                T[r, j], T[r, chosen] = T[r, chosen], T[r, j]
        scale = 1 / pivot if largest >= tiny else pivot
        for i in range(j + 1, n):
            T[j, i] = T[j, i] * scale if largest >= tiny else T[j, i] / scale
    return info


def _eliminate(T, columns, X, r):
    """Row r of X becomes ``L^-1`` times it, by the first ``columns`` of the unit lower L of `getrf`."""
    n, whole = T.shape[0], columns - columns % 4
    for k in range(0, whole, 4):
        s0 = X[r, k]
        s1 = X[r, k + 1] - s0 * T[k, k + 1]
        s2 = X[r, k + 2] - s0 * T[k, k + 2] - s1 * T[k + 1, k + 2]
        s3 = X[r, k + 3] - s0 * T[k, k + 3] - s1 * T[k + 1, k + 3] - s2 * T[k + 2, k + 3]
        X[r, k + 1], X[r, k + 2], X[r, k + 3] = s1, s2, s3
        kernels.subtract_four(X, r, (s0, s1, s2, s3), T, k, k + 4, n)
    for k in range(whole, columns):
        kernels.subtract(X, r, X[r, k], T, k, k + 1, n)


def getrs(T, pivots, first, rows, transposed):
    """In place: every row r of ``rows`` becomes ``A^-1 r`` (or ``A'^-1 r``), by the factors of A from
    `getrf`."""
    n = T.shape[0]
    for r in range(rows.shape[0]):
        if transposed:
            for k in range(n):
                rows[r, k] = (rows[r, k] - kernels.row_dot(rows, r, T, k, 0, k)) / T[k, k]
            for k in range(n - 1, -1, -1):
                rows[r, k] -= kernels.row_dot(rows, r, T, k, k + 1, n)
            for k in range(n - 1, -1, -1):
                other = pivots[k] - first
                rows[r, k], rows[r, other] = rows[r, other], rows[r, k]
        else:
            for k in range(n):
                other = pivots[k] - first
                rows[r, k], rows[r, other] = rows[r, other], rows[r, k]
            _eliminate(T, n, rows, r)
            for k in range(n - 1, -1, -1):
                rows[r, k] /= T[k, k]
                kernels.subtract(rows, r, rows[r, k], T, k, 0, k)


def getri(T, pivots, first):
    """In place: ``T.T`` from its packed LU factors to its inverse (Higham's method D). Returns INFO, not 0 of
    a singular matrix, whose factors are then left alone."""
    n = T.shape[0]
    for k in range(n):
        if T[k, k] == 0:
            return k + 1
    for j in range(n):  # U^-1, column by column from those before it
        T[j, j] = 1 / T[j, j]
        for k in range(j):
            factor = T[j, k]
            kernels.subtract(T, j, -factor, T, k, 0, k)
            T[j, k] = factor * T[k, k]
        for k in range(j):
            T[j, k] *= -T[j, j]
    work = np.empty(n, T.dtype)
    for j in range(n - 1, -1, -1):  # A^-1 from A^-1 L = U^-1
        for i in range(j + 1, n):
            work[i] = T[j, i]
            T[j, i] = 0
        whole = n - (n - j - 1) % 4
        for k in range(j + 1, whole, 4):
            kernels.subtract_four(T, j, (work[k], work[k + 1], work[k + 2], work[k + 3]), T, k, 0, n)
        for k in range(whole, n):
            kernels.subtract(T, j, work[k], T, k, 0, n)
    for j in range(n - 1, -1, -1):
        other = pivots[j] - first
        if other != j:
            for i in range(n):
                T[j, i], T[other, i] = T[other, i], T[j, i]
    return 0


def potrf(A, upper):
    """In place: Cholesky's L into the lower triangle of symmetric ``A``, or L' into the upper one, of which
    alone it reads. Returns INFO, 0 if L exists."""
    n = A.shape[0]
    for j in range(n):
        if upper:
            whole = j - j % 4
            for k in range(0, whole, 4):
                kernels.subtract_four(A, j, (A[k, j], A[k + 1, j], A[k + 2, j], A[k + 3, j]), A, k, j, n)
            for k in range(whole, j):
                kernels.subtract(A, j, A[k, j], A, k, j, n)
        else:
            for k in range(j):
                A[j, k] = (A[j, k] - kernels.row_dot(A, j, A, k, 0, k)) / A[k, k]
            A[j, j] -= kernels.row_dot(A, j, A, j, 0, j)
        if not A[j, j] > 0:
            return j + 1
        root = np.sqrt(A[j, j])
        A[j, j] = root
        if upper:
            for i in range(j + 1, n):
                A[j, i] /= root
    return 0


def potrs(A, upper, rows):
    """In place: every row r of ``rows`` becomes ``(L L')^-1 r``, where ``A`` holds L (or L' if ``upper``)."""
    n = A.shape[0]
    for r in range(rows.shape[0]):
        for k in range(n):
            if upper:
                rows[r, k] /= A[k, k]
                kernels.subtract(rows, r, rows[r, k], A, k, k + 1, n)
            else:
                rows[r, k] = (rows[r, k] - kernels.row_dot(rows, r, A, k, 0, k)) / A[k, k]
        for k in range(n - 1, -1, -1):
            if upper:
                rows[r, k] = (rows[r, k] - kernels.row_dot(rows, r, A, k, k + 1, n)) / A[k, k]
            else:
                rows[r, k] /= A[k, k]
                kernels.subtract(rows, r, rows[r, k], A, k, 0, k)


def potri(A, upper):
    """In place: the full symmetric inverse of ``L L'``, where ``A`` holds L (or L' if ``upper``). Returns
    INFO, not 0 where a zero stands on the diagonal."""
    n = A.shape[0]
    for k in range(n):
        if A[k, k] == 0:
            return k + 1
        for i in range(0 if upper else k):
            A[i, k] = A[k, i]
    for j in range(n - 1, -1, -1):  # L^-1, column by column from those behind it
        A[j, j] = 1 / A[j, j]
        for k in range(n - 1, j, -1):
            factor = A[j, k]
            kernels.subtract(A, j, -factor, A, k, k + 1, n)
            A[j, k] = factor * A[k, k]
        for k in range(j + 1, n):
            A[j, k] *= -A[j, j]
    for j in range(n):  # L'^-1 L^-1
        for i in range(j, n):
            A[j, i] = kernels.row_dot(A, i, A, j, i, n)
            A[i, j] = A[j, i]
    return 0
