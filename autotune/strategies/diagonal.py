"""Diagonal matrices, as parts of others: one number a row."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt

from autotune.algebra.diagonal import Diagonal
from autotune.algebra.solver import Solver
from autotune.problem import REQUEST_KINDS, Problem, known
from autotune.strategies.base import No, Strategy, Work, times
from cost_models import call


class DiagonalStrategy(Strategy):
    """``diag(d)^-1 = diag(1 / d)``. A diagonal matrix by itself is PyTensor's own."""

    name = "diagonal"
    provides = frozenset(REQUEST_KINDS)
    structured = True

    def concerns(self, problem):
        return problem.structure == ("diagonal",)

    def objects_to(self, problem, options):
        return None if self.concerns(problem) else No("the matrix is not diagonal")

    def work(self, problem: Problem, options) -> Work:
        n = known(problem.n)
        solves = [known(r.columns) for r in problem.requests if r.kind in ("solve", "inv_quad")]
        formed = sum(r.kind in ("inverse", "factor") for r in problem.requests)
        calls = [call("stream", n=n * m) for m in (1, *solves)] + [call("diagonal", n=n)] * formed
        numbers = n * (2 + sum(solves) + formed * n) * known(problem.batch)
        return Work(times(problem.batch, calls), problem.itemsize * numbers)

    def solver(self, system, options):
        [d] = system.operator.parts
        return DiagonalSolver(d)


class DiagonalSolver(Solver):
    """Where a Cholesky factor is asked for and some entry is not positive, every answer is NaN."""

    def __init__(self, d):
        self.d = d

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        found = super().answer(kind, rhs, transposed)
        if not checked or kind == "is_positive_definite":
            return found
        ok = pt.switch(self.is_positive_definite(), 1.0, np.nan)
        return [x * _padded(ok, x).astype(x.type.dtype) for x in found]

    def solve(self, rhs, transposed=False):
        return rhs / self.d[..., :, None]

    def logdet(self):
        return pt.prod(pt.sign(self.d), axis=-1), pt.log(pt.abs(self.d)).sum(axis=-1)

    def inverse(self):
        return self._matrix(1 / self.d)

    def inverse_diagonal(self):
        return 1 / self.d

    def is_positive_definite(self):
        return pt.all(self.d > 0, axis=-1)

    def factor(self):
        return self._matrix(pt.sqrt(self.d))

    def _matrix(self, d):
        return pt.diag(d) if d.type.ndim == 1 else Diagonal(d).to_dense()


def _padded(scalars, like):
    """One number for each matrix, to be multiplied with arrays of them."""
    return pt.shape_padright(scalars, like.type.ndim - scalars.type.ndim)
