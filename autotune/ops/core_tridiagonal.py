"""Lanczos' recurrence for several vectors at once: ``M V = V T`` with T tridiagonal, V orthonormal.

Its first row has the logarithm's quadrature (Golub & Meurant 2010). Vectors are rows ``(m, n)``.
"""

from collections.abc import Callable
from dataclasses import InitVar, dataclass, field

import numpy as np

from autotune.ops import core_cg, kernels

# Vectors of the basis that there is room for at first.
ROOM = 8


@dataclass
class Tridiagonal:
    """Lanczos' recurrences of several vectors on one operator, all vectors reorthogonalised twice.

    ``start`` (m, n): vectors of length one. ``alpha`` and ``beta`` of each step (m,). Where a vector's Krylov
    space is exhausted the matrix goes on with its first entry, which its first row does not see.
    Source: Parlett (1998), chapter 13.
    """

    apply: Callable
    start: InitVar[np.ndarray]
    alpha: list = field(default_factory=list)
    beta: list = field(default_factory=list)

    def __post_init__(self, start):
        # Room for vectors to come, doubled when it is used up.
        self._vectors = np.empty((len(start), ROOM, start.shape[1]), start.dtype)
        self._vectors[:, 0] = start

    @property
    def basis(self):
        """(m, k + 1, n) after k steps."""
        return self._vectors[:, : len(self.alpha) + 1]

    def step(self):
        basis = self.basis
        last = np.ascontiguousarray(basis[:, -1])
        W = self.apply(last)
        alpha = core_cg.dots(last, W)
        exhausted = ~last.any(axis=1)
        for _ in range(2):
            W = np.stack([self._orthogonal(q, w) for q, w in zip(basis, W, strict=True)])
        beta = core_cg.norms(W)
        scale = np.abs(alpha) + (self.beta[-1] if self.beta else 0)
        none_left = ~(beta > 10 * np.finfo(W.dtype).eps * scale)
        beta[none_left] = 0
        following = W / np.where(none_left, 1, beta).astype(W.dtype)[:, None]
        following[none_left] = 0
        self.alpha.append(np.where(exhausted, self.alpha[0], alpha) if self.alpha else alpha)
        self.beta.append(beta)
        if len(self.alpha) == self._vectors.shape[1]:
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)], axis=1)
        self._vectors[:, len(self.alpha)] = following

    @staticmethod
    def _orthogonal(basis, w):
        """``w`` without its share in the rows of ``basis``."""
        overlap = kernels.matmul(w[None], basis.T)
        return w - kernels.matmul(overlap, basis)[0]

    def eigenpairs(self, further=None):
        """``(theta, V)`` of every vector's T: Ritz values (m, k), rising, and eigenvectors (m, k, k).

        ``further`` (m,): a diagonal entry that T is given beyond its last one. NaN where T is not finite.
        """
        diagonals = self.alpha if further is None else [*self.alpha, further]
        k = len(diagonals)
        T = np.zeros((len(self.basis), k, k))
        on, off = np.arange(k), np.arange(k - 1)
        T[:, on, on] = np.stack(diagonals, axis=1)
        T[:, off + 1, off] = np.stack(self.beta, axis=1)[:, : k - 1]
        if not np.isfinite(T).all():
            return np.full((len(T), k), np.nan), np.full_like(T, np.nan)
        return np.linalg.eigh(T)

    def log_forms(self):
        """Gauss' rule ``e_1' log(T) e_1``: at least ``v_1' log(M) v_1``. NaN if T is not definite."""
        theta, V = self.eigenpairs()
        return (V[:, 0] ** 2 * np.log(theta)).sum(axis=1)

    def ritz_range(self):
        """The least and the greatest Ritz value of all vectors, which lie within the spectrum of M."""
        theta, _ = self.eigenpairs()
        return float(theta.min()), float(theta.max())

    def lower_log_forms(self, node):
        """Gauss-Radau's rule: at most ``v_1' log(M) v_1`` where no eigenvalue of M is below ``node``.

        0 < ``node``, below all Ritz values. Sources: Golub (1973); Golub & Meurant (2010), section 6.2.
        """
        pivot, before = np.ones(len(self.basis)), np.zeros(len(self.basis))
        for alpha, beta in zip(self.alpha, self.beta, strict=True):
            # above zero but for rounding
            pivot = np.maximum(alpha - node - before**2 / pivot, np.finfo(float).eps * alpha)
            before = beta
        theta, V = self.eigenpairs(node + before**2 / pivot)
        return (V[:, 0] ** 2 * np.log(np.maximum(theta, node))).sum(axis=1)

    @property
    def complete(self):
        return not self.beta[-1].any()
