"""Symmetric sparse matrices of a constant pattern."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.operator import Operator, of_each
from autotune.ops import SparseDot
from autotune.ops.pattern import Pattern
from autotune.problem import Request, Term, known
from cost_models import call


@dataclass(frozen=True, eq=False)
class Sparse(Operator):
    """``A[pattern.rows, pattern.columns] = data``, and its mirror image: ``data`` (e,)."""

    kind: ClassVar[str] = "sparse"
    letters: ClassVar[dict[str, str]] = {"entries": "e", "height": "h"}
    own_logdet_pullback: ClassVar[bool] = True

    data: TensorVariable
    pattern: Pattern

    @property
    def parts(self):
        return (self.data,)

    @property
    def signature(self):
        return (self.kind, self.pattern)

    @classmethod
    def rebuild(cls, signature, parts):
        return cls(parts.pop(0), signature[1])

    @classmethod
    def axes(cls, signature, names):
        return [f"e{next(names)}"]

    @classmethod
    def example(cls, term, draft):
        """A band as wide as the columns of the factor are high: it takes as much work."""
        n = known(term.n)
        width = min(known(term.sizes()["height"]), n)
        columns = np.repeat(np.arange(n), width)
        rows = columns + np.tile(np.arange(width), n)
        pattern = Pattern.of(n, (columns * n + rows)[rows < n])
        values = draft.columns(len(pattern.rows), 1)[:, 0]
        values[pattern.diagonal] = draft.positive(n) + 2 * width * np.abs(values).max(initial=0)
        return cls(draft.part("data", values), pattern)

    def dims(self):
        return {"n": (pt.constant(self.pattern.diagonal), -1), "entries": (self.data, -1)}

    def term(self, size):
        sizes = {"n": self.pattern.n, "entries": len(self.pattern.rows), "height": self.pattern.height}
        return Term(self.kind, tuple(sizes.items()), (("symmetric", True),))

    @staticmethod
    def forming(term):
        return [call("stream", n=known(term.n) ** 2)]

    @staticmethod
    def unforming(term):
        return [call("stream", n=2 * known(term.sizes()["entries"]), count=4)]

    @staticmethod
    def multiplying(term, columns):
        return [call("stream", n=known(term.sizes()["entries"]) * columns, count=4)]

    @staticmethod
    def logdet_pullback(term, checked):
        return [Request("logdet_pullback", checked=checked)]

    @property
    def symmetric(self):
        return True

    @property
    def _places(self) -> tuple[Any, Any]:
        _, rows, columns = self.pattern.constants
        return rows, columns

    def matmul(self, x):
        return SparseDot()(self.data, x, *self._places)

    rmatmul = matmul

    def diagonal(self):
        return self.data[self.pattern.diagonal]

    def to_dense(self):
        n, (rows, columns) = self.pattern.n, self._places
        return pt.zeros((n, n), dtype=self.dtype)[rows, columns].set(self.data)[columns, rows].set(self.data)

    def transpose(self):
        return self

    def scale(self, s):
        return Sparse((self.data * of_each(s)).astype(self.dtype), self.pattern)

    def pullback(self, cotangent):
        """The entries of the cotangent on the pattern."""
        own = getattr(cotangent, "onto_sparse", lambda operator: None)(self)
        return [self.of_dense(cotangent.to_dense()) if own is None else own]

    def of_dense(self, M) -> TensorVariable:
        """The cotangent of the entries from that of the matrix: two of them are one off the diagonal."""
        rows, columns = self._places
        mirrored = pt.switch(pt.eq(rows, columns), np.zeros((), self.dtype), M[columns, rows])
        return (M[rows, columns] + mirrored).astype(self.dtype)
