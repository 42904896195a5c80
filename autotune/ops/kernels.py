"""LAPACK and memory-layout primitives on C-ordered matrices, by NumPy and SciPy.

The algorithms of this package (``core_*.py``) are plain Python over these functions. Those that compiled
code needs too are overloaded: those on layouts, `nearly_symmetric` and `fill_nan` in `_layout`, `dot` to
`row_dot` in `_vectors`, and those that BLAS and LAPACK have in `_lapack`, by the same routine.

Everything is row-major: "the lower factor" of a C-ordered array is what Fortran sees as an upper one, and
right-hand sides are rows. Matrices that LAPACK overwrites must be C-contiguous and writable; nobody checks
again.
"""

import numpy as np
from scipy.linalg import get_blas_funcs, get_lapack_funcs


def owned(x, overwrite):
    """A C-contiguous array equal to ``x`` that may be overwritten: ``x`` itself if ``overwrite``, else a
    copy."""
    if overwrite and x.flags.c_contiguous and x.flags.writeable:
        return x
    return np.array(x, order="C", copy=True)


def owned_transposed(x, overwrite):
    """A C-contiguous array equal to ``x.T``, x square, that may be overwritten: made in the memory of ``x``
    if ``overwrite``, else a copy."""
    if overwrite and x.flags.c_contiguous and x.flags.writeable:
        x[:, :] = x.T.copy()
        return x
    return owned(x.T, overwrite)


def upper_from_lower(A, overwrite):
    """A C-contiguous array with the transposed lower triangle of square ``A`` as its upper one and zeros
    below, made in the memory of ``A`` if ``overwrite``."""
    out = np.ascontiguousarray(np.tril(A).T)
    if overwrite and A.flags.c_contiguous and A.flags.writeable:
        A[:, :] = out
        return A
    return out


def c_layout(x):
    """``x`` if it is C-contiguous, else a C-contiguous copy. For reading only."""
    return np.ascontiguousarray(x)


def either_order(A):
    """``(M, transposed)``: the memory of matrix ``A`` as a C-contiguous array, and whether that is ``A.T``; a
    copy only where A has neither order. For reading only."""
    if A.flags.f_contiguous and not A.flags.c_contiguous:
        return A.T, True
    return np.ascontiguousarray(A), False


def fill_nan(A):
    """In place: every entry of matrix ``A`` becomes NaN."""
    A[:, :] = np.nan


def dot(x, y):
    """``x . y`` in double precision."""
    return float(np.vecdot(x, y, dtype=np.float64))


def copy_to(x, out):
    """In place: ``out = x``."""
    out[:] = x


def axpby(a, x, b, y):
    """In place: ``y = a x + b y``."""
    y *= b
    y += a * x


def multiply(x, y):
    """In place: ``y = x * y``."""
    y *= x


def multiply_add(x, y, out):
    """In place: ``out += x * y``."""
    out += x * y


def subtract(X, r, scale, T, k, first, last):
    """In place: ``scale`` times row k of T is taken off row r of X, from ``first`` to ``last``; C-ordered."""
    X[r, first:last] -= scale * T[k, first:last]


def subtract_four(X, r, scales, T, k, first, last):
    """The same for four rows of T, from k."""
    for offset, scale in enumerate(scales):
        subtract(X, r, scale, T, k + offset, first, last)


def row_dot(X, r, T, k, first, last):
    """Row r of X times row k of T, from ``first`` to ``last``."""
    return X[r, first:last] @ T[k, first:last]


def nearly_symmetric(A, bounds):
    """Whether every ``|a_ij - a_ji| <= bounds_i bounds_j``; stops at the first tiles that are not, or hold
    NaN."""
    n = A.shape[0]
    with np.errstate(invalid="ignore", over="ignore"):
        for top in range(0, n, 32):
            rows = slice(top, top + 32)
            gap = np.abs(A[rows, : top + 32] - A[: top + 32, rows].T)
            if not np.all(gap <= np.outer(bounds[rows], bounds[: top + 32])):
                return False
    return True


def potri(A, upper):
    """In place: the full symmetric inverse of ``L L'``, where ``A`` holds L (or L' if ``upper``). Returns
    INFO."""
    _, info = get_lapack_funcs("potri", (A,))(A.T, lower=upper, overwrite_c=True)
    mirror(A, upper)
    return info


def mirror(A, upper):
    """In place: copy one triangle of square ``A`` (the upper one if ``upper``) onto the other."""
    A[:, :] = np.triu(A) + np.triu(A, 1).T if upper else np.tril(A) + np.tril(A, -1).T


def getri(A, pivots):
    """In place: ``A.T`` from its packed LU factors to its inverse; ``pivots`` count from 1. Returns INFO."""
    if not A.size:
        return 0
    _, info = get_lapack_funcs("getri", (A,))(A.T, pivots - 1, overwrite_lu=True)
    return info


def potrf(A, upper=False):
    """In place: the lower Cholesky factor L of symmetric ``A`` into its lower triangle (L' into the upper one
    if ``upper``), of which alone it reads. Returns INFO, 0 if L exists."""
    _, info = get_lapack_funcs("potrf", (A,))(A.T, lower=upper, overwrite_a=True, clean=False)
    return info


def potrs(A, upper, rows):
    """In place: every row r of ``rows`` becomes ``(L L')^-1 r``, where ``A`` holds L (or L' if ``upper``)."""
    if rows.size:
        get_lapack_funcs("potrs", (A,))(A.T, rows.T, lower=upper, overwrite_b=True)


def solve_lower(L, rows, transposed):
    """In place: every row r of ``rows`` (m, k) becomes ``L^-1 r`` (or ``L'^-1 r``)."""
    if rows.size:
        get_blas_funcs("trsm", (L,))(1.0, L.T, rows.T, lower=False, trans_a=not transposed, overwrite_b=True)


def getrf(A, pivots):
    """In place: ``A.T`` to its packed LU factors, and ``pivots`` (n,) int32 to its row exchanges, counted
    from 1."""
    if not A.size:
        return 0  # SciPy's wrapper passes a leading dimension that LAPACK refuses, on stderr
    _, found, info = get_lapack_funcs("getrf", (A,))(A.T, overwrite_a=True)
    pivots[:] = found + 1
    return info


def getrs(A, pivots, rows, transposed):
    """In place: every row r of ``rows`` becomes ``M^-1 r`` (or ``M'^-1 r``), for the M that `getrf` took
    as ``A``."""
    if rows.size:
        get_lapack_funcs("getrs", (A,))(
            A.T, pivots - 1, rows.T, trans=0 if transposed else 1, overwrite_b=True
        )


def matmul(X, Y):
    """``X Y`` of matrices of one dtype, by SciPy's BLAS as everything else that a compiled function runs.

    NumPy's ``@`` has a library with threads of its own. Those of the two wait for work by spinning, each on
    the cores that the other needs: on two cores a product between two factorisations costs milliseconds.
    """
    if not (X.size and Y.size):
        return X @ Y
    (gemm,) = get_blas_funcs(("gemm",), (X, Y))
    (first, trans_a), (second, trans_b) = (_as_fortran(M.T) for M in (Y, X))
    return gemm(1.0, first, second, trans_a=trans_a, trans_b=trans_b).T


def _as_fortran(M):
    """``(F, transposed)``: M, or its transpose, in Fortran order; a copy where it has neither order."""
    return (M.T, True) if M.flags.c_contiguous and not M.flags.f_contiguous else (M, False)


def syrk(M, turned):
    """The upper triangle of ``M M'``, or of ``M' M`` if ``turned``, for C-ordered M; what is below is any."""
    n = M.shape[1] if turned else M.shape[0]
    if not M.size:
        return np.zeros((n, n), M.dtype)
    return get_blas_funcs("syrk", (M,))(1.0, M.T, trans=not turned, lower=True).T


def symv(A, upper, x, out):
    """In place: ``out = A x`` for C-ordered symmetric ``A``, whose lower triangle is read (the upper one if
    ``upper``)."""
    out[:] = get_blas_funcs("symv", (A,))(1.0, A.T, x, lower=upper)


def rows_times(X, A, out):
    """In place: ``out = X A`` for C-ordered ``X`` (m, n), square ``A`` and ``out``, all of A read."""
    out[:, :] = matmul(X, A)


def symm(A, upper, X, out):
    """In place: row i of ``out`` becomes ``A x_i``, as by `symv`, for all rows of C-ordered ``X`` at once."""
    out[:, :] = get_blas_funcs("symm", (A,))(1.0, A.T, X.T, side=0, lower=upper).T


def gram(U, w, V):
    """``U' diag(w) V`` (p, q) for U (n, p), V (n, q)."""
    return np.ascontiguousarray(matmul((U * w[:, None]).T, V))


def gram_symmetric(U, w):
    """``U' diag(w) U`` (k, k) for ``w >= 0``; the lower triangle is right, the upper one need not be."""
    half = U * np.sqrt(w)[:, None]
    return matmul(half.T, half)


def outer(U, V):
    """``U V'`` (n, m) for U (n, k), V (m, k)."""
    return matmul(U, V.T)


def row_dots(U, c, V):
    """``sum_a U[i, a] c[a] V[i, a]`` for every row i."""
    return matmul(U * V, c[:, None])[:, 0]


def column_dots(U, w):
    """``sum_i w[i] U[i, a]^2`` for every column a."""
    return matmul(w[None], U * U)[0]


def subtract_product(B, U, rows):
    """``B - U rows'`` (n, m) for B (n, m), U (n, k), rows (m, k)."""
    return np.ascontiguousarray(B - matmul(U, rows.T))


def cancellation(d, w, B, X):
    """The largest ``sum |w| b^2 / sum |d| x^2`` over the columns of ``B`` and ``X``: digits (squared) that
    X lost. Rows of infinite d have ``x = w = 0``."""
    before, after = column_dots(B, np.abs(w)), column_dots(X, np.abs(np.where(np.isinf(d), 0, d)))
    return np.max(before[after > 0] / after[after > 0], initial=0.0)
