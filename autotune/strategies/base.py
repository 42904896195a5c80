"""What a strategy is.

A strategy says whether it applies, which kernels it would run, and builds the graph. It never
knows seconds: a profile prices the kernels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from autotune.algebra.solver import Solver
from autotune.problem import Problem, known, with_backward
from cost_models import KernelCall, call

# The linkers that run Ops of ours: Numba's, and those that call an Op's Python code.
OWN_OPS = ("numba", "perform")


@dataclass(frozen=True)
class No:
    """A strategy declines, and why."""

    reason: str


@dataclass(frozen=True)
class Work:
    """Kernels that a strategy runs for a problem, and the bytes it holds at its peak."""

    calls: tuple[KernelCall, ...]
    peak_bytes: float


class Strategy:
    """Base of all strategies; one subclass a file, one instance in ``STRATEGIES``.

    ``needs_own_ops``: emits Ops of ours, which run under PyTensor's Numba, Python and C linkers only.
    ``structured``: works on the parts of the operator, not on the matrix. ``dominated_by`` names a
    strategy that does the same with less work: where that one applies, this one is not chosen freely.
    ``provides``: the request kinds it can serve. ``exact``: up to rounding.
    """

    name: ClassVar[str]
    provides: ClassVar[frozenset[str]]
    exact: ClassVar[bool] = True
    batched: ClassVar[bool] = True
    needs_own_ops: ClassVar[bool] = False
    structured: ClassVar[bool] = False
    dominated_by: ClassVar[str | None] = None
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")

    def declines(self, problem: Problem, options: Any) -> No | None:
        """Why it cannot serve ``problem``; None when it can."""
        missing = [r.kind for r in problem.requests if r.kind not in self.provides]
        if missing:
            return No(f"does not provide {', '.join(dict.fromkeys(missing))}")
        if problem.dtype not in self.dtypes:
            return No(f"works in {' and '.join(self.dtypes)}, the matrix is {problem.dtype}")
        if problem.batch != 1 and not self.batched:
            return No("does not take batches of matrices")
        if self.needs_own_ops and problem.linker not in OWN_OPS:
            return No("the linker in force cannot run its operations")
        return self.objects_to(problem, options)

    def objects_to(self, problem: Problem, options: Any) -> No | None:
        return None

    def work(self, problem: Problem, options: Any) -> Work:
        """Kernels for all requests (sizes known), the backward pass included if it is to come."""
        raise AttributeError(f"{type(self).__name__} defines no work")

    def guarded(self, problem: Problem, options: Any) -> tuple[list[KernelCall], list[KernelCall]] | None:
        """The kernels of the direct fallback and those of one iteration, if it iterates with a fallback."""
        return None

    def preparation(self, problem: Problem, options: Any) -> list[KernelCall]:
        """The kernels before the first iteration, which a fallback pays for as well."""
        return []

    def solver(self, system: Any, options: Any) -> Solver:
        """Graph builder for ``system`` (an operator with its facts)."""
        raise AttributeError(f"{type(self).__name__} defines no solver")


def shares_nothing(problem: Problem) -> No | None:
    """Of one request alone PyTensor's own routine factorises and solves in one pass, and keeps no factor."""
    full = with_backward(problem, structured=False)
    if len(full.requests) == 1 and full.requests[0].form in ("gen", "lu"):
        return No("it does one request alone as PyTensor does, and keeps a factor for nothing")
    return None


def times(batch: int | None, calls: Iterable[KernelCall]) -> tuple[KernelCall, ...]:
    """The same calls for every matrix of a batch."""
    count = 1 if batch is None else batch
    return tuple(KernelCall(c.kernel, c.dims, c.count * count) for c in calls)


def forming(problem: Problem) -> list[KernelCall]:
    """Kernels that form the dense matrix of a low-rank problem, forward and (if to come) backward."""
    if not problem.low_rank or problem.shared:
        return []
    n, k = known(problem.n), known(problem.rank)
    calls = [call("gemm", m=n, n=n, k=k), call("diagonal", n=n), call("stream", n=n * n)]
    if problem.differentiated:
        calls += [call("gemm", m=n, n=k, k=n, count=2), call("stream", n=n * n)]
    return calls


def outer_products(problem: Problem) -> list[KernelCall]:
    """Backward pass of solves on a dense operator: ``A_bar = -b_bar x.T`` per right-hand side."""
    if not problem.differentiated:
        return []
    n = known(problem.n)
    columns = [known(r.columns) for r in problem.requests if r.kind in ("solve", "inv_quad")]
    return [call("gemm", m=n, n=n, k=m) for m in columns]


def dense_bytes(problem: Problem, matrices: float) -> float:
    """Bytes of ``matrices`` arrays of the problem's order, its batch included."""
    return matrices * (problem.batch or 1) * known(problem.n) ** 2 * problem.itemsize


def peak_of(problem: Problem, *, value: float, gradient: float) -> float:
    """Bytes held at the peak by a dense algorithm that makes the matrix and may overwrite it.

    So many ``value`` matrices of the problem's order, or ``gradient`` before autodiff, and one more if the
    matrix is needed elsewhere; with them the solutions of all solves, and in a gradient their cotangents.
    """
    columns = sum(known(r.columns) for r in problem.requests if r.kind in ("solve", "inv_quad"))
    arrays = 4 if problem.differentiated else 1
    rhs = arrays * columns * (problem.batch or 1) * known(problem.n) * problem.itemsize
    matrices = gradient if problem.differentiated else value
    return dense_bytes(problem, matrices + problem.shared) + rhs
