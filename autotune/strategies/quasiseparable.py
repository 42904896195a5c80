"""Covariances of points on a line: a factor in one pass over the points."""

from __future__ import annotations

import pytensor.tensor as pt

from autotune.algebra.guarded_solver import WhereDefinite
from autotune.algebra.solver import Solver
from autotune.ops import QuasiseparableFactor, QuasiseparableLogdetPullback, QuasiseparableSolve
from autotune.problem import GRADIENT_KINDS, REQUEST_KINDS, Problem, known
from autotune.strategies.base import No, Strategy, Work, times, with_backward
from cost_models import call


class QuasiseparableStrategy(Strategy):
    """``K = L diag(D) L'`` by a state of r numbers that is carried from point to point: O(n r^2).

    Gradients come from the same pass backwards, none of a matrix (Foreman-Mackey 2018, "Scalable
    backpropagation for Gaussian processes using celerite").
    """

    name = "quasiseparable"
    provides = frozenset((*REQUEST_KINDS, *GRADIENT_KINDS)) - {"factor"}
    needs_own_ops = True
    structured = True

    def concerns(self, problem):
        return problem.structure == ("quasiseparable",)

    def objects_to(self, problem, options):
        if self.concerns(problem):
            return None
        return No("the matrix is not a covariance of sorted points on a line")

    def work(self, problem: Problem, options) -> Work:
        n, r = known(problem.n), known(problem.term.sizes()["states"])
        calls, held = [call("line_factor", n=n, k=r)], n * (2 * r + 2)
        for request in with_backward(problem, structured=True).requests:
            if request.kind in ("solve", "inv_quad", "inverse"):
                m = n if request.kind == "inverse" else known(request.columns)
                backward = 2 if problem.differentiated and request.kind != "inverse" else 0
                calls.append(call("line_solve", n=n, k=r, m=m, count=1 + backward))
                held += 2 * n * m
            elif request.kind in ("logdet_pullback", "inverse_diagonal"):
                calls.append(call("line_inverse", n=n, k=r))
                held += n * r * r
        return Work(times(problem.batch, calls), problem.itemsize * held * known(problem.batch))

    def solver(self, system, options):
        operator = system.operator.unmarked
        fast = QuasiseparableSolver(operator)
        if system.positive_definite:
            return fast
        return WhereDefinite(fast, operator, fast.sign > 0, system.before_autodiff)


class QuasiseparableSolver(Solver):
    def __init__(self, operator):
        self.operator = operator
        self.D, self.V, self.E, self.sign, self.logabsdet = QuasiseparableFactor()(
            *operator.parts, *operator.whole_numbers
        )

    def solve(self, rhs, transposed=False):
        operator = self.operator
        sizes, _ = operator.whole_numbers
        return QuasiseparableSolve()(self.D, self.V, self.E, operator.steps, operator.c, sizes, rhs)

    def logdet(self):
        return self.sign, self.logabsdet

    def logdet_pullback(self):
        operator = self.operator
        d_bar, c_bar, rates_bar = QuasiseparableLogdetPullback()(
            self.D, self.V, self.E, *operator.parts[1:], *operator.whole_numbers
        )
        return [d_bar, operator.steps.zeros_like(), c_bar, rates_bar]

    def inverse(self):
        return self.solve(pt.eye(self.operator.order, dtype=self.operator.dtype))

    def inverse_diagonal(self):
        return self.logdet_pullback()[0]

    def is_positive_definite(self):
        return self.sign > 0
