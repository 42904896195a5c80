"""Sparse matrices of a constant pattern: a sparse factor."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt

from autotune.algebra.dense import Dense
from autotune.algebra.guarded_solver import DirectSolver, WhereItHolds
from autotune.algebra.solver import Solver
from autotune.ops import SparseFactor, SparseLogdetPullback, SparseSolve
from autotune.ops.sparse import product_kernels
from autotune.problem import GRADIENT_KINDS, REQUEST_KINDS, Problem, known
from autotune.strategies.base import No, Strategy, Work, with_backward
from cost_models import call


class SparseLDLStrategy(Strategy):
    """``P A P' = L D L'``, in an order that is found when the function is compiled: by minimum degree (Liu
    1985) or reverse Cuthill-McKee, whichever fills less. Fronts of columns are dense (Duff & Reid 1983).

    Gradients take the entries of the inverse on the pattern (Takahashi, Fagan & Chin 1973).
    """

    name = "sparse_ldl"
    provides = frozenset((*REQUEST_KINDS, *GRADIENT_KINDS)) - {"factor"}
    batched = False
    needs_own_ops = True
    structured = True

    def concerns(self, problem):
        return problem.structure == ("sparse",)

    def objects_to(self, problem, options):
        return None if self.concerns(problem) else No("the matrix is not sparse with a constant pattern")

    def work(self, problem: Problem, options) -> Work:
        sizes = problem.term.sizes()
        n, h, entries = (known(sizes[name]) for name in ("n", "height", "entries"))
        calls, held = [call("sparse_factor", n=n, b=h)], 2 * n * h
        for r in with_backward(problem, structured=True).requests:
            if r.kind in ("solve", "inv_quad", "inverse"):
                m = n if r.kind == "inverse" else known(r.columns)
                calls.append(call("sparse_solve", n=n, b=h, m=m))
                held += 2 * n * m
                if problem.differentiated and r.kind != "inverse":
                    calls += product_kernels(entries, m)
            elif r.kind in ("logdet_pullback", "inverse_diagonal"):
                calls.append(call("sparse_inverse", n=n, b=h))
        return Work(tuple(calls), problem.itemsize * held)

    def solver(self, system, options):
        operator = system.operator.unmarked
        fast = SparseSolver(operator)
        if system.positive_definite:
            return fast
        return WhereFactored(
            fast, _Direct(operator), fast.negative >= 0, operator.parts, system.before_autodiff
        )


class WhereFactored(WhereItHolds):
    """Of an indefinite matrix whose factor needs exchanges of rows: PyTensor's dense routines."""

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        if checked or kind == "is_positive_definite":
            return self.solver.answer(kind, rhs, transposed, checked)
        return super().answer(kind, rhs, transposed, checked)


class _Direct(DirectSolver):
    def __init__(self, operator):
        super().__init__(operator.to_dense(), False, True)
        self.operator = operator

    def logdet_pullback(self):
        return self.operator.pullback(Dense(self.inverse().mT))


class SparseSolver(Solver):
    """Where a Cholesky factor is asked for and there is none, every answer is NaN."""

    def __init__(self, operator):
        self.operator = operator
        self.plan = operator.pattern.constants[0]
        self.factored, self.negative, self.logabsdet = SparseFactor()(operator.data, self.plan)

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        found = super().answer(kind, rhs, transposed)
        if not checked or kind == "is_positive_definite":
            return found
        definite = self.is_positive_definite()
        return [pt.switch(definite, x, np.full((), np.nan, x.type.dtype)) for x in found]

    def solve(self, rhs, transposed=False):
        return SparseSolve()(self.factored, rhs, self.plan)

    def logdet(self):
        sign = pt.switch(self.negative < 0, np.nan, 1 - 2 * (self.negative % 2))
        return sign.astype(self.operator.dtype), self.logabsdet

    def logdet_pullback(self):
        return [pt.specify_shape(SparseLogdetPullback()(self.factored, self.plan), self._length)]

    @property
    def _length(self):
        return (len(self.operator.pattern.rows),)

    def inverse(self):
        return self.solve(pt.eye(self.operator.order, dtype=self.operator.dtype))

    def inverse_diagonal(self):
        [bars] = self.logdet_pullback()
        return bars[self.operator.pattern.diagonal]

    def is_positive_definite(self):
        return pt.eq(self.negative, 0)
