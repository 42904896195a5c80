"""Log-determinants by stochastic Lanczos quadrature, for users who ask for no more than a few digits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytensor.tensor as pt

from autotune.operators import Dense
from autotune.ops.core_lanczos import BLOCK
from autotune.ops.lanczos import LanczosInverse, LanczosLogdet
from autotune.problem import Problem, known, with_backward
from autotune.strategies.base import No, Strategy, Work, dense_bytes, forming, outer_products, times
from autotune.strategies.cg import (
    Preconditioned,
    beyond_budget,
    preconditioner_calls,
    solve_calls,
    solve_columns,
    vector_bytes,
)
from autotune.strategies.iterations import condition_number, expected_iterations
from cost_models import KernelCall, call

# Every problem has the same probes in every call: an objective that is minimised must not flicker.
SEED = 20170101
# The error of the gradient's solves beside that of its probes.
GRADIENT_RTOL = 1e-2


class LanczosStrategy(Strategy):
    """``log det A = log det P + E[z' log(M) z]``, z random signs, M the preconditioned matrix.

    Ubaru, Chen & Saad (2017). Stochastic: needs ``logdet_rtol`` in the policy, and a reason to expect few
    steps as `cg` does, which solves here too. A log-determinant whose 95 % error would exceed ``logdet_rtol``
    is that of a Cholesky factor, made in the same Op; solves then use the factor. Its gradient after ``tune``
    is an unbiased estimate by the same probes, whose trace of the inverse is as accurate; an inverse that the
    user asked for is never estimated.
    """

    name = "lanczos"
    provides = frozenset({"solve", "inv_quad", "logdet", "inverse"})
    batched = False
    needs_own_ops = True
    exact = False

    def objects_to(self, problem, options):
        if options.logdet_rtol is None:
            return No("it estimates, and the policy sets no logdet_rtol")
        if not problem.asks("logdet") and not options.carried:
            return No("no log-determinant is asked for")
        if problem.asks("inverse") and not options.carried:
            return No("an inverse that is asked for is not estimated")
        if not problem.positive_definite:
            return No("the matrix is not known to be positive definite")
        if not options.forced and condition_number(problem, options) is None:
            return No("no condition number is declared, so its steps are unknown")
        return None if options.forced else _beyond_budget(problem, options)

    def work(self, problem: Problem, options) -> Work:
        n, full = known(problem.n), with_backward(problem, structured=False)
        # it works on the matrix, whatever parts that is made of
        formed = replace(full, structure=("dense",), rank=None, inverse_columns=None)
        calls = [*solve_calls(formed, options), *preconditioner_calls(n, options)]
        calls += [*forming(problem), *outer_products(problem)]
        blocks, steps = expected_blocks(n, options), steps_of_a_block(problem, options)
        if full.asks("logdet"):
            calls.append(call("cg_iteration", n=n, m=BLOCK, count=blocks * steps))
        if full.asks("inverse"):
            iterations = expected_iterations(problem, options)
            calls.append(call("cg_iteration", n=n, m=BLOCK, count=blocks * iterations))
            calls.append(call("gemm", m=n, n=n, k=BLOCK, count=blocks))
        basis = steps * BLOCK * n * problem.itemsize
        matrices = dense_bytes(problem, 2 if full.asks("inverse") else 1)
        return Work(times(problem.batch, calls), matrices + basis + vector_bytes(full))

    def guarded(self, problem: Problem, options) -> tuple[list[KernelCall], list[KernelCall]]:
        """The kernels of the direct fallback, and those of one step; see `ConjugateGradientsStrategy`.

        A solve with m right-hand sides may take 8 / m as many iterations as the log-determinant takes steps.
        """
        n, full = known(problem.n), with_backward(problem, structured=False)
        columns = solve_columns(full)
        direct = [call("potrf", n=n), *(call("potrs", n=n, m=m) for m in columns)]
        steps = [call("cg_iteration", n=n, m=BLOCK)]
        steps += [call("cg_iteration", n=n, m=m, count=max(1.0, BLOCK / max(m, 1))) for m in columns]
        if full.asks("inverse"):
            direct.append(call("potri", n=n))
            steps.append(call("cg_iteration", n=n, m=BLOCK, count=expected_blocks(n, options)))
        return direct, steps

    def preparation(self, problem: Problem, options) -> list[KernelCall]:
        return preconditioner_calls(known(problem.n), options)

    def solver(self, system, options):
        return LanczosSolver(Dense(system.operator.to_dense()), options)


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


class LanczosSolver(Preconditioned):
    """Its log-determinant comes first: the solves use the factor that a refusal leaves."""

    def __init__(self, operator, options):
        super().__init__(operator, options)
        steps = options.max_iterations or 2 * self.order
        self.steps = pt.cast(pt.as_tensor_variable(steps), "int64")
        self.logabsdet, _, _, self.factor_so_far = LanczosLogdet()(
            self.matrix, options.logdet_rtol, self.steps, SEED, *self.parts
        )

    def logdet(self):
        failed = pt.isnan(self.logabsdet)
        return pt.switch(failed, self.logabsdet, pt.ones_like(self.logabsdet)), self.logabsdet

    def solve(self, rhs, transposed=False):
        if self.options.max_iterations is None:
            budget = self.most_iterations()
        else:
            # `solve_budget`, of a number of columns that may only be known at run time
            budget = self.steps * pt.maximum(1, BLOCK // pt.maximum(1, rhs.shape[-1]))
        return self.solve_within(rhs, self.options.solve_rtol, budget)

    def inverse(self):
        rtol = self.options.logdet_rtol
        solve_rtol = max(self.options.solve_rtol, GRADIENT_RTOL * rtol)
        return LanczosInverse()(
            self.matrix, rtol, solve_rtol, self.steps, SEED, *self.parts, self.factor_so_far
        )
