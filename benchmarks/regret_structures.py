"""Graphs of the regret benchmark whose matrices have a structure: Gaussian log-likelihoods, n first.

What a structure is read from is constant, and shapes are static: points, designs, neighbours.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytensor.tensor as pt


def likelihood(draft, K, n: int, parameters: tuple[Any, ...]):
    """Log-density of n observations with covariance K, as of `pm.MvNormal`."""
    y = draft.fixed("y", draft.rng.normal(size=n))
    L = pt.linalg.cholesky(draft.named("K", K, n, n))
    white = pt.linalg.solve_triangular(L, y, lower=True)
    return [-0.5 * pt.sqr(white).sum() - pt.log(pt.diagonal(L)).sum()], parameters


def scalars(draft, *values: float) -> list[Any]:
    return [draft.input(f"s{place}", value) for place, value in enumerate(values)]


def identity(draft, n: int):
    return pt.eye(n, dtype=draft.dtype)


def animal_model(draft, n):
    """``s A + t I`` with a constant relationship matrix."""
    s, t = scalars(draft, 0.7, 0.4)
    return likelihood(draft, s * draft.known(draft.spd(n, 100.0)) + t * identity(draft, n), n, (s, t))


def autoregression(draft, n):
    """A precision ``tau (D - a W)`` of regions with random neighbours (CAR)."""
    tau, a = scalars(draft, 1.3, 0.5)
    W = np.triu(draft.rng.random((n, n)) < 4 / n, 1).astype(float)
    W[np.arange(n - 1), np.arange(1, n)] = 1
    W = W + W.T
    return likelihood(draft, tau * (draft.known(np.diag(W.sum(axis=0))) - a * draft.known(W)), n, (tau, a))


def mixed_model(draft, n, k):
    """``Z diag(w) Z' + s I`` of k groups."""
    group = np.arange(n) % k
    w = draft.fixed("w", draft.rng.uniform(0.5, 2, k))
    [s] = scalars(draft, 0.5)
    Z = draft.known(np.eye(k)[group])
    return likelihood(draft, (Z * w) @ Z.T + s * identity(draft, n), n, (w, s))


def kronecker_noise(draft, n, k):
    """``A kron B + s I``, A of order k and B as large as fits n."""
    A, B = (draft.fixed(name, draft.spd(p, 30.0)) for name, p in (("A", k), ("B", n // k)))
    [s] = scalars(draft, 0.3)
    A, B = A @ A.T, B @ B.T
    order = k * (n // k)
    return likelihood(draft, pt.linalg.kron(A, B) + s * identity(draft, order), order, (s,))


def kronecker_update(draft, n, k):
    """``A kron B + U U'`` with three columns."""
    A, B = (draft.fixed(name, draft.spd(p, 30.0)) for name, p in (("A", k), ("B", n // k)))
    order = k * (n // k)
    U = draft.fixed("U", draft.rng.normal(size=(order, 3)))
    return likelihood(draft, pt.linalg.kron(A @ A.T, B @ B.T) + U @ U.T, order, (U,))


def triangle(draft, n):
    """``L L'`` of a lower triangle."""
    X = draft.fixed("X", draft.rng.normal(size=(n, n)) / n + np.eye(n))
    L = pt.tril(X)
    return likelihood(draft, L @ L.T, n, (X,))


def scaled_correlation(draft, n):
    """``diag(s) R diag(s)``."""
    s, R = draft.fixed("s", draft.rng.uniform(0.5, 2, n)), draft.fixed("R", draft.spd(n, 10.0))
    K = pt.diag(s) @ (R @ R.T) @ pt.diag(s)
    return likelihood(draft, K, n, (s,))


def bands(draft, n, k):
    """Random walks up to order k, and noise: a precision on 2 k + 1 diagonals."""
    s = draft.fixed("s", draft.rng.uniform(0.5, 2, n))
    [t] = scalars(draft, 0.7)
    differences = np.diff(np.eye(n), n=k, axis=0)
    return likelihood(draft, t * draft.known(differences.T @ differences) + pt.diag(s), n, (s, t))


def line(draft, n):
    """An exponential covariance of points in time, and noise."""
    height, scale, noise = scalars(draft, 1.2, 0.8, 0.3)
    x = np.sort(draft.rng.uniform(0, math.sqrt(n), n))
    apart = draft.known(np.abs(x[:, None] - x[None, :]))
    return likelihood(
        draft, height * pt.exp(-apart / scale) + noise * identity(draft, n), n, (height, scale, noise)
    )


def squares(draft, x):
    return pt.sqr(draft.known(x)[:, None] - draft.known(x)[None, :])


def grid(draft, n, k):
    """A product of kernels of two coordinates on a full grid, k points along one, and noise."""
    first, second, noise = scalars(draft, 0.8, 1.1, 0.3)
    points = np.array([(u, v) for u in np.linspace(0, 3, k) for v in np.linspace(0, 5, n // k)])
    kernels = (pt.exp(-squares(draft, x) / scale) for x, scale in zip(points.T, (first, second), strict=True))
    K = pt.mul(*kernels) + noise * identity(draft, len(points))
    return likelihood(draft, K, len(points), (first, second, noise))


def equal_points(draft, n, k):
    """A kernel of points of which k differ, and noise."""
    scale, noise = scalars(draft, 0.8, 0.3)
    x = draft.rng.uniform(0, 5, k)[np.arange(n) % k]
    return likelihood(
        draft, pt.exp(-squares(draft, x) / scale) + noise * identity(draft, n), n, (scale, noise)
    )


def blocks(draft, n):
    """Two dense blocks."""
    X, Y = (draft.fixed(name, draft.spd(p, 10.0)) for name, p in (("X", n // 2), ("Y", n - n // 2)))
    return likelihood(draft, pt.linalg.block_diag(X @ X.T, Y @ Y.T), n, (X, Y))


def pencils(draft, n, batch):
    """A batch of ``s A + t I``: one constant, and scalars for each item."""
    s, t = (draft.fixed(name, draft.rng.uniform(0.5, 2, batch)) for name in "st")
    y = draft.fixed("y", draft.rng.normal(size=(batch, n)))
    K = s[:, None, None] * draft.known(draft.spd(n, 100.0)) + t[:, None, None] * identity(draft, n)
    L = pt.linalg.cholesky(K)
    white = pt.linalg.solve_triangular(L, y, lower=True, b_ndim=1)
    return [-0.5 * pt.sqr(white).sum() - pt.log(pt.diagonal(L, axis1=-2, axis2=-1)).sum()], (s, t)
