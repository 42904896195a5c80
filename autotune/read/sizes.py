"""Sizes at compile time: static shapes, hints of the policy, examples, shared variables, and what follows.

Hints, examples and the present values of shared variables steer speed only: what is built is right for any
run-time size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant
from pytensor.graph.features import AlreadyThere
from pytensor.graph.traversal import ancestors
from pytensor.raise_op import Assert
from pytensor.tensor.basic import ScalarFromTensor, TensorFromScalar
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.rewriting.shape import ShapeFeature
from pytensor.tensor.shape import Shape, Shape_i
from pytensor.tensor.subtensor import Subtensor

from autotune.policy import PolicyError


def lasting_hints(
    fgraph, hints: Mapping[str, int], examples: Mapping[str, Any] | None, matrices: Iterable[Any]
) -> dict[str, int]:
    """Hints by which square ``matrices`` have without the examples the order that they have with them.

    The lengths of examples count after ``hints`` here and as hints there: where that changes an order, those
    of the inputs of that matrix are left out.
    """
    found = _lengths_of(examples, fgraph)
    if not found:
        return dict(hints)
    known = Sizes(fgraph, dict(hints), examples, present=False)
    for matrix in matrices:
        if not _gives({**found, **hints}, fgraph, matrix, known.order(matrix)):
            names = {var.name for var in ancestors([matrix])}
            found = {key: n for key, n in found.items() if key.partition("[")[0] not in names}
    return {**found, **hints}


def _gives(hints: dict[str, int], fgraph, matrix, order: int | None) -> bool:
    """Whether a matrix has that order by hints, which do not contradict themselves."""
    try:
        return Sizes(fgraph, hints, present=False).order(matrix) == order
    except PolicyError:
        return False


def _lengths_of(examples: Mapping[str, Any] | None, fgraph) -> dict[str, int]:
    """The lengths of a graph's inputs that nothing but examples tells, as a policy gives them: ``"X[0]"``."""
    found = [] if examples is None else [(v, examples.get(v.name or "")) for v in fgraph.inputs]
    return {
        f"{var.name}[{axis}]": example.shape[axis]
        for var, example in found
        if example is not None and example.ndim == getattr(var, "ndim", None)
        for axis, length in enumerate(var.type.shape)
        if length is None and example.shape[axis] > 0
    }


class Sizes:
    """Looks up the length of an axis of a variable of ``fgraph``, or None.

    Order: static shape > ``hints`` (``"K[0]"`` or the name of a dim) > the shape of an example, by the name
    of an input > current value of a shared variable > the shape's expression in lengths that are known in
    one of these ways. ``present``: whether values of shared variables count.
    """

    def __init__(
        self, fgraph, hints: dict[str, int], examples: Mapping[str, Any] | None = None, present: bool = True
    ):
        self.fgraph = fgraph
        self.hints = hints
        self.examples = {} if examples is None else examples
        self.present = present
        self._shapes: dict[Any, Any] = {}

    def of(self, var, axis: int) -> int | None:
        axis %= var.ndim
        known = var.type.shape[axis]
        if known is None:
            known = self._looked_up(var, axis)
        return known if known is not None else self._inferred(var, axis)

    def order(self, matrix) -> int | None:
        """The length of both last axes of a matrix that must be square, by whatever tells one of them.

        Static shape > ``hints`` > what else `of` knows; None where that contradicts itself. Raises
        ``PolicyError`` where hints do.
        """
        static = next((length for length in matrix.type.shape[-2:] if length is not None), None)
        if static is not None:
            return static
        alone = Sizes(self.fgraph, self.hints, present=False)
        alone._shapes = self._shapes
        hinted = alone.both(matrix)
        if None not in hinted and hinted[0] != hinted[1]:
            called = f"matrix {matrix.name!r}" if matrix.name else "a matrix"
            raise PolicyError(
                f"sizes: the hints give {called} {hinted[0]} rows and {hinted[1]} columns, but what is done "
                "with it needs it square. Correct or remove one of them."
            )
        lengths = {n for n in hinted if n is not None} or {n for n in self.both(matrix) if n is not None}
        return lengths.pop() if len(lengths) == 1 else None

    def both(self, matrix) -> tuple[int | None, int | None]:
        """Rows and columns of a matrix, or of each of a batch."""
        return self.of(matrix, -2), self.of(matrix, -1)

    def _looked_up(self, var, axis):
        hint = self.hints.get(f"{var.name}[{axis}]") if var.name else None
        example = self.examples.get(var.name) if hint is None and var.owner is None and var.name else None
        if example is not None and example.ndim == var.ndim:
            return int(example.shape[axis])
        if hint is None and self.present and isinstance(var, SharedVariable):
            return int(var.get_value(borrow=True).shape[axis])
        return hint

    def _inferred(self, var, axis):
        if var.owner is None:
            return None
        if var not in self._shapes:
            self._shapes[var] = self._shape_of(var)
        shape = self._shapes[var]
        return None if shape is None else self._evaluate(shape[axis])

    def _shape_of(self, var):
        """The lengths of all axes as expressions; None where nothing tells them."""
        feature: Any = getattr(self.fgraph, "shape_feature", None)
        attached = feature is None
        if attached:
            feature = ShapeFeature()
            try:
                self.fgraph.attach_feature(feature)
            except AlreadyThere:
                return None
        try:
            return feature.shape_tuple(var)
        finally:
            if attached:
                self.fgraph.remove_feature(feature)

    def _dimension(self, length) -> int | None:
        """A scalar that is a length itself, as PyMC keeps one for each dim under the dim's name."""
        hint = self.hints.get(length.name) if length.name else None
        if hint is None and self.present and isinstance(length, SharedVariable):
            return int(length.get_value())
        return hint

    def _evaluate(self, expression) -> int | None:
        """The value of a shape expression over known lengths."""
        if isinstance(expression, Constant):
            return int(expression.data)
        if expression.owner is None:
            return self._dimension(expression)
        match expression.owner_op_and_inputs:
            case (Shape_i(i=axis), var):
                known = var.type.shape[axis]
                return known if known is not None else self._looked_up(var, axis)
            case (Subtensor(), lengths, Constant(data=axis)) if lengths.owner_op == Shape():
                return self.of(lengths.owner.inputs[0], int(axis))
            case (DimShuffle() | TensorFromScalar() | ScalarFromTensor() | Assert(), inner, *_):
                return self._evaluate(inner)
            case (Elemwise(scalar_op=scalar_op), *inputs):
                values = [self._evaluate(i) for i in inputs]
                return None if None in values else int(scalar_op.impl(*values))
        return None
