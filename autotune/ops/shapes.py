"""What every Op checks of the lengths it is given, in Python and in Numba.

Compiled code that runs past the end of an array answers from foreign memory; a comparison at the entry costs
nothing. All raise ValueError, with constant messages: formatting one takes Numba long to compile.
"""

from autotune.ops.core_factor import CAPACITANCE_LU, CHOLESKY, DENSE_LU, FAILED


def check_square(A):
    """That a matrix has as many rows as columns."""
    if A.shape[0] != A.shape[1]:
        raise ValueError("The matrix must be square. It has another number of rows than of columns.")


def check_same_order(A, F):
    """That a square matrix and its factors have the same order."""
    check_square(A)
    if F.shape[0] != A.shape[0] or F.shape[1] != A.shape[1]:
        raise ValueError("The factors are those of a matrix of another order.")


def check_rhs(n, B):
    """That a right-hand side has a row for each of the n of its matrix."""
    if B.shape[0] != n:
        raise ValueError("The right-hand side must have as many rows as the matrix. It differs in length.")


def check_band(ab, rows):
    """That a band has so many diagonals; below zero: any number."""
    if (rows >= 0 and ab.shape[0] != rows) or ab.shape[0] == 0:
        raise ValueError("The band has another number of diagonals than the matrix.")


def check_band_factor(F, M, pivots):
    """That ``(F, M, pivots)`` is a factor of a band: `core_banded.factor`."""
    n = F.shape[0]
    fits = F.shape[1] > 0
    if pivots.shape[0] > 0:
        lower = M.shape[1]
        fits = fits and pivots.shape[0] == n and M.shape[0] == n and F.shape[1] > 2 * lower
        for k in range(n if fits else 0):
            fits = fits and k <= pivots[k] <= min(k + lower, n - 1)
    if not fits:
        raise ValueError("The factor is not one of a banded matrix: its parts differ in length.")


def check_on_line(steps, c, rates, sizes, powers):
    """That blocks have so many coefficients, and each a rate."""
    blocks = sizes.shape[0]
    if rates.shape[0] != blocks or powers.shape[0] != blocks:
        raise ValueError("Every block of a covariance has a size, a rate, and is a power or none.")
    check_states(c, sizes)


def check_states(c, sizes):
    """That the sizes of blocks add up to the number of coefficients."""
    total = 0
    for b in range(sizes.shape[0]):
        if sizes[b] < 1:
            raise ValueError("Every block of a covariance has a coefficient.")
        total += sizes[b]
    if total != c.shape[0]:
        raise ValueError("The blocks of a covariance have another number of coefficients.")


def check_line_factor(D, V, E, steps, c, sizes):
    """That ``(D, V, E)`` is a factor of such a covariance: `core_quasiseparable.factor`."""
    n = D.shape[0]
    check_states(c, sizes)
    fits = V.shape[0] == n and E.shape[0] == n and steps.shape[0] == n
    if not fits or V.shape[1] != c.shape[0] or E.shape[1] != sizes.shape[0]:
        raise ValueError("The factor is not one of this covariance: its parts differ in length.")


def check_same_shape(left, right):
    """That the two sides of an outer product have the same columns."""
    if left.shape[0] != right.shape[0] or left.shape[1] != right.shape[1]:
        raise ValueError("The two sides of a product have different shapes.")


def check_lengths(n, m):
    """That two arrays of one problem have one length."""
    if n != m:
        raise ValueError("The arrays of the matrix, or it and a right-hand side, differ in length.")


def check_pivots(F, pivots, first):
    """That factors are square, with one pivot for each row, counted from ``first``."""
    n = F.shape[0]
    if F.shape[1] != n or pivots.shape[0] != n:
        raise ValueError("The factors must be a square matrix and one pivot for each row.")
    for i in range(n):
        if pivots[i] < first or pivots[i] >= n + first:
            raise ValueError("A pivot lies outside the matrix. It is no row's number.")


def check_low_rank(d, U, last):
    """That ``diag(d) + U diag(c) U'``, or ``diag(d) + U V'``, is a matrix; ``last`` is c or V."""
    if U.shape[0] != d.shape[0] or U.shape[1] != last.shape[-1]:
        raise ValueError("The diagonal and the low-rank parts of the matrix do not fit together.")
    if last.ndim == 2 and last.shape[0] != d.shape[0]:
        raise ValueError("The two low-rank parts of the matrix differ in length.")


def check_low_rank_factor(d, U, last, mode, w, F, pivots, S, FS):
    """That a factor in ``mode`` (see `core_factor`) is one of such a matrix."""
    check_low_rank(d, U, last)
    n, k = U.shape
    order, exchanges, eliminated = k, 0, 0
    if mode == DENSE_LU:
        order = n
    if mode in (CAPACITANCE_LU, DENSE_LU):
        exchanges = order
    if mode == CHOLESKY:
        eliminated = S.shape[0]
    fits = pivots.shape[0] == exchanges and S.shape[0] == eliminated and FS.shape[0] == eliminated
    fits = fits and w.shape[0] == (0 if mode == DENSE_LU else n)
    if mode != FAILED:
        fits = fits and F.shape[0] == order and F.shape[1] == order
    if mode == CHOLESKY:
        fits = fits and FS.shape[1] == k + eliminated
    if not fits:
        raise ValueError("The factor is that of a matrix of another order or rank.")
    if exchanges > 0:
        check_pivots(F, pivots, 1)
