"""Preconditioners ``P = D^1/2 (I + U diag(s) U') D^1/2`` of symmetric positive definite matrices, U'U = I.

One form for all of them: the identity, Jacobi's diagonal, and a pivoted partial Cholesky factor plus the
diagonal that it leaves (Harbrecht, Peters & Schneider 2012; Gardner et al. 2018). Being diagonal plus low
rank with orthonormal U, its inverse, its symmetric factor and its determinant are as short, and Woodbury's
identity is applied without a squared form (Woodbury 1950). Blocks of vectors are rows ``(m, n)`` here.
"""

import numpy as np
from scipy.linalg import eigh, svd

from autotune.ops import kernels
from autotune.ops.constants import JACOBI
from autotune.ops.core_operator import SymmetricOperator, as_operator

# A pivot below this share of the largest diagonal entry is rounding.
NEGLIGIBLE = 1e-14
# Halvings of the interval of the noise: its relative error is then 1e-9.
BISECTIONS = 30


def build(A, rank):
    """``(scale, U, s)`` with ``scale = D^-1/2`` (n,), U (n, r), s (r,), in the dtype of ``A``, an array or a
    `SymmetricOperator`.

    ``rank`` NONE gives empty parts, the identity; JACOBI the diagonal of A; r > 0 at most r columns of the
    pivoted Cholesky factor. A diagonal that no positive definite matrix has gives the identity as well.
    About 10 n r^2 flops; of A only r rows are read.
    """
    none = np.zeros(0, A.dtype), np.zeros((0, 0), A.dtype), np.zeros(0, A.dtype)
    if rank < JACOBI:
        return none
    A = as_operator(A)
    diagonal = A.diagonal()
    if not ((diagonal > 0) & (diagonal < np.inf)).all() or A.order == 0:
        return none
    rows, rest = split(A, diagonal, min(rank, A.order))
    scale = 1 / np.sqrt(rest)
    U, sigma, _ = svd((rows * scale).T, full_matrices=False, lapack_driver="gesdd", check_finite=False)
    return scale.astype(A.dtype), np.ascontiguousarray(U.astype(A.dtype)), (sigma**2).astype(A.dtype)


def check_parts(n, scale, U, s):
    """ValueError unless the parts are those of a preconditioner of order n; empty ones stand for none."""
    if scale.size and (scale.size != n or U.shape != (n, s.size)):
        raise ValueError(f"The preconditioner's parts are of {scale.size} and {U.shape} for order {n}.")
    if not scale.size and (U.size or s.size):
        raise ValueError(f"A preconditioner of {U.shape} has no scale. Give all its parts or none.")


def split(A, diagonal, rank):
    """``L'`` (r, n) and a positive diagonal ``d`` with ``A ~ L L' + diag(d)``.

    Cholesky columns of A itself would fit the pivots' rows exactly and leave nothing of the noise on their
    diagonal. So a first sweep finds the pivots, they tell the noise, and a second sweep factorises
    ``A - noise I``, as Gardner et al. do with a known noise.
    """
    if rank == 0:
        return np.zeros((0, diagonal.size)), diagonal
    rows, _, pivots = pivoted_cholesky(A, diagonal, rank)
    if not np.isfinite(rows).all():
        return rows[:0], diagonal
    noise = max(noise_level(A, diagonal, pivots), NEGLIGIBLE * diagonal.max())
    rows, rest, _ = pivoted_cholesky(A, diagonal - noise, rank)
    return rows, np.maximum(rest, 0) + noise


def noise_level(A, diagonal, pivots):
    """The largest ``t`` for which ``A - t I``, on the pivots S and any one row i more, is semidefinite.

    An upper bound of the smallest eigenvalue: ``a_ii - t >= sum_k c_ki^2 / (lambda_k - t)`` for all i, where
    ``A_SS = Q diag(lambda) Q'`` and ``c = Q' A_S:``. The difference of the sides falls in t, hence bisection.
    """
    rows = A.rows(pivots)
    values, Q = eigh(rows[:, pivots], check_finite=False)
    free = np.delete(np.arange(diagonal.size), pivots)
    squares, left = kernels.matmul(Q.T, rows[:, free]) ** 2, diagonal[free]
    low, high = 0.0, max(min(values.min(), left.min(initial=np.inf)), 0.0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if (left - middle >= kernels.matmul(1 / (values - middle)[None], squares)[0]).all():
            low = middle
        else:
            high = middle
    return low


def pivoted_cholesky(A, diagonal, rank):
    """Rows of ``L'`` (r, n), what is left of ``diagonal``, and the pivots, for A with that diagonal.

    The largest entry left is the next pivot; r falls short of ``rank`` where none is above rounding.
    2 n r^2 flops. Source: Harbrecht, Peters & Schneider (2012), algorithm 1.
    """
    rows, rest = np.zeros((rank, diagonal.size)), diagonal.copy()
    pivots: list[int] = []
    for j in range(rank):
        pivot = int(np.argmax(rest))
        if not rest[pivot] > NEGLIGIBLE * diagonal.max():
            return rows[:j], rest, pivots
        row = A.rows([pivot])[0] - kernels.matmul(rows[None, :j, pivot], rows[:j])[0]
        row[pivot] = rest[pivot]
        rows[j] = row / np.sqrt(rest[pivot])
        rest = rest - rows[j] ** 2
        pivots.append(pivot)
        rest[pivots] = 0
    return rows, rest, pivots


def _low_rank(U, weights, X):
    """``(I - U diag(weights) U') x`` for every row x."""
    if not U.shape[1]:
        return X
    return X - kernels.matmul(kernels.matmul(X, U) * weights.astype(X.dtype), U.T)


def apply_inverse(parts, X):
    """``P^-1 x`` for every row x of ``X`` (m, n); ``parts`` may be a `SymmetricOperator`, P^-1 itself."""
    if isinstance(parts, SymmetricOperator):
        return parts.product(X)
    scale, U, s = parts
    return scale * _low_rank(U, s / (1 + s), scale * X) if scale.size else X


def dense_inverse(parts, n, dtype):
    """``P^-1`` (n, n)."""
    scale, U, s = parts
    if not scale.size:
        return np.eye(n, dtype=dtype)
    rows = scale[:, None] * U
    return np.diag(scale**2) - kernels.matmul(rows * (s / (1 + s)), rows.T)


def apply_root(parts, X):
    """``G x`` for every row x, where ``G' G = P^-1``: ``G A G'`` has the eigenvalues of ``P^-1 A``."""
    scale, U, s = parts
    return _low_rank(U, 1 - 1 / np.sqrt(1 + s), scale * X) if scale.size else X


def apply_root_transposed(parts, X):
    """``G' x`` for every row x."""
    scale, U, s = parts
    return scale * _low_rank(U, 1 - 1 / np.sqrt(1 + s), X) if scale.size else X


def apply_factor(parts, X):
    """``S x`` for every row x, where ``S = G^-1`` and ``P = S S'``."""
    scale, U, s = parts
    return _low_rank(U, 1 - np.sqrt(1 + s), X) / scale if scale.size else X


def logdet(parts):
    """``log det P = -2 sum log scale + sum log(1 + s)``, in double precision."""
    scale, _, s = (part.astype(np.float64) for part in parts)
    return -2 * np.log(scale).sum() + np.log1p(s).sum()


def build_arrays(A, rank, *parts):
    """`build` on the arrays of a graph, ``parts`` d, U, c of the matrix; ValueError if they do not fit."""
    A = as_operator(A, *parts)
    with np.errstate(all="ignore"):
        return build(A, int(rank))
