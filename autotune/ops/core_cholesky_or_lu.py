"""Cholesky where a matrix turns out to have it, else LU with partial pivoting (Golub & Van Loan 2013, 3.4 and
4.2). Runs in Python and Numba.

A factor is ``(F, pivots, is_cholesky)``: L in the lower triangle of F (n, n), any finite numbers above it and
pivots 0..n-1; or getrf's packed ``P A = L U`` and its row exchanges, counted from 0. F is in Fortran order.
"""

import numpy as np

from autotune.ops import core_cholesky, core_inverse, kernels
from autotune.ops.shapes import check_pivots, check_rhs, check_same_order, check_square

# Symmetric: |a_ij - a_ji| <= SYMMETRY eps sqrt(a_ii a_jj). One triangle taken for both is then a perturbation
# of the size of Cholesky's own backward error, gamma_(n+1) sqrt(a_ii a_jj) (Higham 2002, theorem 10.5).
SYMMETRY = 8.0
# A pivot l_ii^2 <= (n + PIVOT) eps a_ii may be nothing but that backward error, magnified by eliminating the
# rows before it: the matrix is singular to working precision, and LU decides what becomes of it.
PIVOT = 100.0
# Numbers that can be multiplied without overflow.
LEAST, GREATEST = 1e-100, 1e100


def factor(A, overwrite):
    """``(F, pivots, is_cholesky)`` of a square ``A`` (n, n), made in its memory if ``overwrite``.

    n^3/3 flops for a positive definite A, 2/3 n^3 for a general one, at most n^3 for a symmetric one that
    has a positive diagonal and fails.
    """
    n = A.shape[0]
    check_square(A)
    pivots, diagonal = np.empty(n, np.int32), np.empty(n, A.dtype)
    for i in range(n):
        pivots[i], diagonal[i] = i, A[i, i]
    if n == 0:
        return kernels.owned(A, False).T, pivots, flag(1)
    if may_be_positive_definite(A, diagonal):
        # A symmetric matrix is its own transpose: either memory order serves as it stands.
        fortran = A.flags.f_contiguous and not A.flags.c_contiguous
        T = kernels.owned(A.T, overwrite) if fortran else kernels.owned(A, overwrite)
        if kernels.potrf(T, True) == 0 and pivots_are_significant(T, diagonal):
            return T.T, pivots, flag(1)
        # potrf left the lower triangle alone.
        kernels.mirror(T, False)
        for i in range(n):
            T[i, i] = diagonal[i]
    else:
        T = kernels.owned_transposed(A, overwrite)
    F, pivots = packed_lu(T)
    return F, pivots, flag(0)


def lu_factor(A, overwrite):
    """``(F, pivots)`` of a square ``A`` by partial pivoting, made in its memory if ``overwrite``."""
    check_square(A)
    return packed_lu(kernels.owned_transposed(A, overwrite))


def packed_lu(T):
    """The same of ``T.T``, made in the memory of T."""
    pivots = np.empty(T.shape[0], np.int32)
    if pivots.size > 0:
        kernels.getrf(T, pivots)
    for i in range(pivots.size):
        pivots[i] -= 1
    return T.T, pivots


def exchange_sign(pivots):
    """-1 to the number of rows that are exchanged, as `flag` makes it."""
    sign = 1
    for i in range(pivots.size):
        if pivots[i] != i:
            sign = -sign
    return flag(sign)


def slogdet(F, pivots, is_cholesky):
    """Sign and log of the absolute value of the determinant, from a factor.

    A logarithm is dearer than a product: it is taken of what several pivots multiply to.
    """
    sign, total, product = 1.0, 0.0, 1.0
    for i in range(pivots.size):
        pivot = np.float64(F[i, i])
        if pivots[i] != i and not is_cholesky:
            sign = -sign
        sign *= np.sign(pivot)
        size = abs(pivot)
        if LEAST < size < GREATEST:
            product *= size
            if not LEAST < product < GREATEST:
                total += np.log(product)
                product = 1.0
        else:
            total += np.log(size)
    total += np.log(product)
    return sign, 2 * total if is_cholesky else total


def checked_slogdet(F, pivots, is_cholesky):
    """The same; ValueError if they do not fit together."""
    check_pivots(F, pivots, 0)
    return slogdet(F, pivots, is_cholesky)


def flag(value):
    """As an array of no dimensions."""
    out = np.empty((), np.int8)
    out[()] = value
    return out


def may_be_positive_definite(A, diagonal):
    """Whether ``A`` is finite, symmetric up to rounding, and has a positive ``diagonal``.

    Stops at the first pair that differs: a general matrix costs O(n), a symmetric one O(n^2).
    """
    bounds = np.empty_like(diagonal)
    for i in range(diagonal.size):
        if not 0 < diagonal[i] < np.inf:
            return False
        bounds[i] = np.sqrt(SYMMETRY * np.finfo(A.dtype).eps * diagonal[i])
    return kernels.nearly_symmetric(A, bounds)


def pivots_are_significant(T, diagonal):
    """Whether every ``l_ii^2``, the part of a_ii that the rows before do not explain, exceeds rounding."""
    least = (diagonal.size + PIVOT) * np.finfo(T.dtype).eps
    significant = True
    for i in range(diagonal.size):
        significant &= T[i, i] * T[i, i] > least * diagonal[i]
    return significant


def lower_factor(A, F, is_cholesky):
    """``L`` of ``L L'``, of which A has the lower triangle, in the lower triangle; NaN if there is none.

    A's own factor if that is Cholesky's, else by potrf: A may be symmetric only by what one triangle says.
    """
    check_same_order(A, F)
    if is_cholesky:
        return F
    return core_cholesky.factor(A, False)


def checked_exchanges(F, pivots):
    """The row exchanges (n,) int32 as LAPACK counts them, from 1; ValueError if they do not fit ``F``."""
    check_pivots(F, pivots, 0)
    exchanges = np.empty(F.shape[0], np.int32)
    for i in range(exchanges.size):
        exchanges[i] = pivots[i] + 1
    return exchanges


def solve(F, pivots, is_cholesky, B, transposed):
    """``A^-1 B`` (n, m), or ``A'^-1 B``, from a factor; 2 n^2 m flops. NaN everywhere if a pivot is zero."""
    exchanges = checked_exchanges(F, pivots)
    check_rhs(F.shape[0], B)
    rows = kernels.owned(B.T, False)
    if is_cholesky and F.flags.c_contiguous:
        kernels.potrs(kernels.c_layout(F), False, rows)
    elif is_cholesky:
        kernels.potrs(kernels.c_layout(F.T), True, rows)
    elif has_zero_pivot(F):
        kernels.fill_nan(rows)
    else:
        kernels.getrs(kernels.c_layout(F.T), exchanges, rows, not transposed)
    return rows.T


def has_zero_pivot(F):
    found = False
    for i in range(F.shape[0]):
        found = found or F[i, i] == 0
    return found


def inverse(F, pivots, is_cholesky, overwrite):
    """``A^-1`` (n, n) from a factor, in the memory of F if ``overwrite``; exactly symmetric from Cholesky.

    2/3 n^3 flops from Cholesky, 4/3 n^3 from LU. A zero or NaN on the diagonal gives NaN everywhere.
    """
    exchanges = checked_exchanges(F, pivots)
    T = kernels.owned(F.T, overwrite)
    if F.shape[0] == 0:
        return T.T
    if core_inverse.has_nan_on_diagonal(T):
        info = 1
    elif is_cholesky:
        info = kernels.potri(T, True)
    else:
        info = kernels.getri(T, exchanges)
    if info != 0:
        kernels.fill_nan(T)
    return T.T
