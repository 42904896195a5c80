"""Log-determinants by stochastic Lanczos quadrature, for users who ask for no more than a few digits."""

from __future__ import annotations

import math
from functools import cached_property

import pytensor.tensor as pt
from pytensor.tensor.blockwise import Blockwise

from autotune.ops.constants import BLOCK, JACOBI
from autotune.ops.factor import SharedCholesky
from autotune.ops.lanczos import LanczosLogdet
from autotune.problem import Problem, known
from autotune.strategies.base import (
    No,
    Strategy,
    Work,
    dense_bytes,
    forming,
    outer_products,
    times,
    with_backward,
)
from autotune.strategies.cg import (
    Preconditioned,
    beyond_budget,
    columns_of,
    has_dense,
    in_parts,
    iteration,
    preconditioner_calls,
    products_with_columns,
    solve_calls,
    solve_columns,
    thin_outer_products,
    vector_bytes,
)
from autotune.strategies.cholesky import CholeskySolver
from autotune.strategies.iterations import condition_number, rank_for
from autotune.strategies.woodbury import factorised_in_parts, solver_of_parts
from cost_models import KernelCall, call

# Every problem has the same probes in every call: an objective that is minimised must not flicker.
SEED = 20170101
# What only the gradient of a log-determinant asks for.
GRADIENT = frozenset({"inverse", "inverse_diagonal"})


class LanczosStrategy(Strategy):
    """``log det A = log det P + E[z' log(M) z]``, z random signs, M the preconditioned matrix.

    Ubaru, Chen & Saad (2017). Stochastic: needs ``logdet_rtol`` in the policy, and a reason to expect few
    steps as `cg` does, which solves here too. The matrix is multiplied by its parts, as `cg` does. A
    log-determinant whose 95 % error would exceed ``logdet_rtol`` is that of the direct way, taken in the same
    Op; solves then use its factor. The error of the quadrature is bounded by the condition number that is
    declared or probed, or, where that is unknown or false, by the least Ritz value.

    Its gradient is exact, by a factor of the matrix, which then solves as well: a value is what an estimate
    is worth it for. Nothing n x n is made for ``diag(d) + U diag(c) U'``. Whether the matrix is positive
    definite is answered by what was seen of it: a negative eigenvalue that no probe met is missed.
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
            if asks_gradient(problem):
                return No("an inverse that is asked for is not estimated")
        if not problem.positive_definite:
            return No("the matrix is not known to be positive definite")
        if not options.forced and problem.inverse is not None and problem.inverse.names != ("diagonal",):
            return No("it cannot use the given preconditioner, with which alone its iterations are known")
        if not options.forced and condition_number(problem, options) is None:
            return No("no condition number is declared, so its steps are unknown")
        return None if options.forced else _beyond_budget(problem, options)

    def work(self, problem: Problem, options) -> Work:
        n, full = known(problem.n), with_backward(problem, structured=True)
        calls = preconditioner_calls(n, options)
        calls += thin_outer_products(problem) if in_parts(problem) else forming(problem)
        if has_dense(problem):
            calls += outer_products(problem)
        if full.asks("logdet"):
            blocks, steps = expected_blocks(n, options), steps_of_a_block(problem, options)
            calls += _repeated(blocks * steps, block_step(problem, options))
            calls += orthogonalisation(n, blocks, steps)
        if asks_gradient(full):
            calls += factorised(problem, solve_columns(full), gradient=True)
        else:
            calls += solve_calls(full, options)
        return Work(times(problem.batch, calls), self._bytes(problem, full, options) + vector_bytes(problem))

    def _bytes(self, problem: Problem, full: Problem, options) -> float:
        """The matrix or its columns, the factor of a gradient, the basis with room to grow."""
        n, matrices = known(problem.n), 2 if asks_gradient(full) else 1
        if has_dense(problem):
            held = dense_bytes(problem, matrices)
        else:
            held = n * columns_of(problem) * problem.itemsize * matrices
        return held + 2 * steps_of_a_block(problem, options) * BLOCK * n * problem.itemsize

    def guarded(self, problem: Problem, options) -> tuple[list[KernelCall], list[KernelCall]]:
        """The kernels of the direct fallback, and those of one step; see `ConjugateGradientsStrategy`.

        A solve with m right-hand sides may take 8 / m as many iterations as the log-determinant takes steps.
        """
        full = with_backward(problem, structured=True)
        columns, gradient = solve_columns(full), asks_gradient(full)
        steps = [*block_step(problem, options)]
        for m in () if gradient else columns:
            steps += _repeated(max(1.0, BLOCK / max(m, 1)), iteration(problem, m))
        direct = factorised(problem, columns, gradient)
        return [*direct, *(forming(problem) if has_dense(problem) else ())], steps

    def preparation(self, problem: Problem, options) -> list[KernelCall]:
        return preconditioner_calls(known(problem.n), options)

    def solver(self, system, options):
        # a preconditioner that the user gives is one for solves
        operator = getattr(system.operator, "operator", system.operator)
        solver = DifferentiatedLanczosSolver if system.kinds & GRADIENT else LanczosSolver
        return solver(operator, options)


def asks_gradient(problem: Problem) -> bool:
    return any(problem.asks(kind) for kind in GRADIENT)


def _beyond_budget(problem: Problem, options) -> No | None:
    budget = options.max_iterations
    if problem.n is None or budget is None:
        return None
    steps = expected_blocks(problem.n, options) * steps_of_a_block(problem, options)
    if steps > budget:
        return No(f"expects {math.ceil(steps)} steps, the budget beside a direct factorisation is {budget}")
    columns = [m for m in (r.columns for r in problem.requests if r.kind in ("solve", "inv_quad")) if m]
    return beyond_budget(problem, options, solve_budget(budget, max(columns))) if columns else None


def solve_budget(steps, columns):
    """Iterations of a solve that cost as much as ``steps`` block steps; see `LanczosStrategy.guarded`."""
    return steps * max(1, BLOCK // columns)


# -- work ---------------------------------------------------------------------------------------------------


def block_step(problem: Problem, options) -> list[KernelCall]:
    """A product of the preconditioned matrix with one block: two of P's root beside that of the matrix."""
    n, calls = known(problem.n), iteration(problem, BLOCK)
    rank = rank_for(options, n)
    return calls if rank <= JACOBI else [*calls, *_repeated(2, products_with_columns(n, rank, BLOCK))]


def orthogonalisation(n: int, blocks: float, steps: int) -> list[KernelCall]:
    """Each vector passes twice over the basis, twice in both directions."""
    return [call("gemv", m=n, n=math.ceil(steps / 2), count=4 * BLOCK * blocks * steps)]


def expected_blocks(n: int, options) -> float:
    """Blocks of probes for ``logdet_rtol``: one probe has a relative error of about ``sqrt(2 / n)``."""
    return max(1.0, 1.0 / (max(n, 1) * _rtol(options) ** 2))


def steps_of_a_block(problem: Problem, options) -> int:
    """Lanczos steps to ``logdet_rtol``: quadrature converges twice as fast as a solve does."""
    n, condition = known(problem.n), condition_number(problem, options)
    if condition is None:
        return n
    bound = 0.25 * math.sqrt(condition) * math.log(20.0 / _rtol(options))
    return max(1, min(n, math.ceil(bound) + 3))


def _rtol(options) -> float:
    """What the policy asks for; a hundredth to count by where it asks for nothing."""
    return options.logdet_rtol or 1e-2


def factorised(problem: Problem, columns: list[int], gradient: bool) -> list[KernelCall]:
    """A factor of the matrix, and solves and the gradient of the log-determinant by it."""
    if not has_dense(problem):
        return factorised_in_parts(problem, columns, gradient)
    n = known(problem.n)
    calls = [call("potrf", n=n), *(call("potrs", n=n, m=m) for m in columns)]
    return [*calls, call("potri", n=n)] if gradient else calls


def _repeated(count: float, calls: list[KernelCall]) -> list[KernelCall]:
    return [KernelCall(c.kernel, c.dims, c.count * count) for c in calls]


# -- graphs -------------------------------------------------------------------------------------------------


class LanczosSolver(Preconditioned):
    """Its log-determinant comes first: the solves use the factor that a refusal leaves."""

    def __init__(self, operator, options):
        super().__init__(operator, options)
        condition = options.condition_number or math.inf
        steps = options.max_iterations or 2 * self.order
        self.steps = pt.cast(pt.as_tensor_variable(steps), "int64")
        self.logabsdet, _, _, self.factor_so_far = LanczosLogdet()(
            self.matrix, options.logdet_rtol, self.steps, SEED, *self.parts, condition, *self.thin
        )

    def logdet(self):
        failed = pt.isnan(self.logabsdet)
        return pt.switch(failed, self.logabsdet, pt.ones_like(self.logabsdet)), self.logabsdet

    def is_positive_definite(self):
        return pt.invert(pt.isnan(self.logabsdet))

    def solve(self, rhs, transposed=False):
        if self.options.max_iterations is None:
            budget = self.most_iterations()
        else:
            # `solve_budget`, of a number of columns that may only be known at run time
            budget = self.steps * pt.maximum(1, BLOCK // pt.maximum(1, rhs.shape[-1]))
        return self.solve_within(rhs, self.options.solve_rtol, budget)


class DifferentiatedLanczosSolver(LanczosSolver):
    """Beside the estimate, a factor for all that is exact."""

    def __init__(self, operator, options):
        super().__init__(operator, options)
        self.operator = operator

    @cached_property
    def direct(self):
        d, U, c = self.thin
        if self.matrix is None and d is not None and U is not None:
            return solver_of_parts(d, U, c)
        return CholeskySolver(Blockwise(SharedCholesky())(self.operator.to_dense()))

    def solve(self, rhs, transposed=False):
        return self.direct.solve(rhs, transposed)

    def inverse(self):
        return self.direct.inverse()

    def inverse_diagonal(self):
        return self.direct.inverse_diagonal()
