"""Right-hand sides as matrices of columns, whatever shape the graph gives them."""

from __future__ import annotations

import pytensor.tensor as pt
from pytensor.scalar import Mul
from pytensor.tensor.elemwise import DimShuffle, Elemwise

from autotune.algebra.operator import length
from autotune.read.factors import split_scalars


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
            if scalar is None or len(rest) != 1 or rest[0].type.dtype != b.type.dtype:
                return None, b
            if rest[0].type.broadcastable == b.type.broadcastable:
                return scalar.astype(b.type.dtype), rest[0]
        case (DimShuffle() as view, inner):
            scalar, rest = split_scale(inner)
            if scalar is not None:
                return scalar, view(rest)
    return None, b
