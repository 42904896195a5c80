"""Entries of sparse matrices of a constant pattern: coefficients, times scalars, and entries of vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import mul
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

ROOM = 4
"""So many times more places than entries has a matrix that is worth reading."""
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


def nonzeros(data: np.ndarray) -> Terms | None:
    if data.dtype.kind not in "fiub" or ROOM * np.count_nonzero(data) > data.size:
        return None
    rows, columns = np.nonzero(data)
    return [Entries(rows, columns, data[rows, columns].astype(float))]


def with_vector(entries: Entries, v, index) -> Entries:
    """Entries times those of a vector, of which one may stand for all."""
    if v.type.broadcastable[0] and len(index) != 1:
        return entries.times(v.squeeze())
    if isinstance(v, Constant):
        return replace(entries, coefficients=entries.coefficients * v.data[index])
    return replace(entries, vectors=(*entries.vectors, (v, index)))


def joined(groups) -> Terms | None:
    return None if any(g is None for g in groups) else [one for g in groups for one in g]


def scaled(found, scalars) -> Terms | None:
    return found and [reduce(Entries.times, scalars, one) for one in found]


def product(a: Entries, b: Entries, inner: int, room: int) -> Entries | None:
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


def places_of(entries: Entries, n: int) -> np.ndarray:
    return entries.columns.astype(np.int64) * n + entries.rows


def are_mirrored(found: Terms, n: int) -> bool:
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
        keys.append(np.vstack([places_of(one, n)[None], indices]))
    unique, index = np.unique(np.concatenate(keys, axis=1), axis=1, return_inverse=True)
    total = np.bincount(index.ravel(), np.concatenate([one.coefficients for one in terms]), unique.shape[1])
    kept = total != 0
    # those of a sum in another order differ by rounding
    return unique[:, kept].tobytes(), np.float32(total[kept]).tobytes()


def data_at(terms: Terms, places: np.ndarray, n: int, dtype: str):
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
            index = np.searchsorted(places, places_of(one, n))
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
    index = np.searchsorted(places, places_of(one, n))
    if np.array_equal(index, np.arange(len(places))):
        return value
    return pt.zeros((len(places),), dtype=dtype)[pt.constant(index)].inc(value)


def _times(value, scalars, dtype: str):
    return reduce(mul, (s.astype(dtype) for s in scalars), value)


def _plus(total, more):
    return more if total is None else total + more
