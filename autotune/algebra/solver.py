"""What builds the answers to requests on one matrix."""

from __future__ import annotations

from typing import Any

import pytensor.tensor as pt


class Solver:
    """Answers requests on one matrix with graphs that share one set-up.

    A subclass gives a method per request kind it serves: ``solve(rhs, transposed)``, ``logdet()``
    (sign and log|det|), ``inverse()``, ... Right-hand sides are matrices ``(..., n, m)``.
    """

    def answer(
        self, kind: str, rhs: Any = None, transposed: bool = False, checked: bool = False
    ) -> list[Any]:
        """The outputs of one request, as a list; ``checked`` as in ``Request``."""
        if kind == "solve":
            return [self.solve(rhs, transposed=transposed)]
        if kind == "inv_quad":
            return [self.inv_quad(rhs)]
        answer = getattr(self, kind)()
        return list(answer) if kind in ("logdet", "logdet_pullback") else [answer]

    def solve(self, rhs, transposed=False):
        raise AttributeError(f"{type(self).__name__} defines no solve")

    def logdet(self):
        raise AttributeError(f"{type(self).__name__} defines no logdet")

    def inv_quad(self, rhs):
        """``b' A^-1 b`` for every column."""
        return (rhs * self.solve(rhs)).sum(axis=-2)

    def determinant(self):
        sign, logabsdet = self.logdet()
        return sign * pt.exp(logabsdet)
