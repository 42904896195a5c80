"""What Lanczos' log-determinant and its gradient take: blocks of probes, steps of a block, their kernels."""

from __future__ import annotations

import math
from types import SimpleNamespace

from autotune.algebra.symmetric_parts import parts_of
from autotune.ops.core_lanczos import BLOCK, GRADIENT_CONDITION
from autotune.ops.core_preconditioner import JACOBI
from autotune.problem import Problem, Request, known
from autotune.strategies.base import forming, with_backward
from autotune.strategies.cg import columns_of, has_dense, iteration, products_with_columns
from autotune.strategies.iterations import condition_number, expected_iterations, rank_for
from autotune.strategies.woodbury import factorised_in_parts
from cost_models import KernelCall, call

# The error of the gradient's solves beside that of its probes.
GRADIENT_RTOL = 0.1
# The gradient's solves need a product more than steps: for their true residual.
CHECK = 1
# What only the gradient of a log-determinant asks for.
GRADIENT = frozenset({"inverse", "inverse_diagonal"})


def is_of_the_gradient(request: Request, problem: Problem) -> bool:
    """Whether a solve has the low-rank part on its right-hand side, as a log-determinant's gradient does, and
    is worth an estimate: up to a block of columns are solved for as others are. It may be, where both numbers
    of columns are unknown."""
    parts = parts_of(problem.term)
    few = parts.columns is not None and parts.columns <= BLOCK
    if few or not parts.has_columns or not any(problem.asks(kind) for kind in ("logdet", *GRADIENT)):
        return False
    return request.kind in ("solve", "inv_quad") and request.columns == parts.columns


def with_gradient(problem: Problem) -> Problem:
    """The problem after autodiff: beside a dense part all of the gradient comes from one inverse."""
    return with_backward(problem, structured=not has_dense(problem))


def exact_solves(problem: Problem) -> Problem:
    """The problem without what is estimated."""
    return problem.only(r for r in problem.requests if not is_of_the_gradient(r, problem))


def asks_gradient(problem: Problem) -> bool:
    return any(r.kind in GRADIENT or is_of_the_gradient(r, problem) for r in problem.requests)


def estimates_gradient(problem: Problem, options) -> bool:
    """Whether the gradient, if it is asked for, is expected to be estimated; not where nothing is known."""
    condition = condition_number(problem, options)
    return condition is not None and condition <= GRADIENT_CONDITION


def repeated(count: float, calls: list[KernelCall]) -> list[KernelCall]:
    return [KernelCall(c.kernel, c.dims, c.count * count) for c in calls]


def block_step(problem: Problem, options) -> list[KernelCall]:
    """A product of the preconditioned matrix with one block: two of P's root beside that of the matrix."""
    n, calls = known(problem.n), iteration(problem, BLOCK)
    rank = rank_for(options, n)
    return calls if rank <= JACOBI else [*calls, *repeated(2, products_with_columns(n, rank, BLOCK))]


def orthogonalisation(n: int, blocks: float, steps: int) -> list[KernelCall]:
    """Each vector passes twice over the basis, twice in both directions."""
    return [call("gemv", m=n, n=math.ceil(steps / 2), count=4 * BLOCK * blocks * steps)]


def combining(problem: Problem, probes: int, options) -> list[KernelCall]:
    """The gradient from its solves: the estimated inverse, or its diagonal and its product with columns."""
    n, rank = known(problem.n), max(rank_for(options, known(problem.n)), 0)
    k = columns_of(problem)
    if not has_dense(problem):
        return repeated(2, products_with_columns(n, k, probes)) if k else []
    columns = [call("gemm", m=n, n=k, k=n)] if k else []
    return [call("gemm", m=n, n=n, k=m) for m in (probes, rank) if m] + columns


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


def further_steps(problem: Problem, options) -> int:
    """Products with a block that the gradient adds to those of the value."""
    at_gradient = SimpleNamespace(**(vars(options) | {"solve_rtol": gradient_rtol(options)}))
    further = max(0, expected_iterations(problem, at_gradient) - steps_of_a_block(problem, options))
    return min(known(problem.n), further + CHECK)


def gradient_rtol(options) -> float:
    """Of the gradient's solves."""
    return max(options.solve_rtol, GRADIENT_RTOL * _rtol(options))


def _rtol(options) -> float:
    """What the policy asks for; a hundredth to count by where it asks for nothing."""
    return options.logdet_rtol or 1e-2


def direct(problem: Problem, columns: list[int], gradient: bool) -> list[KernelCall]:
    """The kernels of the way without estimates."""
    calls = factorised(problem, columns, gradient)
    return [*calls, *forming(problem)] if has_dense(problem) else calls


def factorised(problem: Problem, columns: list[int], gradient: bool) -> list[KernelCall]:
    """A factor of the matrix, and solves and the gradient of the log-determinant by it."""
    n = known(problem.n)
    if has_dense(problem):
        calls = [call("potrf", n=n), *(call("potrs", n=n, m=m) for m in columns)]
        return [*calls, call("potri", n=n)] if gradient else calls
    k = columns_of(problem)
    return factorised_in_parts(problem, [*columns, k] if gradient and k > BLOCK else columns, gradient)
