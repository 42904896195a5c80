"""Dense matrices, definite or not, at times given by one triangle; and Gram products that are singular."""

import numpy as np
import pytensor.tensor as pt
from pytensor.assumptions import assume

from fuzz.diagonals import diagonal
from fuzz.generator import Matrix
from fuzz.low_ranks import low_rank

SPD, SYM, GENERAL = (True, True), (False, True), (False, False)


def dense_matrix(g, dim, depth=0):
    """A dense matrix with what is known of it."""
    form = g.choose("dense", DENSE, [weight for weight, _, _ in DENSE.values()])
    _, facts, make = DENSE[form]
    made = make(g.at(dim))
    if isinstance(made, Matrix):
        return made
    if made is None:
        facts, made = SPD, g.at(dim).square("spd")
    return Matrix(made, dim, *facts)


def _distances(p, x):
    return x[:, None] - x[None, :]


def _rbf(p):
    K = pt.exp(-0.5 * pt.sqr(_distances(p, p.y())) / p.s() ** 2)
    return K + diagonal(p.g, p.dim) + 0.05 * pt.eye(p.order)


def _correlations(p):
    K = pt.exp(-0.5 * pt.sqr(_distances(p, p.y())) / p.s() ** 2)
    d = p.d()
    return pt.outer(d, d) * (K + 0.1 * pt.eye(p.order))


def _rbf_of_points(p):
    X = p.g.input((p.dim, "q"))
    norms = (X**2).sum(axis=1)
    D = pt.maximum(norms[:, None] + norms[None, :] - 2 * (X @ X.T), 0)
    return p.s() ** 2 * pt.exp(-0.5 * D / p.s() ** 2) + (p.s() + 0.1) * pt.eye(p.order)


def _gram(X):
    return X @ X.T


def _lower(p):
    M = p.square("lower")
    return p.g.one_of(lambda: M, lambda: pt.tril(M), lambda: M.T)


def _constant(p):
    if not p.known:
        return None
    kind = p.g.pick(["spd", "general"])
    return Matrix(p.constant((p.dim, p.dim), kind), p.dim, kind == "spd", kind == "spd")


def _pencil(p):
    """A constant, and the identity, a constant diagonal or another constant, with scalars."""
    if not p.known:
        return None
    A = p.constant((p.dim, p.dim), p.g.pick(["spd", "spd", "indefinite"]))
    B, d = p.constant((p.dim, p.dim), "spd"), p.constant((p.dim,), "positive")
    s, t, identity = p.s(), p.s(), pt.eye(p.order)
    return p.g.one_of(
        lambda: s * A + t * identity,
        lambda: s * A + t * B,
        lambda: s * A,
        lambda: A / s - t * A + 3.0 * identity,
        lambda: t * (pt.diag(d) - 0.1 * s * A),
        lambda: (1 - s) * identity + s * A,
        lambda: s * A + pt.diag(t * d),
    )


def _factor(p):
    """A lower triangular matrix in the ways it is made."""
    M = p.square("lower")
    forms = [lambda: pt.tril(M), lambda: pt.tril(M, -1) + pt.diag(pt.exp(0.3 * p.y()))]
    if p.known:
        rows, columns = np.tril_indices(p.g.length(p.dim))
        forms += [lambda: pt.zeros((p.order, p.order))[rows, columns].set(M[rows, columns])] * 2
    return p.g.one_of(*forms)


def _definite_product(p):
    """``L L'`` and what stands around and between."""
    L, d, s = _factor(p), p.d("positive"), p.s() + 0.1
    return p.g.one_of(
        lambda: L @ L.T,
        lambda: L.T @ L,
        lambda: s * (L @ L.T),
        lambda: L @ pt.diag(d) @ L.T,
        lambda: pt.diag(d) @ L @ L.T @ pt.diag(d),
        lambda: d[:, None] * (L @ L.T) * d[None, :],
        lambda: (L @ L.T) * pt.outer(d, d) / s,
    )


def _general_product(p):
    """Products that are not symmetric, or indefinite."""
    A, L, d = p.square(), _factor(p), p.d("signed")
    return p.g.one_of(
        lambda: Matrix(A @ p.square(), p.dim),
        lambda: Matrix(L @ A, p.dim),
        lambda: Matrix(A @ pt.diag(d) @ p.square(), p.dim),
        lambda: Matrix(d[:, None] * (A @ L), p.dim),
        lambda: Matrix((L @ p.square("spd")).T, p.dim),
        lambda: Matrix(L @ pt.diag(d) @ L.T, p.dim, False, True),
        lambda: Matrix(A @ p.square("indefinite") @ A.T, p.dim, False, True),
    )


def _scaled_constant(p):
    if not p.known:
        return None
    C, d = p.constant((p.dim, p.dim), "spd"), p.d("signed")
    return p.g.one_of(
        lambda: pt.diag(d) @ C @ pt.diag(d),
        lambda: d[:, None] * C * d[None, :],
        lambda: d[:, None] * (p.s() * C + 0.5 * pt.eye(p.order)) * d,
    )


def _pencil_and_more(p):
    """A pencil plus low rank, and rows of constants that are scaled."""
    if not p.known:
        return None
    C, s, t = p.constant((p.dim, p.dim), "spd"), p.s() + 0.1, p.s() + 0.1
    weights = np.abs(C.data) * (1 - np.eye(len(C.data)))
    W = (weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-3)).astype(C.dtype)
    rows = pt.eye(p.order) - 0.5 * pt.tanh(s) * W
    return p.g.one_of(
        lambda: s * C + t * pt.eye(p.order) + low_rank(p.g, p.dim, "psd"),
        lambda: s * C + low_rank(p.g, p.dim, "psd") + pt.diag(t * pt.ones(p.order)),
        lambda: s * C + t * pt.eye(p.order) + s,
        lambda: rows.T @ rows / t,
        lambda: Matrix(rows, p.dim),
        lambda: Matrix(rows.T * s, p.dim),
    )


def _toeplitz(p):
    i = pt.arange(p.order)
    return 0.1 * p.y()[pt.abs(_distances(p, i))] + 2.0 * pt.eye(p.order)


def _integer(p):
    M = p.square("int", dtype=p.g.pick(["int64", "int8", "int32"]))
    return p.g.one_of(lambda: M + 9 * pt.eye(p.order, dtype="int8"), lambda: M * 0.1 + pt.eye(p.order) * 3)


def _squashed(p):
    X = p.u()
    return pt.tanh(X @ X.T) * 0.1 + 2.0 * pt.eye(p.order)


def _plus_low_rank(p):
    K = p.square("spd") + low_rank(p.g, p.dim, "psd")
    return K + diagonal(p.g, p.dim) if p.g.chance(0.4) else K


def _one_triangle(p):
    half = p.g.pick(["lower", "upper"])
    M = p.square(f"{half} half")
    M = p.g.one_of(lambda: M, lambda: M, lambda: M * p.s())
    return Matrix(M, p.dim, True, True, triangle=half)


def _cut_triangle(p):
    """``tril`` of a symmetric matrix, made in the graph."""
    half, cut = p.g.pick([("lower", pt.tril), ("upper", pt.triu)])
    return Matrix(cut(p.g.input((p.dim, p.dim), "spd", frozen=True)), p.dim, True, True, triangle=half)


DENSE = {
    "gram+jitter": (2, SPD, lambda p: _gram(p.square("normal")) + p.s() * pt.eye(p.order)),
    "rbf": (2, SPD, _rbf),
    "general": (2, GENERAL, lambda p: p.square()),
    "spd": (2, SPD, lambda p: p.square("spd")),
    "sym": (1, SYM, lambda p: p.square("sym")),
    "indefinite": (1.2, SYM, lambda p: p.square("indefinite")),
    "rbf of points": (1, SPD, _rbf_of_points),
    "spd+diag": (1.5, SPD, lambda p: p.square("spd") + diagonal(p.g, p.dim)),
    "gram": (0.6, SPD, lambda p: _gram(p.g.input((p.dim, f"{p.dim}+2")))),
    "lower": (0.3, GENERAL, _lower),
    "constant": (0.5, GENERAL, _constant),
    "general+I": (1, GENERAL, lambda p: p.square() * 0.3 + 3.0 * pt.eye(p.order)),
    "M.TM": (0.7, SPD, lambda p: _gram(p.square().T)),
    "correlations": (0.5, SPD, _correlations),
    "spd assumed": (1, SPD, lambda p: assume(p.square("spd"), positive_definite=True)),
    "sym assumed": (0.6, SYM, lambda p: assume(p.square("sym"), symmetric=True)),
    "spd+low rank": (1.5, SPD, _plus_low_rank),
    "toeplitz": (0.4, SYM, _toeplitz),
    "pencil": (2, SYM, _pencil),
    "definite product": (1.5, SPD, _definite_product),
    "general product": (1.2, GENERAL, _general_product),
    "scaled constant": (1, SPD, _scaled_constant),
    "pencil and more": (1.5, SPD, _pencil_and_more),
    "integer": (0.5, GENERAL, _integer),
    "squashed": (0.5, SYM, _squashed),
    "product of spd": (0.5, SPD, lambda p: p.square("spd") * p.square("spd")),
    "reversed": (0.3, SPD, lambda p: p.square("spd")[::-1, ::-1]),
    "general-low rank": (
        0.3,
        GENERAL,
        lambda p: p.square() + 2.0 * pt.eye(p.order) - low_rank(p.g, p.dim, "general") * 0.01,
    ),
    "one triangle": (1.2, SPD, _one_triangle),
    "cut triangle": (0.4, SPD, _cut_triangle),
}


# -- singular ------------------------------------------------------------------------------------------


def semidefinite(g, dim, depth=0):
    """A Gram product, or sums and multiples of such, that may be singular: none is positive definite."""
    p = g.at(dim)
    form = g.choose("semidefinite", SEMIDEFINITE)
    return Matrix(SEMIDEFINITE[form](p, p.u()), dim, sym=True, singular=True)


SEMIDEFINITE = {
    "UU": lambda p, u: u @ u.T,
    "2UU": lambda p, u: 2 * (u @ u.T),
    "s*UU": lambda p, u: p.s() * (u @ u.T),
    "UU+VV": lambda p, u: u @ u.T + (lambda v: v @ v.T)(p.u(reuse=0)),
    "(UU).T": lambda p, u: (u @ u.T).T,
    "UU*VV": lambda p, u: (u @ u.T) * (lambda v: v @ v.T)(p.u(reuse=0)),
    "UwU": lambda p, u: (u * p.w("positive")) @ u.T,
    "UCU": lambda p, u: u @ (lambda C: C + C.T)(p.core()) @ u.T,
    "outer": lambda p, u: pt.outer(p.y(), p.y()),
    "diag with zero": lambda p, u: pt.diag(p.d("some_zero")),
    "W.TW": lambda p, u: (lambda v: v.T @ v)(p.v()),
}
