"""Diagonal matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.operator import Operator, length, of_each, of_one_length
from autotune.problem import Request, Term, known
from cost_models import call


@dataclass(frozen=True, eq=False)
class Diagonal(Operator):
    """``diag(d)``, ``d`` of shape ``(..., n)``."""

    kind: ClassVar[str] = "diagonal"

    d: TensorVariable

    @property
    def parts(self):
        return (self.d,)

    @classmethod
    def axes(cls, signature, names):
        return ["n"]

    @classmethod
    def join(cls, terms):
        first, *others = of_one_length([t.d for t in terms])
        return Diagonal(sum(others, first))

    @classmethod
    def example(cls, term, draft):
        return Diagonal(draft.part("d", draft.positive(known(term.n))))

    def dims(self):
        return {"n": (self.d, -1)}

    @staticmethod
    def forming(term):
        return [call("diagonal", n=known(term.n))]

    @staticmethod
    def multiplying(term, columns):
        return [call("stream", n=known(term.n) * columns)]

    @staticmethod
    def logdet_pullback(term, checked):
        return [Request("inverse_diagonal", checked=checked)]

    @staticmethod
    def symmetric_part(term):
        return "d"

    @property
    def symmetric(self):
        return True

    def matmul(self, x):
        return self.d[..., :, None] * x

    rmatmul = matmul

    def diagonal(self):
        return self.d

    def to_dense(self):
        """By selection: a product with the identity would spread NaN and infinity off the diagonal."""
        on_diagonal = pt.eye(length(self.d, -1), dtype="bool")
        return pt.switch(on_diagonal, self.d[..., None, :], np.zeros((), dtype=self.d.type.dtype))

    def transpose(self):
        return self

    def scale(self, s):
        return Diagonal(self.d * of_each(s))

    def scale_rows(self, v):
        d, v = of_one_length([self.d, v])
        return Diagonal(d * v)

    def pullback(self, cotangent):
        return [cotangent.diagonal()]


def diagonal_term(n: int | None) -> Term:
    """A diagonal matrix as plain data."""
    return Term("diagonal", (("n", n),), (("symmetric", True),))
