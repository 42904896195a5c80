"""Kronecker products and block-diagonal matrices, with multiples, transposes, nestings and sums of them."""

import pytensor.tensor as pt
from pytensor.assumptions import assume
from pytensor.tensor import linalg as pl

from fuzz.dense import dense_matrix
from fuzz.diagonals import diagonal
from fuzz.generator import Matrix
from fuzz.low_ranks import low_rank


def parts_matrix(g, dim, depth=0):
    """A matrix that is put together from others; of another order than n a dense one."""
    if dim != "n" or depth > 0:
        return dense_matrix(g, dim, depth)
    form = g.choose("parts", FORMS, [weight for weight, _ in FORMS.values()])
    made = FORMS[form][1](g)
    wrapped = g.choose("of parts", WRAPPED, [weight for weight, _ in WRAPPED.values()])
    return WRAPPED[wrapped][1](g.at(made.dim), made)


def _part(g, dim):
    """A factor or block."""
    p = g.at(dim)
    name = g.choose("part", PARTS, [weight for weight, _, _ in PARTS.values()])
    _, definite, make = PARTS[name]
    made = Matrix(make(p), dim, definite, definite or name in SYMMETRIC)
    if g.chance(0.15):
        made.var.name = dim.upper()
    return made


def _distances(p):
    x = p.y()
    return pt.exp(-0.5 * pt.sqr(x[:, None] - x[None, :])) + (0.2 + p.s()) * pt.eye(p.order)


PARTS = {
    "spd": (3, True, lambda p: p.square("spd")),
    "spd assumed": (1.5, True, lambda p: assume(p.square("spd"), positive_definite=True)),
    "symmetrised": (1.5, True, lambda p: (lambda M: (M + M.T) / 2)(p.square("spd"))),
    "gram+jitter": (1, True, lambda p: (lambda M: M @ M.T + p.s() * pt.eye(p.order))(p.square("normal"))),
    "kernel": (1.5, True, _distances),
    "general": (1.5, False, lambda p: p.square()),
    "indefinite": (1, False, lambda p: p.square("indefinite")),
    "thin": (2, True, lambda p: diagonal(p.g, p.dim, positive=True) + low_rank(p.g, p.dim, "psd")),
    "diagonal": (1, True, lambda p: diagonal(p.g, p.dim, positive=True)),
    "identity": (1, True, lambda p: pt.eye(p.order)),
    "scaled": (0.7, True, lambda p: p.s() * p.square("spd")),
    "transposed": (0.7, True, lambda p: p.square("spd").T),
    "negative": (0.5, False, lambda p: -p.square("spd")),
}
SYMMETRIC = ("indefinite", "negative")


def _kron(*matrices):
    first, *others = matrices
    var, dim = first.var, first.dim
    for other in others:
        var, dim = pl.kron(var, other.var), f"({dim})*({other.dim})"
    return _joined(var, dim, matrices)


def _blocks(*matrices):
    var = pl.block_diag(*(one.var for one in matrices))
    return _joined(var, "+".join(f"({one.dim})" for one in matrices), matrices)


def _joined(var, dim, matrices):
    return Matrix(var, dim, all(one.spd for one in matrices), all(one.sym for one in matrices))


def _twice(join):
    def make(g):
        A = _part(g, "k")
        return join(A, A)

    return make


def _two_krons(g):
    """The second of which noise of several tasks has."""
    one, other = (_kron(_part(g, "k"), _part(g, "q")) for _ in range(2))
    return Matrix(one.var + other.var, one.dim, one.spd and other.spd, one.sym and other.sym)


FORMS = {
    "A kron B": (4, lambda g: _kron(_part(g, "k"), _part(g, "q"))),
    "B kron A": (2, lambda g: _kron(_part(g, "q"), _part(g, "n"))),
    "A kron B kron C": (1.5, lambda g: _kron(_part(g, "k"), _part(g, "q"), _part(g, "p"))),
    "A kron (B kron C)": (1, lambda g: _kron(_part(g, "k"), _kron(_part(g, "q"), _part(g, "p")))),
    "A kron B + C kron D": (1.5, _two_krons),
    "A kron A": (0.7, _twice(_kron)),
    "blocks": (3, lambda g: _blocks(_part(g, "n"), _part(g, "q"))),
    "three blocks": (1.5, lambda g: _blocks(_part(g, "k"), _part(g, "n"), _part(g, "p"))),
    "one block": (0.4, lambda g: _blocks(_part(g, "n"))),
    "the same block": (0.7, _twice(_blocks)),
    "blocks of blocks": (0.7, lambda g: _blocks(_blocks(_part(g, "k"), _part(g, "q")), _part(g, "p"))),
    "blocks of krons": (1.2, lambda g: _blocks(_kron(_part(g, "k"), _part(g, "q")), _part(g, "p"))),
    "kron of blocks": (1.2, lambda g: _kron(_part(g, "q"), _blocks(_part(g, "k"), _part(g, "p")))),
}


def _scaled(p, A):
    s = p.s()
    var = p.g.one_of(lambda: s * A.var, lambda: A.var * 2.0, lambda: A.var / s, lambda: A.var * s**2)
    return Matrix(var, A.dim, A.spd, A.sym)


WRAPPED = {
    "alone": (6, lambda p, A: A),
    "scaled": (2, _scaled),
    "transposed": (1, lambda p, A: Matrix(A.var.T, A.dim, A.spd, A.sym)),
    "scaled, transposed": (0.6, lambda p, A: Matrix((p.s() * A.var).T, A.dim, A.spd, A.sym)),
    "transposed, scaled": (0.6, lambda p, A: Matrix(p.s() * A.var.T, A.dim, A.spd, A.sym)),
    "negated": (0.5, lambda p, A: Matrix(-A.var, A.dim, False, A.sym)),
    "plus noise": (1, lambda p, A: Matrix(A.var + p.s() * pt.eye(p.order), A.dim, A.spd, A.sym)),
    "plus a matrix": (0.5, lambda p, A: Matrix(A.var + p.square("spd"), A.dim, A.spd, A.sym)),
    "plus itself": (0.3, lambda p, A: Matrix(A.var + 0.5 * A.var.T, A.dim, A.spd, A.sym)),
    "plus low rank": (1.5, lambda p, A: Matrix(A.var + low_rank(p.g, p.dim, "psd"), A.dim, A.spd, A.sym)),
    "plus columns": (1, lambda p, A: Matrix(A.var + _columns(p), A.dim, A.spd, A.sym)),
    "inverted": (0.3, lambda p, A: _inverted(p, A)),
}


def _columns(p):
    """``u u'``, which is thin whatever the sizes are."""
    u = p.y()[:, None]
    return p.g.one_of(lambda: u @ u.T, lambda: p.s() * (u @ u.T), lambda: u * u.T)


def _inverted(p, A):
    p.g.solved.append(A.var)
    return Matrix(pl.inv(A.var), A.dim, A.spd, A.sym)
