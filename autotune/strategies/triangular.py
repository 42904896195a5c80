"""Triangular matrices: back substitution, and the diagonal."""

from __future__ import annotations

import pytensor.tensor as pt
from pytensor.tensor.linalg.solvers.triangular import solve_triangular

from autotune.algebra.solver import Solver
from autotune.problem import Problem, known
from autotune.strategies.base import No, Strategy, Work, dense_bytes, outer_products, with_backward
from cost_models import call


class TriangularStrategy(Strategy):
    """``T x = b`` by substitution (trtrs), ``det T`` by its diagonal (Golub & Van Loan 2013, 3.1)."""

    name = "triangular"
    provides = frozenset({"solve", "logdet", "determinant", "inverse", "inverse_diagonal"})
    batched = False
    structured = True

    def concerns(self, problem):
        return problem.structure == ("triangular",)

    def objects_to(self, problem, options):
        if not self.concerns(problem):
            return No("the matrix is not triangular")
        return No("a Cholesky factor of its lower triangle is asked for") if problem.checked else None

    def work(self, problem: Problem, options) -> Work:
        n = known(problem.n)
        full = with_backward(problem, structured=True)
        columns = [known(r.columns) for r in full.requests if r.kind == "solve"]
        columns += [n for r in full.requests if r.kind == "inverse"]
        calls = [call("trsm", n=n, m=m) for m in columns] + [call("stream", n=n)]
        held = n * sum(columns) * problem.itemsize + dense_bytes(problem, bool(problem.differentiated))
        return Work((*calls, *outer_products(problem)), held)

    def solver(self, system, options):
        return TriangularSolver(system.operator.unmarked)


class TriangularSolver(Solver):
    def __init__(self, operator):
        self.T, self.lower = operator.T, operator.lower
        self.diagonal = operator.diagonal()

    def solve(self, rhs, transposed=False):
        return solve_triangular(self.T, rhs, lower=self.lower, trans=transposed, b_ndim=2)

    def logdet(self):
        return pt.prod(pt.sign(self.diagonal)), pt.log(pt.abs(self.diagonal)).sum()

    def determinant(self):
        return pt.prod(self.diagonal)

    def inverse(self):
        return self.solve(pt.eye(self.T.shape[0], dtype=self.T.dtype))

    def inverse_diagonal(self):
        return 1 / self.diagonal
