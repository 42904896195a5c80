"""Read sparse matrices of a constant pattern, in the ways that they are written.

A matrix is a sum of terms, each a list of places (row, column) with constant coefficients, which are multiplied
by scalars, and by entries of vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import mul
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
from autotune.read.contractions import diagonal_of
from autotune.read.factors import is_zero, row_or_column, scalar_of, split_factors
from autotune.read.views import as_constant

ROOM = 4
"""So many times more places than entries, and rows than entries in a column of the factor, has a matrix that is
worth reading."""
MOST = 16
"""Products of entries that are added up, for each place of a matrix product: more are no sparse matrix."""


@dataclass(frozen=True, eq=False)
class Entries:
    """``coefficients * scalars * vectors[index]`` at ``(rows, columns)``, where a place may stand twice.

    ``vectors``: pairs of a vector and an index, in the order of their numbers in the reader.
    """

    rows: np.ndarray
    columns: np.ndarray
    coefficients: np.ndarray
    scalars: tuple[Any, ...] = ()
    vectors: tuple[tuple[Any, np.ndarray], ...] = ()

    @property
    def transposed(self) -> Entries:
        return replace(self, rows=self.columns, columns=self.rows)

    def times(self, scalar) -> Entries:
        if isinstance(scalar, Constant):
            return replace(self, coefficients=self.coefficients * float(scalar.data))
        return replace(self, scalars=(*self.scalars, scalar))

    def along(self, side: str, v) -> Entries:
        """The rows multiplied with a column of factors, or the columns with a row of them."""
        index = self.rows if side == "column" else self.columns
        if isinstance(v, Constant):
            return replace(self, coefficients=self.coefficients * v.data[index])
        return replace(self, vectors=(*self.vectors, (v, index)))

    def taken(self, index) -> Entries:
        """Some of them, or all more than once."""
        vectors = tuple((v, i[index]) for v, i in self.vectors)
        return Entries(self.rows[index], self.columns[index], self.coefficients[index], self.scalars, vectors)


Terms = list[Entries]


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
        if found is None or not (self.is_symmetric(var) or _is_mirrored(found, n)):
            return None
        lower = [one.taken(np.flatnonzero(one.rows >= one.columns)) for one in found]
        diagonal = np.arange(n, dtype=np.int64) * (n + 1)
        places = np.unique(np.concatenate([diagonal, *(_places(one, n) for one in lower)]))
        if len(places) == n or ROOM * len(places) > n * n:
            return None
        pattern = Pattern.of(n, places)
        if ROOM * pattern.height > n:
            return None
        return Sparse(_data(lower, places, n, var.type.dtype), pattern)

    def read(self, var) -> Terms | None:
        """Its terms; None where they are not seen, or many."""
        if var not in self._read:
            square = var.type.ndim == 2 and None not in var.type.shape and not any(var.type.broadcastable)
            found = self._of(var) if square else None
            few = found is not None and sum(len(t.rows) for t in found) <= MOST * sum(var.type.shape) ** 2
            self._read[var] = found if few else None
        return self._read[var]

    def _of(self, var) -> Terms | None:
        if isinstance(var, Constant):
            return _of_constant(var)
        match var.owner_op_and_inputs:
            case (SpecifyAssumptions() | Mark() | SpecifyShape(), inner, *_):
                return self.read(inner)
            case (Elemwise(scalar_op=ps.Cast()), inner) if inner.type.numpy_dtype.kind == "f":
                return self.read(inner)
            case (Elemwise(), *_) if var.type.numpy_dtype.kind != "f":
                return None  # integers wrap around
            case (DimShuffle(is_matrix_transpose=True), inner):
                found = self.read(inner)
                return found and [one.transposed for one in found]
            case (AllocDiag(offset=k, axis1=0, axis2=1), d) if d.type.ndim == 1 and k:
                at = np.arange(var.type.shape[0] - abs(k))
                empty = Entries(at + max(-k, 0), at + max(k, 0), np.ones(len(at)))
                return [_with(empty, as_constant(d), at)]
            case (Eye(), _, _, Constant(data=k)):
                return _nonzeros(np.eye(*var.type.shape, int(k)))
            case (Elemwise(scalar_op=ps.Add()), *addends):
                return _joined([self.read(a) for a in addends])
            case (Elemwise(scalar_op=ps.Sub()), left, right):
                return _joined([self.read(left), _scaled(self.read(right), [_MINUS])])
            case (Elemwise(scalar_op=ps.Neg()), inner):
                return _scaled(self.read(inner), [_MINUS])
            case (Elemwise(scalar_op=ps.Mul()), *factors):
                return self._of_product(factors)
            case (Elemwise(scalar_op=ps.TrueDiv()), inner, divisor):
                return self._quotient(self.read(inner), divisor, var.type.dtype)
            case (Dot() | Blockwise(core_op=Dot()), left, right):
                return self._dot(left, right)
        terms = self.terms(var)
        if terms and all(isinstance(term, Diagonal) for term in terms):
            at = np.arange(var.type.shape[0])
            return [_with(Entries(at, at, np.ones(len(at))), diagonal_of(terms), at)]
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
        return found if scalar is None else _scaled(found, [scalar])

    def _quotient(self, found, divisor, dtype) -> Terms | None:
        scalar, side = scalar_of(divisor), row_or_column(divisor)
        if found is None or (scalar is None and side is None):
            return None
        if scalar is not None:
            return _scaled(found, [_reciprocal(scalar, dtype)])
        return [one.along(side[0], _reciprocal(side[1], dtype)) for one in found]

    def _dot(self, left, right) -> Terms | None:
        a, b = self.read(left), self.read(right)
        if a is None or b is None or left.type.shape[1] != right.type.shape[0]:
            return None
        inner, room = left.type.shape[1], MOST * (left.type.shape[0] + right.type.shape[1]) ** 2
        products = [_product(x, y, inner, room) for x in a for y in b]
        return None if any(p is None for p in products) else products


_MINUS = pt.constant(-1.0)


def _of_constant(var) -> Terms | None:
    """Its entries, found once for each constant."""
    known = getattr(var.tag, "autotune_entries", None)
    if known is None:
        known = var.tag.autotune_entries = (_nonzeros(np.asarray(var.data)),)
    return known[0]


def _nonzeros(data: np.ndarray) -> Terms | None:
    if data.dtype.kind not in "fiub" or ROOM * np.count_nonzero(data) > data.size:
        return None
    rows, columns = np.nonzero(data)
    return [Entries(rows, columns, data[rows, columns].astype(float))]


def _with(entries: Entries, v, index) -> Entries:
    """Entries times those of a vector, of which one may stand for all."""
    if v.type.broadcastable[0] and len(index) != 1:
        return entries.times(v.squeeze())
    if isinstance(v, Constant):
        return replace(entries, coefficients=entries.coefficients * v.data[index])
    return replace(entries, vectors=(*entries.vectors, (v, index)))


def _joined(groups) -> Terms | None:
    return None if any(g is None for g in groups) else [one for g in groups for one in g]


def _scaled(found, scalars) -> Terms | None:
    return found and [reduce(Entries.times, scalars, one) for one in found]


def _reciprocal(x, dtype: str):
    if isinstance(x, Constant):
        return pt.constant(1 / x.data.astype(dtype))
    return pt.reciprocal(x.astype(dtype))


def _product(a: Entries, b: Entries, inner: int, room: int) -> Entries | None:
    """The products of the entries that meet in a matrix product; None if they are more than ``room``."""
    order = np.argsort(b.rows, kind="stable")
    counts = np.bincount(b.rows, minlength=inner)
    starts = np.concatenate([[0], np.cumsum(counts)])
    meet = counts[a.columns]
    total = int(meet.sum())
    if total > room:
        return None
    first = np.repeat(np.arange(len(meet)), meet)
    within = np.arange(total) - np.repeat(np.cumsum(meet) - meet, meet)
    x, y = a.taken(first), b.taken(order[starts[a.columns[first]] + within])
    found = Entries(
        x.rows,
        y.columns,
        x.coefficients * y.coefficients,
        (*x.scalars, *y.scalars),
        (*x.vectors, *y.vectors),
    )
    return found if found.vectors else _added_up(found)


def _added_up(entries: Entries) -> Entries:
    """Each place once, of entries that are constant but for scalars."""
    width = int(entries.columns.max(initial=0)) + 1
    places, index = np.unique(entries.rows * width + entries.columns, return_inverse=True)
    coefficients = np.bincount(index, entries.coefficients, len(places))
    return replace(entries, rows=places // width, columns=places % width, coefficients=coefficients)


def _places(entries: Entries, n: int) -> np.ndarray:
    return entries.columns.astype(np.int64) * n + entries.rows


def _is_mirrored(found: Terms, n: int) -> bool:
    """Whether the terms are those of the transpose."""
    groups: dict[Any, Terms] = {}
    for one in found:
        vectors = sorted(one.vectors, key=lambda pair: id(pair[0]))
        key = (*sorted(map(id, one.scalars)), None, *(id(v) for v, _ in vectors))
        groups.setdefault(key, []).append(replace(one, vectors=tuple(vectors)))
    return all(_content(terms, n) == _content([t.transposed for t in terms], n) for terms in groups.values())


def _content(terms: Terms, n: int) -> tuple[bytes, bytes]:
    """What alike terms are: their coefficients by place and the entries of vectors."""
    keys = []
    for one in terms:
        indices = np.array([index for _, index in one.vectors], dtype=np.int64).reshape(-1, len(one.rows))
        numbers = [id(v) for v, _ in one.vectors]
        for v in set(numbers):  # of the same vector twice, in whichever order
            same = [i for i, number in enumerate(numbers) if number == v]
            indices[same] = np.sort(indices[same], axis=0)
        keys.append(np.vstack([_places(one, n)[None], indices]))
    unique, index = np.unique(np.concatenate(keys, axis=1), axis=1, return_inverse=True)
    total = np.bincount(index.ravel(), np.concatenate([one.coefficients for one in terms]), unique.shape[1])
    kept = total != 0
    # those of a sum in another order differ by rounding
    return unique[:, kept].tobytes(), np.float32(total[kept]).tobytes()


def _data(terms: Terms, places: np.ndarray, n: int, dtype: str):
    """The entries at ``places``, from terms that stand there."""
    total: Any = None
    for scalars, coefficients in _by_scalars(terms, places, n):
        total = _plus(total, _times(pt.constant(coefficients.astype(dtype)), scalars, dtype))
    for one in terms:
        if one.vectors and len(one.rows):
            total = _plus(total, _of_vectors(one, places, n, dtype))
    return pt.zeros((len(places),), dtype=dtype) if total is None else total


def _by_scalars(terms: Terms, places, n) -> list[tuple[tuple[Any, ...], np.ndarray]]:
    """Coefficients at all places, of terms with the same scalars together."""
    groups: dict[Any, Any] = {}
    for one in terms:
        if not one.vectors:
            index = np.searchsorted(places, _places(one, n))
            added = np.bincount(index, one.coefficients, len(places))
            key = tuple(sorted(map(id, one.scalars)))
            groups[key] = (one.scalars, added + groups[key][1] if key in groups else added)
    return list(groups.values())


def _of_vectors(one: Entries, places, n, dtype: str):
    value: Any = None
    for v, index in one.vectors:
        whole = v.type.shape[0] == len(index) and np.array_equal(index, np.arange(len(index)))
        taken = (v if whole else v[pt.constant(index)]).astype(dtype)
        value = taken if value is None else value * taken
    if (one.coefficients != 1).any():
        value = pt.constant(one.coefficients.astype(dtype)) * value
    value = _times(value, one.scalars, dtype)
    index = np.searchsorted(places, _places(one, n))
    if np.array_equal(index, np.arange(len(places))):
        return value
    return pt.zeros((len(places),), dtype=dtype)[pt.constant(index)].inc(value)


def _times(value, scalars, dtype: str):
    return reduce(mul, (s.astype(dtype) for s in scalars), value)


def _plus(total, more):
    return more if total is None else total + more
