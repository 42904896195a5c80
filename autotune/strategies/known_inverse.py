"""Constant matrices with a constant inverse, as parts of others: products with it."""

from __future__ import annotations

import pytensor.tensor as pt

from autotune.algebra.solver import Solver
from autotune.problem import Problem, known
from autotune.strategies.base import No, Strategy, Work
from cost_models import call


class KnownInverseStrategy(Strategy):
    """``A^-1`` was found at compile time: eigenvectors have their transpose, or the dual basis."""

    name = "known_inverse"
    provides = frozenset({"solve", "logdet", "determinant", "inverse", "inverse_diagonal"})
    batched = False
    structured = True

    def concerns(self, problem):
        return problem.structure == ("known_inverse",)

    def objects_to(self, problem, options):
        if not self.concerns(problem):
            return No("no inverse of the matrix is known")
        return No("a Cholesky factor of its lower triangle is asked for") if problem.checked else None

    def work(self, problem: Problem, options) -> Work:
        n = known(problem.n)
        columns = [known(r.columns) for r in problem.requests if r.kind == "solve"]
        times = 2 if problem.differentiated else 1
        calls = [call("gemm", m=n, n=m, k=n, count=times) for m in columns]
        return Work(tuple(calls), n * sum(columns) * times * problem.itemsize)

    def solver(self, system, options):
        return KnownInverseSolver(system.operator.unmarked)


class KnownInverseSolver(Solver):
    def __init__(self, operator):
        self.operator = operator

    def solve(self, rhs, transposed=False):
        inverse = self.operator.inverted
        return (inverse.mT if transposed else inverse) @ rhs

    def logdet(self):
        return self.operator.sign, self.operator.logabsdet

    def inverse(self):
        return self.operator.inverted

    def inverse_diagonal(self):
        return pt.diagonal(self.operator.inverted)
