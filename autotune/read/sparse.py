"""Read sparse matrices of a constant pattern, in the ways that they are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.assumptions import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import AllocDiag, Eye
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot
from pytensor.tensor.shape import SpecifyShape

from autotune.algebra.diagonal import Diagonal
from autotune.algebra.marks import Mark
from autotune.algebra.sparse import Sparse
from autotune.ops.pattern import Pattern
from autotune.read.compressed import entries_of
from autotune.read.contractions import diagonal_of
from autotune.read.entries import (
    MOST,
    ROOM,
    Entries,
    Terms,
    are_mirrored,
    data_at,
    joined,
    nonzeros,
    places_of,
    product,
    scaled,
    with_vector,
)
from autotune.read.factors import row_or_column, scalar_of, split_factors
from autotune.read.views import as_constant


@dataclass
class SparseReader:
    """``terms`` reads a matrix as a sum of thin terms, ``is_symmetric`` says what is proven of it."""

    terms: Callable[[Any], list | None]
    is_symmetric: Callable[[Any], bool]
    _read: dict[Any, Terms | None] = field(default_factory=dict)

    def sparse(self, var) -> Sparse | None:
        """The operator of a symmetric matrix with few entries, whose factor has few; else None."""
        n = var.type.shape[-1]
        if var.type.ndim != 2 or n is None or n < 2 or var.type.shape[0] != n:
            return None
        found = self.read(var) if var.type.numpy_dtype.kind == "f" else None
        if found is None or not (self.is_symmetric(var) or are_mirrored(found, n)):
            return None
        lower = [one.taken(np.flatnonzero(one.rows >= one.columns)) for one in found]
        diagonal = np.arange(n, dtype=np.int64) * (n + 1)
        places = np.unique(np.concatenate([diagonal, *(places_of(one, n) for one in lower)]))
        if len(places) == n or ROOM * len(places) > n * n:
            return None
        pattern = Pattern.of(n, places)
        if ROOM * pattern.height > n:
            return None
        return Sparse(data_at(lower, places, n, var.type.dtype), pattern)

    def read(self, var) -> Terms | None:
        """Its terms; None where they are not seen, or many."""
        if var not in self._read:
            full = var.type.ndim == 2 and not any(var.type.broadcastable)
            self._read[var] = self._of(var) if full else None
        return self._read[var]

    def _of(self, var) -> Terms | None:
        if isinstance(var, Constant):
            return _of_constant(var)
        square = var.type.shape[0] is not None and var.type.shape[0] == var.type.shape[1]
        match var.owner_op_and_inputs:
            case (op, inner) if type(op).__name__ == "DenseFromSparse":
                return entries_of(inner, self.read)
            case (SpecifyAssumptions() | Mark() | SpecifyShape(), inner, *_):
                return self.read(inner)
            case (Elemwise(scalar_op=ps.Cast()), inner) if inner.type.numpy_dtype.kind == "f":
                return self.read(inner)
            case (Elemwise(), *_) if var.type.numpy_dtype.kind != "f":
                return None  # integers wrap around
            case (DimShuffle(is_matrix_transpose=True), inner):
                found = self.read(inner)
                return found and [one.transposed for one in found]
            case (AllocDiag(offset=k, axis1=0, axis2=1), d) if d.type.ndim == 1 and k and square:
                at = np.arange(var.type.shape[0] - abs(k))
                empty = Entries(at + max(-k, 0), at + max(k, 0), np.ones(len(at)))
                return [with_vector(empty, as_constant(d), at)]
            case (Eye(), _, _, Constant(data=k)) if None not in var.type.shape:
                return nonzeros(np.eye(var.type.shape[0], var.type.shape[1], int(k)))
            case (Elemwise(scalar_op=ps.Add()), *addends):
                return joined([self.read(a) for a in addends])
            case (Elemwise(scalar_op=ps.Sub()), left, right):
                return joined([self.read(left), scaled(self.read(right), [_MINUS])])
            case (Elemwise(scalar_op=ps.Neg()), inner):
                return scaled(self.read(inner), [_MINUS])
            case (Elemwise(scalar_op=ps.Mul()), *factors):
                return self._of_product(factors)
            case (Elemwise(scalar_op=ps.TrueDiv()), inner, divisor):
                return self._quotient(self.read(inner), divisor, var.type.dtype)
            case (Dot() | Blockwise(core_op=Dot()), left, right) if None not in (
                *left.type.shape,
                *right.type.shape,
            ):
                return self._dot(left, right)
        terms = self.terms(var)
        if square and terms and all(isinstance(term, Diagonal) for term in terms):
            at = np.arange(var.type.shape[0])
            return [with_vector(Entries(at, at, np.ones(len(at))), diagonal_of(terms), at)]
        return None

    def _of_product(self, factors) -> Terms | None:
        """An elementwise product: where one factor is zero, the product is."""
        scalar, vectors, matrices = split_factors(factors)
        constants = [m for m in matrices if isinstance(m, Constant)]
        others = [m for m in matrices if not isinstance(m, Constant)] or constants[:1]
        found = self.read(others[0]) if len(others) == 1 and matrices else None
        if found is None or any(v.type.ndim != 1 for _, v in vectors):
            return None
        for side, v in vectors:
            found = [one.along(side, v) for one in found]
        for m in constants if others[0] not in constants else constants[1:]:
            found = [
                replace(one, coefficients=one.coefficients * m.data[one.rows, one.columns]) for one in found
            ]
        return found if scalar is None else scaled(found, [scalar])

    def _quotient(self, found, divisor, dtype) -> Terms | None:
        scalar, side = scalar_of(divisor), row_or_column(divisor)
        if found is None or (scalar is None and side is None):
            return None
        if scalar is not None:
            return scaled(found, [_reciprocal(scalar, dtype)])
        return [one.along(side[0], _reciprocal(side[1], dtype)) for one in found]

    def _dot(self, left, right) -> Terms | None:
        a, b = self.read(left), self.read(right)
        if a is None or b is None or left.type.shape[1] != right.type.shape[0]:
            return None
        inner, room = left.type.shape[1], MOST * (left.type.shape[0] + right.type.shape[1]) ** 2
        products = [product(x, y, inner, room) for x in a for y in b]
        return joined([p and [p] for p in products])


_MINUS = pt.constant(-1.0)


def _of_constant(var) -> Terms | None:
    """Its entries, found once for each constant."""
    known = getattr(var.tag, "autotune_entries", None)
    if known is None:
        known = var.tag.autotune_entries = (nonzeros(np.asarray(var.data)),)
    return known[0]


def _reciprocal(x, dtype: str):
    if isinstance(x, Constant):
        return pt.constant(1 / x.data.astype(dtype))
    return pt.reciprocal(x.astype(dtype))
