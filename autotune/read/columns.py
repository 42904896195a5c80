"""Right-hand sides as matrices of columns, whatever shape the graph gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.scalar import Mul, Neg, TrueDiv
from pytensor.tensor.elemwise import DimShuffle, Elemwise

from autotune.algebra.operator import length
from autotune.read.factors import scalar_of, split_scalars

# Elementwise Ops through which an array is followed, one upon the other.
DEEPEST = 50


def as_columns(b, b_ndim: int, batched: bool):
    """``(rhs, restore)``: ``b`` as ``(..., n, m)``, and the map of such an array back to the shape of ``b``.

    With one matrix for all of ``b``'s batch, the batch becomes columns: one factorisation, one
    BLAS-3 solve. With a batch of matrices, batch axes stay.
    """
    if batched:
        if b_ndim == 2:
            return b, _same
        return b[..., None], lambda x: x[..., 0]
    if b_ndim == 1 and b.ndim == 1:
        # not x[:, 0], whose gradient is written into zeros: a right-hand side that is known again as -b / 2
        return b.dimshuffle(0, "x"), lambda x: x.dimshuffle(0)
    if b_ndim == 1 and b.ndim == 2:
        return _transpose(b), lambda x: x.T
    if b_ndim == 2 and b.ndim == 2:
        return b, _same
    if b_ndim == 1:
        batch_shape, n = _lengths(b)[:-1], length(b, -1)
        return (
            b.reshape((pt.prod(batch_shape), n)).T,
            lambda x: x.T.reshape((*batch_shape, length(x, 0))),
        )
    return _batched_matrices(b)


def one_column(rhs):
    """``rhs`` of one column in the form ``v[:, None]``, so that views made apart of one vector are alike."""
    if rhs.type.broadcastable != (False, True):
        return rhs
    base, vector = rhs, None
    while isinstance(base.owner_op, DimShuffle):
        base = base.owner.inputs[0]
        vector = base if base.ndim == 1 else vector
    return rhs if vector is None else vector.dimshuffle(0, "x")


def _same(x):
    return x


def _transpose(b):
    match b.owner_op_and_inputs:
        case (DimShuffle(is_matrix_transpose=True), inner):
            return inner
    return b.T


def _batched_matrices(b):
    """``(..., n, m)`` to ``(n, prod(...) m)``."""
    batch = b.ndim - 2
    order = (batch, *range(batch), batch + 1)
    moved = b.dimshuffle(order)
    n, *tail = _lengths(moved)
    back = (*range(1, batch + 1), 0, batch + 1)
    return (
        moved.reshape((n, pt.prod(tail))),
        lambda x: x.reshape((length(x, 0), *tail)).dimshuffle(back),
    )


def _lengths(b) -> tuple:
    return tuple(length(b, axis) for axis in range(b.ndim))


def split_scale(b):
    """``(scale, rest)`` of ``scale * rest``: a solve is linear, so ``b`` and ``-b / 2`` are one request."""
    match b.owner_op_and_inputs:
        case (Elemwise(scalar_op=Mul()), *factors):
            scalar, rest = split_scalars(factors)
            if scalar is not None and len(rest) == 1:
                return _scaled(scalar, rest[0], b)
            numbers = [f for f in factors if isinstance(f, Constant) and scalar_of(f) is not None]
            if numbers:  # what stays may be written elsewhere just so
                return _scaled(
                    split_scalars(numbers)[0], pt.mul(*(f for f in factors if f not in numbers)), b
                )
        case (Elemwise(scalar_op=TrueDiv()), numerator, divisor) if scalar_of(divisor) is not None:
            return _scaled(1 / scalar_of(divisor), numerator, b)
        case (Elemwise(scalar_op=Neg()), inner):
            return _scaled(pt.constant(-1, dtype=b.type.dtype), inner, b)
        case (DimShuffle() as view, inner):
            scale, rest = split_scale(inner)
            if scale is not None:
                return scale, view(rest)
    return None, b


def _scaled(scalar, rest, b):
    """What ``split_scale`` gives of ``b = scalar * rest``; nothing where they differ in type."""
    if rest.type.dtype != b.type.dtype or rest.type.broadcastable != b.type.broadcastable:
        return None, b
    scalar = scalar.astype(b.type.dtype)
    inner, rest = split_scale(rest)
    return (scalar if inner is None else scalar * inner), rest


class Spellings:
    """Numbers of arrays, the same for arrays that are equal but were written apart.

    PyTensor lifts views through elementwise Ops, so that one vector ``y - m`` comes as a row, as a column
    and as a vector, each computed by itself. All are ``y - m`` along some axis.
    """

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def of(self, var: Any, axes: tuple[Any, ...] | None = None, depth: int = 0) -> int:
        """The number of ``var`` seen through a view with these ``axes`` of it ("x": a new one)."""
        axes = tuple(range(var.type.ndim)) if axes is None else axes
        axes = tuple("x" if a == "x" or var.type.broadcastable[a] else a for a in axes)
        if (var, axes) not in self._numbers:
            key = self._key(var, axes, depth)
            number = key if isinstance(key, int) else self._numbers.setdefault(key, len(self._numbers))
            self._numbers[var, axes] = number
        return self._numbers[var, axes]

    def _key(self, var: Any, axes: tuple[Any, ...], depth: int) -> Any:
        """What tells it from others; its number where it is a view."""
        match var.owner_op_and_inputs:
            case (DimShuffle(new_order=order), inner):
                return self.of(inner, tuple("x" if a == "x" else order[a] for a in axes), depth)
            case (Elemwise(scalar_op=op), *inputs) if depth < DEEPEST:
                numbers = tuple(self.of(i, axes, depth + 1) for i in inputs)
                return op, var.owner.outputs.index(var), numbers
        where = tuple(i for i, a in enumerate(axes) if a != "x")
        if isinstance(var, Constant) and len(where) < 2 and isinstance(var.data, np.ndarray):
            return var.type.dtype, var.data.tobytes(), len(axes), where
        return var, axes
