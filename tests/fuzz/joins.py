"""Matrices that are joined of blocks: arrowheads, saddles, bordered and block-triangular ones."""

import numpy as np
import pytensor.tensor as pt
from pytensor.assumptions import assume

from fuzz.dense import dense_matrix
from fuzz.diagonals import diagonal
from fuzz.generator import Matrix

SPD, SYM, GENERAL = (True, True), (False, True), (False, False)


def joined_matrix(g, dim, depth=0):
    """A matrix of several blocks; of another order than n a dense one."""
    if dim != "n" or depth > 0:
        return dense_matrix(g, dim, depth)
    form = g.choose("joins", JOINS, [weight for weight, _, _ in JOINS.values()])
    _, facts, make = JOINS[form]
    var, dim = make(g)
    if g.chance(0.15):
        var = g.at(dim).s() * var
    elif g.chance(0.15):
        var = var.T
    return Matrix(var, dim, *facts)


def join(g, rows):
    """By rows first, or by columns first."""
    columns = list(zip(*rows, strict=True))
    return g.one_of(
        lambda: pt.concatenate([pt.concatenate(row, axis=1) for row in rows], axis=0),
        lambda: pt.concatenate([pt.concatenate(column, axis=0) for column in columns], axis=1),
    )


def _corner(g, rows="n", columns="q"):
    """Small beside the blocks on the diagonal, or a constant."""
    if g.known(rows) and g.known(columns) and g.chance(0.2):
        shape = (g.length(rows), g.length(columns))
        return pt.constant(0.05 * np.random.default_rng(shape[0]).normal(size=shape))
    return 0.05 * pt.tanh(g.input((rows, columns)))


def _block(g, dim):
    """Positive definite, and with the corners beside it too, whatever the values are."""
    p = g.at(dim)
    one = pt.eye(p.order)
    return g.one_of(
        lambda: diagonal(g, dim, positive=True) + one,
        lambda: pt.diag(p.d("positive") + 1.0),
        lambda: assume(p.square("spd") + one, positive_definite=True),
        lambda: (lambda M: (M + M.T) / 2)(p.square("spd")) + one,
        lambda: (1 + pt.exp(p.s())) * one,
    )


def _zeros(g, rows, columns):
    if g.known(rows) and g.known(columns) and g.chance(0.5):
        return pt.constant(np.zeros((g.length(rows), g.length(columns))))
    return pt.zeros((g.at(rows).order, g.at(columns).order))


def _arrowhead(g):
    B = _corner(g)
    return join(g, [[_block(g, "n"), B], [B.T, _block(g, "q")]]), "n+q"


def _arrow_backwards(g):
    B = _corner(g)
    return join(g, [[_block(g, "q"), B.T], [B, _block(g, "n")]]), "q+n"


def _saddle(g):
    """As of a mean that is estimated: ``[[K, X], [X', 0]]``."""
    if not (g.known("n") and g.known("q")) or g.length("q") > g.length("n"):
        return _arrowhead(g)
    X = g.one_of(
        lambda: pt.eye(g.length("n"), g.length("q")) + _corner(g),
        lambda: pt.constant(np.eye(g.length("n"), g.length("q")) + 0.1),
    )
    return join(g, [[_block(g, "n"), X], [X.T, _zeros(g, "q", "q")]]), "n+q"


def _general(g):
    return join(g, [[_block(g, "n"), _corner(g)], [_corner(g, "q", "n"), _block(g, "q")]]), "n+q"


def _lower(g):
    return join(g, [[_block(g, "n"), _zeros(g, "n", "q")], [_corner(g, "q", "n"), _block(g, "q")]]), "n+q"


def _upper(g):
    return join(g, [[_block(g, "q"), _corner(g, "q", "n")], [_zeros(g, "n", "q"), _block(g, "n")]]), "q+n"


def _apart(g):
    return join(g, [[_block(g, "n"), _zeros(g, "n", "q")], [_zeros(g, "q", "n"), _block(g, "q")]]), "n+q"


def _three(g):
    B, C = _corner(g, "n", "p"), _corner(g, "q", "p")
    rows = [
        [_block(g, "n"), _zeros(g, "n", "q"), B],
        [_zeros(g, "q", "n"), _block(g, "q"), C],
        [B.T, C.T, _block(g, "p")],
    ]
    return join(g, rows), "n+q+p"


JOINS = {
    "arrowhead": (3, SPD, _arrowhead),
    "backwards": (2, SPD, _arrow_backwards),
    "saddle": (1.5, SYM, _saddle),
    "general": (1.5, GENERAL, _general),
    "lower": (1, GENERAL, _lower),
    "upper": (1, GENERAL, _upper),
    "apart": (0.7, SPD, _apart),
    "three": (1.5, SPD, _three),
}
