"""Which matrices are symmetric by the way they are computed, whatever the numbers are.

A matrix and its transpose are written in one normal form, in which the order of the operands of sums and
products does not count: if the two agree, it is symmetric, up to rounding. So ``exp(-(x_i - x_j)^2)`` is, and
``q[:, None] - 2 X X' + q[None, :]``, and ``A + A'``. Of an array of more axes the first two change places.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.scalar as ps
from pytensor.assumptions.specify import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import Alloc, AllocDiag, Eye, Join
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise
from pytensor.tensor.linalg.inverse import MatrixInverse
from pytensor.tensor.linalg.products import KroneckerProduct
from pytensor.tensor.linalg.solvers.general import Solve
from pytensor.tensor.linalg.solvers.psd import CholeskySolve
from pytensor.tensor.math import Dot
from pytensor.tensor.subtensor import AdvancedIncSubtensor, AdvancedSubtensor

from autotune.algebra.marks import Mark
from autotune.read.factors import same, split_factors
from autotune.read.groups import indexed_alike, placed_alike
from autotune.read.joins import grid_of

COMMUTATIVE = (ps.Mul, ps.ScalarMaximum, ps.ScalarMinimum, ps.EQ, ps.AND, ps.OR)
# Of a difference these are the same as of the difference the other way round.
EVEN = (ps.Sqr, ps.Abs, ps.Cosh, ps.Cos)
# Operations of a group, and their inverses: what the last operand is taken off by.
SUMS = ((ps.Add,), (ps.Sub, ps.Neg))
PRODUCTS = ((ps.Mul,), (ps.TrueDiv,))
# Ops above a matrix that are looked at.
MOST = 200


class Symmetry:
    """Proofs of symmetry; ``known`` says of a variable whether it is known to be symmetric."""

    def __init__(self, known: Any) -> None:
        self.known = known
        self.forms: dict[tuple[Any, bool], int] = {}
        self.numbers: dict[Any, int] = {}
        self.leaves: list[Any] = []
        self.constants: list[Any] = []
        self.left = MOST

    def holds(self, matrix: Any) -> bool:
        """Whether the matrix, 2-d, is proven to be its own transpose."""
        if matrix.type.ndim != 2:
            return False
        return self.are_transposed(matrix, matrix)

    def are_transposed(self, a: Any, b: Any) -> bool:
        """Whether one matrix, 2-d, is proven to be the transpose of the other."""
        self.left = MOST
        return self.form(a, False) == self.form(b, True)

    def form(self, var: Any, transposed: bool) -> int:
        """A number for the normal form of an array, or of the one with its first two axes swapped."""
        key = (var, transposed)
        if key not in self.forms:
            self.left -= 1
            self.forms[key] = self._number(self._form(var, transposed))
        return self.forms[key]

    def _form(self, var: Any, transposed: bool) -> tuple[Any, ...]:
        pattern = var.type.broadcastable
        if all(pattern[:2]):
            return ("scalar", self._leaf(var))
        if self.left <= 0:
            return ("leaf", self._leaf(var), transposed)
        if var.type.ndim == 2 and not any(pattern) and self.known(var):
            return ("symmetric", self._leaf(var))
        if isinstance(var, Constant):
            return ("constant", self._constant(var.data.swapaxes(0, 1) if transposed else var.data))
        match var.owner_op_and_inputs:
            case (Elemwise(scalar_op=op), *inputs):
                return self._elementwise(op, var, inputs, transposed)
            case (SpecifyAssumptions() | Mark(), inner, *_):
                return ("view", self.form(inner, transposed))
            case (DimShuffle(new_order=order), inner) if order == (1, 0, *range(2, inner.type.ndim)):
                return ("view", self.form(inner, not transposed))
            case (DimShuffle(new_order=(first, second, *rest)), inner):
                pair = (second, first) if transposed else (first, second)
                return ("shuffle", self._leaf(inner), *map(str, (*pair, *rest)))
            case (CAReduce(axis=axes) as op, inner) if axes and min(axes) >= 2:
                return (str(op), self.form(inner, transposed))
            case (Dot() | Blockwise(core_op=Dot()), *_) if var.type.ndim == 2:
                scalars, matrices = self._chain(var, transposed)
                return ("dot", *sorted(scalars), "of", *matrices)
            case (AdvancedSubtensor(), *_) if (found := indexed_alike(var)) is not None:
                return ("indexed", self.form(found[0], transposed), self._leaf(found[1]))
            case (AdvancedIncSubtensor(), *_) if (found := placed_alike(var)) is not None:
                return ("placed", self.form(found[0], transposed), self._leaf(found[1]))
            case (KroneckerProduct(), *factors):
                return ("kron", *(self.form(i, transposed) for i in factors))
            case (AllocDiag(offset=0), v) if v.type.ndim == 1:
                return ("diagonal", self._leaf(v))
            case (Alloc(), value, *_) if (
                _is_scalar(value) and var.type.ndim == 2 and None not in var.type.shape
            ):
                shape = var.type.shape[::-1] if transposed else var.type.shape
                return ("filled", self._leaf(value), *shape)
            case (Join(), *_) if (grid := grid_of(var)) is not None:
                rows = zip(*grid, strict=True) if transposed else grid
                return ("blocks", len(grid), *(self.form(block, transposed) for row in rows for block in row))
            case (Eye(), rows, columns, Constant() as k) if same(rows, columns) and not k.data.any():
                return ("symmetric", self._leaf(var))
        if var.type.ndim == 2 and _solved(var) is not None:
            scalars, matrices = self._chain(var, transposed)
            return ("dot", *sorted(scalars), "of", *matrices)
        return ("leaf", self._leaf(var), transposed)

    def _elementwise(self, op: Any, var: Any, inputs: Any, transposed: bool) -> tuple[Any, ...]:
        if isinstance(op, ps.Add | ps.Sub | ps.Neg):
            return ("sum", *sorted(self._operands(var, transposed, SUMS, 1)))
        if isinstance(op, ps.Mul | ps.TrueDiv) and var.type.numpy_dtype.kind == "f":
            return ("product", *sorted(self._operands(var, transposed, PRODUCTS, 1)))
        if isinstance(op, EVEN) or _is_even_power(op, inputs):
            match inputs[0].owner_op_and_inputs:
                case (Elemwise(scalar_op=ps.Sub()), left, right):
                    pair = sorted(self.form(i, transposed) for i in (left, right))
                    rest = (self.form(i, transposed) for i in inputs[1:])
                    return (type(op).__name__, "difference", *pair, *rest)
        forms = [self.form(i, transposed) for i in inputs]
        return (str(op), *(sorted(forms) if isinstance(op, COMMUTATIVE) else forms))

    def _operands(self, var: Any, transposed: bool, group: Any, sign: int) -> list[tuple[int, int]]:
        """What an array is the sum or product of, elementwise and in its dtype: -1 for what is taken off."""
        forwards, backwards = group
        match var.owner_op_and_inputs:
            case (DimShuffle(new_order=(1, 0)), inner) if self.left > 0:
                return self._operands(inner, not transposed, group, sign)
            case (Elemwise(scalar_op=op), *inputs) if self.left > 0 and isinstance(op, forwards + backwards):
                self.left -= 1
                signs = [sign] * len(inputs)
                if isinstance(op, backwards):
                    signs[-1] = -sign
                found = []
                for own, one in zip(signs, inputs, strict=True):
                    inside = one.type.dtype == var.type.dtype
                    found += (
                        self._operands(one, transposed, group, own)
                        if inside
                        else [(own, self.form(one, transposed))]
                    )
                return found
        return [(sign, self.form(var, transposed))]

    def _chain(self, var: Any, transposed: bool) -> tuple[list[tuple[str, int]], list[int]]:
        """The scalar factors of a product of matrices, and its other factors in their order."""
        scalars: list[tuple[str, int]] = []
        while True:
            match var.owner_op_and_inputs:
                case (DimShuffle(new_order=(1, 0)), inner):
                    var, transposed = inner, not transposed
                case (Elemwise(scalar_op=ps.Neg()), inner):
                    var = inner
                    scalars.append(("negated", 0))
                case (Elemwise(scalar_op=ps.TrueDiv()), inner, scalar) if _is_scalar(scalar):
                    var = inner
                    scalars.append(("divided", self._leaf(scalar)))
                case (Elemwise(scalar_op=ps.Mul()), *factors) if split := _scaled_matrix(factors):
                    var, vectors = split
                    scalars += [("times", self._leaf(one)) for one in factors if _is_scalar(one)]
                    if vectors:
                        return scalars, self._scaled_chain(var, vectors, transposed)
                case (Dot() | Blockwise(core_op=Dot()), left, right) if var.type.ndim == 2 and self.left > 0:
                    self.left -= 1
                    pair = (right, left) if transposed else (left, right)
                    found = [self._chain(one, transposed) for one in pair]
                    return [*scalars, *found[0][0], *found[1][0]], [*found[0][1], *found[1][1]]
                case _ if var.type.ndim == 2 and (solved := _solved(var)) is not None and self.left > 0:
                    self.left -= 1
                    kind, matrix, rhs = solved
                    # what is solved with by its factor is symmetric
                    form = self.form(matrix, transposed and kind == "inverse")
                    inverse = self._number((kind, form))
                    more, factors = self._chain(rhs, transposed) if rhs is not None else ([], [])
                    return [*scalars, *more], [*factors, inverse] if transposed else [inverse, *factors]
                case _:
                    return scalars, [self.form(var, transposed)]

    def _scaled_chain(self, var: Any, vectors: list[Any], transposed: bool) -> list[int]:
        """The factors of ``diag(a) A diag(b)``, as rows and columns times A are."""
        left, right = (
            [self._number(("diagonal", self._leaf(v))) for side, v in vectors if side == one]
            for one in (("row", "column") if transposed else ("column", "row"))
        )
        return [*sorted(left), self.form(var, transposed), *sorted(right)]

    def _leaf(self, var: Any) -> int:
        """One number for a variable, for equal constants and for equal views."""
        for number, known in enumerate(self.leaves):
            if known is var or same(known, var):
                return number
        self.leaves.append(var)
        return len(self.leaves) - 1

    def _constant(self, data: Any) -> int:
        """One number for equal arrays: ``X`` and ``X'`` of a constant may have become two."""
        for number, known in enumerate(self.constants):
            if known.dtype == data.dtype and np.array_equal(known, data):
                return number
        self.constants.append(data)
        return len(self.constants) - 1

    def _number(self, form: Any) -> int:
        if form[0] == "view":
            return int(form[1])
        return self.numbers.setdefault(form, len(self.numbers))


def _scaled_matrix(factors: Any) -> tuple[Any, list[tuple[str, Any]]] | None:
    """The one matrix among factors of an elementwise product, and rows and columns beside it."""
    _, vectors, matrices = split_factors(factors)
    return (matrices[0], vectors) if len(matrices) == 1 else None


def _solved(var: Any) -> tuple[str, Any, Any] | None:
    """``A^-1 B`` as ``("inverse", A, B)``, or by a factor L of A as ``("lower" or "upper", L, B)``."""
    op = var.owner_op.core_op if isinstance(var.owner_op, Blockwise) else var.owner_op
    match op:
        case Solve(b_ndim=2):
            return ("inverse", *var.owner.inputs)
        case CholeskySolve(b_ndim=2, lower=lower):
            return ("lower" if lower else "upper", *var.owner.inputs)
        case MatrixInverse():
            return ("inverse", var.owner.inputs[0], None)
    return None


def _is_scalar(var: Any) -> bool:
    return all(var.type.broadcastable)


def _is_even_power(op: Any, inputs: Any) -> bool:
    if not isinstance(op, ps.Pow) or not isinstance(inputs[1], Constant):
        return False
    return bool((inputs[1].data % 2 == 0).all())
