"""Pencils of constants by their spectrum, which was found when the function was compiled."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt

from autotune.algebra.pencil import Pencil
from autotune.algebra.solver import Solver
from autotune.problem import REQUEST_KINDS, Problem, known
from autotune.strategies.base import No, Strategy, Work
from cost_models import call


class SpectrumStrategy(Strategy):
    """``K = M diag(e) M'`` with a constant M: ``K^-1 = P diag(1 / e) P'``, ``det K = det(D) prod(e)``.

    Golub & Van Loan 2013, section 8.7; in mixed models Kang et al. 2008, "Efficient control of population
    structure in model organism association mapping".
    """

    name = "spectrum"
    provides = frozenset(REQUEST_KINDS) - {"factor"}
    batched = False
    structured = True

    def concerns(self, problem):
        return problem.structure == ("pencil",)

    def objects_to(self, problem, options):
        return None if self.concerns(problem) else No("the matrix is not made of constants and two scalars")

    def work(self, problem: Problem, options) -> Work:
        n = known(problem.n)
        calls, held = [call("stream", n=n)], 2 * n
        for r in problem.requests:
            if r.kind in ("solve", "inv_quad"):
                m = known(r.columns)
                # The solution is asked for in a gradient by the right-hand side.
                twice = r.kind == "solve" or problem.differentiated
                calls += [call("gemm", m=n, n=m, k=n, count=2 if twice else 1)]
                held += 3 * n * m
            elif r.kind == "inverse":
                calls += [call("gemm", m=n, n=n, k=n)] * (3 if problem.differentiated else 1)
                held += 2 * n * n
            elif r.kind == "inverse_diagonal":
                calls += [call("gemv", m=n, n=n, count=2 if problem.differentiated else 1)]
        return Work(tuple(calls), problem.itemsize * held)

    def solver(self, system, options):
        return SpectrumSolver(system.operator.unmarked)


class SpectrumSolver(Solver):
    """Where a Cholesky factor is asked for and some eigenvalue is not positive, every answer is NaN."""

    def __init__(self, pencil: Pencil):
        self.pencil = pencil
        self.e = pencil.eigenvalues
        self.dual = pencil.dual

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        found = super().answer(kind, rhs, transposed)
        if not checked or kind == "is_positive_definite":
            return found
        definite = self.is_positive_definite()
        return [pt.switch(definite, x, np.full((), np.nan, x.type.dtype)) for x in found]

    def solve(self, rhs, transposed=False):
        return self.dual @ (self.dual.T @ rhs / self.e[:, None])

    def inv_quad(self, rhs):
        return (pt.sqr(self.dual.T @ rhs) / self.e[:, None]).sum(axis=0)

    def logdet(self):
        logabsdet = pt.log(pt.abs(self.e)).sum()
        if self.pencil.d is not None:
            logabsdet += pt.log(self.pencil.d).sum()
        return pt.prod(pt.sign(self.e)), logabsdet

    def inverse(self):
        return (self.dual / self.e) @ self.dual.T

    def inverse_diagonal(self):
        return pt.sqr(self.dual) @ pt.reciprocal(self.e)

    def is_positive_definite(self):
        return pt.all(self.e > 0)
