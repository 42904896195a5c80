"""Symmetric Toeplitz matrices: entries are a function of the distance from the diagonal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.operator import Operator, length, of_each
from autotune.ops import ToeplitzDot, ToeplitzOuter
from autotune.problem import Request, Term, known
from cost_models import call


@dataclass(frozen=True, eq=False)
class Toeplitz(Operator):
    """``T[i, j] = c[|i - j|]``, c (n,) the first column."""

    kind: ClassVar[str] = "toeplitz"
    own_logdet_pullback: ClassVar[bool] = True

    c: TensorVariable

    @property
    def parts(self):
        return (self.c,)

    @classmethod
    def axes(cls, signature, names):
        return ["n"]

    @classmethod
    def join(cls, terms):
        return Toeplitz(sum((term.c for term in terms[1:]), terms[0].c))

    @classmethod
    def example(cls, term, draft):
        return cls(draft.part("c", 2.0 * np.exp(-1.5 * np.arange(known(term.n)))))

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
        return ToeplitzDot().kernels(known(term.n), columns)

    @staticmethod
    def logdet_pullback(term, checked):
        return [Request("logdet_pullback", checked=checked)]

    @property
    def symmetric(self):
        return True

    def matmul(self, x):
        return ToeplitzDot()(self.c, x)

    rmatmul = matmul

    def diagonal(self):
        return pt.broadcast_to(self.c[:1], (length(self.c, -1),))

    def to_dense(self):
        return of_lags(pt.concatenate([self.c[:0:-1], self.c]), length(self.c, -1))

    def transpose(self):
        return self

    def scale(self, s):
        return Toeplitz((self.c * of_each(s)).astype(self.dtype))

    def pullback(self, cotangent):
        return [onto_parts(cotangent, self)]

    def of_outer(self, left, right) -> TensorVariable:
        """The cotangent of c from ``left right'``, that of the matrix."""
        return ToeplitzOuter()(left, right)

    def of_dense(self, M) -> TensorVariable:
        """The cotangent of c from that of the matrix."""
        n, sums = length(self.c, -1), sums_of_lags(M)
        return pt.set_subtensor((sums[n - 1 :] + sums[n - 1 :: -1])[:1], sums[n - 1 : n])


def onto_parts(cotangent, operator) -> Any:
    """The cotangent of the first column, from thin sides where it has them."""
    thin = getattr(cotangent, "onto_parts", None)
    return operator.of_dense(cotangent.to_dense()) if thin is None else thin(operator)


def of_lags(w, n: Any) -> TensorVariable:
    """The matrix (n, n) of entries ``w[n - 1 + i - j]``, from one copy of w for each row, shifted by one."""
    period = pt.concatenate([w[n - 1 :: -1], w[:1], w[: n - 1 : -1]])
    rows = pt.broadcast_to(period[None, :], (n, 2 * n)).reshape((-1,))
    return rows[: n * (2 * n - 1)].reshape((n, 2 * n - 1))[:, :n]


def sums_of_lags(M) -> TensorVariable:
    """The sums (2 n - 1,) of the entries of M with ``i - j = k``, k from 1 - n on."""
    n = length(M, -1)
    rows = pt.concatenate([M[:, ::-1], pt.zeros_like(M)], axis=1).reshape((-1,))
    return rows[: n * (2 * n - 1)].reshape((n, 2 * n - 1)).sum(axis=0)


def toeplitz_term(n: int | None) -> Term:
    """Such a matrix as plain data."""
    return Term("toeplitz", (("n", n),), (("symmetric", True),))
