"""Symmetric positive definite Toeplitz matrices by Schur's recursion. Runs in Python and Numba.

``T - Z T Z' = u u' - v v'``, Z the shift: every step turns the pair (u, v), so that v begins with a zero; u
is then the next column of the Cholesky factor. Backward stable, which Levinson's recursion is not
(Bojanczyk, Brent, de Hoog & Sweet 1995). The turn in the form of Chandrasekaran & Sayed 1996, by
``1 - |reflection|``.
"""

import numpy as np


def turn(u, v, m):
    """In place: the pair after one step, of lengths m - 1 after m; whether it exists."""
    sign = 1.0 if v[1] >= 0 else -1.0
    rest = (u[0] - sign * v[1]) / u[0]  # one less the reflection
    if not rest > 0:
        return False
    s = 1 / np.sqrt(rest * (2 - rest))
    for i in range(m - 1):
        a, b = u[i], sign * v[i + 1]
        difference = a - b
        u[i] = (difference + rest * b) * s
        v[i] = sign * (rest * a - difference) * s
    return True


def dot(x, y):
    total = 0.0
    for i in range(x.size):
        total += x[i] * y[i]
    return total


def subtract(a, x, y):
    """In place: ``y - a x``."""
    for i in range(x.size):
        y[i] -= a * x[i]


def sweep(c, B):
    """In place ``T^-1 B'`` of the rows of B (m, n), and ``log det T`` of the first column c: NaN, and B lost,
    where T is not positive definite.

    Of the n columns of the factor some are kept at a time, for which the pair is kept before every so many
    steps: O(n^1.5) memory.
    """
    n = c.size
    logdet = 0.0
    if n == 0:
        return logdet
    block = int(np.ceil(np.sqrt(n)))
    starts = (n + block - 1) // block
    pairs, L = np.empty((starts, 2, n)), np.empty((block, n))
    u, v = np.empty(n), np.empty(n)
    if not c[0] > 0:
        return np.nan
    for i in range(n):
        u[i] = v[i] = c[i] / np.sqrt(np.float64(c[0]))
    for k in range(n):
        m = n - k
        if k > 0 and not turn(u, v, m + 1):
            return np.nan
        if k % block == 0:
            for i in range(m):
                pairs[k // block, 0, i] = u[i]
                pairs[k // block, 1, i] = v[i]
        logdet += 2 * np.log(u[0])
        for row in range(B.shape[0]):
            B[row, k] /= u[0]
            subtract(B[row, k], u[1:m], B[row, k + 1 :])
    for start in range(starts - 1, -1, -1):
        first, last = start * block, min(start * block + block, n)
        for k in range(first, last):
            m = n - k
            if k == first:
                for i in range(m):
                    u[i] = pairs[start, 0, i]
                    v[i] = pairs[start, 1, i]
            else:
                turn(u, v, m + 1)
            for i in range(m):
                L[k - first, i] = u[i]
        for k in range(last - 1, first - 1, -1):
            column = L[k - first, : n - k]
            for row in range(B.shape[0]):
                B[row, k] = (B[row, k] - dot(column[1:], B[row, k + 1 :])) / column[0]
    return logdet


def factor(c):
    """``(x, sign, log det)``, x the first column of the inverse; NaN where T is not positive definite."""
    x = np.zeros((1, c.size))
    x[:, :1] = 1.0
    logdet = sweep(c, x)
    if np.isnan(logdet):
        x[:] = np.nan
    return x[0], 0.0 * logdet + 1.0, logdet


def solve(c, B):
    """``T^-1 B`` (n, m)"""
    X = np.empty((B.shape[1], B.shape[0]))
    for i in range(B.shape[0]):
        for k in range(B.shape[1]):
            X[k, i] = B[i, k]
    if np.isnan(sweep(c, X)):
        X[:] = np.nan
    return np.ascontiguousarray(X.T).astype(B.dtype)
