"""Banded matrices, definite by a dominant diagonal, symmetric or not; alone, in parts, and plus low rank."""

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor import linalg as pl

from fuzz.generator import Matrix
from fuzz.low_ranks import low_rank

SPD, SYM, GENERAL = (True, True), (False, True), (False, False)


def banded_matrix(g, dim, depth=0):
    """A matrix of few diagonals; n is made larger where nothing is drawn yet, so that they are few."""
    if dim == "n" and not g.inputs and g.chance(0.8):
        g.dims["n"] = g.pick([13, 17, 24, 40])
    made = _spelled(g, dim)
    if depth > 0 or dim != "n":
        return made
    around = g.choose("of a band", AROUND, [weight for weight, _ in AROUND.values()])
    return AROUND[around][1](g.at(dim), made)


def _spelled(g, dim):
    p = g.at(dim)
    form = g.choose("band", BANDS, [weight for weight, _, _ in BANDS.values()])
    _, facts, make = BANDS[form]
    made = make(p)
    if made is None:
        facts, made = SPD, _tridiagonal(p)
    return Matrix(made, dim, *facts)


def _diagonal(p):
    """Larger than the others together."""
    return p.d("positive") + 2.5


def _beside(p, k=1):
    """As long as the matrix has room for it at offset k."""
    short = f"{p.dim}-{k}"
    x = p.y()
    given = p.known and p.g.length(p.dim) > k
    return pt.tanh(p.g.input((short,)) if given and p.g.chance(0.5) else p.g.pick([x[k:], x[:-k]]))


def _tridiagonal(p):
    e = _beside(p)
    return pt.diag(_diagonal(p)) + pt.diag(e, 1) + pt.diag(e, -1)


def _set(p):
    """Entries that are set at shifted ranges."""
    if not p.known:
        return None
    n, e = p.g.length(p.dim), _beside(p)
    i = p.g.pick([np.arange, pt.arange])(n)
    K = p.zeros().astype("float64")
    return p.g.one_of(
        lambda: K[i, i].set(_diagonal(p))[i[:-1], i[1:]].set(e)[i[1:], i[:-1]].set(e),
        lambda: pt.diag(_diagonal(p))[i[1:], i[:-1]].inc(e)[i[:-1], i[1:]].inc(e),
    )


def _penalty(p):
    """Second differences: constants, times a scalar, plus a diagonal, or with weights in between."""
    if not p.known or p.g.length(p.dim) < 3:
        return None
    n = p.g.length(p.dim)
    D = np.diff(np.eye(n), p.g.pick([1, 2]), axis=0)
    w = pt.exp(0.3 * p.g.input((f"{p.dim}-{n - len(D)}",)))
    return p.g.one_of(
        lambda: p.s() * pt.constant(D.T @ D) + pt.diag(p.d("positive")),
        lambda: p.s() * (D.T @ D) + p.s() * pt.eye(n),
        lambda: pt.constant(D).T @ (w[:, None] * pt.constant(D)) + p.s() * pt.eye(n),
        lambda: pt.constant(D).T @ pt.diag(w) @ pt.constant(D) + pt.diag(p.d("positive")),
    )


def _autoregression(p):
    if not p.known:
        return None
    n = p.g.length(p.dim)
    W = np.eye(n, k=1) + np.eye(n, k=-1)
    return p.s() * (pt.eye(n) * 2.5 - pt.tanh(p.y()[0]) * W)


def _scaled(p):
    d = p.d("signed")
    K = _tridiagonal(p)
    return p.g.one_of(
        lambda: pt.diag(d) @ K @ pt.diag(d), lambda: d[:, None] * K * d[None, :], lambda: p.s() * K
    )


def _tapered(p):
    if not p.known:
        return None
    i = np.arange(p.g.length(p.dim))
    x = p.y()
    K = pt.exp(-0.5 * pt.sqr(x[:, None] - x[None, :]))
    taper = np.maximum(1 - abs(i[:, None] - i) / p.g.pick([1.5, 2.5]), 0)
    return p.g.one_of(
        lambda: K * taper + pt.eye(len(i)) * p.s(), lambda: pt.switch(taper > 0, K, 0.0) + 3 * pt.eye(len(i))
    )


def _lower(p):
    return pt.diag(_diagonal(p)) + pt.diag(_beside(p), -1)


BANDS = {
    "tridiagonal": (3, SPD, _tridiagonal),
    "set": (1.5, SPD, _set),
    "penalty": (2, SPD, _penalty),
    "autoregression": (1, SPD, _autoregression),
    "scaled": (1.5, SPD, _scaled),
    "tapered": (1, SPD, _tapered),
    "L L'": (1, SPD, lambda p: (lambda L: L @ L.T)(_lower(p))),
    "negative": (0.5, SYM, lambda p: -_tridiagonal(p)),
    "indefinite": (
        1,
        SYM,
        lambda p: (lambda e: pt.diag(p.d("signed") * 3) + pt.diag(e, 1) + pt.diag(e, -1))(_beside(p)),
    ),
    "three diagonals": (
        2,
        GENERAL,
        lambda p: pt.diag(_diagonal(p)) + pt.diag(_beside(p), 1) - pt.diag(_beside(p), -1),
    ),
    "wide": (
        1.5,
        GENERAL,
        lambda p: (
            pt.diag(_diagonal(p)) + pt.diag(_beside(p, 2), 2) - pt.diag(_beside(p), -1)
            if p.known and p.g.length(p.dim) > 2
            else None
        ),
    ),
    "bidiagonal": (1, GENERAL, _lower),
    "product": (0.7, GENERAL, lambda p: _lower(p) @ _tridiagonal(p)),
}


def _changed(f, **facts):
    """An entry that maps the matrix and keeps its facts, but for those given."""
    return lambda p, A: Matrix(f(p, A.var), A.dim, **{"spd": A.spd, "sym": A.sym, **facts})


def _kronecker(p, A):
    B = p.g.at("q").square("spd")
    pair = p.g.pick([(A.var, B), (B, A.var)])
    return Matrix(pl.kron(*pair), "n*q", A.spd, A.sym)


def _blocks(p, A):
    return Matrix(pl.block_diag(A.var, p.g.at("q").square("spd")), "n+q", A.spd, A.sym)


AROUND = {
    "alone": (6, lambda p, A: A),
    "transposed": (0.7, _changed(lambda p, A: A.T)),
    "scaled": (0.7, _changed(lambda p, A: p.s() * A)),
    "plus low rank": (1.5, _changed(lambda p, A: A + low_rank(p.g, p.dim, "psd"))),
    "plus diagonal": (1, _changed(lambda p, A: A + pt.diag(p.d("positive")))),
    "minus": (0.5, _changed(lambda p, A: 6 * pt.eye(p.order) - 0.1 * A, spd=False)),
    "kron": (1.5, _kronecker),
    "blocks": (1, _blocks),
}
