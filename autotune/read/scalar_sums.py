"""Scalars as sums of products of powers, so that two that are equal are seen to be.

``s * s`` and ``sqr(s)`` are one, ``x / ls`` and ``x * (1 / ls)``. What is no such sum is an atom.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.tensor.elemwise import DimShuffle, Elemwise

Monomial = tuple[tuple[int, int], ...]
"""Numbers of atoms, and the power of each."""
Sum = dict[Monomial, float]


class ScalarSums:
    """Sums of the scalars of one graph; atoms are numbered as they are met."""

    def __init__(self):
        self._atoms: dict[Any, int] = {}
        self._variables: list[Any] = []
        self._made: dict[Any, Any] = {}

    def of(self, var) -> Sum:
        """A variable, all of whose axes have length 1."""
        while isinstance(var.owner_op, DimShuffle):
            var = var.owner.inputs[0]
        if isinstance(var, Constant):
            return number(float(var.data.item())) if var.data.size == 1 else self.atom(var)
        match var.owner_op_and_inputs:
            case (Elemwise(scalar_op=ps.Mul()), *factors):
                return reduce(times, map(self.of, factors))
            case (Elemwise(scalar_op=ps.Add()), *addends):
                return reduce(plus, map(self.of, addends))
            case (Elemwise(scalar_op=ps.Sub()), left, right):
                return plus(self.of(left), times(number(-1.0), self.of(right)))
            case (Elemwise(scalar_op=ps.Neg()), inner):
                return times(number(-1.0), self.of(inner))
            case (Elemwise(scalar_op=ps.Sqr()), inner):
                return times(self.of(inner), self.of(inner))
            case (Elemwise(scalar_op=ps.TrueDiv()), left, right):
                over = self.inverse(self.of(right))
                return times(self.of(left), over) if over is not None else self.atom(var)
            case (Elemwise(scalar_op=ps.Reciprocal()), inner):
                return self.inverse(self.of(inner)) or self.atom(var)
            case (Elemwise(scalar_op=ps.Pow()), inner, Constant(data=power)) if (
                power.size == 1 and power.item() in (1, 2, 3)
            ):
                return reduce(times, [self.of(inner)] * int(power.item()))
        return self.atom(var)

    def atom(self, var) -> Sum:
        if var not in self._atoms:
            self._atoms[var] = len(self._variables)
            self._variables.append(var)
        return {((self._atoms[var], 1),): 1.0}

    def atom_of(self, place: int) -> Sum:
        """The atom of a number."""
        return {((place, 1),): 1.0}

    def made(self, name: str, value: Sum) -> Sum:
        """A function that NumPy and PyTensor have, of a sum: an atom, or a number if the sum is one."""
        if is_number(value):
            return number(float(getattr(np, name)(value.get((), 0.0))))
        key = (name, key_of(value))
        if key not in self._made:
            self._made[key] = getattr(pt, name)(self.variable(value))
        return self.atom(self._made[key])

    def inverse(self, value: Sum) -> Sum | None:
        """One over a single product; None of another sum."""
        if len(value) != 1:
            return None
        [(monomial, factor)] = value.items()
        return {tuple((a, -p) for a, p in monomial): 1.0 / factor} if factor else None

    def variable(self, value: Sum, dtype: str = "float64") -> Any:
        terms = []
        for monomial, factor in value.items():
            powers = [self._power(a, p) for a, p in monomial]
            if factor != 1 or not powers:
                powers.append(pt.constant(np.asarray(factor, dtype)))
            terms.append(reduce(lambda x, y: x * y, powers))
        total = reduce(lambda x, y: x + y, terms) if terms else pt.constant(np.asarray(0.0, dtype))
        return total.astype(dtype)

    def _power(self, atom: int, power: int) -> Any:
        var = self._variables[atom]
        var = var if var.type.ndim == 0 else var.reshape(())
        return var if power == 1 else 1.0 / var if power == -1 else var**power


def number(value: float) -> Sum:
    return {(): value} if value else {}


def is_number(value: Sum) -> bool:
    return not any(value)


def key_of(value: Sum) -> frozenset:
    return frozenset(value.items())


def plus(a: Sum, b: Sum) -> Sum:
    total = dict(a)
    for monomial, factor in b.items():
        total[monomial] = total.get(monomial, 0.0) + factor
    return {monomial: factor for monomial, factor in total.items() if factor}


def times(a: Sum, b: Sum) -> Sum:
    total: Sum = {}
    for first, x in a.items():
        for second, y in b.items():
            monomial = _joined((*first, *second))
            total[monomial] = total.get(monomial, 0.0) + x * y
    return {monomial: factor for monomial, factor in total.items() if factor}


def _joined(powers: Iterable[tuple[int, int]]) -> Monomial:
    total: dict[int, int] = {}
    for atom, power in powers:
        total[atom] = total.get(atom, 0) + power
    return tuple(sorted((atom, power) for atom, power in total.items() if power))


def is_nonnegative(value: Sum) -> bool:
    """Whether only even powers occur, and no negative factor."""
    return all(factor >= 0 and all(p % 2 == 0 for _, p in monomial) for monomial, factor in value.items())
