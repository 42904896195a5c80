"""Conjugate gradients for several right-hand sides at once (Hestenes & Stiefel 1952; Golub & Van Loan
2013, 11.3)."""

import numpy as np
from scipy.linalg import get_lapack_funcs


def column_dots(X, Y):
    """``sum_i X[i, j] Y[i, j]`` for every column, in double precision."""
    return np.einsum("ij,ij->j", X, Y, dtype=np.float64)


def cholesky_solve(A, B):
    """``A^-1 B`` by a dense Cholesky factorisation; NaN everywhere if ``A`` has none."""
    potrf, potrs = get_lapack_funcs(("potrf", "potrs"), (A,))
    L, info = potrf(A, lower=True, clean=False)
    if info != 0 or not np.isfinite(np.diag(L)).all():
        return np.full_like(B, np.nan)
    return potrs(L, B, lower=True)[0]


def iterate(A, B, X, columns, rtol, max_iterations):
    """Run the recurrences for ``columns`` of ``B``, writing into ``X``;
    ``(columns left unsolved, iterations)``.

    Every column has its own scalars and stops by itself, but all share one product with ``A`` an iteration.
    A column counts as solved by its true residual only; where the recurrence claimed more than it had, it
    starts again from there.
    """
    target = (rtol * np.sqrt(column_dots(B, B))) ** 2
    R = B[:, columns]
    P, rho = R.copy(), column_dots(R, R)
    for iteration in range(1, max_iterations + 1):
        Q = A @ P
        curvature = column_dots(P, Q)
        if not (curvature > 0).all():  # indefinite, or not finite
            return columns, iteration
        alpha = (rho / curvature).astype(B.dtype)
        X[:, columns] += alpha * P
        R = R - alpha * Q
        previous, rho = rho, column_dots(R, R)
        claims = rho <= target[columns]
        if claims.any():
            claimed = columns[claims]
            R[:, claims] = B[:, claimed] - A @ X[:, claimed]
            P[:, claims] = 0  # a restarted column forgets its directions
            rho = column_dots(R, R)
            # Written so that NaN is never solved.
            open_ = ~(claims & (rho <= target[columns]))
            columns, R, P, rho, previous = (
                columns[open_],
                R[:, open_],
                P[:, open_],
                rho[open_],
                previous[open_],
            )
            if columns.size == 0:
                return columns, iteration
        P = R + (rho / previous).astype(B.dtype) * P
    return columns, max(max_iterations, 0)


def block_cg(A, B, rtol, max_iterations):
    """``(A^-1 B, iterations)`` for symmetric positive definite ``A``; ``iterations = -1 - used`` after a
    fallback.

    Within ``max_iterations`` products, every column reaches ``|b - A x| <= rtol |b|``; otherwise (or if
    ``A`` shows itself indefinite) all are solved by Cholesky. A zero column gives zero, one that is not
    finite gives NaN.
    """
    finite = np.isfinite(B).all(axis=0)
    X = np.where(finite, B.dtype.type(0), B.dtype.type(np.nan)) * np.ones_like(B[:, :1])
    X = np.ascontiguousarray(X.reshape(B.shape))
    columns = np.flatnonzero(finite & (B != 0).any(axis=0))
    if columns.size == 0:
        # Nothing to solve. Still, NaN in A must not vanish where a direct solve would show it.
        if B.size and not np.isfinite(A).all():
            X[:] = np.nan
        return X, 0
    unsolved, used = iterate(A, B, X, columns, rtol, max_iterations)
    if unsolved.size == 0:
        return X, used
    X[:, columns] = cholesky_solve(A, np.ascontiguousarray(B[:, columns]))
    return X, -1 - used


def block_cg_arrays(A, B, rtol, max_iterations):
    """`block_cg` on the arrays of a graph: the two outputs of the Op, checked and typed."""
    if A.shape[0] != A.shape[1] or A.shape[0] != B.shape[0]:
        raise ValueError("The matrix must be square, and the right-hand side as long.")
    with np.errstate(all="ignore"):
        X, iterations = block_cg(A, B, float(rtol), int(max_iterations))
    return X, np.array(iterations, dtype=np.int64)
