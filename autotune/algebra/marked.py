"""A matrix with what the user says of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytensor.tensor as pt

from autotune.algebra.operator import Operator, kind_of, rebuilt


@dataclass(frozen=True, eq=False)
class Marked(Operator):
    """``A`` itself, with what the user says of it (`autotune.algebra.marks`), which changes no result.

    ``inverse``: an operator ``M ~ A^-1``. ``condition_number``: that of A, or of ``M A``, at most. None where
    nothing is said.
    """

    kind: ClassVar[str] = "marked"

    operator: Any
    inverse: Any = None
    condition_number: float | None = None

    @property
    def summands(self):
        return self.operator.summands

    @property
    def unmarked(self):
        return self.operator

    @property
    def parts(self):
        return (*self.operator.parts, *self._parts_of_inverse)

    @property
    def symmetric(self):
        return self.operator.symmetric

    @property
    def signature(self):
        inverse = None if self.inverse is None else self.inverse.signature
        return (self.kind, self.operator.signature, inverse, self.condition_number)

    @classmethod
    def rebuild(cls, signature, parts):
        _, operator, inverse, condition_number = signature
        inside = rebuilt(operator, parts)
        return Marked(inside, None if inverse is None else rebuilt(inverse, parts), condition_number)

    @classmethod
    def axes(cls, signature, names):
        inside = [one for one in signature[1:3] if one is not None]
        return [axes for one in inside for axes in kind_of(one[0]).axes(one, names)]

    def dims(self):
        return self.operator.dims()

    def term(self, size):
        return self.operator.term(size)

    def matmul(self, x):
        return self.operator.matmul(x)

    def rmatmul(self, x):
        return self.operator.rmatmul(x)

    def diagonal(self):
        return self.operator.diagonal()

    def to_dense(self):
        return self.operator.to_dense()

    def transpose(self):
        return replace(self, operator=self.operator.transpose())

    def scale(self, s):
        return replace(self, operator=self.operator.scale(s))

    def pullback(self, cotangent):
        return [*self.operator.pullback(cotangent), *map(pt.zeros_like, self._parts_of_inverse)]

    @property
    def _parts_of_inverse(self):
        return () if self.inverse is None else self.inverse.parts
