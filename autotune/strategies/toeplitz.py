"""Symmetric Toeplitz matrices: Schur's recursion, and the fast Fourier transform for all that follows."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt

from autotune.algebra.guarded_solver import DenseOfParts, WhereItHolds
from autotune.algebra.solver import Solver
from autotune.ops import ToeplitzDot, ToeplitzFactor, ToeplitzSolve
from autotune.problem import GRADIENT_KINDS, REQUEST_KINDS, Problem, known
from autotune.strategies.base import No, Strategy, Work, with_backward

MOST_RATIO = 1e6
"""Of the first pivot to the last one. Rounding in the recursion adds up to more than that of Cholesky's
algorithm: by this much, times n units in the last place, a log-determinant may be wrong."""


class ToeplitzStrategy(Strategy):
    """The first column x of the inverse and the log-determinant in O(n^2) by Schur's recursion, which is
    backward stable (Bojanczyk, Brent, de Hoog & Sweet 1995); the inverse is given by x (Gohberg & Semencul
    1972): solves, refined, and gradients in O(n log n)."""

    name = "toeplitz"
    provides = frozenset((*REQUEST_KINDS, *GRADIENT_KINDS)) - {"factor"}
    batched = False
    needs_own_ops = True
    structured = True

    def concerns(self, problem):
        return problem.structure == ("toeplitz",)

    def objects_to(self, problem, options):
        return None if self.concerns(problem) else No("the matrix is not a symmetric Toeplitz matrix")

    def work(self, problem: Problem, options) -> Work:
        n = known(problem.n)
        calls, columns = ToeplitzFactor().kernels(n), 4
        for r in with_backward(problem, structured=True).requests:
            if r.kind in ("solve", "inv_quad", "inverse"):
                m = n if r.kind == "inverse" else known(r.columns)
                calls += ToeplitzSolve().kernels(n, m)
                columns += 2 * m
                if problem.differentiated and r.kind != "inverse":
                    calls += ToeplitzDot().kernels(n, m)
            elif r.kind == "logdet_pullback":
                calls += ToeplitzDot().kernels(n, 1)
        return Work(tuple(calls), problem.itemsize * n * (columns + 3 * n**0.5))

    def solver(self, system, options):
        operator = system.operator.unmarked
        fast = ToeplitzSolver(operator)
        return WhereItHolds(
            fast, DenseOfParts(operator), fast.is_accurate(), operator.parts, system.before_autodiff
        )


class ToeplitzSolver(Solver):
    def __init__(self, operator):
        self.operator = operator
        self.x, self.sign, self.logabsdet = ToeplitzFactor()(operator.c)

    def solve(self, rhs, transposed=False):
        return ToeplitzSolve()(self.operator.c, self.x, rhs)

    def logdet(self):
        return self.sign, self.logabsdet

    def logdet_pullback(self):
        """The sums of the diagonals of the inverse."""
        n = self.operator.order
        weighted = self.x * (n - 2 * pt.arange(n)) / self.x[0]
        sums = self.operator.of_outer(weighted[:, None], self.x[:, None])
        return [sums.astype(self.operator.dtype)]

    def inverse(self):
        return self.solve(pt.eye(self.operator.order, dtype=self.operator.dtype))

    def inverse_diagonal(self):
        """Each entry of the inverse from the one before it on its diagonal (Trench 1964)."""
        turned = pt.concatenate([np.zeros(1), self.x[:0:-1]])
        steps = (pt.sqr(self.x) - pt.sqr(turned)) / self.x[0]
        return pt.cumsum(steps).astype(self.operator.dtype)

    def is_positive_definite(self):
        return self.sign > 0

    def is_accurate(self):
        """Whether it is definite, and the last pivot, 1 / x_0, not too small beside the first one."""
        return (self.sign > 0) & ((self.operator.c[:1] * self.x[:1]).sum() < MOST_RATIO)
