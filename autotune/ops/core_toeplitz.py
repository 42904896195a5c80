"""Products and solves with Toeplitz and circulant matrices by the fast Fourier transform (NumPy's).

A symmetric Toeplitz matrix is given by its first column ``c``: ``T[i, j] = c[|i - j|]``; a circulant one by
the first column of any: ``C[i, j] = c[(i - j) mod n]``. All work is in double precision.
"""

from functools import cache

import numpy as np

from autotune.ops._base import TOEPLITZ, Compiled

core_schur = Compiled("core_schur", TOEPLITZ)

AT_ONCE = 1 << 20
"""Numbers that are transformed at a time."""
REFINEMENTS = 5
ROUNDING = np.finfo(np.float64).eps


@cache
def good_length(n):
    """The least product of 2, 3 and 5 that is at least n."""
    best = 1 << max(n - 1, 0).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            best = min(best, three << max(-(-n // three) - 1, 0).bit_length())
            three *= 3
        five *= 5
    return best


def _by_columns(function, X, length):
    """``function`` of the columns of X (n, m), as rows, few at a time."""
    Y = np.empty(X.shape, X.dtype)
    step = max(AT_ONCE // max(length, 1), 1)
    for start in range(0, X.shape[1], step):
        Y[:, start : start + step] = function(np.array(X[:, start : start + step].T, np.float64)).T
    return Y


def _spectrum(c, length):
    """The eigenvalues of a symmetric circulant matrix of which T is the leading block."""
    embedded = np.zeros(length)
    embedded[: len(c)] = c
    embedded[length - len(c) + 1 :] = c[:0:-1]
    return np.fft.rfft(embedded).real


def dot(c, X):
    """``T X`` (n, m)"""
    n = len(c)
    length = good_length(max(2 * n - 1, 1))
    spectrum = _spectrum(c, length)
    return _by_columns(lambda rows: _filtered(rows, spectrum, length), X, length)


def _filtered(rows, spectrum, length):
    return np.fft.irfft(np.fft.rfft(rows, length) * spectrum, length)[:, : rows.shape[1]]


def outer(left, right):
    """The pullback onto c (n,) of the matrix cotangent ``left right'``, both (n, m)."""
    n = len(left)
    length = good_length(max(2 * n - 1, 1))
    total = np.zeros(length // 2 + 1, complex)
    step = max(AT_ONCE // length, 1)
    for start in range(0, left.shape[1], step):
        first, second = (
            np.fft.rfft(np.array(side[:, start : start + step].T, np.float64), length)
            for side in (left, right)
        )
        total += (first * np.conj(second)).sum(axis=0)
    both = np.fft.irfft(2 * total.real, length)[:n]
    both[:1] /= 2
    return both.astype(left.dtype)


def solve(c, x, B):
    """``T^-1 B`` (n, m), x the first column of the inverse: its Gohberg-Semencul form, refined.

    A column whose residual stays above rounding is solved by Schur's recursion.
    """
    n = len(c)
    if n == 0 or not x[0] > 0:
        return np.full(B.shape, np.nan, B.dtype)
    length = good_length(2 * n - 1)
    spectrum = _spectrum(c, length)
    down = np.fft.rfft(x.astype(np.float64), length)
    up = np.fft.rfft(np.r_[0.0, x[:0:-1]], length)
    most = ROUNDING * np.abs(spectrum).max()

    def inverse(rows):
        """``(L L' - M M') b / x_0``, L and M lower triangular Toeplitz, of x and of x from its end."""
        b = np.fft.rfft(rows, length)
        first, second = (
            np.fft.rfft(np.fft.irfft(np.conj(by) * b, length)[:, :n], length) * by for by in (down, up)
        )
        return np.fft.irfft(first - second, length)[:, :n] / x[0]

    def refined(rows):
        found, left = inverse(rows), np.arange(len(rows))
        for _ in range(REFINEMENTS):
            residual = rows[left] - _filtered(found[left], spectrum, length)
            size, whole = (np.linalg.norm(v, axis=1) for v in (residual, found[left]))
            far = ~(size <= most * whole)
            if not far.any():
                return found
            left = left[far]
            found[left] += inverse(residual[far])
        found[left] = core_schur.solve(c.astype(np.float64), np.ascontiguousarray(rows[left].T)).T
        return found

    return _by_columns(refined, B, length)


# -- circulant -----------------------------------------------------------------------------------------


def circulant_factor(c):
    """``(d, sign, log|det|, smallest)``: the first column of the inverse and the least real part of an
    eigenvalue."""
    n = len(c)
    spectrum = np.fft.rfft(c.astype(np.float64)) if n else np.empty(0, complex)
    with np.errstate(divide="ignore", invalid="ignore"):
        d = np.fft.irfft(1 / spectrum, n) if n else np.empty(0)
        twice = np.where(np.arange(len(spectrum)) * 2 % max(n, 1) == 0, 1.0, 2.0)
        single = spectrum.real[twice == 1]
        sign = np.sign(single).prod()
        logabsdet = (twice * np.log(np.abs(spectrum))).sum()
    smallest = spectrum.real.min() if n else 1.0
    return d, float(sign), float(logabsdet), float(smallest)


def circulant_dot(c, X, transposed):
    """``C X`` (n, m), or ``C' X``."""
    spectrum = _circulant_spectrum(c, transposed)
    return _by_columns(lambda rows: _filtered(rows, spectrum, len(c)), X, len(c)) if len(c) else X.copy()


def circulant_solve(c, B, transposed):
    """``C^-1 B`` (n, m), or ``C^-T B``."""
    if not len(c):
        return B.copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        spectrum = 1 / _circulant_spectrum(c, transposed)
        return _by_columns(lambda rows: _filtered(rows, spectrum, len(c)), B, len(c))


def _circulant_spectrum(c, transposed):
    if not len(c):
        return np.empty(0, complex)
    spectrum = np.fft.rfft(c.astype(np.float64))
    return np.conj(spectrum) if transposed else spectrum


def circulant_outer(left, right):
    """The pullback onto c (n,) of the matrix cotangent ``left right'``, both (n, m)."""
    n = len(left)
    if n == 0:
        return np.empty(0, left.dtype)
    first, second = (np.fft.rfft(np.array(side.T, np.float64)) for side in (left, right))
    return np.fft.irfft((first * np.conj(second)).sum(axis=0), n).astype(left.dtype)
