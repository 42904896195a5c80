"""Conjugate gradients, for matrices that the user knows to be well conditioned."""

from __future__ import annotations

import math

import pytensor.tensor as pt

from autotune.ops.cg import BlockCG
from autotune.problem import Problem, known, with_backward
from autotune.strategies.base import No, Solver, Strategy, Work, dense_bytes, forming, outer_products, times
from cost_models import call


class ConjugateGradientsStrategy(Strategy):
    """Krylov solves with all right-hand sides in one block (Hestenes & Stiefel 1952).

    Needs a reason to expect few iterations: ``condition_number`` in the policy, or ``force``.
    Convergence: ``|e_j|_A <= 2 ((sqrt(kappa) - 1) / (sqrt(kappa) + 1))^j |e_0|_A``. The true
    residual is checked against ``solve_rtol``; on failure the Op falls back to Cholesky.
    """

    name = "cg"
    provides = frozenset({"solve", "inv_quad"})
    batched = False
    needs_own_ops = True
    exact = False

    def objects_to(self, problem, options):
        if not problem.positive_definite:
            return No("the matrix is not known to be positive definite")
        if options.condition_number is None and not options.forced:
            return No("no condition number is declared, so its iterations are unknown")
        if options.preconditioner is not None and options.preconditioner.name != "none":
            return No(f"preconditioner {options.preconditioner.name!r} is not available in this version")
        return None

    def work(self, problem: Problem, options) -> Work:
        full = with_backward(problem, structured=False)
        n = known(problem.n)
        columns = [known(r.columns) for r in full.requests if r.kind in ("solve", "inv_quad")]
        iterations = expected_iterations(n, options)
        calls = [call("cg_iteration", n=n, m=m, count=iterations) for m in columns]
        calls += [*forming(problem), *outer_products(problem)]
        vectors = 4 * n * max(columns, default=0) * problem.itemsize
        return Work(times(problem.batch, calls), dense_bytes(problem, 1) + vectors)

    def solver(self, system, options):
        return ConjugateGradientsSolver(system.operator.to_dense(), options)


def expected_iterations(n: int, options) -> int:
    """Iterations to ``solve_rtol`` by the Chebyshev bound; n when the condition number is unknown."""
    if options.condition_number is None:
        return n
    root = math.sqrt(options.condition_number)
    bound = math.ceil(0.5 * root * math.log(2.0 * root / options.solve_rtol)) + 1
    return max(1, min(n, bound))


class ConjugateGradientsSolver(Solver):
    def __init__(self, matrix, options):
        self.matrix = matrix
        self.options = options

    def solve(self, rhs, transposed=False):
        n = self.matrix.shape[-1]
        if self.options.max_iterations is not None:
            budget = pt.constant(self.options.max_iterations, dtype="int64")
        elif self.options.condition_number is None:
            budget = 2 * n
        else:
            # twice the bound: a slightly wrong declaration costs little, a badly wrong one is caught
            budget = pt.minimum(2 * expected_iterations(2**31, self.options), 2 * n)
        solution, _ = BlockCG()(self.matrix, rhs, self.options.solve_rtol, pt.cast(budget, "int64"))
        return solution
