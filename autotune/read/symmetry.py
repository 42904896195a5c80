"""Which matrices are symmetric by the way they are computed, whatever the numbers are.

A matrix and its transpose are written in one normal form, in which the order of the operands of sums and
products does not count: if the two agree, it is symmetric. So ``exp(-(x_i - x_j)^2)`` is, and
``q[:, None] + q[None, :] - 2 X X'``, and ``A + A'``.
"""

from __future__ import annotations

from typing import Any

import pytensor.scalar as ps
from pytensor.assumptions.specify import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import AllocDiag, Eye
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.linalg.products import KroneckerProduct
from pytensor.tensor.math import Dot

from autotune.algebra.marks import Mark
from autotune.read.factors import same

COMMUTATIVE = (ps.Add, ps.Mul, ps.ScalarMaximum, ps.ScalarMinimum, ps.EQ, ps.AND, ps.OR)
# Of a difference these are the same as of the difference the other way round.
EVEN = (ps.Sqr, ps.Abs, ps.Cosh, ps.Cos)
# Ops above a matrix that are looked at.
MOST = 200


class Symmetry:
    """Proofs of symmetry; ``known`` says of a variable whether it is known to be symmetric."""

    def __init__(self, known: Any) -> None:
        self.known = known
        self.forms: dict[tuple[Any, bool], int] = {}
        self.numbers: dict[Any, int] = {}
        self.leaves: list[Any] = []
        self.left = MOST

    def holds(self, matrix: Any) -> bool:
        """Whether the matrix, 2-d, is proven to be its own transpose."""
        if matrix.type.ndim != 2:
            return False
        self.left = MOST
        return self.form(matrix, False) == self.form(matrix, True)

    def form(self, var: Any, transposed: bool) -> int:
        """A number for the normal form of a matrix or of its transpose."""
        key = (var, transposed)
        if key not in self.forms:
            self.left -= 1
            self.forms[key] = self._number(self._form(var, transposed))
        return self.forms[key]

    def _form(self, var: Any, transposed: bool) -> tuple[Any, ...]:
        pattern = var.type.broadcastable
        if all(pattern) or var.type.ndim < 2:
            return ("scalar", self._leaf(var))
        if self.left <= 0 or var.type.ndim > 2:
            return ("leaf", self._leaf(var), transposed)
        if not any(pattern) and self.known(var):
            return ("symmetric", self._leaf(var))
        match var.owner_op_and_inputs:
            case (Elemwise(scalar_op=op), *inputs):
                return self._elementwise(op, inputs, transposed)
            case (SpecifyAssumptions() | Mark(), inner, *_):
                return ("view", self.form(inner, transposed))
            case (DimShuffle(new_order=(1, 0)), inner):
                return ("view", self.form(inner, not transposed))
            case (DimShuffle(new_order=order), inner) if inner.type.ndim == 1:
                return ("vector", self._leaf(inner), (order[0] == "x") != transposed)
            case (Dot() | Blockwise(core_op=Dot()), left, right):
                pair = (right, left) if transposed else (left, right)
                return ("dot", *(self.form(i, transposed) for i in pair))
            case (KroneckerProduct(), *factors):
                return ("kron", *(self.form(i, transposed) for i in factors))
            case (AllocDiag() | Eye(), *_):
                return (
                    ("symmetric", self._leaf(var))
                    if _is_square(var)
                    else ("leaf", self._leaf(var), transposed)
                )
        return ("leaf", self._leaf(var), transposed)

    def _elementwise(self, op: Any, inputs: Any, transposed: bool) -> tuple[Any, ...]:
        if isinstance(op, EVEN) or _is_even_power(op, inputs):
            match inputs[0].owner_op_and_inputs:
                case (Elemwise(scalar_op=ps.Sub()), left, right):
                    pair = sorted(self.form(i, transposed) for i in (left, right))
                    rest = (self.form(i, transposed) for i in inputs[1:])
                    return (type(op).__name__, "difference", *pair, *rest)
        forms = [self.form(i, transposed) for i in inputs]
        return (str(op), *(sorted(forms) if isinstance(op, COMMUTATIVE) else forms))

    def _leaf(self, var: Any) -> int:
        """One number for a variable, for equal constants and for equal views."""
        for number, known in enumerate(self.leaves):
            if known is var or same(known, var):
                return number
        self.leaves.append(var)
        return len(self.leaves) - 1

    def _number(self, form: Any) -> int:
        if form[0] == "view":
            return int(form[1])
        return self.numbers.setdefault(form, len(self.numbers))


def _is_even_power(op: Any, inputs: Any) -> bool:
    if not isinstance(op, ps.Pow) or not isinstance(inputs[1], Constant):
        return False
    return bool((inputs[1].data % 2 == 0).all())


def _is_square(var: Any) -> bool:
    match var.owner_op_and_inputs:
        case (AllocDiag(offset=offset), _):
            return offset == 0
        case (Eye(), rows, columns, Constant() as offset):
            return same(rows, columns) and not offset.data.any()
    return False
