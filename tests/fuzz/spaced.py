"""Toeplitz and circulant matrices: gathers by ``i - j``, kernels of evenly spaced points."""

import numpy as np
import pytensor.tensor as pt
import scipy.linalg

from fuzz.diagonals import diagonal
from fuzz.generator import Matrix

SPD, SYM, GENERAL = (True, True), (False, True), (False, False)


def evenly_spaced(g, dim, depth=0):
    """Entries of which most are functions of ``i - j``; n is made larger where nothing is drawn yet."""
    if dim == "n" and not g.inputs and g.chance(0.8):
        g.dims["n"] = g.pick([8, 11, 16, 25])
    p = g.at(dim)
    form = g.choose("spaced", SPACED, [weight for weight, _, _ in SPACED.values()])
    _, facts, make = SPACED[form]
    known = p.known and g.length(dim) > 1
    K = make(p, g.length(dim)) if known or form == "by ranges" else _by_ranges(p, 0)
    facts = facts if known else SPD
    K = g.one_of(
        lambda: p.s() * K + p.s() * pt.eye(p.order),
        lambda: K + diagonal(g, dim, positive=True),
        lambda: K + (0.1 + p.s()) * pt.eye(p.order),
        lambda: (K + 0.2 * pt.eye(p.order)).T,
    )
    return Matrix(K, dim, *facts)


def _column(p):
    """A first column whose first entry is larger than all others together."""
    c = 0.2 * pt.tanh(p.y())
    return pt.set_subtensor(c[0], pt.abs(c).sum() * 2 + 0.5)


def _lags(n):
    return np.arange(n)[:, None] - np.arange(n)


def _gather(p, n):
    c, lag = _column(p), np.abs(_lags(n))
    i = pt.arange(n)
    return p.g.one_of(
        lambda: c[lag],
        lambda: pt.take(c, lag),
        lambda: c[pt.abs(i[:, None] - i[None, :])],
    )


def _by_ranges(p, n):
    """Of an order that is not known."""
    c = _column(p)
    i = pt.arange(c.shape[0])
    return c[pt.abs(i[:, None] - i[None, :])]


def _kernel(p, n):
    t = p.g.pick([np.linspace(0, 2, n), np.arange(float(n)), np.linspace(1, -1, n), np.arange(n) * 0.1 + 5])
    points = pt.constant(t) / p.s() if p.g.chance(0.3) else pt.constant(t)
    r = points[:, None] - points[None, :]
    square = p.g.one_of(
        lambda: pt.sqr(r),
        lambda: pt.constant((t[:, None] - t) ** 2),
        lambda: pt.maximum(pt.sqr(points)[:, None] + pt.sqr(points) - 2 * pt.outer(points, points), 0.0),
    )
    return p.g.one_of(
        lambda: pt.exp(-0.5 * square / p.s() ** 2),
        lambda: 1 / (1 + square / p.s()),
        lambda: pt.exp(-2 * pt.sqr(pt.sin(np.pi * r / p.s()))) + 0.1 * pt.exp(-square),
        lambda: pt.cos(r * p.s()) + 0.1 * pt.exp(-square),
    )


def _circulant(p, n):
    c, lag = _column(p), np.abs(_lags(n))
    return p.g.one_of(
        lambda: c[np.minimum(lag, n - lag)],
        lambda: pt.exp(-pt.sqr(pt.sin(np.pi * lag / n)) / p.s()),
        lambda: c[np.minimum(_lags(n) % n, -_lags(n) % n)],
    )


def _general(p, n):
    c, i = _column(p), pt.arange(n)
    return p.g.one_of(
        lambda: c[_lags(n) % n],
        lambda: c[_lags(n)],
        lambda: c[(i[:, None] - i[None, :]) % n],
        lambda: c[_lags(n) % n] + 0.1 * pt.constant(scipy.linalg.circulant(np.sin(np.arange(n)))) * p.s(),
    )


SPACED = {
    "gather": (2, SPD, _gather),
    "by ranges": (0.5, SPD, _by_ranges),
    "kernel": (2, SPD, _kernel),
    "sum": (1, SPD, lambda p, n: _gather(p, n) + _kernel(p, n)),
    "product": (1, SPD, lambda p, n: _kernel(p, n) * _kernel(p, n)),
    "circulant": (1, SPD, _circulant),
    "general": (1, GENERAL, _general),
}
