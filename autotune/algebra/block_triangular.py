"""Block-triangular matrices: two-by-two blocks, one of which is zero."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytensor.tensor as pt

from autotune.algebra.block_diagonal import split_rows
from autotune.algebra.blocks import Blocks
from autotune.algebra.composite import CompositeSolver, Part
from autotune.problem import known
from cost_models import call


class BlockTriangular(Blocks):
    """``[[A, 0], [C, D]]`` or ``[[A, B], [0, D]]``: substitution by blocks; the determinant is that of the
    blocks on the diagonal."""

    kind: ClassVar[str] = "block_triangular"

    @classmethod
    def example(cls, term, draft):
        children = tuple(Part.example(child, draft) for child in term.children)
        first, last = (known(child.n) for child in term.children)
        return cls(children, None, draft.part("C", 0.3 * draft.columns(last, first)))

    @staticmethod
    def objection(problem):
        if problem.checked or problem.asks("factor"):
            return "a Cholesky factor is asked of a matrix that is not symmetric"
        return None

    @staticmethod
    def asks(term, request, place):
        kind = {"determinant": "logdet", "inv_quad": "solve"}.get(request.kind, request.kind)
        return [replace(request, kind=kind)]

    @staticmethod
    def between(term, request):
        first, last = (known(child.n) for child in term.children)
        if request.kind in ("solve", "inv_quad"):
            return [call("gemm", m=first, n=known(request.columns), k=last)]
        if request.kind != "inverse":
            return []
        return [call("gemm", m=first, n=last, k=last), call("gemm", m=first, n=last, k=first)]

    def solver(self, solvers):
        return BlockTriangularSolver(self, solvers)


class BlockTriangularSolver(CompositeSolver):
    def __init__(self, operator, solvers):
        super().__init__(operator.children, solvers)
        self.operator = operator

    def solve(self, rhs, transposed=False):
        operator = self.operator.transpose() if transposed else self.operator
        rows = list(split_rows(rhs, self.orders))
        first, then, corner = (0, 1, operator.C) if operator.B is None else (1, 0, operator.B)
        rows[first] = self.ask(first, "solve", rows[first], transposed)[0]
        rows[then] = self.ask(then, "solve", rows[then] - corner @ rows[first], transposed)[0]
        return pt.concatenate(rows, axis=0)

    def logdet(self):
        (sign, one), (other_sign, other) = self.ask_all("logdet")
        return sign * other_sign, one + other

    def inverse(self):
        [P], [Q] = self.ask_all("inverse")
        B, C = self.operator.B, self.operator.C
        above = pt.zeros((self.orders[0], self.orders[1]), dtype=P.dtype) if B is None else -(P @ B @ Q)
        below = pt.zeros((self.orders[1], self.orders[0]), dtype=P.dtype) if C is None else -(Q @ C @ P)
        rows = [pt.concatenate(row, axis=1) for row in ((P, above), (below, Q))]
        return pt.concatenate(rows, axis=0)

    def inverse_diagonal(self):
        return pt.concatenate([found for [found] in self.ask_all("inverse_diagonal")])
