"""Terms of elementwise products: outer products of vectors, masks, rows and columns that are scaled."""

from __future__ import annotations

from math import prod

import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.tensor.elemwise import Elemwise

from autotune.algebra.diagonal import Diagonal
from autotune.algebra.low_rank import LowRank
from autotune.algebra.operator import length, of_length, of_one_length
from autotune.read.contractions import (
    Lazy,
    diagonal_of,
    is_supported,
    readings_of,
)
from autotune.read.factors import row_or_column, same
from autotune.read.groups import group_weights
from autotune.read.views import drop_leading_ones


def outer_terms(vectors):
    """``u[:, None] * v[None, :]``, u and v products of vectors, is ``LowRank`` of rank one."""
    columns = [v for side, v in vectors if side == "column"]
    rows = [v for side, v in vectors if side == "row"]
    if not columns or not rows:
        return None
    dtype = ps.upcast(*(v.type.dtype for _, v in vectors))
    U = _multiplied(columns, dtype)[..., :, None]
    return [LowRank(U, None, U if _same_vectors(columns, rows) else _multiplied(rows, dtype)[..., :, None])]


def _multiplied(vectors, dtype):
    """The product of some vectors, more than one of them in the dtype of all that they are factors of."""
    if len(vectors) == 1:
        return vectors[0]
    first, *others = of_one_length([v.astype(dtype) for v in vectors])
    return prod(others, start=first)


def _same_vectors(some, others) -> bool:
    """Whether ``some`` are ``others`` in any order."""
    left = list(others)
    for v in some:
        at = next((i for i, other in enumerate(left) if same(v, other)), None)
        if at is None:
            return False
        del left[at]
    return not left


def _is_masked(U, v) -> bool:
    """Whether the rows of U have been multiplied by v, whose entries are 0 and 1."""
    match v.owner_op_and_inputs, U.owner_op_and_inputs:
        case ((Elemwise(scalar_op=ps.Cast()), mask), (Elemwise(scalar_op=ps.Mul()), *factors)):
            sides = [row_or_column(factor) for factor in factors] if mask.type.dtype == "bool" else []
            return any(side is not None and side[0] == "column" and same(side[1], v) for side in sides)
    return False


def masked_diagonal(d, factors, vectors):
    """The one term of ``diag(d) * A * B ...``; ``factors`` pair each matrix with its terms, if it is read."""
    read = [terms for _, terms in factors if terms]
    if not all(is_supported(terms) for terms in read):
        return None

    def make():
        own = [diagonal_of(terms) if terms else _diagonal(matrix, d) for matrix, terms in factors]
        first, *others = of_one_length([d, *own, *(v for _, v in vectors)])
        return Diagonal(prod(others, start=first))

    readings = readings_of(term for terms in read for term in terms)
    return [Lazy(Diagonal, readings, make)] if readings else [make()]


def _diagonal(matrix, d):
    """That of a matrix which is refused where it has other lengths than d."""
    square = drop_leading_ones(matrix)
    for axis in (-2, -1):
        square = of_length(square, length(d, -1), axis)
    return pt.diagonal(square, axis1=-2, axis2=-1)


def scale_sides(term, vectors):
    """``diag(a) A diag(b)``; a symmetric term stays so when ``a`` is ``b``."""
    sides = dict(vectors)
    if vectors and isinstance(term, LowRank) and term.symmetric:
        c = group_weights(term.U, [v for _, v in vectors])
        if c is not None:
            return LowRank(term.U, c if term.c is None else c * term.c, term.U)
    both = len(vectors) == len(sides) == 2 and same(sides["row"], sides["column"])
    if both and isinstance(term, LowRank) and term.symmetric:
        U = term.U * sides["row"][..., :, None]
        return LowRank(U, term.c, U)
    if both and isinstance(term, LowRank) and term.middle is not None:
        v = sides["row"]
        U = term.U if _is_masked(term.U, v) else term.U * v[..., :, None]
        return LowRank.around(U, term.middle)
    for side, v in vectors:
        term = term.scale_rows(v) if side == "column" else term.transpose().scale_rows(v).transpose()
    return term
