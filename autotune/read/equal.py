"""Which matrices are equal by the way they are computed, whatever the numbers are.

Two matrices of one normal form (`autotune.read.symmetry`) are equal up to rounding: with their terms in
another order, seen through transposes of symmetric matrices, symmetrised, with scalars and vectors expanded
before or after they are computed, with equal constants, with identities that were folded into constants.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytensor.scalar as ps
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import ancestors
from pytensor.tensor.basic import Eye
from pytensor.tensor.elemwise import DimShuffle, Elemwise

from autotune.read.symmetry import SUMS, Symmetry

# Ops above a matrix that are looked at.
MOST = 2000


def equal_matrices(matrices: Iterable[Any], known: Any) -> list[tuple[Any, Any]]:
    """Pairs of a matrix and another of ``matrices`` that it is proven to equal, made of no more than it is.

    ``known`` says of a variable whether it is known to be symmetric.
    """
    forms, pairs = NormalForms(known), []
    for alike in _several(matrices, lambda matrix: matrix.type):
        for equal in _several(alike, forms.of) if alike[0].type.ndim == 2 else ():
            first, *others = sorted(equal, key=_made_of)  # the first is made of none of the others
            pairs += [(matrix, first) for matrix in others]
    return pairs


def _several(matrices: Iterable[Any], key: Callable[[Any], Any]) -> list[list[Any]]:
    """Those that share a key with others."""
    found = defaultdict(list)
    for matrix in matrices:
        found[key(matrix)].append(matrix)
    return [some for some in found.values() if len(some) > 1]


def _made_of(matrix: Any) -> int:
    return sum(1 for _ in ancestors([matrix]))


class NormalForms(Symmetry):
    """Normal forms that tell what a matrix is worth."""

    def __init__(self, known: Any) -> None:
        super().__init__(lambda var: False)  # of what is known to be symmetric the form tells more
        self.known_leaf = known

    def of(self, matrix: Any) -> int:
        """A number that equal matrices share."""
        self.left = MOST
        return self.form(matrix, False)

    def _form(self, var: Any, transposed: bool) -> tuple[Any, ...]:
        if all(var.type.broadcastable):
            return self._scalar(var)
        identity = multiple_of_identity(var)
        if identity is not None:
            return self._times_identity(var.dtype, *identity)
        match var.owner_op_and_inputs:
            case (Elemwise(scalar_op=ps.Mul() | ps.TrueDiv() as op), *factors):
                summand = self._half_of_sum(op, factors, transposed)
                if summand is not None:
                    return ("view", summand)
            case (DimShuffle(new_order=order, drop=()), inner) if isinstance(inner.owner_op, Elemwise):
                lifted = inner.owner.op(*(one.dimshuffle(order) for one in inner.owner.inputs))
                return ("view", self.form(lifted, transposed))
        form = super()._form(var, transposed)
        return ("leaf", form[1], False) if form[0] == "leaf" and self.known_leaf(var) else form

    def _constant(self, data: Any) -> int:
        key = hashlib.sha256(np.ascontiguousarray(data + np.zeros((), data.dtype))).digest()  # -0 is 0
        return self._number(("values", data.dtype.str, data.shape, key))

    def _scalar(self, var: Any) -> tuple[Any, ...]:
        """The form of a single number, whatever its axes."""
        if isinstance(var, Constant):
            return ("number", var.dtype, var.data.item())
        match var.owner_op_and_inputs:
            case (DimShuffle(), inner):
                return ("view", self.form(inner, False))
            case (Elemwise(scalar_op=op), *inputs) if self.left > 0:
                return self._elementwise(op, var, inputs, False)
        return ("scalar", self._leaf(var))

    def _times_identity(self, dtype: str, n: int, number: float) -> tuple[Any, ...]:
        identity = ("identity", dtype, n)
        if number == 1:
            return identity
        return ("product", *sorted((1, self._number(one)) for one in (("number", dtype, number), identity)))

    def _half_of_sum(self, op: Any, factors: Any, transposed: bool) -> int | None:
        """The form of ``A``, given the factors of ``(A + A') / 2`` or ``0.5 * (A + A')``; else None."""
        half = 2 if isinstance(op, ps.TrueDiv) else 0.5
        numbers = [one for one in factors if isinstance(one, Constant) and all(one.type.broadcastable)]
        if len(factors) != 2 or len(numbers) != 1 or numbers[0].data.item() != half:
            return None
        [total] = [one for one in factors if one is not numbers[0]]
        terms = sorted(self._operands(total, transposed, SUMS, 1))
        if len(terms) < 2 or terms[::2] != terms[1::2]:
            return None
        [(sign, form), *more] = terms[::2]
        return form if sign == 1 and not more else self._number(("sum", *terms[::2]))


def multiple_of_identity(var: Any) -> tuple[int, Any] | None:
    """``(n, c)`` of ``c * eye(n)``, as an Op or as a constant; else None."""
    match var.owner_op_and_inputs:
        case (Eye(), Constant(data=rows), Constant(data=columns), Constant(data=offset)):
            return (int(rows), 1) if rows == columns and offset == 0 else None
    if not isinstance(var, Constant) or var.type.ndim != 2 or len(set(var.data.shape)) != 1:
        return None
    n, number = len(var.data), var.data[0, 0]
    identity = number != 0 and np.count_nonzero(var.data) == n and (np.diagonal(var.data) == number).all()
    return (n, number.item()) if identity else None
