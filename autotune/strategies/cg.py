"""Conjugate gradients, for matrices that the user knows to be well conditioned."""

from __future__ import annotations

import math

import pytensor.tensor as pt

from autotune.ops.cg import BlockCG, PartialCholesky
from autotune.ops.core_preconditioner import JACOBI
from autotune.problem import Problem, known, with_backward
from autotune.strategies.base import No, Solver, Strategy, Work, dense_bytes, forming, outer_products, times
from cost_models import KernelCall, call


class ConjugateGradientsStrategy(Strategy):
    """Krylov solves with all right-hand sides in one block (Hestenes & Stiefel 1952).

    Needs a reason to expect few iterations: ``condition_number`` in the policy, or ``force``. Where the
    policy names a preconditioner, it is the condition number of the preconditioned matrix.
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
        return None if options.forced else beyond_budget(problem, options, options.max_iterations)

    def work(self, problem: Problem, options) -> Work:
        full = with_backward(problem, structured=False)
        calls = [*solve_calls(full, options), *forming(problem), *outer_products(problem)]
        if any(r.kind in ("solve", "inv_quad") for r in full.requests):
            calls += preconditioner_calls(known(problem.n), options)
        return Work(times(problem.batch, calls), dense_bytes(problem, 1) + vector_bytes(full))

    def guarded(self, problem: Problem, options) -> tuple[list[KernelCall], list[KernelCall]]:
        """The kernels of the direct fallback, and those of one iteration of every solve.

        From their seconds the choice sets ``max_iterations`` so that iterating in vain costs at most a share
        of the fallback.
        """
        full = with_backward(problem, structured=False)
        n, columns = known(problem.n), solve_columns(full)
        direct = [call("potrf", n=n), *(call("potrs", n=n, m=m) for m in columns)]
        return direct, [call("cg_iteration", n=n, m=m) for m in columns]

    def solver(self, system, options):
        return ConjugateGradientsSolver(system.operator.to_dense(), options)


def beyond_budget(problem: Problem, options, budget: int | None) -> No | None:
    """Declines where more iterations are expected than the run-time guard would allow."""
    if problem.n is None or budget is None or options.condition_number is None:
        return None
    expected = expected_iterations(problem.n, options)
    if expected <= budget:
        return None
    return No(f"expects {expected} iterations, the budget beside a direct solve is {budget}")


def solve_columns(problem: Problem) -> list[int]:
    """Right-hand sides of each solve."""
    return [known(r.columns) for r in problem.requests if r.kind in ("solve", "inv_quad")]


def solve_calls(problem: Problem, options) -> list[KernelCall]:
    """The iterations of every solve, and what the preconditioner adds to them."""
    n = known(problem.n)
    rank = rank_for(options, n)
    iterations = expected_iterations(n, options)
    calls = []
    for m in solve_columns(problem):
        calls.append(call("cg_iteration", n=n, m=m, count=iterations))
        if rank > JACOBI:
            calls.append(call("gemm", m=m, n=rank, k=n, count=iterations))
            calls.append(call("gemm", m=m, n=n, k=rank, count=iterations))
    return calls


def preconditioner_calls(n: int, options) -> list[KernelCall]:
    """About 10 n r^2 flops: two sweeps of pivoted Cholesky and an SVD."""
    rank = rank_for(options, n)
    return [call("gemm", m=n, n=rank, k=rank, count=5)] if rank > JACOBI else []


def vector_bytes(problem: Problem) -> float:
    """What the recurrences hold."""
    return 5.0 * known(problem.n) * max(solve_columns(problem), default=0) * problem.itemsize


def rank_for(options, n: int) -> int:
    """The rank of the preconditioner as `PartialCholesky` counts it: -1 none, 0 Jacobi.

    Undeclared, the rank of a partial Cholesky factor is sqrt(n): it then costs about as much as five products
    with the matrix.
    """
    name = "none" if options.preconditioner is None else options.preconditioner.name
    if name == "pivoted_cholesky":
        return min(n, options.preconditioner.rank or math.ceil(math.sqrt(n)))
    return {"none": -1, "jacobi": JACOBI}[name]


def expected_iterations(n: int, options) -> int:
    """``sqrt(kappa) / 2 log(2 / rtol)``, from the Chebyshev bound; n when the condition number is unknown."""
    if options.condition_number is None:
        return n
    bound = 0.5 * math.sqrt(options.condition_number) * math.log(2.0 / options.solve_rtol)
    return max(1, min(n, math.ceil(bound) + 1))


class Preconditioned(Solver):
    """What iterative solvers share: one preconditioner for all requests on ``matrix``, and conjugate
    gradients that hand on a Cholesky factor once one of them had to make it."""

    def __init__(self, matrix, options):
        self.matrix = matrix
        self.options = options
        self.parts = self._preconditioner()
        self.factor_so_far = pt.zeros((0, 0), dtype=matrix.type.dtype)

    def _preconditioner(self):
        """The outputs of `PartialCholesky`, or three times None for the identity."""
        given = self.options.preconditioner
        if given is None or given.name == "none":
            return (None,) * 3
        if given.name == "jacobi":
            rank = JACOBI
        else:
            rank = given.rank or pt.cast(pt.ceil(pt.sqrt(self.matrix.shape[-1])), "int64")
        return tuple(PartialCholesky()(self.matrix, rank))

    def solve_within(self, rhs, rtol, budget):
        """Conjugate gradients to ``rtol``, at most ``budget`` iterations."""
        solution, _, self.factor_so_far = BlockCG()(
            self.matrix, rhs, rtol, pt.cast(budget, "int64"), *self.parts, self.factor_so_far
        )
        return solution

    def most_iterations(self):
        """Twice those that the condition number bounds, which only a false declaration exceeds; else 2 n."""
        n = self.matrix.shape[-1]
        if self.options.condition_number is None:
            return 2 * n
        return pt.minimum(2 * expected_iterations(2**31, self.options), 2 * n)


class ConjugateGradientsSolver(Preconditioned):
    def solve(self, rhs, transposed=False):
        given = self.options.max_iterations
        return self.solve_within(rhs, self.options.solve_rtol, given or self.most_iterations())
