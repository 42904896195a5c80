"""A matrix of which no structure is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.operator import Cotangent, Operator
from autotune.problem import known


@dataclass(frozen=True, eq=False)
class Dense(Operator):
    """A matrix without structure that we know, shape ``(..., n, n)``."""

    kind: ClassVar[str] = "dense"

    matrix: TensorVariable

    @property
    def parts(self):
        return (self.matrix,)

    @classmethod
    def axes(cls, signature, names):
        return ["n,n"]

    @classmethod
    def join(cls, terms):
        return Dense(sum((t.matrix for t in terms[1:]), terms[0].matrix))

    @classmethod
    def example(cls, term, draft):
        return Dense(draft.part("A", draft.matrix(known(term.n))))

    def dims(self):
        return {"n": (self.matrix, -1)}

    @property
    def facts(self):
        return {"constant": True} if isinstance(self.matrix, Constant) else {}

    @staticmethod
    def symmetric_part(term):
        return "S"

    def matmul(self, x):
        return self.matrix @ x

    def rmatmul(self, x):
        return self.matrix.mT @ x

    def diagonal(self):
        return pt.diagonal(self.matrix, axis1=-2, axis2=-1)

    def to_dense(self):
        return self.matrix

    def transpose(self):
        return Dense(self.matrix.mT)

    def scale(self, s):
        return Dense(self.matrix * s)

    def pullback(self, cotangent: Cotangent) -> list[TensorVariable]:
        return [cotangent.to_dense()]
