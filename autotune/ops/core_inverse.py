"""Inverses from finished factorisations (Golub & Van Loan 2013, 4.2; Higham 2002, ch. 14). Runs in Python
and Numba."""

import numpy as np

from autotune.ops import kernels
from autotune.ops.shapes import check_pivots, check_rhs, check_square

# So many right-hand sides for each row of a matrix that a product with its inverse takes less time than two
# triangular solves: both do 2 n^2 m operations, a product up to twice as fast. Measured, n = 50 to 500.
MANY = 2


def cholesky_inverse(L, overwrite):
    """``(L L')^-1``, full and symmetric, from a lower Cholesky factor ``L`` (n, n); 2/3 n^3 flops.

    NaN or zero on the diagonal of ``L`` gives NaN everywhere, as a failed factorisation does in PyTensor.
    """
    n = L.shape[0]
    check_square(L)
    # A Fortran-ordered L is a C-ordered L': the inverse is symmetric, so either serves without transposing.
    upper = L.flags.f_contiguous and not L.flags.c_contiguous
    A = kernels.owned(L.T, overwrite) if upper else kernels.owned(L, overwrite)
    if n == 0:
        return A
    if has_nan_on_diagonal(A) or kernels.potri(A, upper) != 0:
        kernels.fill_nan(A)
    return A


def solve_many(L, B):
    """``(L L')^-1 B`` from a lower Cholesky factor: by the inverse where B has ``MANY`` columns for each row.

    As accurate as two triangular solves (Druinsky & Toledo 2012, "How accurate is inv(A)*b?").
    """
    n, m = B.shape
    check_square(L)
    check_rhs(L.shape[0], B)
    if m >= MANY * n:
        return kernels.matmul(cholesky_inverse(L, False), kernels.c_layout(B))
    rows = kernels.owned(B.T, False)
    kernels.potrs(kernels.c_layout(L), False, rows)
    return kernels.owned(rows.T, False)


def has_nan_on_diagonal(A):
    found = False
    for i in range(A.shape[0]):
        found = found or np.isnan(A[i, i])
    return found


def lu_inverse(LU, pivots):
    """``A^-1`` (n, n) from the packed factors ``P A = L U`` and 0-based row exchanges; 4/3 n^3 flops.

    A NaN or zero on the diagonal of U gives NaN everywhere. ValueError for a pivot outside 0..n-1.
    """
    n = LU.shape[0]
    check_pivots(LU, pivots, 0)
    A = kernels.owned(LU.T, False)
    if n == 0:
        return A.T
    exchanges = np.empty(n, np.int32)
    for i in range(n):
        exchanges[i] = pivots[i] + 1
    if has_nan_on_diagonal(A) or kernels.getri(A, exchanges) != 0:
        kernels.fill_nan(A)
    return A.T
