"""Factors of an elementwise product of matrices: scalars, rows and columns, and matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import DimShuffle, Elemwise

from autotune.algebra.operator import of_each


def scalar_of(var):
    """A factor that is constant over the matrix, as a 0-d variable; None if it is not one."""
    if not all(var.type.broadcastable):
        return None
    match var.owner_op_and_inputs:
        case (DimShuffle(), inner) if inner.ndim == 0:
            return inner
    return var if var.ndim == 0 else var.squeeze()


def scalars_of(var):
    """A factor that is constant over each matrix of a batch: one for all, 0-d, or ``(...)``, one for each."""
    one = scalar_of(var)
    if one is not None or var.type.ndim < 3 or not all(var.type.broadcastable[-2:]):
        return one
    match var.owner_op_and_inputs:
        case (DimShuffle(new_order=order), inner) if order == (*range(inner.type.ndim), "x", "x"):
            return inner
    return var.dimshuffle(*range(var.type.ndim - 2))


def row_or_column(var):
    """``("row", v)`` for shape ``(..., 1, n)``, ``("column", v)`` for ``(..., n, 1)``; else None.

    v is ``(..., n)``, 1-d where it is one for all matrices of a batch.
    """
    broadcastable = var.type.broadcastable
    if var.ndim < 1:
        return None
    pattern = broadcastable[-2:] if var.ndim > 1 else (True, *broadcastable)
    side = {(True, False): "row", (False, True): "column"}.get(pattern)
    if side is None:
        return None
    if not all(broadcastable[:-2]):
        return side, _vectors_of(var, -2 if side == "row" else -1)
    return side, _vector_of(var)


def _vectors_of(var, axis: int):
    """``var`` without an axis of length 1; of ``x[..., None]``, x itself."""
    kept = [i for i in range(var.type.ndim) if i != var.type.ndim + axis]
    base, axes = _view(var)
    order = tuple(axes[i] for i in kept)
    return base if order == tuple(range(base.type.ndim)) else base.dimshuffle(order)


def _vector_of(var):
    """The 1-d vector behind a row or column; of ``x[:, None]``, x itself, and the same for its transpose."""
    base = var
    while isinstance(base.owner_op, DimShuffle):
        base = base.owner.inputs[0]
    if base.ndim == 1:
        return base
    if base.ndim == 2 and base.type.broadcastable != var.type.broadcastable[-2:]:
        var = base  # a transpose: start from what it is a transpose of
    [kept] = [axis for axis, broadcastable in enumerate(var.type.broadcastable) if not broadcastable]
    return var.dimshuffle(kept)


def split_scalars(factors, of=scalar_of):
    """``(scalar, rest)`` of a product: the product of its 0-d factors (None if there is none), the others."""
    scalar, rest = None, []
    for factor in factors:
        s = of(factor)
        if s is None:
            rest.append(factor)
        else:
            scalar = s if scalar is None else scalar * s
    return scalar, rest


def split_factors(factors):
    """``(scalar, vectors, matrices)`` of an elementwise product of matrices; vectors as ``(side, v)``.

    Of batches of matrices the scalar may be one for each.
    """
    scalar, rest = split_scalars(factors, scalars_of)
    sides = [row_or_column(factor) for factor in rest]
    matrices = [f for f, v in zip(rest, sides, strict=True) if v is None]
    return scalar, [v for v in sides if v is not None], matrices


def split_multiple(var) -> tuple[Any, Any]:
    """``(matrix, s)`` of ``s * matrix``, ``matrix / (1 / s)`` and ``-matrix``; s is None of anything else."""
    match var.owner_op_and_inputs:
        case (Elemwise(scalar_op=ps.Neg()), inner):
            return inner, pt.constant(np.asarray(-1, var.type.dtype))
        case (Elemwise(scalar_op=ps.Mul()), *factors):
            scalar, matrices = split_scalars(factors)
            if scalar is not None and len(matrices) == 1:
                return matrices[0], scalar
        case (Elemwise(scalar_op=ps.TrueDiv()), inner, divisor) if scalar_of(divisor) is not None:
            return inner, 1.0 / scalar_of(divisor).astype(var.type.dtype)
    return var, None


def split_weights(var, *, axis):
    """Peel scalars and weights of the inner dimension off a factor of a product."""
    if not isinstance(var.owner_op, Elemwise):
        return var, None
    if isinstance(var.owner_op.scalar_op, ps.TrueDiv):
        numerator, denominator = var.owner.inputs
        s = scalars_of(denominator)
        if s is None or numerator.ndim < 2:
            return var, None
        return numerator, of_each(1.0 / s.astype(var.dtype))
    if not isinstance(var.owner_op.scalar_op, ps.Mul):
        return var, None
    scalar, rest = split_scalars(var.owner.inputs, scalars_of)
    weights = [(f, row_or_column(f)) for f in rest]
    inner = [v[1] for _, v in weights if v is not None and v[0] == axis]
    others = [f for f, v in weights if v is None or v[0] != axis]
    full = any(f.ndim > 1 and not any(f.type.broadcastable[-2:]) for f in others)
    if not full or (scalar is None and not inner):
        return var, None
    c = None if scalar is None else of_each(scalar)
    for w in inner:
        c = w if c is None else c * w
    return others[0] if len(others) == 1 else pt.mul(*others), c


def same(a, b) -> bool:
    """One variable, equal constants, or the same view of one variable."""
    if isinstance(a, Constant) and isinstance(b, Constant):
        return np.array_equal(a.data, b.data)
    (base_a, axes_a), (base_b, axes_b) = _view(a), _view(b)
    return base_a is base_b and axes_a == axes_b


def _view(var) -> tuple[Any, tuple[Any, ...]]:
    """``(base, axes)``: the axes of ``base`` that a chain of ``DimShuffle`` leaves, in their order."""
    axes: tuple[Any, ...] = tuple(range(var.type.ndim))
    while isinstance(var.owner_op, DimShuffle):
        axes = tuple(axis if axis == "x" else var.owner_op.new_order[axis] for axis in axes)
        var = var.owner.inputs[0]
    return var, axes


def is_zero(var) -> bool:
    """Whether an array is a constant, or filled with one, that is zero."""
    match var.owner_op_and_inputs:
        case (Alloc(), value, *_):
            return is_zero(value)
        case (DimShuffle(), inner):
            return is_zero(inner)
    return isinstance(var, Constant) and not np.any(var.data)
