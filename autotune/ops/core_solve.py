"""Applying a factor of `core_factor`: solves and the diagonal of the inverse. In Python."""

import numpy as np

from autotune.ops import kernels
from autotune.ops.core_factor import CAPACITANCE_LU, CHOLESKY, DENSE_LU

# A solution this much smaller than the ``W B`` it came from (in norm, squared) has lost digits worth
# restoring.
CANCELLATION_LIMIT = 64.0
REFINEMENTS = 3


def scale_rows(w, B):
    """``diag(w) B``."""
    return w.reshape(-1, 1) * B


def refine(X, B, solve, d, U, V):
    """Iterative refinement of ``(diag(d) + U V')^-1 B``, column by column while the residual shrinks.

    The Woodbury formula subtracts two large vectors when B lies near the range of U. Refinement in working
    precision then makes it as accurate as a dense solve (Skeel 1980; Higham 2002, ch. 12). Residuals are
    measured relative to the diagonal of the matrix, so that the scaling of its rows does not matter.
    """
    scale = 1 / (np.abs(d) + np.abs(kernels.row_dots(U, np.ones(U.shape[1], d.dtype), V)))
    d = np.where(scale > 0, d, 0)  # rows of infinite noise have no residual

    def residual(X):
        R = kernels.subtract_product(B - scale_rows(d, X), U, kernels.matmul(X.T, V))
        return R, kernels.column_dots(R, scale)

    R, size = residual(X)
    for _ in range(REFINEMENTS):
        refined = X + solve(R)
        refined_R, refined_size = residual(refined)
        better = refined_size < size
        if not better.any():
            break
        X, R = np.where(better, refined, X), np.where(better, refined_R, R)
        size = np.where(better, refined_size, size)
    return X


def cholesky_solve(U, c, w, F, S, FS, B):
    """``K^-1 B`` from a CHOLESKY factor (Woodbury 1950). With T = L^-1 Ue' W B and rows S eliminated last:

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
        kernels.getrs(F, pivots, rows, not transposed)
        return rows.T.copy()
    if mode != CAPACITANCE_LU:
        return np.full_like(B, np.nan)
    left, right = (V, U) if transposed else (U, V)
    T = kernels.gram(B, w, right)
    kernels.getrs(F, pivots, T, transposed)
    return scale_rows(w, kernels.subtract_product(B, left, T))


def general_solve(d, U, V, mode, w, F, pivots, B, transposed):
    """``K^-1 B`` (or ``K'^-1 B``) for ``K = diag(d) + U V'``."""
    X = general_apply(U, V, mode, w, F, pivots, B, transposed)
    if mode != CAPACITANCE_LU or not kernels.cancellation(d, w, B, X) > CANCELLATION_LIMIT:
        return X
    left, right = (V, U) if transposed else (U, V)
    return refine(X, B, lambda R: general_apply(U, V, mode, w, F, pivots, R, transposed), d, left, right)


def symmetric_solve(d, U, c, mode, w, F, pivots, S, FS, B):
    """``K^-1 B`` for ``K = diag(d) + U diag(c) U'``."""
    if mode != CHOLESKY:
        return general_solve(d, U, U * c, mode, w, F, pivots, B, False)
    X = cholesky_solve(U, c, w, F, S, FS, B)
    if not kernels.cancellation(d, w, B, X) > CANCELLATION_LIMIT:
        return X
    return refine(X, B, lambda R: cholesky_solve(U, c, w, F, S, FS, R), d, U, U * c)


def symmetric_solve_columns(d, U, c, mode, w, F, pivots, S, FS):
    """``K^-1 U``, which the gradient of the log-determinant asks for: ``W Ue C^-1`` column-scaled back.

    The push-through identity ``(D + Ue Ue')^-1 Ue = D^-1 Ue (I + Ue' D^-1 Ue)^-1`` (Henderson & Searle 1981)
    subtracts nothing, where the Woodbury formula would lose digits: U lies in its own range.
    """
    if mode != CHOLESKY or S.size or not (c > 0).all():
        return symmetric_solve(d, U, c, mode, w, F, pivots, S, FS, U)
    root = np.sqrt(c)
    X = U * root
    kernels.solve_lower(F, X, False)
    kernels.solve_lower(F, X, True)
    return scale_rows(w, X / root)


def cholesky_inverse_diagonal(U, c, w, F, S, FS):
    """``diag(K^-1)``: ``w - w^2 |z|^2 + w^2 |Y z|^2`` on R, ``diag(Schur^-1)`` on S.

    z are the rows of Ue L'^-1, and Y = chol(Schur)^-1 G.
    """
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
