"""Circulant matrices: every row is the one before it, moved on by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.operator import Operator, length, of_each
from autotune.algebra.toeplitz import of_lags, onto_parts, sums_of_lags
from autotune.ops import CirculantDot, CirculantOuter
from autotune.problem import Request, known
from cost_models import call


@dataclass(frozen=True, eq=False)
class Circulant(Operator):
    """``C[i, j] = c[(i - j) mod n]``, c (n,) the first column.

    ``mirrored``: c is known to be the same from both ends. The eigenvalues are its Fourier transform.
    """

    kind: ClassVar[str] = "circulant"
    own_logdet_pullback: ClassVar[bool] = True

    c: TensorVariable
    mirrored: bool

    @property
    def parts(self):
        return (self.c,)

    @property
    def signature(self):
        return (self.kind, self.mirrored)

    @classmethod
    def rebuild(cls, signature, parts):
        return cls(parts.pop(0), signature[1])

    @classmethod
    def axes(cls, signature, names):
        return ["n"]

    @classmethod
    def join(cls, terms):
        total = sum((term.c for term in terms[1:]), terms[0].c)
        return Circulant(total, all(term.mirrored for term in terms))

    @classmethod
    def example(cls, term, draft):
        lag = np.arange(known(term.n))
        mirrored = bool(term.fact("symmetric"))
        values = 2.0 * np.exp(-1.5 * (np.minimum(lag, len(lag) - lag) if mirrored else lag))
        return cls(draft.part("c", values), mirrored)

    def dims(self):
        return {"n": (self.c, -1)}

    @staticmethod
    def forming(term):
        return [call("stream", n=known(term.n) ** 2, count=2)]

    @staticmethod
    def unforming(term):
        return [call("stream", n=known(term.n) ** 2, count=2)]

    @staticmethod
    def multiplying(term, columns):
        return CirculantDot().kernels(known(term.n), columns)

    @staticmethod
    def logdet_pullback(term, checked):
        return [Request("logdet_pullback", checked=checked)]

    @property
    def symmetric(self):
        return self.mirrored

    def matmul(self, x):
        return CirculantDot()(self.c, x)

    def rmatmul(self, x):
        return CirculantDot(transposed=True)(self.c, x)

    def diagonal(self):
        return pt.broadcast_to(self.c[:1], (length(self.c, -1),))

    def to_dense(self):
        return of_lags(pt.concatenate([self.c[1:], self.c]), length(self.c, -1))

    def transpose(self):
        return self if self.mirrored else Circulant(turned_round(self.c), False)

    def scale(self, s):
        return Circulant((self.c * of_each(s)).astype(self.dtype), self.mirrored)

    def pullback(self, cotangent):
        return [onto_parts(cotangent, self)]

    def of_outer(self, left, right) -> TensorVariable:
        """The cotangent of c from ``left right'``, that of the matrix."""
        return CirculantOuter()(left, right)

    def of_dense(self, M) -> TensorVariable:
        """The cotangent of c from that of the matrix."""
        n, sums = length(self.c, -1), sums_of_lags(M)
        return pt.inc_subtensor(sums[n - 1 :][1:], sums[: n - 1])


def turned_round(c) -> TensorVariable:
    """``c[-k mod n]``"""
    return pt.concatenate([c[:1], c[:0:-1]])
