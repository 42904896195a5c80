"""Constants with scalars that change, by a spectrum that was found when the function was compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt

from autotune.algebra.pencil import Pencil, basis_of, multiple_of_identity
from autotune.algebra.solver import Solver
from autotune.problem import REQUEST_KINDS, Problem, known
from autotune.strategies.base import No, Strategy, Work
from cost_models import call


class SpectrumStrategy(Strategy):
    """``K = M diag(e) M'`` with a constant M: ``K^-1 = P diag(1 / e) P'``, ``det K = det(D) prod(e)``.

    Or ``K = t I + M diag(c) M'`` with constant orthonormal columns M, on whose complement K is t. Golub & Van
    Loan 2013, section 8.7; in mixed models Kang et al. 2008, "Efficient control of population structure in
    model organism association mapping".
    """

    name = "spectrum"
    provides = frozenset(REQUEST_KINDS) - {"factor"}
    batched = False
    structured = True

    def concerns(self, problem):
        low_rank = problem.term.find("low_rank")
        thin = problem.structure == ("diagonal", "low_rank") and low_rank.fact("orthonormal")
        return problem.structure == ("pencil",) or bool(thin)

    def objects_to(self, problem, options):
        return None if self.concerns(problem) else No("the matrix is not made of constants and scalars")

    def work(self, problem: Problem, options) -> Work:
        n = known(problem.n)
        k = known(problem.term.sizes().get("rank", n))
        calls, held = [call("stream", n=k)], 2 * n
        for r in problem.requests:
            if r.kind in ("solve", "inv_quad"):
                m = known(r.columns)
                # The solution is asked for in a gradient by the right-hand side.
                twice = r.kind == "solve" or problem.differentiated
                calls += [call("gemm", m=n, n=m, k=k, count=2 if twice else 1), call("stream", n=n * m)]
                held += 3 * n * m
            elif r.kind == "inverse":
                calls += [call("gemm", m=n, n=n, k=k)] * (3 if problem.differentiated else 1)
                held += 2 * n * n
            elif r.kind == "inverse_diagonal":
                calls += [call("gemv", m=n, n=k, count=2 if problem.differentiated else 1)]
        return Work(tuple(calls), problem.itemsize * held)

    def solver(self, system, options):
        operator = system.operator.unmarked
        return (PencilSolver if isinstance(operator, Pencil) else ThinSolver)(operator)


class SpectrumSolver(Solver):
    """Where a Cholesky factor is asked for and some eigenvalue is not positive, every answer is NaN."""

    def __init__(self, operator):
        basis: Any = basis_of(operator)
        self.operator, self.dual, self.e = operator, basis.dual, basis.eigenvalues

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        found = super().answer(kind, rhs, transposed)
        if not checked or kind == "is_positive_definite":
            return found
        definite = self.is_positive_definite()
        return [pt.switch(definite, x, np.full((), np.nan, x.type.dtype)) for x in found]

    def is_positive_definite(self):
        return pt.all(self.e > 0)


class PencilSolver(SpectrumSolver):
    def solve(self, rhs, transposed=False):
        return self.dual @ (self.dual.T @ rhs / self.e[:, None])

    def inv_quad(self, rhs):
        return (pt.sqr(self.dual.T @ rhs) / self.e[:, None]).sum(axis=0)

    def logdet(self):
        logabsdet = pt.log(pt.abs(self.e)).sum()
        if self.operator.d is not None:
            logabsdet += pt.log(self.operator.d).sum()
        return pt.prod(pt.sign(self.e)), logabsdet

    def inverse(self):
        return (self.dual / self.e) @ self.dual.T

    def inverse_diagonal(self):
        return pt.sqr(self.dual) @ pt.reciprocal(self.e)


class ThinSolver(SpectrumSolver):
    """In the range of M and in its complement: projections are constant if the right-hand side is."""

    def __init__(self, operator):
        super().__init__(operator)
        d = operator.terms[0].d
        self.t = multiple_of_identity(d)
        self.outside = pt.cast(d.shape[0] - self.e.shape[0], self.t.type.dtype)

    def _split(self, rhs):
        """Coordinates in the range, and the rest, projected twice: the first leaves what rounding makes."""
        inside = self.dual.T @ rhs
        rest = rhs - self.dual @ inside
        return inside, rest - self.dual @ (self.dual.T @ rest)

    def solve(self, rhs, transposed=False):
        inside, rest = self._split(rhs)
        return rest / self.t + self.dual @ (inside / self.e[:, None])

    def inv_quad(self, rhs):
        inside, rest = self._split(rhs)
        return pt.sqr(rest).sum(axis=0) / self.t + (pt.sqr(inside) / self.e[:, None]).sum(axis=0)

    def logdet(self):
        sign = pt.prod(pt.sign(self.e)) * pt.switch(pt.eq(self.outside % 2, 0), 1.0, pt.sign(self.t))
        outside = pt.switch(pt.eq(self.outside, 0), 0.0, self.outside * pt.log(pt.abs(self.t)))
        return sign.astype(self.t.type.dtype), outside + pt.log(pt.abs(self.e)).sum()

    def inverse(self):
        n = self.dual.shape[0]
        inside = (self.dual * (pt.reciprocal(self.e) - pt.reciprocal(self.t))) @ self.dual.T
        return (
            pt.switch(pt.eye(n, dtype="bool"), pt.reciprocal(self.t), 0.0).astype(self.t.type.dtype) + inside
        )

    def inverse_diagonal(self):
        squares = pt.sqr(self.dual)
        return (1.0 - squares.sum(axis=1)) / self.t + squares @ pt.reciprocal(self.e)

    def is_positive_definite(self):
        return pt.all(self.e > 0) & (pt.eq(self.outside, 0) | (self.t > 0))
