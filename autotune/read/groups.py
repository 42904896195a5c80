"""Which of n rows belong to which of k groups: ``g[:, None] == g[None, :]``, one-hot designs, indices.

With Z (n, k), whose rows hold a single 1, the comparison is ``Z Z'``, of rank k,
``diag(w[g]) Z Z' = Z diag(w) Z'``, and ``B[g][:, g] = Z B Z'``.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.assumptions import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.subtensor import AdvancedIncSubtensor, AdvancedSubtensor

from autotune.algebra.diagonal import Diagonal
from autotune.algebra.low_rank import LowRank
from autotune.algebra.marks import Mark
from autotune.read.constants import is_one_hot
from autotune.read.factors import is_zero, row_or_column, same

MARKED = (Mark, SpecifyAssumptions)


def comparison_term(left, right) -> Diagonal | LowRank | None:
    """``g[:, None] == g[None, :]`` of a constant g: true where two are of one group."""
    if {left.type.broadcastable, right.type.broadcastable} != {(True, False), (False, True)}:
        return None
    g, other = _constant_vector(left), _constant_vector(right)
    if g is None or other is None or not np.array_equal(g, other):  # nor is NaN of its own group
        return None
    groups, member = np.unique(g, return_inverse=True)
    if len(groups) == len(g):
        return Diagonal(pt.constant(np.ones(len(g), dtype=bool)))
    Z = pt.constant(np.eye(len(groups), dtype=bool)[member.reshape(-1)])
    return LowRank(Z, None, Z)


def indexed_alike(var) -> tuple[Any, Any] | None:
    """``(B, g)`` of ``B[g][:, g]`` and ``B[g[:, None], g[None, :]]``."""
    match var.owner_op_and_inputs:
        case (AdvancedSubtensor(idx_list=(0, 1)), base, rows, columns):
            pattern = rows.type.broadcastable, columns.type.broadcastable
            alike = pattern == ((False, True), (True, False))
        case (AdvancedSubtensor(idx_list=one), inner, first):
            match inner.owner_op_and_inputs:
                case (AdvancedSubtensor(idx_list=other), base, second):
                    rows, columns = (first, second) if _axis(one) == 0 else (second, first)
                    alike = {_axis(one), _axis(other)} == {0, 1} and rows.type.ndim == columns.type.ndim == 1
                case _:
                    return None
        case _:
            return None
    if base.type.ndim != 2 or not alike or {"b"} & {i.type.numpy_dtype.kind for i in (rows, columns)}:
        return None
    g, other = _constant_vector(rows), _constant_vector(columns)
    if g is not None and other is not None:
        return (base, pt.constant(g)) if np.array_equal(g, other) else None
    vectors = [v if v.type.ndim == 1 else row_or_column(v)[1] for v in (rows, columns)]
    return (base, vectors[0]) if same(*vectors) else None


def placed_alike(var) -> tuple[Any, Any] | None:
    """``(B, g)`` of the matrix that is zero but for B in the rows and columns g, put there one after the
    other."""
    match var.owner_op_and_inputs:
        case (AdvancedIncSubtensor(idx_list=one), zeros, inner, first) if is_zero(zeros):
            match inner.owner_op_and_inputs:
                case (AdvancedIncSubtensor(idx_list=other), zeros, B, second) if is_zero(zeros):
                    both = {_axis(one), _axis(other)} == {0, 1} and B.type.ndim == 2
                    vectors = first.type.ndim == second.type.ndim == 1
                    return (B, first) if both and vectors and same(first, second) else None
    return None


def _axis(idx_list) -> int | None:
    """The one axis of a matrix that is indexed, by a vector, the other whole."""
    places = [axis for axis, entry in enumerate(idx_list) if not isinstance(entry, slice)]
    whole = all(entry == slice(None) for entry in idx_list if isinstance(entry, slice))
    return places[0] if len(places) == 1 and whole else None


def rows_of_identity(index, count, dtype: str) -> Any:
    """Z (n, count) with ``Z[i, index[i]] = 1``."""
    if isinstance(index, Constant) and isinstance(count, int):
        return pt.constant(np.eye(count, dtype=dtype)[index.data])
    return pt.eye(count, dtype=dtype)[index]


def _constant_vector(var) -> np.ndarray | None:
    while var.owner is not None and isinstance(var.owner.op, (DimShuffle, *MARKED)):
        var = var.owner.inputs[0]
    return var.data.reshape(-1) if isinstance(var, Constant) else None


def group_weights(Z, vectors) -> Any | None:
    """``c`` with ``diag(v) Z = Z diag(c)`` for the product v of all ``vectors``; None if Z is not one-hot, or
    v is not seen to be constant in each group."""
    if not isinstance(Z, Constant) or Z.data.size == 0 or not is_one_hot(Z.data):
        return None
    member, first = Z.data.argmax(axis=1), Z.data.argmax(axis=0)
    found: list[Any] = [_of_groups(v, member, first) for v in vectors]
    return None if any(c is None for c in found) else prod(found[1:], start=found[0])


def _of_groups(v, member: np.ndarray, first: np.ndarray) -> Any | None:
    """What a column, row or vector of n holds in each group, by its first member; None in doubt."""
    if all(v.type.broadcastable):
        return v.squeeze()
    if isinstance(v, Constant):
        data = v.data.reshape(-1)
        return pt.constant(data[first]) if np.array_equal(data[first][member], data) else None
    match v.owner_op_and_inputs:
        case (AdvancedSubtensor(), w, Constant(data=index)) if w.type.ndim == 1 and index.ndim == 1:
            return w[index[first]] if np.array_equal(index[first][member], index) else None
        case (Elemwise() as op, *inputs):
            parts = [_of_groups(i, member, first) for i in inputs]
            return None if any(p is None for p in parts) else op(*parts)
        case (DimShuffle(), inner):
            return _of_groups(inner, member, first)
    return None
