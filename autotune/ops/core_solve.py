"""Applying a factor of `core_factor`: solves and the diagonal of the inverse. In Python.

The law: a solution is the exact one of a matrix that differs from K by a few eps ``sqrt(K_ii K_jj)`` in each
entry, as after a dense Cholesky factorisation (Higham 2002, theorem 10.3), however small the diagonal. So
solutions, quadratic forms, predictive variances and gradients are as exact as dense ones.

The argument, with ``A = D^-1/2 U``, right-hand side b and solution y in the same scale, ``H = I + A A'``:
Woodbury (1950) subtracts, ``y = b - A t`` with ``t = (I + A'A)^-1 A'b``, which leaves an error of eps |b| in
any direction. That is a backward error of eps where ``|y| ~ |b|``. Near the range of U, though, y is up to
``|H| = 1 + |A|^2`` times smaller than b, and what part of the error lies in that range counts ``|H|`` times
in the residual. So there are three steps, each taken only where the one before may not do:

* `cholesky_correct`: t has no cancellation, and ``A'y = t`` by the push-through identity (Henderson & Searle
  1981). ``y - A (I + A'A)^-1 (A'y - t)`` multiplies the error by ``H^-1``: it takes it out of the range,
  where H is large, and leaves it where H is one. It re-orthogonalises y against U ("twice is enough", Kahan
  and Parlett) without an orthogonal basis of U, for any ``|H| < 1 / eps^2``.
* `refine`: iterative refinement with the residual in K itself (Skeel 1980; Higham 2002, ch. 12), which also
  serves columns of U that are nearly dependent.
* LU of K itself, for columns of which the residual is still too large.
"""

import numpy as np

from autotune.ops import kernels
from autotune.ops.core_factor import CAPACITANCE_LU, CHOLESKY, DENSE_LU, dense_factor

# A solution this much smaller than the ``W B`` it came from (in norm, squared) has lost digits worth
# restoring.
CANCELLATION_LIMIT = 64.0
REFINEMENTS = 3
# Backward errors in units of eps: those that need no refinement, and those that need a dense factorisation;
# and the same in units of ``n eps``. A dense Cholesky solution near the range of U has 0.1 to 0.25 n eps:
# measured, n = 300 to 3000, as of a random error of eps in every entry of K.
GOOD_ENOUGH, TOO_LARGE = (4.0, 1 / 8), (64.0, 1 / 2)
# Those of solutions in the range of U that have been corrected: refining them is most of their work, and of a
# dense solution it would make a better one. Measured, smooth kernels: 0.1 to 0.4 n eps of the dense one.
CORRECTED = (16.0, 1 / 2)


def scale_rows(w, B):
    """``diag(w) B``."""
    return w.reshape(-1, 1) * B


def refined_where_needed(X, B, solve, d, w, U, V, safe):
    """`refine`, or X as it is where the factor is ``safe`` and ``W B`` did not cancel."""
    if safe and not kernels.cancellation(d, w, B, X) > CANCELLATION_LIMIT:
        return X
    return refine(X, B, solve, d, U, V)


def is_large(F, n):
    """Whether the signal of an average row exceeds its noise 64 times in some column; F as in `core_factor`.

    Up to there the error of a solution in the range of U is ``64 n eps`` of that part, as of any sum of n
    terms. O(k)
    """
    return (np.diag(F) ** 2 > CANCELLATION_LIMIT * n).any()


def are_independent(F):
    """Whether each column of ``[D^-1/2 Ue; I]`` has a fair part that those before it do not explain.

    Then F, the Cholesky factor of their Gram matrix, is accurate however they are scaled; else it has lost
    what QR of the columns themselves would have kept. O(k^2)
    """
    squares = np.tril(F) ** 2
    return not (np.diag(squares) * CANCELLATION_LIMIT < squares.sum(axis=1)).any()


def largest_square(bound, n, dtype):
    """The square of the larger one of the two backward errors of a ``bound``."""
    return (max(bound[0], bound[1] * n) * np.finfo(dtype).eps) ** 2


def refine(X, B, solve, d, U, V, enough=GOOD_ENOUGH):
    """Iterative refinement of ``X ~ (diag(d) + U V')^-1 B``, column by column while the residual shrinks."""
    scale = 1 / (np.abs(d) + kernels.row_dots(np.abs(U), np.ones(U.shape[1], d.dtype), np.abs(V)))

    def judged(X):
        return X, *residual(d, U, V, scale, B, X)

    state, improved = judged(X), True
    for _ in range(REFINEMENTS):
        # Written so that NaN is good enough: nothing can help it.
        if not improved or not (state[2] > largest_square(enough, d.size, d.dtype)).any():
            break
        state, improved = better_columns(judged(state[0] + solve(state[1])), state)
    if (state[2] > largest_square(TOO_LARGE, d.size, d.dtype)).any():
        mode, _, F, pivots, *_ = dense_factor(d, U, V, False)
        state, _ = better_columns(judged(dense_apply(mode, F, pivots, B, False)), state)
    return state[0]


def residual(d, U, V, scale, B, X):
    """``R = B - (diag(d) + U V') X`` and the squared backward error of each column, ``|R|^2 / |X|^2``.

    Rows are measured in the scale of K (``scale`` is one over its diagonal), so that it does not matter. Rows
    of infinite d have no residual.
    """
    seen = scale > 0
    R = kernels.subtract_product(B - scale_rows(np.where(seen, d, 0), X), U, kernels.matmul(X.T, V))
    size = kernels.column_dots(X, np.where(seen, 1 / scale, 0))
    return R, kernels.column_dots(R, scale) / size


def better_columns(new, old):
    """The columns of smaller backward error, the last of ``(X, R, error)``; and whether any is of ``new``."""
    better = new[2] < old[2]
    return tuple(np.where(better, a, b) for a, b in zip(new, old, strict=True)), better.any()


def cholesky_apply(U, c, w, F, S, FS, B):
    """``(K^-1 B, T)`` from a CHOLESKY factor (Woodbury 1950). With Ue = U sqrt(c), rows S eliminated last:

    ``T0 = L^-1 Ue' W B``, ``x_S = Schur^-1 (B_S - G T0)``, ``T = L'^-1 (T0 + G' x_S)``, ``x_R = w (B_R - Ue_R
    T)``. The rows of the matrix T are Ue' x.
    """
    k = c.size
    root = np.sqrt(c)
    T = kernels.gram(B, w, U) * root
    kernels.solve_lower(F, T, False)
    if S.size == 0:
        kernels.solve_lower(F, T, True)
        return scale_rows(w, kernels.subtract_product(B, U, T * root)), T
    G, schur = np.ascontiguousarray(FS[:, :k]), np.ascontiguousarray(FS[:, k:])
    eliminated = np.ascontiguousarray((B[S] - kernels.outer(G, T)).T)
    kernels.solve_lower(schur, eliminated, False)
    kernels.solve_lower(schur, eliminated, True)
    T += kernels.outer(eliminated, np.ascontiguousarray(G.T))
    kernels.solve_lower(F, T, True)
    X = scale_rows(w, kernels.subtract_product(B, U, T * root))
    X[S] = eliminated.T
    return X, T


def cholesky_correct(U, c, w, F, X, T):
    """``X - W Ue C^-1 (Ue' X - T')``; rows that were eliminated last have no weight and stay."""
    root = np.sqrt(c)
    gap = kernels.gram(X, np.ones_like(w), U) * root - T
    kernels.solve_lower(F, gap, False)
    kernels.solve_lower(F, gap, True)
    return X - scale_rows(w, kernels.outer(U, gap * root))


def dense_apply(mode, F, pivots, B, transposed):
    """``K^-1 B`` (or ``K'^-1 B``) from LU of K; NaN from a FAILED factor."""
    if mode != DENSE_LU:
        return np.full_like(B, np.nan)
    rows = B.T.copy()
    kernels.getrs(F, pivots, rows, not transposed)
    return rows.T.copy()


def general_solve(d, U, V, mode, w, F, pivots, B, transposed):
    """``K^-1 B`` (or ``K'^-1 B``) for ``K = diag(d) + U V'``: ``w (B - U M^-1 V' W B)``."""
    if mode != CAPACITANCE_LU:
        return dense_apply(mode, F, pivots, B, transposed)
    left, right = (V, U) if transposed else (U, V)

    def apply(B):
        T = kernels.gram(B, w, right)
        kernels.getrs(F, pivots, T, transposed)
        X = scale_rows(w, kernels.subtract_product(B, left, T))
        gap = kernels.gram(X, np.ones_like(w), right) - T
        kernels.getrs(F, pivots, gap, transposed)
        return X - scale_rows(w, kernels.outer(left, gap))

    # The growth that `core_factor` allows is more than a residual may have.
    return refine(apply(B), B, apply, d, left, right)


def symmetric_solve(d, U, c, mode, w, F, pivots, S, FS, B):
    """``K^-1 B`` for ``K = diag(d) + U diag(c) U'``."""
    if mode != CHOLESKY:
        return general_solve(d, U, U * c, mode, w, F, pivots, B, False)

    def apply(B):
        X, T = cholesky_apply(U, c, w, F, S, FS, B)
        return cholesky_correct(U, c, w, F, X, T) if is_large(F, d.size) else X

    return refined_where_needed(apply(B), B, apply, d, w, U, U * c, are_independent(F))


def symmetric_solve_in_range(d, U, c, mode, w, F, pivots, S, FS, Z):
    """``K^-1 U Z``: with Z the identity what the gradient of the log-determinant asks for.

    The push-through identity ``(D + Ue Ue')^-1 Ue = D^-1 Ue (I + Ue' D^-1 Ue)^-1`` (Henderson & Searle 1981)
    subtracts nothing, where the Woodbury formula would lose digits: U Z lies in the range of U. Where columns
    are nearly dependent it is corrected as other solutions are, by ``Ue' K^-1 Ue = I - C^-1``.
    """
    if mode != CHOLESKY or S.size or not (c > 0).all():
        return symmetric_solve(d, U, c, mode, w, F, pivots, S, FS, kernels.matmul(U, Z))
    root = np.sqrt(c)
    start = np.ascontiguousarray(Z.T / root)
    T = start.copy()
    kernels.solve_lower(F, T, False)
    kernels.solve_lower(F, T, True)
    X = scale_rows(w, kernels.outer(U, T * root))
    if are_independent(F):
        return X
    X = cholesky_correct(U, c, w, F, X, start - T)

    def apply(B):
        return cholesky_apply(U, c, w, F, S, FS, B)[0]

    return refine(X, kernels.matmul(U, Z), apply, d, U, U * c, CORRECTED)


def exact_where_cancelled(diagonal, w, solve):
    """In place: entries of ``diag(K^-1)`` that cancelled, ``diagonal = w - w^2 h``, from solutions instead.

    They are few: the leverages ``w h`` add up to k at most where K is positive definite, so that fewer than
    ``8 k / 7`` of them exceed 7/8.
    """
    rows = np.flatnonzero(np.abs(diagonal) * np.sqrt(CANCELLATION_LIMIT) < np.abs(w))
    if rows.size:
        columns = np.arange(rows.size)
        units = np.zeros((w.size, rows.size), w.dtype)
        units[rows, columns] = 1
        diagonal[rows] = solve(units)[rows, columns]
    return diagonal


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


def general_inverse_diagonal(d, U, V, mode, w, F, pivots):
    """``diag(K^-1)``: ``w - w^2 rowsum((U M^-1) * V)``, or the diagonal of the dense inverse."""
    if mode == DENSE_LU:
        inverse = F.copy()
        kernels.getri(inverse, pivots)
        return np.diag(inverse).copy()
    if mode != CAPACITANCE_LU:
        return np.full_like(w, np.nan)
    rows = U.copy()
    kernels.getrs(F, pivots, rows, True)
    diagonal = w - w * w * kernels.row_dots(rows, np.ones(U.shape[1], w.dtype), V)
    return exact_where_cancelled(diagonal, w, lambda B: general_solve(d, U, V, mode, w, F, pivots, B, False))


def symmetric_inverse_diagonal(d, U, c, mode, w, F, pivots, S, FS):
    """``diag(K^-1)`` for ``K = diag(d) + U diag(c) U'``."""
    if mode != CHOLESKY:
        return general_inverse_diagonal(d, U, U * c, mode, w, F, pivots)
    return exact_where_cancelled(
        cholesky_inverse_diagonal(U, c, w, F, S, FS),
        w,
        lambda B: symmetric_solve(d, U, c, mode, w, F, pivots, S, FS, B),
    )
