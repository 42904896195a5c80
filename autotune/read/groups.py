"""Which of n rows belong to which of k groups: ``g[:, None] == g[None, :]``, one-hot designs.

With Z (n, k), whose rows hold a single 1, the comparison is ``Z Z'``, of rank k, and
``diag(w[g]) Z Z' = Z diag(w) Z'``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.assumptions import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.subtensor import AdvancedSubtensor

from autotune.algebra.diagonal import Diagonal
from autotune.algebra.low_rank import LowRank
from autotune.algebra.marks import Mark
from autotune.read.constants import is_one_hot

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
    found = [_of_groups(v, member, first) for v in vectors]
    if any(c is None for c in found):
        return None
    c = found[0]
    for other in found[1:]:
        c = c * other
    return c


def _of_groups(v, member: np.ndarray, first: np.ndarray) -> Any | None:
    """The value that a vector has in each group, which is the one of its first member; None in doubt."""
    if all(v.type.broadcastable):
        return v
    if isinstance(v, Constant):
        return pt.constant(v.data[first]) if np.array_equal(v.data[first][member], v.data) else None
    match v.owner_op_and_inputs:
        case (AdvancedSubtensor(), w, Constant(data=index)) if w.type.ndim == 1 and index.ndim == 1:
            return w[index[first]] if np.array_equal(index[first][member], index) else None
        case (Elemwise() as op, *inputs):
            parts = [_of_groups(i, member, first) for i in inputs]
            return None if any(p is None for p in parts) else op(*parts)
    return None
