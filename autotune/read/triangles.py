"""Which matrices are triangular by the way they are computed: PyTensor's inference, and entries that are
written through an index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.scalar as ps
from pytensor.assumptions import LOWER_TRIANGULAR, UPPER_TRIANGULAR, SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import ARange
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot
from pytensor.tensor.subtensor import AdvancedIncSubtensor

from autotune.algebra.marks import Mark
from autotune.read.factors import is_zero


def is_triangular(var: Any, facts: Any, *, lower: bool) -> bool:
    """Whether nothing but zeros stands above the diagonal of a matrix, or below it if not ``lower``."""
    if isinstance(var, Constant):
        return not np.any(np.triu(var.data, 1) if lower else np.tril(var.data, -1))
    match var.owner_op_and_inputs:
        case (SpecifyAssumptions() | Mark(), inner, *_) if is_triangular(inner, facts, lower=lower):
            return True
        case (DimShuffle(is_left_expand_dims=True), inner):
            return is_triangular(inner, facts, lower=lower)
        case (DimShuffle(is_left_expanded_matrix_transpose=True), inner):
            return is_triangular(inner, facts, lower=not lower)
        case (AdvancedIncSubtensor(), base, _, rows, columns) if base.type.ndim == 2:
            return _is_within(rows, columns, lower) and (
                is_zero(base) or is_triangular(base, facts, lower=lower)
            )
        case (Elemwise(scalar_op=ps.GE() | ps.GT() | ps.LE() | ps.LT() as op), left, right):
            return _compares_positions(op, left, right, lower)
        case (Elemwise(scalar_op=ps.Sub()), one, mask) if _is_one(one):
            return _is_complement(mask, lower)
        case (Elemwise(scalar_op=ps.Mul()), *factors):
            return any(is_triangular(f, facts, lower=lower) for f in factors if _is_full(f, var))
        case (Elemwise(scalar_op=ps.Switch()), mask, inner, other) if is_zero(other) and _is_full(mask, var):
            return is_triangular(mask, facts, lower=lower) or (
                _is_full(inner, var) and is_triangular(inner, facts, lower=lower)
            )
        case (Elemwise(scalar_op=ps.Add() | ps.Sub() | ps.Neg() | ps.Cast()), *inputs):
            return all(_is_full(i, var) and is_triangular(i, facts, lower=lower) for i in inputs)
        case (Elemwise(scalar_op=ps.TrueDiv()), inner, divisor) if all(divisor.type.broadcastable):
            return _is_full(inner, var) and is_triangular(inner, facts, lower=lower)
        case (Dot() | Blockwise(core_op=Dot()), left, right) if var.type.ndim == 2:
            return all(is_triangular(factor, facts, lower=lower) for factor in (left, right))
    return facts is not None and facts.holds(var, LOWER_TRIANGULAR if lower else UPPER_TRIANGULAR)


def _is_full(var, whole) -> bool:
    return var.type.ndim == whole.type.ndim and not any(var.type.broadcastable[-2:])


def _is_within(rows, columns, lower: bool) -> bool:
    """Whether constant indices are those of entries of one triangle."""
    if not (isinstance(rows, Constant) and isinstance(columns, Constant)):
        return False
    i, j = np.broadcast_arrays(rows.data, columns.data)
    return i.dtype.kind in "iu" and bool(
        np.all(j >= 0) and np.all(j <= i if lower else i <= j) and np.all(i >= 0)
    )


def _compares_positions(op, left, right, lower: bool) -> bool:
    """Whether ``i + a >= j + b``, of a row i and a column j, holds in one triangle only."""
    if isinstance(op, ps.LE | ps.LT):
        left, right = right, left
    first, second = _position(left), _position(right)
    if first is None or second is None or first[0] == second[0]:
        return False
    least = first[1] - second[1] - isinstance(op, ps.GT)  # of the second minus the first, at most
    return least <= 0 and (first[0] == "row") == lower


def _position(var) -> tuple[str, int] | None:
    """``("row", start)`` of ``arange(start, ...)[:, None]``, "column" of the other axis; else None."""
    match var.owner_op_and_inputs:
        case (DimShuffle(new_order=order), inner) if order in ((0, "x"), ("x", 0)):
            match inner.owner_op_and_inputs:
                case (ARange(), Constant(data=start), _, Constant(data=step)) if step == 1:
                    return ("row" if order[0] == 0 else "column"), int(start)
    return None


def _is_complement(mask, lower: bool) -> bool:
    """Whether ``1 - mask`` is triangular, of a mask that is 1 in the rest, as ``triu`` has it."""
    match mask.owner_op_and_inputs:
        case (Elemwise(scalar_op=ps.Cast()), inner):
            return _is_complement(inner, lower)
        case (Elemwise(scalar_op=ps.GE()), left, right):
            return _compares_positions(ps.gt, right, left, lower)
    return False


def _is_one(var) -> bool:
    while isinstance(var.owner_op, DimShuffle):
        var = var.owner.inputs[0]
    return isinstance(var, Constant) and bool(np.all(var.data == 1)) and all(var.type.broadcastable)
