"""Read the diagonals of banded matrices, in the ways that they are written.

A diagonal is a sum of products of vectors and scalars, which are put together when the matrix is known to be
banded: so two that are equal are seen to be, and a matrix to be symmetric.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.assumptions import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import AllocDiag, ARange, Eye
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.extra_ops import FillDiagonal, FillDiagonalOffset
from pytensor.tensor.math import Dot
from pytensor.tensor.shape import SpecifyShape
from pytensor.tensor.subtensor import AdvancedIncSubtensor

from autotune.algebra.banded import Banded
from autotune.algebra.diagonal import Diagonal
from autotune.algebra.marks import Mark
from autotune.algebra.operator import length
from autotune.read.contractions import diagonal_of
from autotune.read.factors import is_zero, row_or_column, scalar_of, split_factors
from autotune.read.views import as_constant

Products = tuple[tuple[Any, ...], ...]
"""A sum of products."""

ROOM = 4
"""So many times more rows than diagonals, and than rows from one to another, has a matrix worth reading."""
MOST = 64
"""Diagonals, and products in one of them."""


@dataclass
class Bands:
    """Diagonals by their offset j - i, and the shape."""

    diagonals: dict[int, Products]
    rows: Any
    columns: Any

    @property
    def fits(self) -> bool:
        counts = [len(self.diagonals), *map(len, self.diagonals.values())]
        longest = max(self.width, len(self.diagonals))
        return max(counts) <= MOST and all(
            not isinstance(n, int) or ROOM * longest <= n for n in (self.rows, self.columns)
        )

    @property
    def width(self) -> int:
        return max(map(abs, self.diagonals), default=0)


@dataclass
class BandReader:
    """``terms`` reads a matrix as a sum of thin terms, ``is_symmetric`` says what is proven of it."""

    terms: Callable[[Any], list | None]
    is_symmetric: Callable[[Any], bool]
    _read: dict[Any, Bands | None] = field(default_factory=dict)
    _made: dict[Any, Any] = field(default_factory=dict)

    def banded(self, var) -> Banded | None:
        """The operator of a square matrix with several diagonals; None if it is not seen to be one."""
        found = self.read(var) if var.type.ndim == 2 and var.type.numpy_dtype.kind == "f" else None
        if found is None or found.width == 0 or not self._is_square(found):
            return None
        mirrored = self.is_symmetric(var) or self._is_mirrored(found)
        n = found.columns
        if not isinstance(n, int) and 0 in found.diagonals:
            vectors = (f for product in found.diagonals[0] for f in product if f.type.ndim == 1)
            n = next((length(v, 0) for v in vectors), n)
        diagonals = {
            k: self._sum(products, n - abs(k), var.type.dtype)
            for k, products in found.diagonals.items()
            if not (mirrored and k > 0)
        }
        return Banded.of(diagonals, n, var.type.dtype, mirrored=mirrored)

    def read(self, var) -> Bands | None:
        """The diagonals of a matrix, not many of them; None where they are not seen."""
        if var not in self._read:
            found = self._of(var) if var.type.ndim == 2 and not any(var.type.broadcastable) else None
            self._read[var] = found if found is not None and found.fits else None
        return self._read[var]

    def _of(self, var) -> Bands | None:
        if isinstance(var, Constant):
            return self._of_constant(var.data)
        match var.owner_op_and_inputs:
            case (SpecifyAssumptions() | Mark() | SpecifyShape(), inner, *_):
                return self.read(inner)
            case (Elemwise(scalar_op=ps.Cast()), inner) if inner.type.numpy_dtype.kind == "f":
                return self.read(inner)
            case (Elemwise(), *_) if var.type.numpy_dtype.kind != "f":
                return None  # integers wrap around
            case (DimShuffle(is_matrix_transpose=True), inner):
                return self._transposed(self.read(inner))
            case (AllocDiag(offset=k, axis1=0, axis2=1), d) if d.type.ndim == 1 and k:
                n, d = length(d, 0) + abs(k), as_constant(d)
                d = self._constant(d.data) if isinstance(d, Constant) else d
                return Bands({k: ((d,),)}, n, n)
            case (Eye(), rows, columns, Constant(data=k)):
                return self._of_eye(var, int(k))
            case (Elemwise(scalar_op=ps.Add()), *addends):
                return self._sum_of([self.read(a) for a in addends])
            case (Elemwise(scalar_op=ps.Sub()), left, right):
                return self._sum_of([self.read(left), self._times(self.read(right), [self._minus_one(var)])])
            case (Elemwise(scalar_op=ps.Neg()), inner):
                return self._times(self.read(inner), [self._minus_one(var)])
            case (Elemwise(scalar_op=ps.Mul()), *factors):
                return self._of_product(factors)
            case (Elemwise(scalar_op=ps.TrueDiv()), inner, divisor):
                return self._quotient(self.read(inner), divisor, var.type.dtype)
            case (Elemwise(scalar_op=ps.Switch()), Constant(data=mask), inner, other) if (
                mask.ndim == 2 and is_zero(other)
            ):
                return self._masked(self._of_constant(mask.astype(bool)), [inner])
            case (Dot() | Blockwise(core_op=Dot()), left, right):
                return self._dot(self.read(left), self.read(right))
            case (FillDiagonal(), base, value):
                return self._filled(base, value, 0)
            case (FillDiagonalOffset(), base, value, Constant(data=k)):
                return self._filled(base, value, int(k))
            case (AdvancedIncSubtensor() as op, base, value, rows, columns):
                return self._written(base, value, rows, columns, increase=not op.set_instead_of_inc)
        terms = self.terms(var)
        if terms and all(isinstance(term, Diagonal) for term in terms):
            d = diagonal_of(terms)
            n = length(d, 0)
            return Bands({0: ((d,),)}, n, n)
        return None

    # -- matrices that are given ------------------------------------------------------------------------

    def _of_constant(self, data) -> Bands | None:
        rows, columns = data.shape
        i, j = np.nonzero(data)
        offsets = np.unique(j - i)
        if len(offsets) > MOST or data.dtype.kind == "c":
            return None
        one = data.dtype.kind == "b"
        diagonals: dict[int, Products] = {
            int(k): ((self._constant(np.diagonal(data, k).astype(float) if one else np.diagonal(data, k)),),)
            for k in offsets
        }
        return Bands(diagonals, rows, columns)

    def _of_eye(self, var, k: int) -> Bands | None:
        rows, columns = var.type.shape
        if None in (rows, columns) or not -rows < k < columns:
            return None
        room = min(rows, columns - k) if k >= 0 else min(rows + k, columns)
        return Bands({k: ((self._constant(np.ones(room, var.type.dtype)),),)}, rows, columns)

    def _filled(self, base, value, k: int) -> Bands | None:
        """``base`` with one value all along a diagonal."""
        found = self._zero_or(base)
        if found is None or found.rows != found.columns or not isinstance(found.rows, int):
            return None
        n = found.rows - abs(k)
        written: Products = ((pt.full((n,), value, dtype=base.dtype),),)
        return Bands({**found.diagonals, k: written}, *base.type.shape)

    def _zero_or(self, base) -> Bands | None:
        if is_zero(base) and None not in base.type.shape:
            return Bands({}, *base.type.shape)
        return self.read(base)

    def _written(self, base, value, rows, columns, *, increase: bool) -> Bands | None:
        """``base[i, j].set(value)`` or ``.inc(value)`` of index vectors whose values are known."""
        found, i, j = self._zero_or(base), _values(rows), _values(columns)
        if found is None or i is None or j is None or value.type.ndim > 1:
            return None
        if not isinstance(found.rows, int) or found.rows != found.columns:
            return None
        i, j = np.broadcast_arrays(i, j)
        n = found.rows
        i, j = np.where(i < 0, i + n, i), np.where(j < 0, j + n, j)
        if i.ndim != 1 or (i < 0).any() or (j < 0).any() or max(*i, *j, 0) >= n:
            return None
        if len(np.unique(j - i)) > MOST or (increase and len({*zip(i, j, strict=True)}) < len(i)):
            return None
        value = value if value.type.ndim == 0 else self._whole(value, len(i))
        diagonals: dict[int, Products] = dict(found.diagonals)
        for k in map(int, np.unique(j - i)):
            here = np.flatnonzero(j - i == k)
            diagonals[k] = self._entries(
                diagonals.get(k), value, here, np.minimum(i, j)[here], n - abs(k), base.dtype, increase
            )
        return Bands(diagonals, n, n)

    def _entries(self, before, value, here, places, room, dtype, increase) -> Products:
        """One diagonal, of which the entries at ``places`` are written, from ``value`` at ``here``."""
        taken = value if value.type.ndim == 0 or value.type.broadcastable[0] else value[here]
        if np.array_equal(places, np.arange(room)):
            whole = len(here) == value.type.shape[0] if value.type.ndim else False
            new = value if whole else pt.broadcast_to(taken, (room,))
            new = new.astype(dtype)
            return (*before, (new,)) if increase and before else ((new,),)
        old = pt.zeros((room,), dtype) if before is None else self._sum(before, room, dtype)
        written = old[places].inc(taken) if increase else old[places].set(taken)
        return ((written,),)

    # -- matrices that are computed ---------------------------------------------------------------------

    def _transposed(self, found) -> Bands | None:
        if found is None:
            return None
        return Bands({-k: d for k, d in found.diagonals.items()}, found.columns, found.rows)

    def _sum_of(self, found) -> Bands | None:
        if any(one is None for one in found):
            return None
        total: dict[int, Products] = {}
        for one in found:
            for k, products in one.diagonals.items():
                total[k] = (*total.get(k, ()), *products)
        sizes = [[getattr(one, side) for one in found] for side in ("rows", "columns")]
        first = [next((n for n in side if isinstance(n, int)), side[0]) for side in sizes]
        return Bands(total, *first)

    def _times(self, found, scalars) -> Bands | None:
        if found is None:
            return None
        diagonals = {k: tuple((*p, *scalars) for p in d) for k, d in found.diagonals.items()}
        return Bands(diagonals, found.rows, found.columns)

    def _of_product(self, factors) -> Bands | None:
        """An elementwise product: where one factor is zero, the product is."""
        scalar, vectors, matrices = split_factors(factors)
        read = [self.read(m) for m in matrices]
        first = next((i for i, one in enumerate(read) if one is not None), None)
        if first is None:
            return None
        found = self._masked(read[first], [m for i, m in enumerate(matrices) if i != first])
        for side, v in vectors:
            found = self._scaled(found, side, v)
        return found if scalar is None else self._times(found, [scalar])

    def _masked(self, mask, matrices) -> Bands | None:
        if mask is None:
            return None
        diagonals = {
            k: tuple((*p, *(self._diagonal(m, k) for m in matrices)) for p in d)
            for k, d in mask.diagonals.items()
        }
        return Bands(diagonals, mask.rows, mask.columns)

    def _quotient(self, found, divisor, dtype) -> Bands | None:
        if scalar_of(divisor) is not None:
            return self._times(found, [self._once("over", pt.reciprocal, scalar_of(divisor), dtype)])
        side = row_or_column(divisor)
        return side and self._scaled(found, side[0], self._once("over", pt.reciprocal, side[1], dtype))

    def _scaled(self, found, side: str, v) -> Bands | None:
        """The rows multiplied with a column of factors, or the columns with a row of them."""
        if found is None or v.type.ndim != 1:
            return None
        diagonals = {
            k: tuple((*p, self._along(v, side, found.rows, found.columns, k)) for p in d)
            for k, d in found.diagonals.items()
        }
        return Bands(diagonals, found.rows, found.columns)

    def _dot(self, left, right) -> Bands | None:
        """``(A B)[i, i + p + q] = sum A[i, i + p] B[i + p, i + p + q]``, of static lengths."""
        if left is None or right is None:
            return None
        rows, inner, columns = left.rows, left.columns, right.columns
        if not all(isinstance(n, int) for n in (rows, inner, columns, right.rows)) or inner != right.rows:
            return None
        out = Bands({}, rows, columns)
        for p, first in left.diagonals.items():
            for q, second in right.diagonals.items():
                k = p + q
                # rows for which both entries are there, and the place of each in its diagonal
                start, stop = max(0, -p, -k), min(rows, inner - p, columns - k)
                if stop <= start:
                    continue
                begin, room = max(0, -k), _room(rows, columns, k)
                inside = (start - begin, room - (stop - begin))
                of_a, of_b = _room(rows, inner, p), _room(inner, columns, q)
                a = self._part(first, of_a, start - max(0, -p), stop - start, inside)
                b = self._part(second, of_b, start + p - max(0, -q), stop - start, inside)
                products = tuple((*x, *y) for x in a for y in b)
                out.diagonals[k] = (*out.diagonals.get(k, ()), *products)
        return out

    def _part(self, products, room: int, start: int, count: int, inside) -> Products:
        """Entries of a diagonal, with zeros before and after them."""
        return tuple(
            tuple(
                f
                if f.type.ndim == 0
                else self._once("padded", _padded, self._whole(f, room), start, count, *inside)
                for f in product
            )
            for product in products
        )

    # -- vectors, each made once ------------------------------------------------------------------------

    def _along(self, v, side: str, rows, columns, k: int):
        """The entries of a column of factors, or of a row of them, beside those of a diagonal."""
        start = max(-k, 0) if side == "column" else max(k, 0)
        if isinstance(rows, int) and isinstance(columns, int):
            whole = self._whole(v, rows if side == "column" else columns)
            return self._once("padded", _padded, whole, start, _room(rows, columns, k), 0, 0)
        return self._once("cut", lambda v, a, b: v[a : a + length(v, 0) - b], v, start, abs(k))

    def _diagonal(self, matrix, k: int):
        k = abs(k) if self.is_symmetric(matrix) else k
        return self._once("diagonal", self._of_elementwise, matrix, k)

    def _of_elementwise(self, matrix, k: int):
        """A diagonal of a matrix, from those of what it is computed from elementwise."""
        rows, columns = matrix.type.shape
        if not isinstance(matrix.owner_op, Elemwise) or None in (rows, columns):
            return pt.diagonal(matrix, offset=k)
        taken = []
        for var in matrix.owner.inputs:
            side = row_or_column(var)
            if scalar_of(var) is not None:
                taken.append(scalar_of(var))
            elif side is None:
                taken.append(self._diagonal(var, k))
            else:
                taken.append(self._along(side[1], side[0], rows, columns, k))
        return matrix.owner_op(*taken)

    def _whole(self, v, length: int):
        """The vector, of which a part is taken: it must have its length."""
        return v if v.type.shape[0] is not None else self._once("whole", pt.specify_shape, v, length)

    def _minus_one(self, var):
        return self._constant(np.asarray(-1, var.type.dtype))

    def _constant(self, data):
        key = ("constant", data.dtype.str, data.shape, data.tobytes())
        return self._made.setdefault(key, pt.constant(data))

    def _once(self, name: str, make, first, *options):
        if isinstance(first, Constant):
            if name == "padded":
                return self._constant(_padded_values(first.data, *options))
            if name == "over":
                return self._constant(1 / first.data.astype(options[0]))
        key = (name, first, *options)
        if key not in self._made:
            self._made[key] = make(first.astype(options[0])) if name == "over" else make(first, *options)
        return self._made[key]

    # -- the whole --------------------------------------------------------------------------------------

    def _sum(self, products: Products, room, dtype: str):
        """The vector of a diagonal, constants multiplied now."""
        vectors = [_product(product, dtype) for product in products]
        total = reduce(lambda a, b: a + b, vectors)
        return total if total.type.ndim else pt.broadcast_to(total, (room,))

    def _is_mirrored(self, found: Bands) -> bool:
        def content(k):
            return Counter(tuple(sorted(map(id, p))) for p in found.diagonals.get(k, ()))

        return all(content(k) == content(-k) for k in found.diagonals)

    def _is_square(self, found: Bands) -> bool:
        return found.rows is found.columns or (isinstance(found.rows, int) and found.rows == found.columns)


def _room(rows: int, columns: int, k: int) -> int:
    return min(rows, columns - k) if k >= 0 else min(rows + k, columns)


def _padded(v, start: int, count: int, before: int, after: int):
    """``count`` entries from ``start`` on, with zeros before and after them."""
    taken = v if start == 0 and v.type.shape[0] == count else v[start : start + count]
    if not (before or after):
        return taken
    zeros = [pt.zeros((n,), dtype=v.type.dtype) for n in (before, after)]
    return pt.concatenate([zeros[0], taken, zeros[1]])


def _padded_values(data, start: int, count: int, before: int, after: int):
    return np.pad(data[start : start + count], (before, after))


def _product(factors, dtype: str):
    constants = [f.data for f in factors if isinstance(f, Constant)]
    others = [f.astype(dtype) for f in factors if not isinstance(f, Constant)]
    if constants:
        folded = reduce(np.multiply, constants).astype(dtype)
        if not (folded == 1).all() or not any(f.type.ndim for f in others):
            others.append(pt.constant(folded))
    return reduce(lambda a, b: a * b, others)


def _values(index):
    """The values of an index vector of constants: one, ``arange``, and sums with a number."""
    if isinstance(index, Constant):
        return index.data if index.data.dtype.kind in "iu" else None
    match index.owner_op_and_inputs:
        case (ARange(), Constant(data=start), Constant(data=stop), Constant(data=step)):
            return np.arange(start, stop, step)
        case (Elemwise(scalar_op=ps.Add() | ps.Sub() as op), left, right):
            values = [_values(left), _values(right)]
            if any(v is None for v in values):
                return None
            return values[0] + values[1] if isinstance(op, ps.Add) else values[0] - values[1]
        case (DimShuffle(new_order=("x",)), inner):
            values = _values(inner)
            return None if values is None else values[None]
    return None
