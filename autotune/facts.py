"""What is known of a matrix: PyTensor's assumptions, read with one reservation.

PyTensor tags a Gram product ``X @ X.T`` positive definite, though it is only semidefinite when X has
fewer columns than rows. A plain determinant of it is finite (and tiny) where Cholesky gives NaN, so
the tag counts only when the shapes allow full rank.
"""

from __future__ import annotations

from pytensor.assumptions import (
    LOWER_TRIANGULAR,
    ORTHOGONAL,
    POSITIVE_DEFINITE,
    SYMMETRIC,
    UPPER_TRIANGULAR,
    ConflictingAssumptionsError,
    check_assumption,
)
from pytensor.assumptions.dimshuffle import conjugate_transpose_input
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.math import Dot
from pytensor.tensor.subtensor import _is_provably_non_negative, _is_provably_positive


class Facts:
    """Three-valued facts of ``fgraph``, of which only TRUE enables anything."""

    def __init__(self, fgraph):
        self.fgraph = fgraph

    def positive_definite(self, matrix) -> bool:
        if getattr(matrix.tag, "psd", None) is True:
            return True
        return self._holds(matrix, POSITIVE_DEFINITE) and not _deficient_gram(matrix)

    def symmetric(self, matrix) -> bool:
        if getattr(matrix.tag, "symmetric", False):
            return True
        return self._holds(matrix, SYMMETRIC)

    def structured(self, matrix) -> bool:
        """Triangular, diagonal or orthogonal: solved by PyTensor without a factorisation."""
        return any(self._holds(matrix, key) for key in (LOWER_TRIANGULAR, UPPER_TRIANGULAR, ORTHOGONAL))

    def _holds(self, matrix, key) -> bool:
        try:
            return check_assumption(self.fgraph, matrix, key)
        except ConflictingAssumptionsError:
            return False


def nonnegative(var) -> bool:
    """Whether ``var >= 0`` is provable, products of provable factors included."""
    if _is_provably_non_negative(var) or _is_provably_positive(var):
        return True
    node = var.owner
    if node is None:
        return False
    name = type(getattr(node.op, "scalar_op", node.op)).__name__
    if name in ("Mul", "TrueDiv", "Add", "Join", "Second"):
        values = node.inputs[1:] if name in ("Join", "Second") else node.inputs
        return all(nonnegative(i) for i in values)
    if name == "Pow":
        exponent = getattr(node.inputs[1], "data", None)
        return exponent is not None and bool((exponent % 2 == 0).all())
    if name in ("Alloc", "Reshape", "DimShuffle"):
        return nonnegative(node.inputs[0])
    return False


def _deficient_gram(matrix) -> bool:
    """A Gram product whose inner dimension may be smaller than its order."""
    match matrix.owner_op_and_inputs:
        case (Dot() | Blockwise(core_op=Dot()), left, right):
            if conjugate_transpose_input(right) is left or conjugate_transpose_input(left) is right:
                order, inner = left.type.shape[-2:]
                return order is None or inner is None or inner < order
    return False
