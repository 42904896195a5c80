"""Gradient graphs: where a cotangent of a matrix is contracted, ask for the thin result.

A graph that was differentiated before it reached the pass holds sums of ``A^-1`` and outer products
of solutions: n x n matrices of which it uses a product with a thin matrix, the diagonal, or a sum.
``Contracted`` follows such sums through the graph and notes the contraction's thin form
(`autotune.read.contractions`) as replacement: all of them for ``A = diag(d) + U diag(c) V.T``, the
diagonals for a dense ``A``, whose inverse is the cheapest way to the others.
"""

from __future__ import annotations

from typing import Any

import pytensor.scalar as ps
from pytensor.compile.builders import OpFromGraph
from pytensor.graph.basic import equal_computations
from pytensor.tensor.basic import ARange, ExtractDiag
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot, Sum
from pytensor.tensor.shape import SpecifyShape
from pytensor.tensor.subtensor import AdvancedSubtensor

from autotune.algebra.diagonal import Diagonal
from autotune.algebra.low_rank import LowRank
from autotune.read.contractions import (
    InverseTerm,
    columns_of,
    diagonal_of,
    is_supported,
    is_thin,
    kind_of,
    matmul_of,
    readings_of,
    rmatmul_of,
    row_products_of,
    row_sums_of,
    thin,
)
from autotune.read.elementwise import scale_sides
from autotune.read.factors import scalar_of, split_factors
from autotune.read.matrices import Recogniser

LINEAR = (ps.Add, ps.Sub, ps.Neg, ps.Mul, ps.TrueDiv)


class Contracted:
    """Follows inverses and solutions; ``note(readings, old, new)`` takes what is found.

    ``answered``: solutions of structured matrices, their views and multiples. ``touched``: matrices
    made of inverses or of outer products of solutions, with their readings.
    """

    def __init__(self, note) -> None:
        self.note = note
        self.inverses: dict[Any, InverseTerm] = {}
        self.recogniser = Recogniser(self.inverses)
        self.answered: dict[Any, Any] = {}
        self.touched: dict[Any, tuple[Any, ...]] = {}
        self.products: list[Any] = []

    def add_inverse(self, var, reading, *, transposed=False, checked=False) -> None:
        if not reading.batched and var.ndim == 2:
            self.inverses[var] = InverseTerm(reading, transposed, checked=checked)
            self.touched[var] = (reading,)

    def add_answer(self, var, reading) -> None:
        if is_structured(reading) and 0 < var.ndim <= 2:
            self.answered[var] = reading

    # -- the walk -----------------------------------------------------------------------------------

    def visit(self, node) -> None:
        if not any(i in self.touched or i in self.answered for i in node.inputs):
            return
        op = node.op.core_op if isinstance(node.op, Blockwise) else node.op
        match op:
            case Dot():
                self._dot(node)
            case DimShuffle() | SpecifyShape():
                self._follow(node)
            case Elemwise() if isinstance(op.scalar_op, LINEAR):
                self._follow(node)
            case Sum():
                self._sum(node)
            case ExtractDiag(offset=0) if node.inputs[0].ndim == 2 and node.inputs[0] not in self.inverses:
                self._diagonal(node, node.inputs[0])
            case OpFromGraph() if type(op) is OpFromGraph:
                position = diagonal_pullback(op)
                if position is not None:
                    self._diagonal(node, node.inputs[position])

    def _follow(self, node) -> None:
        """Views, sums and products of what is followed are followed."""
        out = node.outputs[0]
        sources = [i for i in node.inputs if i in self.touched or i in self.answered]
        if len(sources) == 1 and sources[0] in self.answered and self._is_multiple(node, sources[0]):
            self.answered[out] = self.answered[sources[0]]
        elif is_matrix(out):
            readings = [r for i in sources for r in self._readings(i)]
            self.touched[out] = tuple(dict.fromkeys(readings))

    def _readings(self, var) -> tuple[Any, ...]:
        """Of what is followed: none where an inverse is in it that no reading is needed for."""
        return self.touched[var] if var in self.touched else (self.answered[var],)

    @staticmethod
    def _is_multiple(node, source) -> bool:
        return isinstance(node.op, DimShuffle | SpecifyShape) or all(
            i is source or all(i.type.broadcastable) for i in node.inputs
        )

    # -- contractions -------------------------------------------------------------------------------

    def _dot(self, node) -> None:
        left, right = node.inputs
        out = node.outputs[0]
        if out.ndim != 2:
            return
        if self.recogniser.has_inverse(left) or self.recogniser.has_inverse(right):
            if self.recogniser.terms(out):
                self.touched[out] = tuple(r for i in node.inputs for r in self.touched.get(i, ()))
                self.products.append(out)
            elif left not in self.inverses and right not in self.inverses:
                self._times_thin(node)  # else it is a solve, read as such
        elif left in self.touched or right in self.touched:
            self._times_thin(node)
        elif is_matrix(out) and (readings := self._thin_outer(out)):
            self.touched[out] = readings

    def _times_thin(self, node) -> None:
        left, right = node.inputs
        if not all(is_structured(r) for i in node.inputs for r in self.touched.get(i, ())):
            return
        if left in self.touched and (terms := self._readable(left)):
            self._commit(node, terms, self.touched[left], lambda: matmul_of(terms, right))
        elif right in self.touched and (terms := self._readable(right)):
            self._commit(node, terms, self.touched[right], lambda: rmatmul_of(terms, left.mT).mT)

    def _thin_outer(self, out):
        """The readings that answered a factor of a product whose inner dimension is the smaller one."""
        left, right = out.owner.inputs
        terms = self.recogniser.terms(out)
        if not terms or not all(is_thin(t) for t in terms) or out.type.shape[0] != out.type.shape[1]:
            return ()
        return tuple(dict.fromkeys(self.answered[i] for i in (left, right) if i in self.answered))

    def _diagonal(self, node, matrix) -> None:
        if matrix not in self.touched:
            return
        terms = self._readable(matrix)
        if terms and is_supported(terms):
            self._commit(node, terms, self.touched[matrix], lambda: diagonal_of(terms))

    def _sum(self, node) -> None:
        [matrix] = node.inputs
        if matrix.ndim != 2 or matrix not in self.touched:
            return
        axes = {0, 1} if node.op.axis is None else {a % 2 for a in node.op.axis}
        parts = self._addends(matrix)
        if parts is None or not (
            all(map(is_structured, self.touched[matrix])) or all(map(_is_diagonal, parts))
        ):
            return

        def value():
            summed = [_transposed(part) for part in parts] if axes == {0} else parts
            n = columns_of(summed[0][1][0])  # a sum over columns hides how many they were
            total = sum(_row_sums(part, n) for part in summed)
            return total.sum() if len(axes) == 2 else total

        involved = [t for part in parts for terms in part[1:] for t in terms or ()]
        self._commit(node, involved, self.touched[matrix], value)

    def _addends(self, var) -> list[tuple] | None:
        """``var`` as a sum of ``s * A`` and ``s * A * B`` (elementwise), A and B lists of terms."""
        terms = self._readable(var) if is_matrix(var) else None
        if terms:
            return [(None, terms, None)]
        match var.owner_op_and_inputs:
            case (Elemwise(scalar_op=ps.Add()), *inputs):
                return _joined([self._addends(i) for i in inputs])
            case (Elemwise(scalar_op=ps.Sub()), left, right):
                return _joined([self._addends(left), _scaled(self._addends(right), -1.0)])
            case (Elemwise(scalar_op=ps.Neg()), inner):
                return _scaled(self._addends(inner), -1.0)
            case (Elemwise(scalar_op=ps.Mul()), *factors):
                return self._products(factors)
            case (Elemwise(scalar_op=ps.TrueDiv()), inner, divisor):
                s = scalar_of(divisor)
                return None if s is None else _scaled(self._addends(inner), 1.0 / s)
        return None

    def _products(self, factors):
        scalar, vectors, matrices = split_factors(factors)
        if len(matrices) == 1 and not vectors and scalar is not None:
            return _scaled(self._addends(matrices[0]), scalar)
        if len(matrices) != 2:
            return None
        a, b = (self._readable(m) or self.recogniser.terms(m) for m in matrices)
        if not a or not b or not is_supported(a, b):
            return None
        return [(scalar, [scale_sides(t, vectors) for t in a] if vectors else a, b)]

    def _readable(self, var):
        """The terms of a sum of inverses and thin terms; None if multiplying with them is not cheap."""
        terms = self.recogniser.terms(var) or []
        return terms if readings_of(terms) or all(map(is_thin, terms)) else None

    def _commit(self, node, terms, touched, make) -> None:
        readings = tuple(dict.fromkeys((*readings_of(terms), *touched)))
        self.note(readings, node.outputs[0], make())

    def dense_products(self, needed) -> None:
        """Form the products of followed matrices that the graph still needs as such, last ones first."""
        for out in reversed(self.products):
            terms = self.recogniser.terms(out) or []
            readings = readings_of(terms)
            if readings and needed(out) and all(kind_of(t) in (Diagonal, LowRank) for t in terms):
                dense = [thin(t).to_dense() for t in terms]
                self.note(readings, out, sum(dense[1:], dense[0]))


def is_structured(reading) -> bool:
    return "dense" not in reading.operator.structure and not reading.batched


def is_matrix(var) -> bool:
    return var.ndim == 2 and not any(var.type.broadcastable)


def _is_diagonal(part) -> bool:
    _, a, b = part
    return b is None and all(kind_of(term) is Diagonal for term in a)


def _joined(groups: list[list[tuple] | None]) -> list[tuple] | None:
    read = [group for group in groups if group is not None]
    return [part for group in read for part in group] if len(read) == len(groups) else None


def _scaled(parts: list[tuple] | None, s) -> list[tuple] | None:
    return parts and [(s if scale is None else scale * s, a, b) for scale, a, b in parts]


def _transposed(part):
    scale, a, b = part
    return scale, [t.transpose() for t in a], b and [t.transpose() for t in b]


def _row_sums(part, n):
    scale, a, b = part
    value = row_sums_of(a, n) if b is None else row_products_of(a, b)
    return value if scale is None else value * scale


def diagonal_pullback(op) -> int | None:
    """Where among its inputs an Op has the ``G`` of which it gives ``diag(G)``, like AllocDiag's pullback."""
    inputs, outputs = op.fgraph.inputs, op.fgraph.outputs
    if len(outputs) != 1:
        return None
    match outputs[0].owner_op_and_inputs:
        case (AdvancedSubtensor(), matrix, rows, columns):
            is_diagonal = _is_range(rows) and equal_computations([rows], [columns])
            if is_diagonal and matrix in inputs and matrix.ndim == 2:
                return inputs.index(matrix)
    return None


def _is_range(index) -> bool:
    """``arange(0, length, 1)``, perhaps with zero added."""
    match index.owner_op_and_inputs:
        case (Elemwise(scalar_op=ps.Add()), base, offset):
            while isinstance(offset.owner_op, DimShuffle):
                offset = offset.owner.inputs[0]
            return getattr(offset, "data", None) == 0 and _is_range(base)
        case (ARange(), start, _, step):
            return getattr(start, "data", None) == 0 and getattr(step, "data", None) == 1
    return False
