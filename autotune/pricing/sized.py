"""Lengths, memory order and small integer values of all variables of a final graph.

A forward pass. The lengths of the inputs come from `autotune.read.sizes` (static shapes, hints, shared
variables) or from example inputs; those of every other variable from its Op's ``infer_shape``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant
from pytensor.graph.op import HasMultipleInnerGraph
from pytensor.scalar.basic import ScalarOp
from pytensor.tensor.basic import constant
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.shape import Shape, Shape_i
from pytensor.tensor.type import lscalar

from autotune.ops import BlockCG, LanczosLogdet, LowRankFactor, PartialCholesky
from autotune.pricing.arrays import Array, SizedNode
from autotune.pricing.layout import is_fortran
from autotune.read.sizes import Sizes

Lengths = tuple[int | None, ...]
FEW = 64
"""Arrays of integers up to this size are followed by value: shapes, and indices into them."""


class ExampleSizes(Sizes):
    """The sizes of actual arguments, in the order of the function's inputs."""

    def __init__(self, fgraph, arguments: Sequence[Any], hints: dict[str, int] | None = None):
        super().__init__(fgraph, hints or {})
        self.given = {v: np.asarray(a) for v, a in zip(fgraph.inputs, arguments, strict=False)}

    def of(self, var, axis: int) -> int | None:
        return self.given[var].shape[axis] if var in self.given else super().of(var, axis)

    def value(self, var) -> Any:
        return self.given[var] if var in self.given else value_of_root(self, var)


def value_of_root(sizes: Sizes, var) -> Any:
    """The value of an integer input: a hint under its name, or what a shared variable holds now."""
    if isinstance(var, SharedVariable):
        return var.get_value(borrow=True)
    hint = sizes.hints.get(var.name) if var.name else None
    return None if hint is None else np.asarray(hint)


class SizedGraph:
    """``fgraph`` with the lengths of its variables; None where a length is not known.

    ``lengths(var)`` and ``value(var)`` answer for the graph's inputs; ``by_columns``: those in Fortran order.
    """

    def __init__(
        self,
        fgraph,
        lengths: Callable[[Any], Lengths],
        value: Callable[[Any], Any],
        by_columns: Collection[Any] = (),
    ):
        self.fgraph = fgraph
        self.nodes = list(fgraph.toposort())
        self._lengths = {v: _static(v, lengths(v)) for v in fgraph.inputs}
        self._root_value = value
        self._values: dict[Any, Any] = {}
        self._fortran: dict[Any, bool] = dict.fromkeys(by_columns, True)
        for node in self.nodes:
            for out, found in zip(node.outputs, self._output_lengths(node), strict=True):
                self._lengths[out] = _static(out, found)
            for index, out in enumerate(node.outputs):
                self._fortran[out] = is_fortran(self, node, index)

    @classmethod
    def of_function(cls, fgraph, sizes: Sizes) -> SizedGraph:
        """The graph of a compiled function."""
        value = sizes.value if isinstance(sizes, ExampleSizes) else lambda var: value_of_root(sizes, var)
        return cls(fgraph, lambda var: tuple(sizes.of(var, axis) for axis in range(_ndim(var))), value)

    def inner(self, fgraph, arguments: Sequence[Any]) -> SizedGraph:
        """An inner graph, its inputs being ``arguments``: variables of this graph, or `Array` s."""
        arrays = dict(zip(fgraph.inputs, map(self._as_array, arguments), strict=False))
        return SizedGraph(
            fgraph,
            lambda var: arrays[var].shape if var in arrays else (None,) * _ndim(var),
            lambda var: arrays[var].value if var in arrays else None,
            [var for var, array in arrays.items() if array.fortran],
        )

    def lengths(self, var) -> Lengths:
        if var not in self._lengths:
            data = np.shape(var.data) if isinstance(var, Constant) and _ndim(var) else ()
            self._lengths[var] = _static(var, data)
        return self._lengths[var]

    def fortran(self, var) -> bool:
        return self._fortran.get(var, False)

    def array(self, var) -> Array:
        value = self.value(var) if _ndim(var) == 0 else None
        return Array(self.lengths(var), getattr(var.type, "dtype", ""), self.fortran(var), value, _name(var))

    def sized(self, node) -> SizedNode:
        inputs, outputs = (tuple(map(self.array, vs)) for vs in (node.inputs, node.outputs))
        return SizedNode(node.op, inputs, outputs, node, self)

    def value(self, var) -> Any:
        """The value of a small integer variable that only lengths and constants determine, else None."""
        if var not in self._values:
            self._values[var] = self._value(var) if _is_integer(var) else None
        return self._values[var]

    def _as_array(self, argument) -> Array:
        return argument if isinstance(argument, Array) else self.array(argument)

    def _value(self, var) -> Any:
        if isinstance(var, Constant):
            found = var.data
        else:
            found = self._root_value(var) if var.owner is None else _evaluate(var, self)
        return found if found is None or np.size(found) <= FEW else None

    def _output_lengths(self, node) -> Sequence[Lengths]:
        if all(None not in _static(out, None) for out in node.outputs):
            return [_static(out, None) for out in node.outputs]
        if type(node.op) in BY_THE_VALUES:
            return BY_THE_VALUES[type(node.op)](*map(self.array, node.inputs))
        if isinstance(node.op, OpFromGraph):
            inner = self.inner(node.op.fgraph, node.inputs)
            return [inner.lengths(out) for out in node.op.fgraph.outputs]
        if isinstance(node.op, Elemwise):
            return [_broadcast([self.lengths(v) for v in node.inputs])] * len(node.outputs)
        return self._inferred(node)

    def _inferred(self, node) -> Sequence[Lengths]:
        """By the Op's own rule, evaluated for the lengths of its inputs."""
        unknown: list[Lengths] = [(None,) * _ndim(out) for out in node.outputs]
        shapes = [tuple(_symbolic(length) for length in self.lengths(v)) for v in node.inputs]
        try:
            found = node.op.infer_shape(node, shapes)
        except Exception:  # an Op may fail in any way on shapes that it does not know
            return unknown
        return [
            blank if lengths is None else tuple(_length(self.value_of(x)) for x in lengths)
            for lengths, blank in zip(found, unknown, strict=True)
        ]

    def value_of(self, expression) -> Any:
        """The value of a length as ``infer_shape`` writes it: a variable or a number."""
        return self.value(expression) if hasattr(expression, "owner") else expression


def _evaluate(var, graph: SizedGraph) -> Any:
    """The value of ``var`` by the Python code of its Op on copies of values that are known."""
    node = var.owner
    if isinstance(node.op, Shape_i):
        lengths = graph.lengths(node.inputs[0])
        return lengths[node.op.i] if node.op.i < len(lengths) else None
    if isinstance(node.op, Shape):
        lengths = graph.lengths(node.inputs[0])
        return None if None in lengths else np.array(lengths)
    values = [graph.value(v) for v in node.inputs]
    if any(v is None for v in values):
        return None
    try:
        if isinstance(node.op, Elemwise | ScalarOp):
            scalar = getattr(node.op, "scalar_op", node.op)
            found = scalar.impl(*(np.asarray(v).item() for v in values))
            return np.asarray(found[node.outputs.index(var)] if len(node.outputs) > 1 else found)
        if isinstance(node.op, HasMultipleInnerGraph):
            return None  # would have to be compiled
        storage: list[list[Any]] = [[None] for _ in node.outputs]
        node.op.perform(node, [np.array(v) for v in values], storage)
        return storage[node.outputs.index(var)][0]
    except Exception:  # not an expression of lengths
        return None


def _symbolic(length: int | None) -> Any:
    return lscalar() if length is None else constant(length, dtype="int64")


def _length(value: Any) -> int | None:
    return None if value is None else int(value)


def _broadcast(shapes: Sequence[Lengths]) -> Lengths:
    """The longest of each axis; None where it may be an unknown one."""
    axes = zip(*shapes, strict=True)
    return tuple(
        None if None in lengths and max(_known(lengths)) == 1 else max(_known(lengths)) for lengths in axes
    )


def _known(lengths: Sequence[int | None]) -> list[int]:
    return [length for length in lengths if length is not None] or [1]


def _partial_cholesky(A: Array, rank: Array, d: Array, U: Array, c: Array) -> Sequence[Lengths]:
    """No parts at all for rank -1. The matrix may be given by a diagonal and columns, A is empty then."""
    n = A.shape[0] or d.shape[0] or U.shape[0]
    if rank.value == -1:
        return [(0,), (0, 0), (0,)]
    columns = rank.value if n is None or rank.value is None else min(n, rank.value)
    return [(n,), (n, columns), (columns,)]


BY_THE_VALUES: dict[type, Callable[..., Sequence[Lengths]]] = {
    LowRankFactor: lambda d, U, last: [(), U.shape[:1], (U.shape[1],) * 2, U.shape[1:], (0,), (0, 0), (), ()],
    PartialCholesky: _partial_cholesky,
    BlockCG: lambda A, B, *rest: [B.shape, (), (0, 0)],
    LanczosLogdet: lambda *inputs: [(), (), (), (0, 0)],
}
"""Outputs of Ops of ours that have the lengths given here in the usual case, and others for odd values."""


def _static(var, found: Lengths | None) -> Lengths:
    """The static shape, completed by what was found."""
    static = tuple(getattr(var.type, "shape", ()))
    if found is None or len(found) != len(static):
        return static
    return tuple(known if known is not None else other for known, other in zip(static, found, strict=True))


def _ndim(var) -> int:
    return len(getattr(var.type, "shape", ()))


def _is_integer(var) -> bool:
    dtype = getattr(var.type, "dtype", "")
    return dtype.startswith(("int", "uint", "bool")) and _ndim(var) <= 1


def _name(var) -> str:
    return var.name or ("an input" if var.owner is None else f"an output of {var.owner.op}")
