"""Applying a factor of `core_factor`: solves and the diagonal of the inverse. Runs in Python and Numba."""

import numpy as np

from autotune.ops import kernels
from autotune.ops.core_factor import CAPACITANCE_LU, CHOLESKY, DENSE_LU

# A solution this much smaller than the ``W B`` it came from (in norm, squared) has lost digits worth restoring.
CANCELLATION_LIMIT = 64.0
REFINEMENTS = 2


def scale_rows(w, B):
    """``diag(w) B``."""
    return w.reshape(-1, 1) * B


def add_convergent(X, correction):
    """In place: ``X += correction`` in the columns that it changes by less than half; elsewhere refinement diverges."""
    converging = 4 * (correction * correction).sum(axis=0) < (X * X).sum(axis=0)
    X += np.where(converging, correction, X.dtype.type(0))


def cholesky_solve(U, c, w, F, S, FS, B):
    """``K^-1 B`` from a CHOLESKY factor. With T = L^-1 Ue' W B and rows S eliminated last (Golub & Van Loan 2013, 2.1.4):

    x_S = Schur^-1 (B_S - G T),  x_R = w (B_R - Ue_R L'^-1 (T + G' x_S)).
    """
    k = c.size
    root = np.sqrt(c)
    T = kernels.gram(B, w, U) * root
    kernels.solve_lower(F, T, False)
    if S.size == 0:
        kernels.solve_lower(F, T, True)
        return scale_rows(w, kernels.subtract_product(B, U, T * root))
    G, schur = np.ascontiguousarray(FS[:, :k]), np.ascontiguousarray(FS[:, k:])
    eliminated = np.ascontiguousarray((B[S] - kernels.outer(G, T)).T)
    kernels.solve_lower(schur, eliminated, False)
    kernels.solve_lower(schur, eliminated, True)
    T += kernels.outer(eliminated, np.ascontiguousarray(G.T))
    kernels.solve_lower(F, T, True)
    X = scale_rows(w, kernels.subtract_product(B, U, T * root))
    X[S] = eliminated.T
    return X


def general_apply(U, V, mode, w, F, pivots, B, transposed):
    """``K^-1 B`` (or ``K'^-1 B``) from an LU factor: ``w (B - U M^-1 V' W B)``; NaN from a FAILED one."""
    if mode == DENSE_LU:
        rows = B.T.copy()
        kernels.getrs(F, pivots, rows, transposed)
        return rows.T.copy()
    if mode != CAPACITANCE_LU:
        return np.full_like(B, np.nan)
    left, right = (V, U) if transposed else (U, V)
    T = kernels.gram(B, w, right)
    kernels.getrs(F, pivots, T, transposed)
    return scale_rows(w, kernels.subtract_product(B, left, T))


def general_solve(d, U, V, mode, w, F, pivots, B, transposed):
    """``K^-1 B`` (or ``K'^-1 B``) for ``K = diag(d) + U V'``, refined where ``W B`` and ``U(...)`` cancel.

    The Woodbury formula subtracts two large vectors when B lies near the range of U. A step of iterative refinement
    in working precision then makes it as accurate as a dense solve (Skeel 1980; Higham 2002, ch. 12).
    """
    X = general_apply(U, V, mode, w, F, pivots, B, transposed)
    if mode == CAPACITANCE_LU and kernels.cancellation(d, w, B, X) > CANCELLATION_LIMIT:
        left, right = (V, U) if transposed else (U, V)
        for _ in range(REFINEMENTS):
            T = kernels.gram(X, np.ones_like(d), right)
            R = kernels.subtract_product(B - scale_rows(d, X), left, T)
            add_convergent(X, general_apply(U, V, mode, w, F, pivots, R, transposed))
    return X


def symmetric_solve(d, U, c, mode, w, F, pivots, S, FS, B):
    """``K^-1 B`` for ``K = diag(d) + U diag(c) U'``, refined as in `general_solve`."""
    if mode != CHOLESKY:
        return general_solve(d, U, U * c, mode, w, F, pivots, B, False)
    X = cholesky_solve(U, c, w, F, S, FS, B)
    if kernels.cancellation(d, w, B, X) > CANCELLATION_LIMIT:
        for _ in range(REFINEMENTS):
            T = kernels.gram(X, np.ones_like(d), U) * c
            R = kernels.subtract_product(B - scale_rows(d, X), U, T)
            add_convergent(X, cholesky_solve(U, c, w, F, S, FS, R))
    return X


def cholesky_inverse_diagonal(U, c, w, F, S, FS):
    """``diag(K^-1)``: ``w - w^2 |z|^2 + w^2 |FS^-1 G z|^2`` on R with z the rows of Ue L'^-1; ``diag(Schur^-1)`` on S."""
    k = c.size
    Z = U * np.sqrt(c)
    kernels.solve_lower(F, Z, False)
    out = w - w * w * kernels.row_dots(Z, np.ones_like(c), Z)
    if S.size == 0:
        return out
    schur = np.ascontiguousarray(FS[:, k:])
    Y = kernels.outer(Z, np.ascontiguousarray(FS[:, :k]))
    kernels.solve_lower(schur, Y, False)
    ones = np.ones(S.size, w.dtype)
    out += w * w * kernels.row_dots(Y, ones, Y)
    inverse = np.eye(S.size).astype(w.dtype)
    kernels.solve_lower(schur, inverse, False)
    out[S] = kernels.row_dots(inverse, ones, inverse)
    return out


def general_inverse_diagonal(U, V, mode, w, F, pivots):
    """``diag(K^-1)``: ``w - w^2 rowsum((U M^-1) * V)``, or the diagonal of the dense inverse."""
    if mode == DENSE_LU:
        inverse = F.copy()
        kernels.getri(inverse, pivots)
        return np.diag(inverse).copy()
    if mode != CAPACITANCE_LU:
        return np.full_like(w, np.nan)
    rows = U.copy()
    kernels.getrs(F, pivots, rows, True)
    return w - w * w * kernels.row_dots(rows, np.ones(U.shape[1], w.dtype), V)


def symmetric_inverse_diagonal(U, c, mode, w, F, pivots, S, FS):
    """``diag(K^-1)`` for ``K = diag(d) + U diag(c) U'``."""
    if mode == CHOLESKY:
        return cholesky_inverse_diagonal(U, c, w, F, S, FS)
    return general_inverse_diagonal(U, U * c, mode, w, F, pivots)
