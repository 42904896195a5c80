"""Gaussian log-likelihoods and their gradients as one writes them by hand for speed: the bar for a compiler.

    f = -(y' K^-1 y + log det K + n log 2 pi) / 2
    df/dp = (alpha' K_p alpha - tr(K^-1 K_p)) / 2,    alpha = K^-1 y,  K_p = dK/dp

(Rasmussen and Williams 2006, eq. 5.9). Dense kernels take one Cholesky factor in place of K and the inverse
in place of the factor, n^3 flops in all. Only lower triangles are computed, a panel of columns at a time, so
that a panel stays in the cache from its distances to its kernel, and later through the contraction. All large
BLAS calls are SciPy's, as in PyTensor's compiled graphs: a second library would bring its own threads, and
they would fight over the cores. Nothing is kept between calls.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import blas, lapack

PANEL = 64
"""Columns of a panel: at n = 4000 two panels are 4 MiB."""


class DensePosterior:
    """What value and gradient need of ``K``, of which the lower triangle is read; ``K`` becomes its inverse.

    ``K`` (n, n) in Fortran order, ``y`` (n,). LinAlgError if ``K`` is not positive definite.
    """

    def __init__(self, K, y):
        factor, info = lapack.dpotrf(K, lower=1, clean=0, overwrite_a=1)
        if info:
            raise np.linalg.LinAlgError(
                f"K has a leading minor ({info}) that is not positive. Raise the noise."
            )
        self.logdet = 2 * np.log(np.diagonal(factor)).sum()
        self.alpha, _ = lapack.dpotrs(factor, y, lower=1)
        self.inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
        self.trace = np.diagonal(self.inverse).sum()
        self.fit = y @ self.alpha

    def inverse_times(self, u):
        return blas.dsymv(1.0, self.inverse, u, lower=1)


class LowRankPosterior:
    """The same of ``K = diag(d) + U U'``, U (n, k) in Fortran order, d (n,), by Woodbury's identity.

    K^-1 = D^-1 - R R' with R = D^-1 U L'^-1 and L L' = I + U' D^-1 U: 3 n k^2 flops.
    """

    def __init__(self, U, d, y):
        weighted = U / d[:, None]
        capacitance = blas.dgemm(1.0, U, weighted, trans_a=1)
        capacitance[np.diag_indices(U.shape[1])] += 1
        self.factor, info = lapack.dpotrf(capacitance, lower=1, overwrite_a=1)
        if info:
            raise np.linalg.LinAlgError("The capacitance is not positive definite. Raise the diagonal.")
        self.d = d
        self.R = blas.dtrsm(1.0, self.factor, weighted, side=1, lower=1, trans_a=1, overwrite_b=1)
        self.logdet = 2 * np.log(np.diagonal(self.factor)).sum() + np.log(d).sum()
        self.alpha = self.inverse_times(y)
        self.inverse_diagonal = 1 / d - np.einsum("ij,ij->i", self.R, self.R)
        self.trace = self.inverse_diagonal.sum()
        self.fit = y @ self.alpha

    def inverse_times(self, u):
        return u / self.d - blas.dgemv(1.0, self.R, blas.dgemv(1.0, self.R, u, trans=1))


def value(posterior, n):
    return -0.5 * (posterior.fit + posterior.logdet + n * np.log(2 * np.pi))


def scale_and_noise(posterior, n, s, noise):
    """Gradients by ``s`` and ``noise`` of ``K = s^2 C + noise^2 I``, from ``s^2 C = K - noise^2 I``."""
    squared = posterior.alpha @ posterior.alpha
    by_s = (posterior.fit - noise**2 * squared - n + noise**2 * posterior.trace) / s
    return by_s, noise * (squared - posterior.trace)


# -- kernels of the distance: each turns a panel of E into K, with H = K_lengthscale up to a factor ----------


def rbf_panel(E, K, H, variance):
    """``E = -D / 2 l^2``: ``K = s^2 exp(E)``, ``H = E K``."""
    np.exp(E, out=K)
    K *= variance
    np.multiply(E, K, out=H)


def matern_panel(E, K, H, variance):
    """``E = a^2``: H becomes a, and E becomes ``s^2 exp(-a)``, of which K receives ``a E``."""
    np.maximum(E, 0, out=E)
    np.sqrt(E, out=H)
    np.negative(H, out=E)
    np.exp(E, out=E)
    E *= variance
    np.multiply(H, E, out=K)


def matern32_panel(E, K, H, variance):
    """``E = a^2 = 3 D / l^2``: ``K = s^2 (1 + a) exp(-a)``, ``H = s^2 a^2 exp(-a)``."""
    matern_panel(E, K, H, variance)
    H *= K
    K += E


def matern52_panel(E, K, H, variance):
    """``E = a^2 = 5 D / l^2``: ``K = s^2 (1 + a + a^2 / 3) exp(-a)``, ``H = s^2 a^2 (1 + a) exp(-a)``."""
    matern_panel(E, K, H, variance)
    E += K
    K *= H
    K /= 3
    K += E
    H *= H
    H *= E


PANELS = {  # fill a panel; E = scale D / l^2; K_lengthscale = factor H / l
    "rbf": (rbf_panel, -0.5, -2.0),
    "matern32": (matern32_panel, 3.0, 1.0),
    "matern52": (matern52_panel, 5.0, 1 / 3),
}


def panels_of(n):
    """Panel p of K, rows and columns, and the slot where H of the same shape lies in the unused triangle.

    Below the diagonal panel p has n - p b rows; above it, panel P - p has (P - p) b >= n - p b rows to spare.
    So an (n, (P + 1) b) array holds the lower triangles of K and H both.
    """
    count = -(-n // PANEL)
    for p in range(count):
        start, stop = p * PANEL, min(n, (p + 1) * PANEL)
        slot = (count - p) * PANEL
        below = np.s_[start:, start:stop]
        yield below, np.s_[: n - start, slot : slot + stop - start]


def distance_factors(X, scale):
    """Arrays (k + 2, n) with ``(left' right)_ij = scale |x_i - x_j|^2``: one gemm adds the norms as well."""
    n, k = X.shape
    left, right = np.empty((k + 2, n), order="F"), np.empty((k + 2, n), order="F")
    left[:k], right[:k] = -2 * scale * X.T, X.T
    right[k + 1] = np.einsum("ij,ij->i", X, X)
    left[k], right[k] = scale * right[k + 1], 1
    left[k + 1] = scale
    return left, right


def stationary(kernel, X, y, lengthscale, s, noise):
    """Value and its gradient by (lengthscale, s, noise) of a kernel in ``PANELS``. X (n, k), y (n,)."""
    n = len(y)
    fill, scale, factor = PANELS[kernel]
    left, right = distance_factors(X, scale / lengthscale**2)
    both = np.empty((n, (-(-n // PANEL) + 1) * PANEL), order="F")
    scratch = np.empty(n * min(PANEL, n))
    for (rows, columns), slot in panels_of(n):
        K, H = both[rows, columns], both[slot]
        E = scratch[: K.size].reshape(K.shape, order="F")
        blas.dgemm(1.0, left[:, rows], right[:, columns], trans_a=1, c=E, overwrite_c=1)
        fill(E, K, H, s**2)
        H[np.triu_indices(K.shape[1])] = 0  # the distance is 0 on the diagonal; above it is the mirror image
    np.einsum("ii->i", both[:, :n])[:] += noise**2
    posterior = DensePosterior(both[:, :n], y)
    alpha, total = posterior.alpha, 0.0
    for (rows, columns), slot in panels_of(n):
        H = both[slot]
        total += np.einsum("i,ij->j", alpha[rows], H) @ alpha[columns]
        total -= np.einsum("ij,ij->", posterior.inverse[rows, columns], H)
    by_lengthscale = factor / lengthscale * total
    return value(posterior, n), by_lengthscale, *scale_and_noise(posterior, n, s, noise)


# -- the same without panels and halves ----------------------------------------------------------------


def rbf_arrays(D, lengthscale):
    """The correlation and its derivative by the lengthscale."""
    C = np.exp(-0.5 / lengthscale**2 * D)
    return C, C * D / lengthscale**3


def matern32_arrays(D, lengthscale):
    a = np.sqrt(3 * D) / lengthscale
    decay = np.exp(-a)
    return (1 + a) * decay, a**2 * decay / lengthscale


def matern52_arrays(D, lengthscale):
    a = np.sqrt(5 * D) / lengthscale
    decay = np.exp(-a)
    return (1 + a + a**2 / 3) * decay, a**2 * (1 + a) * decay / (3 * lengthscale)


ARRAYS = {"rbf": rbf_arrays, "matern32": matern32_arrays, "matern52": matern52_arrays}


def textbook(kernel, X, y, lengthscale, s, noise):
    """`stationary` as the formula reads: whole n x n arrays, LAPACK in place, one factorisation."""
    n = len(y)
    norms = np.einsum("ij,ij->i", X, X)
    D = np.maximum(norms[:, None] + norms[None, :] - blas.dgemm(2.0, X, X, trans_b=1), 0)
    C, derivative = ARRAYS[kernel](D, lengthscale)
    K = np.asfortranarray(s**2 * C)
    K[np.diag_indices(n)] += noise**2
    posterior = DensePosterior(K, y)
    lower = np.tril(posterior.inverse, -1)
    G = lower + lower.T - np.outer(posterior.alpha, posterior.alpha)
    G[np.diag_indices(n)] += np.diagonal(posterior.inverse)
    by_lengthscale, by_s = (-0.5 * np.vdot(G, dK) for dK in (s**2 * derivative, 2 * s * C))
    return value(posterior, n), by_lengthscale, by_s, -noise * np.trace(G)


def linear(X, y, s, offset, noise):
    """Value and gradient by (s, offset, noise) of ``K = s^2 Z Z' + noise^2 I``, ``Z = X - offset``, dense."""
    Z = np.subtract(X, offset).T  # (k, n), Fortran order
    K = blas.dsyrk(s**2, Z, trans=1, lower=1)
    np.einsum("ii->i", K)[:] += noise**2
    return linear_outputs(DensePosterior(K, y), Z.sum(axis=0), s, noise)


def linear_low_rank(X, y, s, offset, noise):
    """The same by Woodbury's identity."""
    Z = np.asfortranarray(X - offset)
    posterior = LowRankPosterior(s * Z, np.full(len(y), noise**2), y)
    return linear_outputs(posterior, Z.sum(axis=1), s, noise)


def linear_outputs(posterior, u, s, noise):
    """With ``u = Z 1``: ``K_offset = -s^2 (1 u' + u 1')``."""
    by_s, by_noise = scale_and_noise(posterior, len(u), s, noise)
    by_offset = s**2 * (posterior.inverse_times(u).sum() - posterior.alpha.sum() * (posterior.alpha @ u))
    return value(posterior, len(u)), by_s, by_offset, by_noise


def low_rank_loss(U, d, y):
    """``y' K^-1 y + log det K`` of ``K = U U' + diag(d)``, and its gradients by ``U`` (n, k) and ``d`` (n,).

    f_K = K^-1 - alpha alpha', so f_U = 2 f_K U and f_d = diag(f_K). K^-1 U = R L^-1, without cancellation.
    """
    posterior = LowRankPosterior(np.asfortranarray(U), d, y)
    alpha = posterior.alpha
    by_U = blas.dtrsm(2.0, posterior.factor, posterior.R, side=1, lower=1, overwrite_b=1)
    by_U = blas.dger(-1.0, alpha, blas.dgemv(1.0, by_U, y, trans=1), a=by_U, overwrite_a=1)
    return posterior.fit + posterior.logdet, by_U, posterior.inverse_diagonal - alpha**2
