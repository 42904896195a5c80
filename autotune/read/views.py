"""Views of a matrix, transposes and leading axes of length 1, and what the user says of it on the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytensor.scalar as ps
from pytensor.assumptions import SpecifyAssumptions
from pytensor.graph.basic import Apply, Constant
from pytensor.tensor.elemwise import DimShuffle, Elemwise

from autotune.algebra.marks import AsWritten, Mark
from autotune.read.factors import scalar_of, split_scalars


def drop_leading_ones(var):
    """``var`` as a matrix when all of its leading dimensions have static length 1."""
    leading = var.ndim - 2
    if leading <= 0 or not all(var.type.broadcastable[:leading]):
        return var
    match var.owner_op_and_inputs:
        case (DimShuffle(is_left_expand_dims=True), inner) if inner.ndim == 2:
            return inner
        case (DimShuffle(is_left_expanded_matrix_transpose=True), inner) if inner.ndim == 2:
            return inner.T
    return var.squeeze(axis=tuple(range(leading)))


def as_constant(var):
    """A constant that is marked to be seen as it was written; anything else as it is."""
    inner = var
    while isinstance(inner.owner_op, AsWritten):
        inner = inner.owner.inputs[0]
    return inner if isinstance(inner, Constant) else var


def strip_view(var):
    """``(core, transposed)``: peel left ``ExpandDims`` and matrix transposes off ``var``."""
    transposed = False
    while True:
        match var.owner_op_and_inputs:
            case (DimShuffle(is_left_expand_dims=True), inner) if inner.ndim >= 2:
                var = inner
            case (DimShuffle(is_left_expanded_matrix_transpose=True), inner):
                var, transposed = inner, not transposed
            case (SpecifyAssumptions() | Mark(), inner, *_):
                var = inner
            case _:
                return var, transposed


def marks_of(matrix) -> Iterator[Apply]:
    """The nodes that mark ``matrix``, or what it is a view or a multiple of, the outermost first."""
    while True:
        match matrix.owner_op_and_inputs:
            case (Mark(), inner, *_):
                yield matrix.owner
                matrix = inner
            case (DimShuffle() | SpecifyAssumptions() | Elemwise(scalar_op=ps.Neg()), inner):
                matrix = inner
            case (Elemwise(scalar_op=ps.Mul()), *factors) if len(rest := split_scalars(factors)[1]) == 1:
                [matrix] = rest
            case (Elemwise(scalar_op=ps.TrueDiv()), inner, s) if scalar_of(s) is not None:
                matrix = inner
            case _:
                return
