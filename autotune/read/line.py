"""Covariances of constant, sorted points on a line, read from the elementwise graph that computes them.

A matrix is a polynomial of the coordinates of two points until only their distance r is left of these, and
then a sum of products of powers of r, exponentials of r and scalars (`Kernel`): Matérn kernels of
half-integer order in any spelling, their sums and products, ``rho ** abs(i - j)``. What is something else is
not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.assumptions import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise
from pytensor.tensor.math import Dot
from pytensor.tensor.shape import SpecifyShape

from autotune.algebra.marks import Mark
from autotune.algebra.quasiseparable import Quasiseparable
from autotune.read.factors import scalar_of
from autotune.read.scalar_sums import ScalarSums, Sum, is_nonnegative, is_number, key_of, number, plus, times

FEWEST_POINTS = 8
MOST_STATES = 8
DEGREE = 2
"""Of polynomials in a coordinate."""
ROUNDING = 32.0
"""Units in the last place by which a constant may differ from what it is taken for."""

Decay = tuple[frozenset, int | None]
"""The rate of an exponential, as a sum, and the atom whose power it is multiplied with."""
NO_DECAY: Decay = (frozenset(), None)


@dataclass
class Pair:
    """A polynomial of the coordinates of two points: coefficients by their powers."""

    terms: dict[tuple[int, int], Sum]

    def of_difference(self) -> tuple[int, Sum, Sum] | None:
        """``(p, a, b)`` of ``a (x - y)^p + b``, p 1 or 2; None if it is something else."""
        terms = {powers: c for powers, c in self.terms.items() if c and powers != (0, 0)}
        power = max(map(sum, terms), default=0)
        a = terms.get((power, 0), {})
        minus = times(number(-1.0), a)
        alike = (
            {(2, 0): a, (0, 2): a, (1, 1): times(number(2.0), minus)}
            if power == 2
            else {(1, 0): a, (0, 1): minus}
        )
        same = terms.keys() == alike.keys() and all(_close(terms[k], alike[k]) for k in alike)
        return (power, a, self.terms.get((0, 0), {})) if same else None


@dataclass
class Kernel:
    """A sum of ``coefficient * r ** power * decay(r)``; ``zero``: what the graph has on the diagonal."""

    terms: dict[tuple[Decay, int], Sum]
    zero: Any


class LineReader:
    """Reads the matrices of one graph on one axis of points, ``x``."""

    def __init__(self):
        self.scalars = ScalarSums()
        self.x: Any = None
        self._powers: Any = None
        self._read: dict[Any, Any] = {}
        self._inexact = False  # whether a distance is the root of a square that had a number added

    def covariance(self, addends, n: int, dtype: str) -> Quasiseparable | None:
        """The sum of matrices (n, n), without diagonals beside them; None if it is not read."""
        read = self._kernels([self.of(addend) for addend in addends])
        if read is None or self.x is None or len(self.x) != n or n < FEWEST_POINTS:
            return None
        terms: dict[tuple[Decay, int], Sum] = {}
        for one in read:
            for key, coefficient in one.terms.items():
                terms[key] = plus(terms.get(key, {}), coefficient)
        return self._operator(terms, [one.zero for one in read], dtype)

    def _operator(self, terms, zeros, dtype) -> Quasiseparable | None:
        steps = np.diff(self.x, prepend=self.x[0])
        steps = -steps if (steps <= 0).all() else steps
        degrees: dict[Decay, int] = {}
        for (decay, power), coefficient in terms.items():
            if coefficient:
                degrees[decay] = max(power, degrees.get(decay, 0))
        if (steps < 0).any() or not any(decay != NO_DECAY for decay in degrees):
            return None
        if degrees.get(NO_DECAY, 0) or sum(size + 1 for size in degrees.values()) > MOST_STATES:
            return None
        if any(atom is not None and size for (_, atom), size in degrees.items()):
            return None
        if self._inexact and (steps[1:] == 0).any() and 0 in degrees.values():
            return None  # a point that occurs twice: the root of the number is seen between them
        coefficients, of_decays, blocks = [], [], []
        for decay, degree in degrees.items():
            rate, atom = decay
            coefficients += [terms.get((decay, m), {}) for m in range(degree + 1)]
            of_decays.append(dict(rate) if atom is None else self.scalars.atom_of(atom))
            blocks.append((degree + 1, atom is not None))
        vectors = [
            pt.stack([self.scalars.variable(value, dtype) for value in values])
            for values in (coefficients, of_decays)
        ]
        zero = reduce(lambda a, b: a + b, zeros).astype(dtype)
        d = pt.broadcast_to(zero.reshape(()), (len(steps),))
        c, rates = vectors
        return Quasiseparable(d, pt.constant(steps.astype(dtype)), c, rates, tuple(blocks))

    # -- matrices ---------------------------------------------------------------------------------------

    def of(self, var) -> Pair | Kernel | None:
        if var not in self._read:
            self._read[var] = self._of(var)
        return self._read[var]

    def _of(self, var) -> Pair | Kernel | None:
        if scalar_of(var) is not None:
            return Pair({(0, 0): self.scalars.of(var)})
        if var.type.ndim < 2 or any(var.type.broadcastable):
            return self._vector(var)
        if isinstance(var, Constant):
            return self._constant_matrix(var.data)
        match var.owner_op_and_inputs:
            case (SpecifyAssumptions() | Mark() | SpecifyShape(), inner, *_):
                return self.of(inner)
            case (DimShuffle(is_matrix_transpose=True), inner):
                found = self.of(inner)
                return (
                    Pair({(b, a): c for (a, b), c in found.terms.items()})
                    if isinstance(found, Pair)
                    else found
                )
            case (Dot() | Blockwise(core_op=Dot()), left, right) if left.type.shape[-1] == 1:
                return self._product([self.of(left), self.of(right)])
            case (Elemwise(scalar_op=ps.Switch()), test, inner, Constant(data=other)) if (
                _is_nonnegative_test(test, inner) and np.isnan(other).all()
            ):  # the square of a root
                found = self.of(inner)
                return found if found is not None and self._squared(found) is not None else None
            case (Elemwise() as op, *inputs):
                return self._elementwise(op.scalar_op, inputs, [self.of(i) for i in inputs])
        return None

    def _elementwise(self, op, inputs, read) -> Pair | Kernel | None:
        if any(one is None for one in read):
            return None
        match op, inputs:
            case ps.Add(), _:
                return self._sum(read)
            case ps.Sub(), _:
                return self._sum([read[0], self._product([Pair({(0, 0): number(-1.0)}), read[1]])])
            case ps.Neg(), _:
                return self._product([Pair({(0, 0): number(-1.0)}), read[0]])
            case ps.Mul(), _:
                return self._product(read)
            case ps.Sqr(), _:
                return self._product([read[0], read[0]])
            case ((ps.Identity() | ps.Cast()), _):
                return read[0]
            case ps.TrueDiv(), [_, divisor] if scalar_of(divisor) is not None:
                value = self.scalars.of(divisor)
                over = self.scalars.inverse(value) or self.scalars.made("reciprocal", value)
                return self._product([read[0], Pair({(0, 0): over})])
            case ps.Pow(), [_, Constant(data=power)] if power.size == 1 and float(power.item()) in (
                1.0,
                2.0,
                3.0,
            ):
                return self._product([read[0]] * int(power.item()))
            case ps.Pow(), [base, Constant(data=power)] if power.size == 1 and float(power.item()) == 0.5:
                return self._root(read[0])
            case ps.Pow(), [base, _] if scalar_of(base) is not None:
                return self._power(base, read[1])
            case ps.Clip(), [_, Constant(data=low), Constant(data=high)] if (low <= 0).all() and (
                high == np.inf
            ).all():
                return read[0] if self._squared(read[0]) is not None and (low == 0).all() else None
            case ps.ScalarMaximum(), [_, bound] if isinstance(bound, Constant) and not bound.data.any():
                return read[0] if self._squared(read[0]) is not None else None
            case ps.Sqrt(), _:
                return self._root(read[0])
            case ps.Abs(), _:
                return self._distance(read[0])
            case ps.Exp(), _:
                return self._exponential(read[0])
        return None

    # -- vectors ----------------------------------------------------------------------------------------

    def _vector(self, var) -> Pair | None:
        """A function of one point: along the rows of a column, else along the columns."""
        long = [axis for axis, n in enumerate(var.type.shape) if n != 1]
        if len(long) != 1:
            return None
        coefficients = self._coefficients(var)
        if coefficients is None:
            return None
        is_column = var.type.ndim == 2 and long[0] == 0
        return Pair({((k, 0) if is_column else (0, k)): c for k, c in coefficients.items() if c})

    def _coefficients(self, var) -> dict[int, Sum] | None:
        """A vector, of any axes of length 1 beside its own, as a polynomial of the coordinate."""
        if all(var.type.broadcastable):
            return {0: self.scalars.of(var)}
        if isinstance(var, Constant):
            return self._constant_vector(var.data.ravel())
        match var.owner_op_and_inputs:
            case (DimShuffle() | SpecifyAssumptions() | Mark() | SpecifyShape(), inner, *_):
                return self._coefficients(inner)
            case (CAReduce(scalar_op=ps.Add()), inner) if inner.type.shape.count(1) == inner.type.ndim - 1:
                return self._coefficients(inner)
            case (Elemwise(scalar_op=op), *inputs):
                found = [self._coefficients(i) for i in inputs]
                return None if any(one is None for one in found) else self._combined(op, inputs, found)
        return None

    def _combined(self, op, inputs, found) -> dict[int, Sum] | None:
        match op:
            case ps.Add():
                return reduce(_added, found)
            case ps.Sub():
                return _added(found[0], _convolved({0: number(-1.0)}, found[1]))
            case ps.Neg():
                return _convolved({0: number(-1.0)}, found[0])
            case ps.Mul():
                return reduce(_convolved, found)
            case ps.Sqr():
                return _convolved(found[0], found[0])
            case ps.TrueDiv() if scalar_of(inputs[1]) is not None:
                over = self.scalars.inverse(found[1].get(0, {}))
                return None if over is None else _convolved(found[0], {0: over})
            case ps.Pow() if (
                isinstance(inputs[1], Constant) and inputs[1].data.size == 1 and inputs[1].data == 2
            ):
                return _convolved(found[0], found[0])
        return None

    def _constant_vector(self, data) -> dict[int, Sum] | None:
        rounding, data = _rounding(data), data.astype(float)
        if not np.isfinite(data).all():
            return None
        if (data == data[0]).all():
            return {0: number(float(data[0]))}
        if self.x is None:
            self._set_axis(data)
        if len(data) != len(self.x):
            return None
        c, *_ = np.linalg.lstsq(self._powers, data, rcond=None)
        c[np.abs(c) * np.abs(self._powers).max(axis=0) <= rounding] = 0
        if not np.allclose(self._powers @ c, data, rtol=0, atol=rounding):
            return None
        return {k: number(float(value)) for k, value in enumerate(c) if value}

    def _set_axis(self, x) -> None:
        """The points; polynomials are of the centred and scaled coordinate, from -1 to 1."""
        self.x = x.astype(float)
        middle, self.half = (x.max() + x.min()) / 2, max(float(x.max() - x.min()) / 2, 1e-300)
        self._powers = np.vander((self.x - middle) / self.half, DEGREE + 1, increasing=True)

    def _constant_matrix(self, M) -> Pair | Kernel | None:
        """A multiple of ``|x_i - x_j|``, or of its square."""
        if M.ndim != 2 or M.shape[0] != M.shape[1] or len(M) < FEWEST_POINTS or M.dtype.kind not in "fiu":
            return None
        rounding, M = _rounding(M), M.astype(float)
        if not np.isfinite(M).all() or np.diagonal(M).any():
            return None
        sign = -1.0 if M[0, -1] < 0 else 1.0
        for power in (1, 2):
            x = np.abs(M[0]) ** (1 / power)
            if np.allclose(sign * np.abs(x[:, None] - x[None, :]) ** power, M, rtol=0, atol=rounding):
                scale = self._scale_of(x, rounding)
                terms = {} if scale is None else {(NO_DECAY, power): number(sign * scale**power)}
                return Kernel(terms, pt.constant(0.0)) if terms else None
        return None

    def _scale_of(self, x, rounding: float) -> float | None:
        """The factor of the axis that an axis of the same points is."""
        if self.x is None:
            self._set_axis(x)
            return 1.0
        if len(x) != len(self.x):
            return None
        r, own = np.abs(x - x[0]), np.abs(self.x - self.x[0])
        scale = float(r.max() / own.max()) if own.max() else 0.0
        return scale if np.allclose(r, scale * own, rtol=0, atol=rounding) else None

    # -- sums and products ------------------------------------------------------------------------------

    def _sum(self, read) -> Pair | Kernel | None:
        if all(isinstance(one, Pair) for one in read):
            return Pair(reduce(_added, [one.terms for one in read]))
        kernels = self._kernels(read)
        if kernels is None:
            return None
        return Kernel(
            reduce(_added, [k.terms for k in kernels]), reduce(lambda a, b: a + b, [k.zero for k in kernels])
        )

    def _product(self, read) -> Pair | Kernel | None:
        if any(one is None for one in read):
            return None
        if all(isinstance(one, Pair) for one in read):
            return Pair(reduce(_multiplied, [one.terms for one in read]))
        kernels = self._kernels(read)
        if kernels is None:
            return None
        terms: Any = kernels[0].terms
        for other in kernels[1:]:
            terms = self._of_kernels(terms, other.terms)
            if terms is None:
                return None
        return Kernel(terms, reduce(lambda a, b: a * b, [k.zero for k in kernels]))

    def _of_kernels(self, left, right):
        total: dict[tuple[Decay, int], Sum] = {}
        for ((rate, atom), m), a in left.items():
            for ((other, atom2), k), b in right.items():
                if atom is not None and atom2 is not None:
                    return None
                decay = (key_of(plus(dict(rate), dict(other))), atom if atom is not None else atom2)
                total[decay, m + k] = plus(total.get((decay, m + k), {}), times(a, b))
        return total

    def _kernels(self, read) -> list[Kernel] | None:
        found = [self._kernel(one) for one in read]
        kernels = [one for one in found if one is not None]
        return kernels if len(kernels) == len(found) else None

    def _kernel(self, found) -> Kernel | None:
        """A function of the distance; None if it is none."""
        if not isinstance(found, Pair):
            return found
        constant, squared = found.terms.get((0, 0), {}), self._squared(found)
        if not any(c for powers, c in found.terms.items() if powers != (0, 0)):
            return Kernel({(NO_DECAY, 0): constant}, self.scalars.variable(constant))
        if squared is None:
            return None
        return Kernel({(NO_DECAY, 0): constant, (NO_DECAY, 2): squared}, self.scalars.variable(constant))

    def _squared(self, found) -> Sum | None:
        """The coefficient of r^2, not negative, of a polynomial that has but a constant beside it."""
        if isinstance(found, Kernel):
            other = {
                key: c for key, c in found.terms.items() if c and key not in ((NO_DECAY, 2), (NO_DECAY, 0))
            }
            c = found.terms.get((NO_DECAY, 2), {})
            return c if not other and is_nonnegative(c) else None
        power, c, _ = found.of_difference() or (0, {}, {})
        return times(c, number(self.half**-2)) if power == 2 and is_nonnegative(c) else None

    # -- functions of the distance ----------------------------------------------------------------------

    def _root(self, found) -> Kernel | None:
        """``sqrt(s r^2 + small)``"""
        squared = found and self._squared(found)
        if not squared or not is_nonnegative(squared):
            return None
        kernel: Any = self._kernel(found)
        added = kernel.terms.get((NO_DECAY, 0), {})
        if not is_number(added) or not 0 <= added.get((), 0.0) <= 1e-10:
            return None
        self._inexact = self._inexact or bool(added)
        return Kernel({(NO_DECAY, 1): self.scalars.made("sqrt", squared)}, pt.sqrt(kernel.zero))

    def _distance(self, found) -> Kernel | None:
        """``abs(s (x_i - x_j))``"""
        if isinstance(found, Kernel):
            return None
        power, c, added = found.of_difference() or (0, {}, {})
        if power != 1 or added:
            return None
        scale = self.scalars.made("abs", times(c, number(1 / self.half)))
        return Kernel({(NO_DECAY, 1): scale}, pt.constant(0.0))

    def _exponential(self, found) -> Kernel | None:
        kernel = self._linear(found)
        if kernel is None:
            return None
        rate = times(number(-1.0), kernel.terms.get((NO_DECAY, 1), {}))
        factor = kernel.terms.get((NO_DECAY, 0), {})
        scale = self.scalars.made("exp", factor) if factor else number(1.0)
        return Kernel({((key_of(rate), None), 0): scale}, pt.exp(kernel.zero))

    def _power(self, base, found) -> Kernel | None:
        """``base ** (s r)``"""
        kernel, s = self._linear(found), self.scalars.of(base)
        if kernel is None or kernel.terms.get((NO_DECAY, 0)):
            return None
        exponent = kernel.terms[NO_DECAY, 1]
        if exponent != number(1.0):
            variable = self.scalars.variable(s) ** self.scalars.variable(exponent)
        else:
            variable = self.scalars.variable(s)
        [(monomial, _)] = self.scalars.atom(variable).items()
        return Kernel({((frozenset(), monomial[0][0]), 0): number(1.0)}, pt.ones(()))

    def _linear(self, found) -> Kernel | None:
        kernel = self._kernel(found)
        if kernel is None:
            return None
        others = [key for key, c in kernel.terms.items() if c and key not in ((NO_DECAY, 0), (NO_DECAY, 1))]
        return None if others or not kernel.terms.get((NO_DECAY, 1)) else kernel


def _is_nonnegative_test(test, var) -> bool:
    match test.owner_op_and_inputs:
        case (Elemwise(scalar_op=ps.GE()), left, Constant(data=bound)):
            return left is var and not bound.any()
    return False


def _rounding(data) -> float:
    eps = np.finfo(data.dtype if data.dtype.kind == "f" else float).eps
    return ROUNDING * float(eps) * float(np.abs(data).max(initial=0.0))


def _close(a: Sum, b: Sum) -> bool:
    """Whether two sums are one but for rounding of their factors."""
    return a.keys() == b.keys() and all(np.isclose(a[m], b[m], rtol=1e-13, atol=0) for m in a)


def _added(a, b):
    return {key: plus(a.get(key, {}), b.get(key, {})) for key in {**a, **b}}


def _convolved(a, b):
    total: dict[int, Sum] = {}
    for i, x in a.items():
        for j, y in b.items():
            total[i + j] = plus(total.get(i + j, {}), times(x, y))
    return total


def _multiplied(a, b):
    total: dict[tuple[int, int], Sum] = {}
    for (i, j), x in a.items():
        for (k, m), y in b.items():
            total[i + k, j + m] = plus(total.get((i + k, j + m), {}), times(x, y))
    return total
