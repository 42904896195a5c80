"""Log-determinants by stochastic Lanczos quadrature, for users who ask for no more than a few digits."""

from __future__ import annotations

import math
from functools import cached_property

import pytensor.tensor as pt

from autotune.ops.core_lanczos import BLOCK
from autotune.ops.lanczos import LanczosInverse, LanczosInverseOfParts, LanczosLogdet
from autotune.problem import Problem, known
from autotune.strategies.base import No, Strategy, Work, dense_bytes, forming, outer_products, times
from autotune.strategies.cg import (
    Preconditioned,
    beyond_budget,
    columns_of,
    has_dense,
    in_parts,
    iteration,
    preconditioner_calls,
    solve_calls,
    solve_columns,
    thin_outer_products,
    vector_bytes,
)
from autotune.strategies.iterations import condition_number
from autotune.strategies.steps import (
    GRADIENT,
    asks_gradient,
    block_step,
    combining,
    direct,
    estimates_gradient,
    exact_solves,
    expected_blocks,
    factorised,
    further_steps,
    gradient_rtol,
    is_of_the_gradient,
    orthogonalisation,
    repeated,
    steps_of_a_block,
    with_gradient,
)
from cost_models import KernelCall

# Every problem has the same probes in every call: an objective that is minimised must not flicker.
SEED = 20170101
# Of so many rows of the matrix the solves of one probe are handed on to the gradient: three vectors each.
ROWS_A_PROBE = 8


class LanczosStrategy(Strategy):
    """``log det A = log det P + E[z' log(M) z]``, z random signs, M the preconditioned matrix.

    Ubaru, Chen & Saad (2017). Stochastic: needs ``logdet_rtol`` in the policy, and a reason to expect few
    steps as `cg` does, which solves here too. The matrix is multiplied by its parts, as `cg` does. A
    log-determinant whose 95 % error would exceed ``logdet_rtol`` is that of the direct way, taken in the same
    Op; solves then use its factor. The error of the quadrature is bounded by the condition number that is
    declared or probed, or, where that is unknown or false, by the least Ritz value.

    Its gradient after ``tune`` is an unbiased estimate by the same probes, which continues their Krylov
    spaces, as long as the condition number of M is at most 10 by its Ritz values. Above that, the probes of a
    value do not see every direction well enough: value and gradient are then exact, by one factor. Nothing
    n x n is made for ``diag(d) + U diag(c) U'``. An inverse that the user asked for is never estimated.
    Whether the matrix is positive definite is answered by what was seen of it: a negative eigenvalue that no
    probe met is missed.
    """

    name = "lanczos"
    provides = frozenset({"solve", "inv_quad", "logdet", "is_positive_definite"}) | GRADIENT
    batched = False
    needs_own_ops = True
    exact = False
    structured = True

    def objects_to(self, problem, options):
        if options.logdet_rtol is None:
            return No("it estimates, and the policy sets no logdet_rtol")
        if not options.carried:
            if not problem.asks("logdet"):
                return No("no log-determinant is asked for")
            if any(problem.asks(kind) for kind in GRADIENT):
                return No("an inverse that is asked for is not estimated")
            if any(is_of_the_gradient(r, problem) for r in problem.requests):
                return No("solves with as many columns as the low-rank part look like its gradient's")
        if not problem.positive_definite:
            return No("the matrix is not known to be positive definite")
        if not options.forced and problem.inverse is not None and problem.inverse.names != ("diagonal",):
            return No("it cannot use the given preconditioner, with which alone its iterations are known")
        if not options.forced and condition_number(problem, options) is None:
            return No("no condition number is declared, so its steps are unknown")
        return None if options.forced else _beyond_budget(problem, options)

    def work(self, problem: Problem, options) -> Work:
        n, full = known(problem.n), with_gradient(problem)
        solves = exact_solves(full)
        calls = preconditioner_calls(n, options)
        calls += thin_outer_products(problem) if in_parts(problem) else forming(problem)
        if has_dense(problem):
            calls += outer_products(problem)
        if asks_gradient(full) and not estimates_gradient(problem, options):
            calls += block_step(problem, options)
            calls += factorised(problem, solve_columns(solves), gradient=True)
        else:
            calls += [*solve_calls(solves, options), *self._estimates(problem, full, options)]
        return Work(times(problem.batch, calls), self._bytes(problem, full, options) + vector_bytes(solves))

    def _estimates(self, problem: Problem, full: Problem, options) -> list[KernelCall]:
        """The log-determinant and its gradient by probes."""
        n, calls = known(problem.n), []
        blocks, steps = expected_blocks(n, options), steps_of_a_block(problem, options)
        one = block_step(problem, options)
        if full.asks("logdet"):
            calls += [*repeated(blocks * steps, one), *orthogonalisation(n, blocks, steps)]
        if asks_gradient(full):
            calls += repeated(blocks * further_steps(problem, options), one)
            calls += combining(problem, math.ceil(BLOCK * blocks), options)
        return calls

    def _bytes(self, problem: Problem, full: Problem, options) -> float:
        """The matrix or its columns, the gradient's inverse, the basis with room to grow, and the probes."""
        n, blocks = known(problem.n), expected_blocks(known(problem.n), options)
        if has_dense(problem):
            matrices = dense_bytes(problem, 2 if asks_gradient(full) else 1)
        else:
            matrices = n * columns_of(problem) * problem.itemsize * (2 if asks_gradient(full) else 1)
        vectors = 2 * steps_of_a_block(problem, options) + (5 * blocks if asks_gradient(full) else 0)
        return matrices + vectors * BLOCK * n * problem.itemsize

    def guarded(self, problem: Problem, options) -> tuple[list[KernelCall], list[KernelCall]]:
        """The kernels of the direct fallback, and those of one step; see `ConjugateGradientsStrategy`.

        A solve with m right-hand sides may take 8 / m as many iterations as the log-determinant takes steps,
        and the gradient as many steps as that.
        """
        full = with_gradient(problem)
        columns = solve_columns(exact_solves(full))
        steps = [*block_step(problem, options)]
        for m in columns:
            steps += repeated(max(1.0, BLOCK / max(m, 1)), iteration(problem, m))
        if asks_gradient(full):
            steps += block_step(problem, options)
        return direct(problem, columns, asks_gradient(full)), steps

    def preparation(self, problem: Problem, options) -> list[KernelCall]:
        return preconditioner_calls(known(problem.n), options)

    def solver(self, system, options):
        # a preconditioner that the user gives is one for solves
        operator = getattr(system.operator, "operator", system.operator)
        differentiated = not GRADIENT.isdisjoint(system.kinds)
        return LanczosSolver(operator, options, differentiated)


def _beyond_budget(problem: Problem, options) -> No | None:
    budget = options.max_iterations
    if problem.n is None or budget is None:
        return None
    a_block = steps_of_a_block(problem, options)
    if asks_gradient(with_gradient(problem)):
        a_block = max(a_block, further_steps(problem, options))
    steps = expected_blocks(problem.n, options) * a_block
    if steps > budget:
        return No(f"expects {math.ceil(steps)} steps, the budget beside a direct factorisation is {budget}")
    columns = [m for m in (r.columns for r in problem.requests if r.kind in ("solve", "inv_quad")) if m]
    return beyond_budget(problem, options, solve_budget(budget, max(columns))) if columns else None


def solve_budget(steps, columns):
    """Iterations of a solve that cost as much as ``steps`` block steps; see `LanczosStrategy.guarded`."""
    return steps * max(1, BLOCK // columns)


class LanczosSolver(Preconditioned):
    """Its log-determinant comes first: the solves use the factor that a refusal leaves.

    ``differentiated``: the gradient is asked for as well, and goes on where the log-determinant stops.
    """

    def __init__(self, operator, options, differentiated):
        super().__init__(operator, options)
        condition = options.condition_number or math.inf
        steps = options.max_iterations or 2 * self.order
        self.steps = pt.cast(pt.as_tensor_variable(steps), "int64")
        kept = pt.maximum(BLOCK, self.order // ROWS_A_PROBE) if differentiated else 0
        self.logabsdet, _, _, self.factor_so_far, self.krylov = LanczosLogdet()(
            self.matrix, options.logdet_rtol, self.steps, SEED, *self.parts, condition, kept, *self.thin
        )

    def logdet(self):
        failed = pt.isnan(self.logabsdet)
        return pt.switch(failed, self.logabsdet, pt.ones_like(self.logabsdet)), self.logabsdet

    def is_positive_definite(self):
        return pt.invert(pt.isnan(self.logabsdet))

    def solve(self, rhs, transposed=False):
        columns = self.thin[1]
        if rhs is columns and (columns.type.shape[-1] or 0) > BLOCK:
            return self.inverse_columns()
        if self.options.max_iterations is None:
            budget = self.most_iterations()
        else:
            # `solve_budget`, of a number of columns that may only be known at run time
            budget = self.steps * pt.maximum(1, BLOCK // pt.maximum(1, rhs.shape[-1]))
        return self.solve_within(rhs, self.options.solve_rtol, budget)

    def inverse(self):
        return LanczosInverse()(self.matrix, *self._estimate, *self.thin)

    def inverse_diagonal(self):
        return self._of_parts[0] if self.matrix is None else pt.diagonal(self.inverse())

    def inverse_columns(self):
        """``A^-1 U``, U the low-rank part."""
        return self._of_parts[1] if self.matrix is None else self.inverse() @ self.thin[1]

    @cached_property
    def _of_parts(self):
        return LanczosInverseOfParts()(*self._estimate, *self.thin)

    @cached_property
    def _estimate(self):
        """What all of the gradient is computed by, so that it is computed once."""
        numbers = self.options.logdet_rtol, gradient_rtol(self.options), self.steps, SEED
        return (*numbers, *self.parts, self.factor_so_far, self.krylov)
