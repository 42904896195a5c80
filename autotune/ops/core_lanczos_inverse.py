"""The inverse by the probes of a Lanczos log-determinant, for the gradient of that; or exactly.

With ``z = S y``, ``P = S S'`` and y the probes, ``E[z z'] = P``. So, as ``P^-1 z = G' y`` and
``A^-1 z = G' M^-1 y`` (see `core_lanczos`),

    A^-1 = c P^-1 + E[G' (M^-1 y - c y) (G' y)']

unbiased for any c that y does not tell, and what ``c P^-1`` explains is exact (a control variate). c is
``tr(M^-1) / n`` by all probes but y. Gardner et al. (2018), equation 4. ``M^-1 y`` continues the Krylov
iteration where the quadrature has left it. Vectors are rows ``(m, n)``.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import get_lapack_funcs

from autotune.ops import core_cg, core_preconditioner, kernels, lowrank
from autotune.ops.core_direct import check_factor, cholesky_factor, low_rank_factor, low_rank_parts
from autotune.ops.core_iteration import MISSES
from autotune.ops.core_lanczos import BLOCK, QUANTILE, preconditioned
from autotune.ops.core_operator import SymmetricOperator, as_operator, signs


@dataclass(frozen=True)
class EstimatedInverse:
    """``K + (L' R + R' L) / 2 m`` with L and R (m, n); K is a `SymmetricOperator`."""

    known: SymmetricOperator
    left: np.ndarray
    right: np.ndarray

    def to_dense(self):
        half = kernels.matmul(self.left.T, self.right / (2 * len(self.left)))
        return self.known.to_dense() + half + half.T

    def diagonal(self):
        """(n,). O(n m)."""
        return self.known.diagonal() + (self.left * self.right).mean(axis=0)

    def columns(self, U):
        """Its product with ``U`` (n, k). O(n m k)."""
        half = kernels.matmul(self.left.T, kernels.matmul(self.right, U))
        other = kernels.matmul(self.right.T, kernels.matmul(self.left, U))
        return self.known.product(U.T).T + (half + other) / (2 * len(self.left))


def continued(apply, Y, krylov, rtol, budget):
    """``(X, blocks)`` with ``|y - M x| <= rtol |y|`` for every row y, in ``blocks <= budget`` products of M
    with `BLOCK` vectors; None where that does not do, or M shows itself not to be positive definite.

    ``krylov``: ``(x, r, p)`` of conjugate gradients so far. What the recurrence claims one product checks;
    rows that claimed too much start again from their true residual. Source: Hestenes & Stiefel (1952).
    """
    X, R, P = krylov
    target, used = rtol * core_cg.norms(Y), 0.0
    rho = core_cg.dots(R, R)
    for _ in range(MISSES):
        while (open_ := np.sqrt(rho) > target).any():
            used += open_.sum() / BLOCK
            if used > budget:
                return None
            Q = apply(P[open_])
            curvature = core_cg.dots(P[open_], Q)
            if not ((curvature > 0) & (curvature < np.inf)).all():
                return None
            alpha = (rho[open_] / curvature).astype(X.dtype)[:, None]
            X[open_] += alpha * P[open_]
            R[open_] -= alpha * Q
            following = core_cg.dots(R[open_], R[open_])
            P[open_] = R[open_] + (following / rho[open_]).astype(X.dtype)[:, None] * P[open_]
            rho[open_] = following
        used += len(Y) / BLOCK
        if used > budget:
            return None
        R = Y - apply(X)
        P, rho = R.copy(), core_cg.dots(R, R)
        if (np.sqrt(rho) <= target).all():
            return X, used
    return None


def estimate_inverse(A, rtol, solve_rtol, budget, parts, seed, krylov):
    """The `EstimatedInverse` of a `SymmetricOperator`; None where more than ``budget`` products with blocks
    would be needed.

    By as many probes as ``krylov`` has, and more until half a 95 % interval of the trace of the inverse is
    within ``rtol`` of it. ``krylov`` (3, m, n): what `core_lanczos.estimate` knows of the first m probes.
    """
    n, used, apply = A.order, 0.0, preconditioned(A, parts)
    X, count = np.zeros((0, n), A.dtype), 0
    while True:
        block = slice(count, count + BLOCK)
        count += BLOCK
        Y = signs(count, n, seed, A.dtype)
        fresh = np.stack([np.zeros_like(Y[block]), Y[block], Y[block]])
        first = krylov[:, block]
        fresh[:, : first.shape[1]] = first
        found = continued(apply, Y[block], fresh, solve_rtol, budget - used)
        if found is None:
            return None
        X, used = np.concatenate([X, found[0]]), used + found[1]
        inverse = from_probes(A, parts, X, Y)
        samples = core_cg.dots(inverse.left, inverse.right)
        allowed = rtol * abs(inverse.known.diagonal().sum() + samples.mean())
        needed = (QUANTILE * samples[:BLOCK].std(ddof=1) / max(allowed, 1e-300)) ** 2
        if max(needed, krylov.shape[1]) <= count:
            return inverse
        if not used / count * needed <= budget:
            return None


def from_probes(A, parts, X, Y):
    """The `EstimatedInverse` by probes Y and ``X = M^-1 Y``, (m, n)."""
    traces = core_cg.dots(X, Y)
    others = (traces.sum() - traces) / (A.order * max(len(Y) - 1, 1))
    left = core_preconditioner.apply_root_transposed(parts, X - others.astype(Y.dtype)[:, None] * Y)
    right = core_preconditioner.apply_root_transposed(parts, Y)
    return EstimatedInverse(known_inverse(parts, A.order, others.mean().astype(Y.dtype)), left, right)


def known_inverse(parts, n, share):
    """``share P^-1`` as a `SymmetricOperator`."""
    scale, U, s = parts
    none = np.zeros((0, 0), share.dtype)
    if not scale.size:
        return as_operator(none, np.full(n, share))
    return as_operator(none, share * scale**2, scale[:, None] * U, -share * s / (1 + s))


def estimate_unless_factor(A, rtol, solve_rtol, budget, parts, seed, krylov, L):
    """`estimate_inverse`, but None where the value that comes before is exact, and hands on no ``krylov``."""
    if L.size or not krylov.shape[1] or not A.order:
        return None
    return estimate_inverse(A, rtol, solve_rtol, budget, parts, seed, krylov)


def inverse(A, rtol, solve_rtol, budget, parts, seed, krylov, L):
    """An unbiased estimate of ``A^-1`` (n, n), see `estimate_inverse`, or the exact inverse where that does
    not come off. A is an array or a `SymmetricOperator`."""
    A = as_operator(A)
    found = estimate_unless_factor(A, rtol, solve_rtol, budget, parts, seed, krylov, L)
    if found is not None:
        return found.to_dense()
    return exact_inverse(dense_factor(A, L))


def dense_factor(A, L):
    """The Cholesky factor (n, n) of A: ``L`` if it is that."""
    is_it = L.shape == (A.order, A.order) and not A.thin
    return L if is_it else cholesky_factor(A)


def exact_inverse(T):
    """``(T' T)^-1`` by potri; NaN from a factor that does not exist."""
    if not T.size or np.isnan(T[0, 0]):
        return np.full_like(T, np.nan)
    (potri,) = get_lapack_funcs(("potri",), (T,))
    half = np.tril(potri(T.T, lower=1)[0])
    return half + np.tril(half, -1).T


def inverse_of_parts(A, rtol, solve_rtol, budget, parts, seed, krylov, L):
    """``(diag(A^-1), A^-1 U)`` for a `SymmetricOperator` ``diag(d) + U diag(c) U'``: those of `inverse`,
    without it. O(n k m), or O(n k^2) by Woodbury's identity where the estimate does not come off."""
    found = estimate_unless_factor(A, rtol, solve_rtol, budget, parts, seed, krylov, L)
    if found is not None:
        return found.diagonal(), found.columns(low_rank_parts(A)[1])
    if not A.thin:
        Y = exact_inverse(dense_factor(A, L))
        return np.diagonal(Y), kernels.matmul(Y, low_rank_parts(A)[1])
    factor = (*low_rank_parts(A), *low_rank_factor(A, L))
    return lowrank.inverse_diagonal(*factor), lowrank.solve_columns(*factor)


def inverse_array(A, *numbers):
    """`inverse` on the arrays of a graph, (n, n)."""
    return np.ascontiguousarray(_on_arrays(inverse, A, *numbers))


def parts_arrays(A, *numbers):
    """`inverse_of_parts` on the arrays of a graph, (n,) and (n, k)."""
    return tuple(np.array(x, dtype=A.dtype, order="C") for x in _on_arrays(inverse_of_parts, A, *numbers))


def _on_arrays(function, A, rtol, solve_rtol, budget, seed, scale, U, s, L, krylov, *thin):
    """``thin``: d, V, c of the matrix."""
    A = as_operator(A, *thin)
    core_preconditioner.check_parts(A.order, scale, U, s)
    check_factor(A, L)
    if krylov.size and (krylov.shape[0], krylov.shape[2]) != (3, A.order):
        raise ValueError(f"The Krylov vectors are of {krylov.shape}. They must be of (3, m, {A.order}).")
    numbers = float(rtol), float(solve_rtol), int(budget)
    with np.errstate(all="ignore"):
        return function(A, *numbers, (scale, U, s), int(seed), krylov, L)
