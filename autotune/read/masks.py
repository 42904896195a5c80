"""Matrices that are zero between groups of rows, by constants that multiply them: ``K * (g == g')``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.scalar as ps
from pytensor.assumptions import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.tensor.elemwise import Elemwise

from autotune.algebra.low_rank import LowRank
from autotune.algebra.marks import Mark
from autotune.read.factors import is_zero
from autotune.read.groups import comparison_term
from autotune.read.points import points_of

LARGEST = 10_000
"""Order up to which constants are looked through."""
MOST = 16
"""Blocks, of which each is decided by itself: smaller ones are taken together."""


def blocks_of_mask(addends: list[Any], n: int) -> list[np.ndarray] | None:
    """The rows of each block of a sum of matrices (n, n), in whatever order they are; None for one block."""
    if n > LARGEST:
        return None
    patterns = [_pattern(addend, n) for addend in addends]
    found = [pattern for pattern in patterns if pattern is not None]
    if not found or len(found) < len(patterns):
        return None
    from scipy.sparse import csr_array  # what most matrices do not need
    from scipy.sparse.csgraph import connected_components

    count, label = connected_components(csr_array(np.logical_or.reduce(found)), directed=False)
    return None if count == 1 else _together([np.flatnonzero(label == i) for i in range(count)], n)


def _together(groups: list[np.ndarray], n: int) -> list[np.ndarray]:
    """At most ``MOST`` blocks of about one size."""
    if len(groups) <= MOST:
        return groups
    ends = np.cumsum([len(rows) for rows in groups])
    place = np.minimum((ends - 1) * MOST // n, MOST - 1)
    joined = [[rows for rows, own in zip(groups, place, strict=True) if own == i] for i in range(MOST)]
    return [np.concatenate(rows) for rows in joined if rows]


def _pattern(var: Any, n: int) -> np.ndarray | None:
    """Where a matrix (n, n) may be other than zero; None where nothing is known."""
    if var.type.shape != (n, n):
        return None
    if isinstance(var, Constant):
        return None if var.data.all() else var.data != 0
    match var.owner_op_and_inputs:
        case (Mark() | SpecifyAssumptions(), inner, *_):
            return _pattern(inner, n)
        case (Elemwise(scalar_op=ps.Cast() | ps.Neg()), inner):
            return _pattern(inner, n)
        case (Elemwise(scalar_op=ps.TrueDiv()), inner, _):
            return _pattern(inner, n)
        case (Elemwise(scalar_op=ps.Mul()), *factors):
            found = [pattern for f in factors if (pattern := _pattern(f, n)) is not None]
            return np.logical_and.reduce(found) if found else None
        case (Elemwise(scalar_op=ps.Switch()), condition, _, other) if is_zero(other):
            return _pattern(condition, n)
        case (Elemwise(scalar_op=ps.EQ()), left, right):
            term = comparison_term(left, right)
            if isinstance(term, LowRank) and isinstance(term.U, Constant):
                group = term.U.data.argmax(axis=1)
                return group[:, None] == group
    return None


def cut(var: Any, rows: np.ndarray, n: int) -> Any:
    """Some rows of a matrix (n, n) and the same columns, without the others where it is made elementwise."""
    points = points_of(var)
    if points is not None:
        return points.restricted(var, rows)
    match var.owner_op_and_inputs:
        case (Elemwise() as op, *inputs) if all(
            i.type.shape == (n, n) or all(i.type.broadcastable) for i in inputs
        ):
            return op(*(i if all(i.type.broadcastable) else cut(i, rows, n) for i in inputs))
    return var[rows[:, None], rows[None, :]]
