"""Symmetric Toeplitz and circulant matrices, read from the graph that computes them elementwise.

What is a function of ``i - j`` alone stays one under elementwise operations: its first column is the same
graph of first columns. Such are gathers by constant indices, constants, multiples of the identity, and
quantities of pairs of evenly spaced constant points (see `autotune.read.line`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.assumptions import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import ARange
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise
from pytensor.tensor.reshape import JoinDims, SplitDims
from pytensor.tensor.shape import Reshape, SpecifyShape
from pytensor.tensor.subtensor import AdvancedSubtensor

from autotune.algebra.circulant import Circulant, turned_round
from autotune.algebra.diagonal import Diagonal
from autotune.algebra.marks import Mark
from autotune.algebra.operator import length, value_of
from autotune.algebra.toeplitz import Toeplitz
from autotune.read.contractions import diagonal_of
from autotune.read.factors import same, scalar_of
from autotune.read.line import FEWEST_POINTS, LineReader, Pair

ROUNDING = 8.0
"""Units in the last place of the largest entry, by which those on one diagonal of a constant may differ."""
SPACING = 4.0
"""The same of the points, by which they may differ from evenly spaced ones."""
EVEN, ODD, NEITHER = 1, -1, 0
ODD_FUNCTIONS = (ps.Neg, ps.Identity, ps.Sin, ps.Tan, ps.Sinh, ps.Tanh, ps.ArcTan, ps.ArcSinh, ps.Sign)
EVEN_FUNCTIONS = (ps.Abs, ps.Sqr, ps.Cos, ps.Cosh)


@dataclass
class Lags:
    """The first column of a matrix of functions of ``i - j``: even or odd ones, or of ``(i - j) mod n``."""

    column: Any
    parity: int
    circulant: bool


@dataclass
class LagReader:
    """``terms`` reads a matrix as a sum of thin terms."""

    terms: Callable[[Any], list | None]
    _line: LineReader = field(default_factory=LineReader)
    _read: dict[Any, Lags | None] = field(default_factory=dict)

    def operator(self, matrix) -> Toeplitz | Circulant | None:
        """None where the matrix is neither, or is not seen to be."""
        n, columns = matrix.type.shape
        if matrix.type.numpy_dtype.kind != "f" or n != columns or (n is not None and n < FEWEST_POINTS):
            return None
        found = self.of(matrix)
        if found is None or found.column.type.ndim != 1 or found.column.type.shape[0] not in (n, None):
            return None
        c = found.column.astype(matrix.type.dtype)
        if found.circulant:
            return Circulant(c, found.parity == EVEN)
        return Toeplitz(c) if found.parity == EVEN else None

    def of(self, var) -> Lags | None:
        if var not in self._read:
            self._read[var] = self._of(var)
        return self._read[var]

    def _of(self, var) -> Lags | None:
        if isinstance(var, Constant) and var.data.size == 1:
            return Lags(pt.constant(var.data.reshape(())), EVEN, True)
        if scalar_of(var) is not None:
            return Lags(scalar_of(var), EVEN, True)
        if var.type.ndim == 3 and var.type.shape[2] == 1:
            return self._of_last_dropped(var)
        if var.type.ndim != 2 or any(var.type.broadcastable):
            return None
        if isinstance(var, Constant):
            return _of_constant(var.data)
        match var.owner_op_and_inputs:
            case (SpecifyAssumptions() | Mark() | SpecifyShape(), inner, *_):
                return self.of(inner)
            case (DimShuffle(is_matrix_transpose=True), inner):
                return self._transposed(self.of(inner))
            case (DimShuffle(new_order=(0, 1), input_ndim=3), inner):
                return self.of(inner)
            case (CAReduce(scalar_op=ps.Add(), axis=(2,)), inner):
                return self.of(inner)
            case (AdvancedSubtensor(idx_list=(0,)), base, index) if base.type.ndim == 1:
                return self._gathered(base, index)
            case (Reshape() | SplitDims() | JoinDims(), inner, *_) if None not in var.type.shape:
                return self._reshaped(inner, var.type.shape)
            case (Elemwise(scalar_op=ps.Sub()), left, right) if self._is_range_of_lags(left, right):
                return Lags(left.owner.inputs[0], ODD, False)
            case (Elemwise(scalar_op=ps.Mod()), inner, divisor) if scalar_of(divisor) is not None:
                return self._modulo(self.of(inner), divisor)
        found = self._of_points(var) or self._of_identity(var)
        if found is not None or not isinstance(var.owner_op, Elemwise):
            return found
        read = [self.of(i) for i in var.owner.inputs]
        return None if any(one is None for one in read) else self._elementwise(var.owner.op, read)

    def _of_last_dropped(self, var) -> Lags | None:
        """An array (n, n, 1), read as a matrix."""
        if isinstance(var, Constant):
            return self.of(pt.constant(var.data[:, :, 0]))
        if not isinstance(var.owner_op, Elemwise):
            return None
        inputs = [i if i.type.ndim == 0 else i.dimshuffle(0, 1) for i in map(_unshuffled, var.owner.inputs)]
        return self.of(var.owner.op(*inputs))

    def _transposed(self, found) -> Lags | None:
        if found is None or found.parity == EVEN:
            return found
        if found.circulant:
            return Lags(turned_round(found.column), found.parity, True)
        return Lags(-found.column, ODD, False) if found.parity == ODD else None

    # -- indices ----------------------------------------------------------------------------------------

    def _gathered(self, base, index) -> Lags | None:
        """``base[I]``; an index below zero counts from the end."""
        n = base.type.shape[0]
        if isinstance(index, Constant) and n is not None and index.data.dtype.kind in "iu":
            index = pt.constant(np.where(index.data < 0, index.data + n, index.data))
        found = self.of(index)
        if found is None or not (found.parity == EVEN or found.circulant) or found.column.type.ndim != 1:
            return None
        return Lags(base[found.column], found.parity, found.circulant)

    def _reshaped(self, inner, shape) -> Lags | None:
        """``base[I.ravel()].reshape((n, n))``"""
        match inner.owner_op_and_inputs:
            case (AdvancedSubtensor(idx_list=(0,)), base, Constant(data=index)) if base.type.ndim == 1:
                return self._gathered(base, pt.constant(index.reshape(shape)))
        return None

    def _is_range_of_lags(self, left, right) -> bool:
        """``arange(n)[:, None] - arange(n)[None, :]`` of an unknown n."""
        match left.owner_op_and_inputs, right.owner_op_and_inputs:
            case (DimShuffle(new_order=(0, "x")), rows), (DimShuffle(new_order=("x", 0)), columns):
                return rows is columns and _range(rows) is not None
        return False

    def _modulo(self, found, divisor) -> Lags | None:
        """``(arange(n)[:, None] - arange(n)[None, :]) % n``"""
        stop = None if found is None else _range(found.column)
        return (
            Lags(found.column, NEITHER, True) if stop is not None and same(stop, scalar_of(divisor)) else None
        )

    # -- points -----------------------------------------------------------------------------------------

    def _of_points(self, var) -> Lags | None:
        """A power of ``x_i - x_j``, and a number, of evenly spaced constant points."""
        pair = self._line.of(var) if var.type.numpy_dtype.kind == "f" else None
        if not isinstance(pair, Pair) or self._line.x is None:
            return None
        x, n = self._line.x, len(self._line.x)
        h = (x[-1] - x[0]) / max(n - 1, 1)
        spread = np.abs(x - (x[0] + h * np.arange(n))).max()
        if n != var.type.shape[0] or not spread <= SPACING * np.finfo(x.dtype).eps * np.abs(x).max():
            return None
        found = pair.of_difference()
        if found is None:
            return None
        power, coefficient, added = found
        lag = h / self._line.half * np.arange(n)
        column = self._line.scalars.variable(coefficient) * pt.constant(lag**power)
        if added:
            column = column + self._line.scalars.variable(added)
        return Lags(column, ODD if power == 1 else EVEN, False) if power == 2 or not added else None

    def _of_identity(self, var) -> Lags | None:
        """A multiple of the identity."""
        terms = self.terms(var)
        if not terms or not all(isinstance(term, Diagonal) for term in terms):
            return None
        d = diagonal_of(terms)
        value = value_of(d)
        if value is None:
            return None
        first = pt.concatenate([value.reshape((1,)), pt.zeros((length(d, 0) - 1,), dtype=value.type.dtype)])
        return Lags(first, EVEN, True)

    # -- elementwise ------------------------------------------------------------------------------------

    def _elementwise(self, op, read) -> Lags | None:
        circulant = all(one.circulant for one in read)
        parity = _parity(op.scalar_op, read)
        if not circulant and parity == NEITHER:
            return None
        return Lags(op(*(one.column for one in read)), parity, circulant)


def _parity(op, read) -> int:
    found = [one.parity for one in read]
    if NEITHER in found or all(parity == EVEN for parity in found):
        return NEITHER if NEITHER in found else EVEN
    if isinstance(op, EVEN_FUNCTIONS):
        return EVEN
    if isinstance(op, ODD_FUNCTIONS) or (isinstance(op, ps.Cast) and op.o_type.dtype[0] in "fi"):
        return ODD
    if isinstance(op, ps.Mul | ps.TrueDiv):
        return ODD if found.count(ODD) % 2 else EVEN
    if isinstance(op, ps.Add | ps.Sub) and EVEN not in found:
        return ODD
    if isinstance(op, ps.Pow) and found[1] == EVEN and isinstance(read[1].column, Constant):
        power = read[1].column.data
        return EVEN if power.size == 1 and power.item() % 2 == 0 else NEITHER
    return NEITHER


def _unshuffled(var):
    return var if scalar_of(var) is None else scalar_of(var)


def _range(var):
    """n of ``arange(n)``"""
    match var.owner_op_and_inputs:
        case (ARange(), Constant(data=start), stop, Constant(data=step)) if start == 0 and step == 1:
            return stop
    return None


def _of_constant(M) -> Lags | None:
    n = len(M)
    if M.shape != (n, n) or n == 0 or M.dtype.kind not in "fiu":
        return None
    most = 0 if M.dtype.kind != "f" else ROUNDING * np.finfo(M.dtype).eps * np.abs(M).max()

    def close(a, b):
        return bool((np.abs(a - b) <= most).all())

    M = M.astype(float) if M.dtype.kind == "f" else M.astype(np.int64)
    if not _is_toeplitz(M, close):
        return None
    column, row = M[:, 0], M[0]
    circulant = close(column[1:], row[:0:-1])
    parity = EVEN if close(column, row) else ODD if close(column, -row) else NEITHER
    return Lags(pt.constant(np.ascontiguousarray(column)), parity, circulant)


def _is_toeplitz(M, close) -> bool:
    """Whether every row is near the first one and the first column, moved on."""
    n = len(M)
    w = np.concatenate([M[:0:-1, 0], M[0]])
    return all(close(M[i], w[n - 1 - i : 2 * n - 1 - i]) for i in range(n - 1, 0, -1))
