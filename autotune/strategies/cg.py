"""Conjugate gradients, for matrices that are known to be well conditioned."""

from __future__ import annotations

import math

import pytensor.tensor as pt

from autotune.algebra.symmetric_parts import columns_read, matrix_parts, parts_of
from autotune.ops.cg import BlockCG, PartialCholesky
from autotune.ops.constants import JACOBI
from autotune.problem import Problem, known
from autotune.problem.spectrum import NEVER
from autotune.strategies.base import (
    No,
    Solver,
    Strategy,
    Work,
    dense_bytes,
    forming,
    outer_products,
    times,
    with_backward,
)
from autotune.strategies.iterations import (
    chebyshev_bound,
    expected_iterations,
    ill_conditioned,
    is_known,
    iterations_to_allow,
    rank_for,
)
from autotune.strategies.woodbury import factorised_in_parts
from cost_models import KernelCall, call

# The order at which an iteration on a dense matrix is all fixed cost.
SMALL = 32
# What a solve takes beside its iterations, in iterations: the product for the true residual.
SET_UP = 1


class ConjugateGradientsStrategy(Strategy):
    """Krylov solves with all right-hand sides in one block (Hestenes & Stiefel 1952).

    ``diag(d) + U diag(c) U'``, and such columns beside a dense matrix, are multiplied by their parts:
    4 n k m flops an iteration, and no n x n matrix for the former. Needs a reason to expect few iterations:
    a condition number in the policy or in the code (`autotune.algebra.marks`), a probe, or ``force``. Where a
    preconditioner is named, it is the condition number of the preconditioned matrix.
    Convergence: ``|e_j|_A <= 2 ((sqrt(kappa) - 1) / (sqrt(kappa) + 1))^j |e_0|_A``. The true
    residual is checked against ``solve_rtol``; on failure the Op falls back to Cholesky, or to Woodbury's
    identity where there is no dense part.
    """

    name = "cg"
    provides = frozenset({"solve", "inv_quad"})
    batched = False
    needs_own_ops = True
    exact = False
    structured = True

    def objects_to(self, problem, options):
        if not problem.positive_definite:
            return No("the matrix is not known to be positive definite")
        if not options.forced and not is_known(problem, options):
            return No("no condition number is declared, so its iterations are unknown")
        poor = None if options.forced else ill_conditioned(problem, options)
        if poor:
            return No(f"a condition number of {poor:.2g} or more lets a small residual hide a large error")
        return None if options.forced else beyond_budget(problem, options, options.max_iterations)

    def work(self, problem: Problem, options) -> Work:
        full = with_backward(problem, structured=False)
        calls = [*solve_calls(full, options), *preconditioner_calls(known(problem.n), options)]
        calls += thin_outer_products(problem) if in_parts(problem) else forming(problem)
        if has_dense(problem):
            calls += outer_products(problem)
        thin = known(problem.n) * columns_of(problem) * problem.itemsize
        held = thin + (dense_bytes(problem, 1) if has_dense(problem) else 0)
        return Work(times(problem.batch, calls), held + vector_bytes(full))

    def guarded(self, problem: Problem, options) -> tuple[list[KernelCall], list[KernelCall]]:
        """The kernels of the direct fallback, and those of one iteration of every solve.

        From their seconds the choice sets ``max_iterations`` so that iterating in vain costs at most a share
        of the fallback.
        """
        full = with_backward(problem, structured=False)
        n, columns = known(problem.n), solve_columns(full)
        step = _steps(full)
        if not has_dense(problem):
            return factorised_in_parts(problem, columns, gradient=False), step
        return [call("potrf", n=n), *(call("potrs", n=n, m=m) for m in columns), *forming(problem)], step

    def preparation(self, problem: Problem, options) -> list[KernelCall]:
        full = with_backward(problem, structured=False)
        return [*preconditioner_calls(known(problem.n), options), *times(SET_UP, _steps(full))]

    def solver(self, system, options):
        return ConjugateGradientsSolver(system.operator, options)


def _steps(problem: Problem) -> list[KernelCall]:
    """One iteration of every solve."""
    return [c for m in solve_columns(problem) for c in iteration(problem, m)]


def in_parts(problem: Problem) -> bool:
    """Whether low-rank columns are multiplied as such: they are symmetric by themselves."""
    return parts_of(problem.term).has_columns


def has_dense(problem: Problem) -> bool:
    """Whether an n x n array is multiplied with."""
    return parts_of(problem.term).has_dense


def columns_of(problem: Problem) -> int:
    """The low-rank columns that are multiplied as such; 0 where there are none."""
    parts = parts_of(problem.term)
    return known(parts.columns) if parts.has_columns else 0


def iteration(problem: Problem, m: int) -> list[KernelCall]:
    """One product and what the recurrences do beside it, with m vectors at once."""
    n = known(problem.n)
    if has_dense(problem):
        calls = [call("cg_iteration", n=n, m=m)]
    else:
        calls = [call("cg_iteration", n=min(n, SMALL), m=m), call("stream", n=n * m, count=5)]
    if in_parts(problem):
        calls += products_with_columns(n, columns_of(problem), m)
    return calls


def products_with_columns(n: int, k: int, m: int) -> list[KernelCall]:
    """``U (U' V)``, U (n, k) and V (n, m)."""
    return [call("gemm", m=m, n=k, k=n), call("gemm", m=m, n=n, k=k)]


def thin_outer_products(problem: Problem) -> list[KernelCall]:
    """Backward pass of solves onto U: ``U_bar = -(b_bar (x' U) + x (b_bar' U))`` and a diagonal."""
    if not problem.differentiated:
        return []
    n, k = known(problem.n), columns_of(problem)
    return [
        c
        for m in solve_columns(problem)
        for c in (call("gemm", m=m, n=k, k=n, count=2), call("gemm", m=n, n=k, k=m, count=2))
    ]


def beyond_budget(problem: Problem, options, budget: int | None) -> No | None:
    """Declines where more iterations are expected than the run-time guard would allow."""
    if problem.n is None or budget is None or not is_known(problem, options):
        return None
    needed = iterations_to_allow(problem, options)
    if needed <= budget:
        return None
    return No(f"may need {needed} iterations, the budget beside a direct solve is {budget}")


def solve_columns(problem: Problem) -> list[int]:
    """Right-hand sides of each solve."""
    return [known(r.columns) for r in problem.requests if r.kind in ("solve", "inv_quad")]


def solve_calls(problem: Problem, options) -> list[KernelCall]:
    """The iterations of every solve, and what the preconditioner adds to them."""
    n = known(problem.n)
    rank = rank_for(options, n)
    iterations = expected_iterations(problem, options)
    calls = []
    for m in solve_columns(problem):
        calls += iteration(problem, m)
        if rank > JACOBI:
            calls += products_with_columns(n, rank, m)
        calls += inverse_calls(problem, m)
    return [KernelCall(c.kernel, c.dims, c.count * iterations) for c in calls]


def inverse_calls(problem: Problem, m: int) -> list[KernelCall]:
    """The user's preconditioner, applied to m vectors."""
    if problem.inverse is None:
        return []
    n = known(problem.n)
    k = columns_read(problem.inverse, n)
    if k == n:
        return [call("gemm", m=m, n=n, k=n)]
    return products_with_columns(n, k, m) if k else []


def preconditioner_calls(n: int, options) -> list[KernelCall]:
    """Two sweeps of pivoted Cholesky, column by column, and an SVD: about 10 n r^2 flops.

    A column has the overhead of an iteration, and an SVD takes three times as long as products of its flops.
    """
    rank = rank_for(options, n)
    if rank <= JACOBI:
        return []
    sweeps = [call("cg_iteration", n=SMALL, m=1), call("gemm", m=1, n=n, k=math.ceil(rank / 2))]
    return [*times(2 * rank, sweeps), call("gemm", m=n, n=rank, k=rank, count=15)]


def vector_bytes(problem: Problem) -> float:
    """What the recurrences hold."""
    return 5.0 * known(problem.n) * max(solve_columns(problem), default=0) * problem.itemsize


class Preconditioned(Solver):
    """What iterative solvers share: one preconditioner for all requests on ``operator``, and conjugate
    gradients that hand on a factor once one of them had to make it."""

    def __init__(self, operator, options):
        self.matrix, *self.thin = matrix_parts(operator)
        self.options = options
        self.order = next(part.shape[0] for part in (self.matrix, *self.thin) if part is not None)
        inverse = getattr(operator, "inverse", None)
        self.inverse_parts = (None,) * 4 if inverse is None else matrix_parts(inverse)
        self.parts = self._preconditioner()
        self.factor_so_far = None

    def _preconditioner(self):
        """The outputs of `PartialCholesky`, or three times None for the identity."""
        given = self.options.preconditioner
        if given is None or given.name == "none":
            return (None,) * 3
        if given.name == "jacobi":
            rank = JACOBI
        else:
            rank = given.rank or pt.cast(pt.ceil(pt.sqrt(self.order)), "int64")
        return tuple(PartialCholesky()(self.matrix, rank, *self.thin))

    def solve_within(self, rhs, rtol, budget):
        """Conjugate gradients to ``rtol``, at most ``budget`` iterations."""
        solution, _, self.factor_so_far = BlockCG()(
            self.matrix,
            rhs,
            rtol,
            pt.cast(budget, "int64"),
            *self.parts,
            self.factor_so_far,
            *self.thin,
            *self.inverse_parts,
        )
        return solution

    def most_iterations(self):
        """Twice those that the condition number bounds, which only a false declaration exceeds; else 2 n."""
        if self.options.condition_number is None:
            return 2 * self.order
        bound = math.ceil(chebyshev_bound(self.options.condition_number, self.options.solve_rtol)) + 1
        return pt.minimum(2 * min(bound, NEVER), 2 * self.order)


class ConjugateGradientsSolver(Preconditioned):
    def solve(self, rhs, transposed=False):
        given = self.options.max_iterations
        return self.solve_within(rhs, self.options.solve_rtol, given or self.most_iterations())
