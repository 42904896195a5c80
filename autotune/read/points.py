"""Covariances of constant points of which several are equal, or that form a grid.

``K = Z F(X_u) Z'`` where every row of a matrix is made of the row of some constants by the same operations:
points that are equal have equal rows, and those of the points that differ are enough. A product of two such
matrices, each of its own coordinates on a full grid, is a Kronecker product: of a Coregion of outputs and a
kernel of the inputs that they share, or of kernels of two coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.assumptions import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import toposort
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise
from pytensor.tensor.math import Dot
from pytensor.tensor.subtensor import AdvancedSubtensor

from autotune.algebra.low_rank import LowRank
from autotune.algebra.marks import Mark
from autotune.read.factors import split_factors

FEWEST = 8
"""Points that are worth the search."""


@dataclass
class Points:
    """What a matrix (n, n) is made of; ``axes``: along which axes of a variable the points lie."""

    n: int
    constants: list[Any] = field(default_factory=list)
    _axes: dict[Any, frozenset[int] | None] = field(default_factory=dict)

    def axes(self, var) -> frozenset[int] | None:
        """None where the points are not kept apart, or cannot be followed."""
        if var not in self._axes:
            self._axes[var] = self._of(var)
        return self._axes[var]

    def _of(self, var) -> frozenset[int] | None:
        shape = var.type.shape
        if isinstance(var, Constant):
            along = frozenset(axis for axis, length in enumerate(shape) if length == self.n)
            if along:
                self.constants.append(var)
            return along
        if self.n not in shape and None not in shape:
            return self._inner(var)
        match var.owner_op_and_inputs:
            case (Mark() | SpecifyAssumptions(), inner, *_):
                return self.axes(inner)
            case (DimShuffle(new_order=order), inner):
                found = self.axes(inner)
                return (
                    None if found is None else frozenset(i for i, axis in enumerate(order) if axis in found)
                )
            case (Elemwise(), *inputs):
                return self._union(inputs, shape)
            case (CAReduce(axis=axis), inner):
                found, summed = self.axes(inner), range(inner.type.ndim) if axis is None else axis
                if found is None or found & {*summed}:
                    return None
                kept = [i for i in range(inner.type.ndim) if i not in summed]
                return frozenset(i for i, axis in enumerate(kept) if axis in found)
            case (Dot() | Blockwise(core_op=Dot()), left, right) if left.type.ndim == right.type.ndim == 2:
                first, second = self.axes(left), self.axes(right)
                if first is None or second is None or 1 in first or 0 in second:
                    return None
                return first | second
            case (AdvancedSubtensor(idx_list=places), base, *index) if len(places) == base.type.ndim:
                if self.axes(base) != frozenset() or not all(isinstance(p, int) for p in places):
                    return None
                return self._union(index, shape)
        return None

    def _inner(self, var) -> frozenset[int] | None:
        """What has no axis of that length is the same for all points, if no sum over them is."""
        return None if any(self._sums_over_points(node) for node in toposort([var])) else frozenset()

    def _sums_over_points(self, node) -> bool:
        return any(self.n in getattr(i.type, "shape", ()) for i in node.inputs)

    def _union(self, inputs, shape) -> frozenset[int] | None:
        found = [self.axes(i) for i in inputs]
        if any(one is None for one in found):
            return None
        shifted = [
            {axis + len(shape) - i.type.ndim for axis in one or ()}
            for i, one in zip(inputs, found, strict=True)
        ]
        return frozenset().union(*shifted)

    def labels(self) -> np.ndarray:
        """A number for each point, equal where the points are."""
        columns = [self.rows(constant) for constant in self.constants]
        _, labels = np.unique(np.concatenate(columns, axis=1), axis=0, return_inverse=True)
        return labels.reshape(-1)

    def rows(self, constant) -> np.ndarray:
        """What the constant has for each point, along each axis of points."""
        data = np.asarray(constant.data, dtype=float)
        sides = [np.moveaxis(data, axis, 0).reshape(self.n, -1) for axis in self.axes(constant) or ()]
        return np.concatenate(sides, axis=1)

    def restricted(self, var, places: np.ndarray) -> Any:
        """``var`` of some of the points."""
        new: dict[Any, Any] = {}
        for constant in self.constants:
            data = constant.data
            for axis in self.axes(constant) or ():
                data = np.take(data, places, axis=axis)
            new[constant] = pt.constant(data)
        for node in toposort([var]):
            if any(i in new for i in node.inputs):
                made = node.clone_with_new_inputs([new.get(i, i) for i in node.inputs], strict=False)
                new.update(zip(node.outputs, made.outputs, strict=True))
        return new.get(var, var)


def points_of(var) -> Points | None:
    """What a square matrix of static order is made of; None if it is not made of points."""
    n = var.type.shape[-1]
    if var.type.ndim != 2 or n is None or n < FEWEST or var.type.shape[0] != n or isinstance(var, Constant):
        return None
    points = Points(n)
    return points if points.axes(var) == frozenset((0, 1)) and points.constants else None


def along_a_line(var) -> np.ndarray | None:
    """The order in which the points of a matrix are sorted by a constant; None where they are sorted."""
    points = points_of(var)
    if points is None:
        return None
    sides = [points.rows(constant) for constant in points.constants]
    # of distances those from the point that is furthest from the first
    columns = [x[:, 0] if x.shape[1] == 1 else x[:, np.abs(x[0]).argmax()] for x in sides]
    orders = [np.argsort(column, kind="stable") for column in columns if np.ptp(column) > 0]
    return next((order for order in orders if (np.diff(order) != 1).any()), None)


def replicated(var) -> LowRank | None:
    """``Z K_u Z'`` of a matrix (n, n) whose points are at most half as many as its rows."""
    points = points_of(var)
    if points is None:
        return None
    labels = points.labels()
    first = np.unique(labels, return_index=True)[1]
    if 2 * len(first) > points.n:
        return None
    Z = pt.constant(np.eye(len(first), dtype=var.type.dtype)[labels])
    return LowRank.around(Z, points.restricted(var, first))


def on_a_grid(var) -> tuple[Any, Any] | None:
    """``(A, B)`` with ``var = A kron B``, of an elementwise product of covariances on a full grid."""
    scalar, vectors, matrices = split_factors(_factors(var))
    read = [points for points in map(points_of, matrices) if points is not None]
    if vectors or len(matrices) < 2 or len(read) < len(matrices):
        return None
    labels = [points.labels() for points in read]
    slow = next((own for own in labels if _is_repeated(own)), None)
    fast = next((own for own in labels if _is_tiled(own)), None)
    if slow is None or fast is None or (slow.max() + 1) * (fast.max() + 1) != len(slow):
        return None
    outer, inner = [], []
    q, m = slow.max() + 1, fast.max() + 1
    for matrix, points, own in zip(matrices, read, labels, strict=True):
        if _is_repeated(own) and own.max() + 1 <= q and _depends_on(own, np.repeat(np.arange(q), m)):
            outer.append(points.restricted(matrix, np.arange(q) * m))
        elif _depends_on(own, np.tile(np.arange(m), q)):
            inner.append(points.restricted(matrix, np.arange(m)))
        else:
            return None
    A = pt.mul(*outer) if len(outer) > 1 else outer[0]
    B = pt.mul(*inner) if len(inner) > 1 else inner[0]
    return (A if scalar is None else scalar * A), B


def _factors(var) -> list:
    """Those of an elementwise product of products."""
    match var.owner_op_and_inputs:
        case (Elemwise(scalar_op=ps.Mul()), *factors):
            return [one for factor in factors for one in _factors(factor)]
    return [var]


def _is_repeated(labels) -> bool:
    """Whether equal labels stand together, each as often."""
    changes = np.flatnonzero(np.diff(labels)) + 1
    lengths = np.diff(np.concatenate([[0], changes, [len(labels)]]))
    return len(lengths) == labels.max() + 1 > 1 and len(set(lengths)) == 1


def _is_tiled(labels) -> bool:
    """Whether all labels come in one order, again and again."""
    m = labels.max() + 1
    return (
        len(labels) % m == 0
        and m < len(labels)
        and np.array_equal(labels, np.tile(labels[:m], len(labels) // m))
    )


def _depends_on(labels, other) -> bool:
    """Whether points that are equal by ``other`` have equal labels."""
    first = labels[np.unique(other, return_index=True)[1]]
    return np.array_equal(first[other], labels)
