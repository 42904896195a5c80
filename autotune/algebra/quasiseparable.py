"""Covariances of sorted points on a line: sums of polynomials times exponentials of the distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.operator import Operator
from autotune.ops import QuasiseparableDot, QuasiseparableOuter
from autotune.ops.quasiseparable import sizes_and_powers
from autotune.problem import Request, Term, known
from cost_models import call

Blocks = tuple[tuple[int, bool], ...]


@dataclass(frozen=True, eq=False)
class Quasiseparable(Operator):
    """``K[i, j] = sum_b exp(-rates_b r) sum_m c_bm r^m``, r the distance of i and j; ``K[i, i] = d_i``.

    ``steps`` (n,), constant: the distance of each point from the one before it. ``blocks``: for each
    exponential how many of the c are its own, and whether it is ``rates_b ** r`` instead. Matérn kernels of
    half-integer order, their sums and products are such (Whittle 1954; Foreman-Mackey et al. 2017).
    """

    kind: ClassVar[str] = "quasiseparable"
    in_batches: ClassVar[bool] = True
    letters: ClassVar[dict[str, str]] = {"states": "r"}
    own_logdet_pullback: ClassVar[bool] = True

    d: TensorVariable
    steps: TensorVariable
    c: TensorVariable
    rates: TensorVariable
    blocks: Blocks

    @property
    def parts(self):
        return (self.d, self.steps, self.c, self.rates)

    @property
    def signature(self):
        return (self.kind, self.blocks)

    @classmethod
    def rebuild(cls, signature, parts):
        d, steps, c, rates = (parts.pop(0) for _ in range(4))
        return cls(d, steps, c, rates, signature[1])

    @classmethod
    def axes(cls, signature, names):
        return ["n", "n", f"r{next(names)}", f"b{next(names)}"]

    @classmethod
    def example(cls, term, draft):
        n, r = known(term.n), known(term.sizes()["states"])
        steps = draft.constant(np.r_[0, draft.positive(max(n - 1, 0))][:n])
        c, rates = draft.part("c", np.ones(r) / r), draft.part("rates", 0.5 + np.arange(r))
        return cls(draft.part("d", 1 + draft.positive(n)), steps, c, rates, ((1, False),) * r)

    def dims(self):
        return {"n": (self.d, -1), "states": (self.c, -1)}

    @staticmethod
    def forming(term):
        return [call("exp", n=known(term.n) ** 2, count=known(term.sizes()["states"]))]

    @staticmethod
    def unforming(term):
        return [call("exp", n=known(term.n) ** 2, count=known(term.sizes()["states"]))]

    @staticmethod
    def multiplying(term, columns):
        return [call("line_solve", n=known(term.n), k=known(term.sizes()["states"]), m=columns)]

    @staticmethod
    def logdet_pullback(term, checked):
        return [Request("logdet_pullback", checked=checked)]

    @property
    def symmetric(self):
        return True

    @property
    def whole_numbers(self):
        """How the Ops take the blocks."""
        return sizes_and_powers(self.blocks)

    def matmul(self, x):
        return QuasiseparableDot()(*self.parts, *self.whole_numbers, x)

    rmatmul = matmul

    def diagonal(self):
        return self.d

    def to_dense(self):
        return self.matmul(self._identity)

    @property
    def _identity(self):
        """Of what changes, and is not simplified, so that PyTensor makes no constant (n, n) of it."""
        return pt.diag(pt.switch(pt.isnan(self.d), self.d, np.ones((), self.dtype)))

    def transpose(self):
        return self

    def scale(self, s):
        d, c = ((part * s).astype(self.dtype) for part in (self.d, self.c))
        return Quasiseparable(d, self.steps, c, self.rates, self.blocks)

    def plus_diagonal(self, d) -> Quasiseparable:
        return Quasiseparable(self.d + d, self.steps, self.c, self.rates, self.blocks)

    def pullback(self, cotangent):
        own = getattr(cotangent, "onto_parts", lambda operator: None)(self)
        if own is not None:
            d_bar, c_bar, rates_bar = own
            return [d_bar, self.steps.zeros_like(), c_bar, rates_bar]
        d_bar, c_bar, rates_bar = self.of_outer(cotangent.to_dense(), self._identity)
        return [d_bar, self.steps.zeros_like(), c_bar, rates_bar]

    def of_outer(self, left, right) -> list[TensorVariable]:
        """The cotangents of d, c and the rates from ``left right'``, that of the matrix."""
        return QuasiseparableOuter()(left, right, self.steps, self.c, self.rates, *self.whole_numbers)


def quasiseparable_term(n: int | None, states: int) -> Term:
    """Such a matrix as plain data."""
    return Term("quasiseparable", (("n", n), ("states", states)), (("symmetric", True),))
