"""Factorising a diagonal plus a low rank (Woodbury 1950), as accurately as a dense factorisation would.

In Python; `_compiled_factor` has the common case for Numba. A factor is
``(mode, w, F, pivots, S, FS, sign, logabsdet)``.
"""

import numpy as np

from autotune.ops import kernels

# How a factor was made, and so how it is to be applied.
CHOLESKY = 0  # F = chol(I + Ue' W Ue); rows S eliminated last, FS = [G, chol(Schur complement)]
CAPACITANCE_LU = 1  # F, pivots = LU(I + V' W U)
DENSE_LU = 2  # F, pivots = LU(K')
FAILED = 3  # singular, not positive definite, or not finite: solves give NaN

# Rows whose signal-to-noise ratio exceeds the (k+1)-th largest by this factor are eliminated last. Any
# constant does.
SEPARATION = 16.0
# Above this growth of rounding errors the capacitance matrix is given up for the dense one.
GROWTH_LIMIT = 5.0e2


def log_sum(values):
    """``sum log values``, in double precision: logarithms of a long float32 vector do not add up in
    float32."""
    return np.log(values.astype(np.float64)).sum()


def failed_factor(d, sign, logabsdet):
    """The factor of a matrix that has none."""
    w = np.full_like(d, np.nan)
    none = np.empty((0, 0), d.dtype)
    return FAILED, w, none, np.empty(0, np.int32), np.empty(0, np.int64), none, sign, logabsdet


def ill_scaled_rows(d, norms, k):
    """The rows (int64) to eliminate last; more than ``k`` of them if the matrix cannot be positive definite.

    ``rho_i = norms_i / d_i`` is each row's signal-to-noise ratio, infinite where d_i is not positive. By
    interlacing, the (k+1)-th largest rho bounds the condition number of the (diagonally scaled) matrix from
    below. So it is harmless to keep rows up to that size, and only up to k larger ones can exist without
    ruining the matrix itself. Outliers that the bulk of the rows outweighs together cost no digits either.
    """
    n = d.shape[0]
    if n <= k:
        return np.arange(n)
    rho = np.where(d > np.finfo(d.dtype).tiny, norms / d, np.inf)
    largest = rho.max()
    outliers = rho * SEPARATION >= largest
    outweighed = largest * k <= SEPARATION * np.sum(rho[~outliers])
    if largest < np.inf and (np.sum(outliers) > k or outweighed):
        return np.empty(0, np.int64)
    return np.flatnonzero(rho > SEPARATION * np.sort(rho)[n - 1 - k])


def cholesky_factor(d, U, c):
    """Factor ``diag(d) + U diag(c) U'`` for ``c >= 0``; FAILED if it is not positive definite. O(n k^2).

    An infinite d_i is noise without bound: the row weighs nothing, as in a dense factorisation. With Ue = U
    sqrt(c), the well scaled rows R and the others S (at most k): C = I + Ue_R' D_R^-1 Ue_R = L L', G = Ue_S
    L'^-1, and the Schur complement of R is D_S + G G'.
    """
    k = c.size
    nan = d.dtype.type(np.nan)
    norms = kernels.row_dots(U, c, U)
    if not (np.isfinite(norms.sum()) and d.sum() > -np.inf):
        return failed_factor(d, nan, nan)
    S = ill_scaled_rows(d, norms, k)
    root = np.sqrt(c)
    w = d.copy()
    w[S] = 1.0
    logdet = log_sum(w)
    w = 1 / w
    w[S] = 0.0
    F = kernels.gram_symmetric(U, w)
    for a in range(k):
        F[a] *= root[a] * root
        F[a, a] += 1.0
    if S.size > k or kernels.potrf(F) != 0:
        return failed_factor(d, nan, nan)
    logdet += 2 * log_sum(np.diag(F))
    FS = np.empty((S.size, k + S.size), d.dtype)
    if S.size > 0:
        G = U[S] * root
        kernels.solve_lower(F, G, False)
        schur = kernels.outer(G, G)
        for i in range(S.size):
            schur[i, i] += d[S[i]]
        if kernels.potrf(schur) != 0:
            return failed_factor(d, nan, nan)
        logdet += 2 * log_sum(np.diag(schur))
        FS[:, :k] = G
        FS[:, k:] = schur
    if not logdet > -np.inf:
        return failed_factor(d, nan, nan)
    return CHOLESKY, w, F, np.empty(0, np.int32), S, FS, d.dtype.type(1), d.dtype.type(logdet)


def lu_sign_and_log(F, pivots):
    """Sign and log of the absolute determinant from packed LU factors and row exchanges counted from 1."""
    diagonal = np.diag(F)
    exchanges = np.sum(pivots != np.arange(1, pivots.size + 1))
    sign = np.prod(np.sign(diagonal)) * (1 - 2 * (exchanges % 2))
    return sign, log_sum(np.abs(diagonal))


def dense_factor(d, U, V, positive_definite):
    """LU of ``K = diag(d) + U V'`` itself; ``positive_definite``: FAILED unless K has a Cholesky factor.
    O(n^3)."""
    n = d.shape[0]
    one = d.dtype.type(1)
    # The transpose in our order is K itself in LAPACK's: the pivots are then those of PyTensor's own LU.
    K = kernels.outer(V, U)
    for i in range(n):
        K[i, i] += d[i]
    pivots = np.empty(n, np.int32)
    if positive_definite and kernels.potrf(K.copy()) != 0:
        return failed_factor(d, one * np.nan, one * np.nan)
    kernels.getrf(K, pivots)
    sign, logabsdet = lu_sign_and_log(K, pivots)
    if not np.isfinite(logabsdet):
        return failed_factor(d, one * sign, one * logabsdet)
    none = np.empty((0, 0), d.dtype)
    return DENSE_LU, np.empty(0, d.dtype), K, pivots, np.empty(0, np.int64), none, one * sign, one * logabsdet


def error_growth(F, pivots, U, w, V):
    """``1 + |diag(b) M^-1 diag(a)|`` (Frobenius), M = I + V' W U, a and b the W-norms of the columns of V
    and U.

    Estimates how much the Woodbury formula magnifies the rounding errors of M (Yip 1986). Scaling the
    columns of U by any s and those of V by 1/s leaves it unchanged, as it leaves K unchanged.
    """
    inverse = F.copy()
    kernels.getri(inverse, pivots)
    size = np.abs(w)
    scaled = inverse * np.sqrt(kernels.column_dots(V, size))
    return 1 + np.sqrt(((scaled * scaled).sum(axis=1) * kernels.column_dots(U, size)).sum())


def general_factor(d, U, V, positive_definite):
    """Factor ``diag(d) + U V'``: LU of the capacitance matrix ``I + V' D^-1 U`` if that is safe, else of K
    itself."""
    n, k = U.shape
    one = d.dtype.type(1)
    if k >= n or np.any(np.abs(d) <= np.finfo(d.dtype).tiny):
        return dense_factor(d, U, V, positive_definite)
    w = 1 / d
    F = kernels.gram(V, w, U)
    for a in range(k):
        F[a, a] += 1.0
    pivots = np.empty(k, np.int32)
    # NaN must reach the dense path too: the comparison is written so that it fails.
    if kernels.getrf(F, pivots) != 0 or not (error_growth(F, pivots, U, w, V) <= GROWTH_LIMIT):
        return dense_factor(d, U, V, positive_definite)
    sign, logabsdet = lu_sign_and_log(F, pivots)
    sign *= np.prod(np.sign(d))
    logabsdet += log_sum(np.abs(d))
    none = np.empty((0, 0), d.dtype)
    return CAPACITANCE_LU, w, F, pivots, np.empty(0, np.int64), none, one * sign, one * logabsdet


def is_positive_definite(d, U, c):
    """Whether ``diag(d) + U diag(c) U' > 0``, by inertia (Haynsworth 1968): neg(A) = neg(D) + neg(J).

    J = sign(c) and ``A = J + |c|^1/2 U' D^-1 U |c|^1/2``; no d may be zero.
    """
    root = np.sqrt(np.abs(c))
    A = kernels.gram(U, 1 / d, U) * root
    for a in range(c.size):
        A[a] *= root[a]
        A[a, a] += 1.0 if c[a] >= 0 else -1.0
    return np.sum(np.linalg.eigvalsh(A) < 0) == np.sum(d < 0) + np.sum(c < 0)


def factor_of_two(d, U, V, positive_definite):
    """Factor ``diag(d) + U V'``; ``positive_definite``: symmetric, and FAILED unless it has a Cholesky
    factor.

    For d > 0 it is definite where ``I + V' D^-1 U`` has positive eigenvalues: those of ``D^-1/2 K D^-1/2``
    are these and ones. Else the dense matrix tells.
    """
    if not positive_definite:
        return general_factor(d, U, V, False)
    if not np.all(d > 0):
        return dense_factor(d, U, V, True)
    factor = general_factor(d, U, V, True)
    if factor[0] == CAPACITANCE_LU:
        M = np.eye(U.shape[1], dtype=d.dtype) + kernels.gram(V, 1 / d, U)
        if not np.all(np.linalg.eigvals(M).real > 0):
            return failed_factor(d, d.dtype.type(np.nan), d.dtype.type(np.nan))
    return factor


def symmetric_factor(d, U, c, positive_definite):
    """Factor ``diag(d) + U diag(c) U'``, known to be positive definite or of unknown signature."""
    semidefinite = np.all(c >= 0)
    if semidefinite and (positive_definite or np.all(d > 0)):
        factor = cholesky_factor(d, U, c)
        # Without the assumption, only rounding can make the Cholesky factorisation fail: LU still has an
        # answer.
        if positive_definite or factor[0] != FAILED:
            return factor
        return dense_factor(d, U, U * c, False)
    factor = general_factor(d, U, U * c, positive_definite)
    if positive_definite and factor[0] == CAPACITANCE_LU and not is_positive_definite(d, U, c):
        return failed_factor(d, d.dtype.type(np.nan), d.dtype.type(np.nan))
    return factor
