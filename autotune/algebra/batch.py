"""Batches of matrices of one structure, each with parts of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar

import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.graph.replace import vectorize_graph
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.dense import Dense
from autotune.algebra.guarded import either, is_either
from autotune.algebra.operator import Operator, kind_of, rebuilt
from autotune.algebra.solver import Solver


@dataclass(frozen=True, eq=False)
class Batch(Operator):
    """A matrix of the structure ``of``, a signature, for each item of a batch.

    ``parts`` have all batch axes, of length 1 where they are one for all items. Whatever is done with one
    matrix is done with each by ``vectorize_graph``.
    """

    kind: ClassVar[str] = "batch"

    of: tuple[Any, ...]
    items: tuple[TensorVariable, ...]

    @property
    def parts(self):
        return self.items

    @property
    def signature(self):
        return (self.kind, self.of)

    @classmethod
    def rebuild(cls, signature, parts):
        taken = len(cls.axes(signature, count()))
        return cls(signature[1], tuple(parts.pop(0) for _ in range(taken)))

    @classmethod
    def axes(cls, signature, names):
        of = signature[1]
        return kind_of(of[0]).axes(of, names)

    @property
    def _whole(self) -> Any:
        """An operator that names its parts; it computes nothing."""
        return rebuilt(self.of, list(self.items))

    @property
    def structure(self):
        return self._whole.structure

    @property
    def symmetric(self):
        return self._whole.symmetric

    @property
    def positive_definite(self):
        return self._whole.positive_definite

    def dims(self):
        return self._whole.dims()

    def term(self, size):
        return self._whole.term(size)

    # -- one for all ------------------------------------------------------------------------------------

    @property
    def _ndims(self) -> list[int]:
        return [len(axes.split(",")) for axes in type(self).axes(self.signature, count())]

    def one(self) -> tuple[Any, dict[Any, Any]]:
        """An operator that stands for any of the matrices, and what its variables are in the batch."""
        given: dict[Any, Any] = {}
        own = [item_of(part, ndim, given) for part, ndim in zip(self.items, self._ndims, strict=True)]
        return rebuilt(self.of, own), given

    def for_each(self, outputs: Sequence[Any], given: Mapping[Any, Any], *, repeated: bool) -> list[Any]:
        """``outputs`` of one matrix for all; ``repeated``: also what is the same for all."""
        batch = [var.shape[axis] for var, axis in self.batch_axes]
        found = []
        for one, out in zip(outputs, vectorize_graph(list(outputs), dict(given)), strict=True):
            if out.type.ndim == one.type.ndim:
                out = pt.expand_dims(out, tuple(range(len(batch))))
                out = pt.broadcast_to(out, (*batch, *one.shape)) if repeated else out
            found.append(out)
        return found

    def to_dense(self):
        one, given = self.one()
        return self.for_each([one.to_dense()], given, repeated=True)[0]

    def pullback(self, cotangent):
        one, given = self.one()
        of_one = item_of(cotangent.to_dense(), 2, given)
        return self.for_each(one.pullback(Dense(of_one)), given, repeated=False)

    def transpose(self):
        one, given = self.one()
        transposed = one.transpose()
        return Batch(transposed.signature, tuple(self.for_each(transposed.parts, given, repeated=False)))


class EachOf(Solver):
    """Answers for each matrix of a batch what ``make`` answers for one.

    Of two answers by a condition (`autotune.algebra.guarded`) one is computed, for all of them.
    """

    def __init__(self, batch: Batch, make: Callable[[Any], Solver]):
        self.batch = batch
        one, self.given = batch.one()
        self.solver = make(one)

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        given = dict(self.given)
        b = None if rhs is None else item_of(rhs, 2, given)
        answers = self.solver.answer(kind, b, transposed, checked)
        node = answers[0].owner
        if node is None or not is_either(node):
            return self.batch.for_each(answers, given, repeated=True)
        condition, *both = node.inputs
        [holds] = self.batch.for_each([condition], given, repeated=True)
        both = self.batch.for_each(both, given, repeated=True)
        found = either(holds.all(), both[: len(node.outputs)], both[len(node.outputs) :])
        return [found[node.outputs.index(answer)] for answer in answers]


def item_of(var: Any, ndim: int, given: dict[Any, Any]) -> Any:
    """What ``var``, with batch axes before the last ``ndim``, is for one item: itself without them where it
    is one for all, else a variable that stands for it, noted in ``given``."""
    batch = var.type.ndim - ndim
    if all(var.type.broadcastable[:batch]):
        if isinstance(var, Constant):
            return pt.constant(var.data[(0,) * batch])
        match var.owner_op_and_inputs:
            case (DimShuffle(is_left_expand_dims=True), inner) if inner.type.ndim == ndim:
                return inner
        return var.squeeze(axis=tuple(range(batch)))
    one = var.type.clone(shape=var.type.shape[batch:])()
    given[one] = var
    return one
