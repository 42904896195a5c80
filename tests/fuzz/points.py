"""Covariances of constant points: on a line, several of them equal, in groups, or on a full grid."""

import numpy as np
import pytensor.tensor as pt

from fuzz.diagonals import diagonal
from fuzz.generator import Matrix

SPD = (True, True)


def matrix_of_points(g, dim, depth=0):
    """A kernel of points and something on the diagonal; n is made larger where nothing is drawn yet."""
    if dim == "n" and not g.inputs and g.chance(0.8):
        g.dims["n"] = g.pick([12, 16, 24])
    p = g.at(dim)
    if not p.known or g.length(dim) < 4:
        return Matrix(p.square("spd"), dim, *SPD)
    form = g.choose("points", POINTS, [weight for weight, _ in POINTS.values()])
    K = POINTS[form][1](p, g.length(dim))
    noise = g.one_of(lambda: p.s() * pt.eye(p.order), lambda: diagonal(g, dim) + 0.1 * pt.eye(p.order))
    return Matrix(p.s() * K + noise if g.chance(0.5) else K + noise, dim, *SPD)


def _distances(p, n):
    """Between sorted points, in the graph or before it; evenly spaced, or not."""
    t = np.linspace(0, 3, n) ** p.g.pick([1, 1.5])
    r = p.g.one_of(
        lambda: pt.abs(pt.constant(t)[:, None] - pt.constant(t)[None, :]),
        lambda: pt.constant(np.abs(t[:, None] - t)),
        lambda: pt.sqrt(pt.maximum(pt.sqr(pt.constant(t)[:, None] - t), 0) + 1e-30),
    )
    return r / p.s() if p.g.chance(0.6) else r * (0.3 + p.s())


def _exponential(p, n):
    return pt.exp(-_distances(p, n))


def _matern(p, n):
    r = _distances(p, n)
    return p.g.one_of(lambda: (1 + r) * pt.exp(-r), lambda: (1 + r + r**2 / 3) * pt.exp(-r))


def _autoregression(p, n):
    lag = np.abs(np.arange(n)[:, None] - np.arange(n))
    return pt.tanh(p.y()[0]) ** lag


def _equal_points(p, n):
    X = np.random.default_rng(n).normal(size=(max(n // 3, 1), 2))[np.arange(n) % max(n // 3, 1)]
    norms = (X**2).sum(axis=1)
    D = pt.constant(norms[:, None] + norms[None, :] - 2 * X @ X.T)
    return p.g.one_of(
        lambda: pt.exp(-0.5 * D / p.s() ** 2),
        lambda: pt.exp(-pt.sqr(pt.constant(X[:, 0])[:, None] - X[:, 0]) / p.s() ** 2),
    )


def _grid(p, n):
    first = next(k for k in (4, 3, 2, 1) if n % k == 0)
    a, b = np.repeat(np.arange(first), n // first), np.tile(np.linspace(0, 1, n // first), first)
    inner = [pt.exp(-pt.sqr(pt.constant(x)[:, None] - x) / p.s() ** 2) for x in (1.0 * a, b)]
    return inner[0] * inner[1]


def _unsorted(p, n):
    """In another order than along the line, indexed or drawn so."""
    order = np.random.default_rng(n).permutation(n)
    t = np.linspace(0, 3, n)[order]
    K = _exponential(p, n)
    return p.g.one_of(
        lambda: pt.exp(-pt.abs(pt.constant(t)[:, None] - pt.constant(t)[None, :]) / p.s()),
        lambda: pt.exp(-np.abs(t[:, None] - t) / p.s()),
        lambda: K[order][:, order],
        lambda: K[order[:, None], order],
        lambda: np.eye(n)[order] @ K @ np.eye(n)[order].T,
    )


def _groups(p, n):
    """Zero between points of different groups, which stand together or do not."""
    g = p.g.one_of(lambda: np.arange(n) % 3, lambda: np.sort(np.arange(n) % 3), lambda: np.arange(n) // 2)
    x = p.y()
    K = p.g.one_of(lambda: pt.exp(-0.5 * pt.sqr(x[:, None] - x[None, :])), lambda: _matern(p, n))
    return p.g.one_of(
        lambda: K * (g[:, None] == g),
        lambda: pt.eq(pt.constant(g)[:, None], pt.constant(g)[None, :]) * K,
        lambda: pt.switch(g[:, None] == g, K, 0.0),
    )


POINTS = {
    "exponential": (2, _exponential),
    "matern": (2, _matern),
    "sum of two": (1, lambda p, n: _exponential(p, n) + _matern(p, n)),
    "product of two": (1, lambda p, n: _exponential(p, n) * _matern(p, n)),
    "autoregression": (1, _autoregression),
    "equal points": (1.5, _equal_points),
    "grid": (1.5, _grid),
    "unsorted": (1.5, _unsorted),
    "groups": (1.5, _groups),
}
