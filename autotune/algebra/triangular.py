"""Triangular matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.operator import Operator
from autotune.problem import known
from cost_models import call


@dataclass(frozen=True, eq=False)
class Triangular(Operator):
    """``T`` (n, n), zero above the diagonal if it is ``lower``, else below it."""

    kind: ClassVar[str] = "triangular"

    T: TensorVariable
    lower: bool

    @property
    def parts(self):
        return (self.T,)

    @property
    def signature(self):
        return (self.kind, self.lower)

    @classmethod
    def rebuild(cls, signature, parts):
        return cls(parts.pop(0), signature[1])

    @classmethod
    def axes(cls, signature, names):
        return ["n,n"]

    @classmethod
    def example(cls, term, draft):
        lower = bool(term.fact("lower"))
        values = np.tril(draft.columns(known(term.n), known(term.n))) + np.diag(draft.positive(known(term.n)))
        return cls(draft.part("T", values if lower else values.T), lower)

    def dims(self):
        return {"n": (self.T, -1)}

    @property
    def facts(self):
        return {"lower": self.lower}

    @staticmethod
    def unforming(term):
        return [call("stream", n=known(term.n) ** 2)]

    @staticmethod
    def logdet_pullback(term, checked):
        return []

    def matmul(self, x):
        return self.T @ x

    def rmatmul(self, x):
        return self.T.mT @ x

    def diagonal(self):
        return pt.diagonal(self.T)

    def to_dense(self):
        return self._triangle(self.T)

    def transpose(self):
        return Triangular(self.T.mT, not self.lower)

    def scale(self, s):
        return Triangular((self.T * s).astype(self.dtype), self.lower)

    def pullback(self, cotangent):
        """What is not stored gets none."""
        own = getattr(cotangent, "onto_factors", lambda operator: None)(self)
        return [self._triangle(cotangent.to_dense()) if own is None else own]

    def of_outer(self, left, right) -> TensorVariable:
        return self._triangle(left @ right.mT)

    def of_inverse(self, g) -> TensorVariable:
        """The transposed inverse has the other triangle, and the diagonal."""
        return pt.diag(g / self.diagonal())

    def _triangle(self, M):
        return pt.tril(M) if self.lower else pt.triu(M)
