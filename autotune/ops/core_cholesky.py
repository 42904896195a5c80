"""The Cholesky factorisation in the order that LAPACK runs fastest (Golub & Van Loan 2013, 4.2). Runs in
Python and Numba.

potrf takes either triangle. OpenBLAS is up to 40 % faster on the lower one of a Fortran-ordered matrix than
on the upper one, which is what the lower one of a C-ordered matrix is to it: worth a pass over half of it.
"""

from autotune.ops import kernels
from autotune.ops.shapes import check_square


def factor(A, overwrite):
    """``L`` (n, n), lower triangular in Fortran order, of ``A = L L'``. n^3/3 flops.

    Of A only the lower triangle is read. Made in the memory of A if ``overwrite``. NaN everywhere if A has no
    such factor.
    """
    n = A.shape[0]
    check_square(A)
    T = kernels.upper_from_lower(A, overwrite)
    if n > 0 and kernels.potrf(T, True) != 0:
        kernels.fill_nan(T)
    return T.T
