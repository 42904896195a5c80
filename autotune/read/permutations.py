"""Constant permutations of rows and columns: of a matrix that has a structure in another order."""

from __future__ import annotations

from typing import Any

import numpy as np
from pytensor.assumptions import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.subtensor import AdvancedIncSubtensor, AdvancedSubtensor

from autotune.algebra.marks import Mark
from autotune.read.factors import is_zero


def permutation_of(index: Any, n: int | None) -> np.ndarray | None:
    """A constant vector, row or column of all places of n, each once."""
    while index.owner is not None and isinstance(index.owner.op, DimShuffle | Mark | SpecifyAssumptions):
        index = index.owner.inputs[0]
    if not isinstance(index, Constant) or index.data.dtype.kind not in "iu" or n is None:
        return None
    places = index.data.reshape(-1).astype(np.int64)
    if len(places) != n or places.size != max(index.data.shape, default=0):
        return None
    places = np.where(places < 0, places + n, places)
    return places if np.array_equal(np.sort(places), np.arange(n)) else None


def in_another_order(var: Any) -> tuple[Any, np.ndarray] | None:
    """``(A, i)`` with ``var = A[i][:, i]``, i a permutation: indexed, or placed into zeros, along one axis
    after the other or both at once."""
    n = var.type.shape[0]
    if var.type.ndim != 2 or n is None or var.type.shape[1] != n:
        return None
    orders = [np.arange(n), np.arange(n)]
    inner, steps = var, 0
    while (step := _step(inner, n)) is not None:
        inner, taken = step
        for axis, places in taken:
            orders[axis] = places[orders[axis]]
        steps += 1
    if not steps or not np.array_equal(orders[0], orders[1]):
        return None
    return inner, orders[0]


def _step(var: Any, n: int) -> tuple[Any, list[tuple[int, np.ndarray]]] | None:
    """What is permuted, and along which axes how."""
    taken: list[tuple[Any, Any]]
    match var.owner_op_and_inputs:
        case (AdvancedSubtensor(idx_list=(0, 1)), base, rows, columns) if _are_across(rows, columns):
            taken = [(0, permutation_of(rows, n)), (1, permutation_of(columns, n))]
        case (AdvancedSubtensor(idx_list=places), base, index) if (axis := _axis(places)) is not None:
            taken = [(axis, permutation_of(index, n))]
        case (AdvancedIncSubtensor(idx_list=places), zeros, base, index) if is_zero(zeros):
            axis = _axis(places)
            placed = permutation_of(index, n)
            taken = [(axis, None if axis is None or placed is None else np.argsort(placed))]
        case _:
            return None
    fits = base.type.shape == (n, n) and base.type.dtype == var.type.dtype
    known = [(axis, places) for axis, places in taken if places is not None]
    return (base, known) if fits and len(known) == len(taken) else None


def _are_across(rows: Any, columns: Any) -> bool:
    """Whether two indices give all pairs."""
    return rows.type.broadcastable == (False, True) and columns.type.broadcastable in (
        (False,),
        (True, False),
    )


def _axis(places: Any) -> int | None:
    """The one axis of a matrix that is indexed, the other whole."""
    indexed = [axis for axis, entry in enumerate(places) if not isinstance(entry, slice)]
    whole = all(entry == slice(None) for entry in places if isinstance(entry, slice))
    return indexed[0] if len(indexed) == 1 and whole else None
