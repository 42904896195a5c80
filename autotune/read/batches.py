"""Batches of matrices: the one matrix that all of them are, with other numbers."""

from __future__ import annotations

from typing import Any

from pytensor.assumptions import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import Alloc
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise

from autotune.algebra.batch import item_of
from autotune.algebra.marks import Mark


def item_of_batch(matrices) -> tuple[Any, dict[Any, Any]]:
    """A matrix that is computed as each of ``matrices`` is; what stands in it for what, of a batch."""
    reader = _Reader(matrices.type.ndim - 2)
    return reader.item(matrices), reader.given


class _Reader:
    """``batch``: the number of batch axes."""

    def __init__(self, batch: int):
        self.batch = batch
        self.given: dict[Any, Any] = {}
        self._read: dict[Any, Any] = {}

    def item(self, var):
        if var not in self._read:
            found = self._item(var)
            self._read[var] = item_of(var, var.type.ndim - self.batch, self.given) if found is None else found
        return self._read[var]

    def _item(self, var):
        """By the same Op on items of its inputs, where it works on each item alone; else None."""
        batch = self.batch
        if isinstance(var, Constant) or var.type.ndim < batch or all(var.type.broadcastable[:batch]):
            return None
        match var.owner_op_and_inputs:
            case (Elemwise() | SpecifyAssumptions() | Mark() as op, *inputs):
                return op(*(self.item(i) if i.type.ndim == var.type.ndim else i for i in inputs))
            case (Blockwise(core_op=op), *inputs) if len(var.owner.outputs) == 1:
                return op(*map(self.item, inputs))
            case (DimShuffle(new_order=order), inner) if order[:batch] == tuple(range(batch)):
                return self.item(inner).dimshuffle([i if i == "x" else i - batch for i in order[batch:]])
            case (Alloc() as op, value, *lengths) if value.type.ndim == var.type.ndim:
                return op(self.item(value), *lengths[batch:])
        return None
