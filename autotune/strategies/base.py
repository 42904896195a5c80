"""What a strategy is.

A strategy says whether it applies, which kernels it would run, and builds the graph. It never
knows seconds: a profile prices the kernels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from autotune.algebra import kind_of
from autotune.algebra.solver import Solver
from autotune.ops.gram import Gram, pays
from autotune.problem import GRADIENT_KINDS, REQUEST_KINDS, Problem, Request, known
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


@dataclass(frozen=True)
class System:
    """What a strategy builds its graph for: an operator with its facts.

    ``kinds``: the kinds of requests. ``solvers``: those of the parts, for what serves by parts.
    ``before_autodiff``: what is built will be differentiated. ``in_batch``: it is built once for all matrices
    of a batch, so that the lengths of what it computes must not depend on values.
    """

    operator: Any
    positive_definite: bool = False
    symmetric: bool = False
    linker: str | None = None
    kinds: frozenset[str] = frozenset(REQUEST_KINDS)
    solvers: tuple[Solver, ...] = ()
    before_autodiff: bool = False
    in_batch: bool = False


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

    def concerns(self, problem: Problem) -> bool:
        """Whether it is worth a word where it cannot serve: false for what is about another structure."""
        return True

    def as_served(self, problem: Problem) -> Problem:
        """What is asked of it: what forms the matrix takes the cotangents of parts from the inverse."""
        if self.structured or not any(problem.asks(kind) for kind in GRADIENT_KINDS):
            return problem
        asked = (replace(r, kind="inverse") if r.kind in GRADIENT_KINDS else r for r in problem.requests)
        return problem.only(dict.fromkeys(asked))

    def declines(self, problem: Problem, options: Any) -> No | None:
        """Why it cannot serve ``problem``; None when it can."""
        problem = self.as_served(problem)
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

    def parts(self, problem: Problem) -> tuple[Problem, ...]:
        """The problems of the matrices by which it serves this one; none for what works on it by itself."""
        return ()

    def reduced(self, operator: Any, problem: Problem) -> Any:
        """What it builds its graph for by parts: their operators are its ``children``."""
        return operator

    def guarded(self, problem: Problem, options: Any) -> tuple[list[KernelCall], list[KernelCall]] | None:
        """The kernels of the direct fallback and those of one iteration, if it iterates with a fallback."""
        return None

    def preparation(self, problem: Problem, options: Any) -> list[KernelCall]:
        """The kernels before the first iteration, which a fallback pays for as well."""
        return []

    def solver(self, system: System, options: Any) -> Solver:
        """Graph builder for ``system``."""
        raise AttributeError(f"{type(self).__name__} defines no solver")


def in_own_loops(problem: Problem) -> bool:
    """Whether it is a batch that our own loops serve, in Numba's code; Python goes from matrix to matrix."""
    return problem.batch != 1 and problem.linker in OWN_OPS


def factorising(problem: Problem, calls: Iterable[KernelCall]) -> list[KernelCall]:
    """The kernels of a factorisation; none of a constant one, which PyTensor folds when it compiles."""
    return [] if problem.term.fact("constant") else list(calls)


def shares_nothing(problem: Problem) -> No | None:
    """Of one request alone PyTensor's own routine factorises and solves in one pass, and keeps no factor.

    In Numba's code its loop over a batch is slower than ours all the same.
    """
    if (in_own_loops(problem) and problem.linker == "numba") or problem.term.fact("constant"):
        return None
    full = with_backward(problem, structured=False)
    if len(full.requests) == 1 and full.requests[0].form in ("gen", "lu"):
        return No("it does one request alone as PyTensor does, and keeps a factor for nothing")
    return None


def times(batch: int | None, calls: Iterable[KernelCall]) -> tuple[KernelCall, ...]:
    """The same calls for every matrix of a batch."""
    count = 1 if batch is None else batch
    if count == 1:
        return tuple(calls)
    return tuple(KernelCall(c.kernel, c.dims, c.count * count) for c in calls)


def with_backward(problem: Problem, *, structured: bool) -> Problem:
    """The problem after autodiff through request Ops: a request's pullback is made of requests.

    A solve's needs one transposed solve; a quadratic form's a solve; a log-determinant's the
    inverse of a dense operator, or, of a structured one, what the cotangents of its parts are made of.
    """
    if not problem.differentiated:
        return problem
    extra: list[Request] = []
    for r in problem.requests:
        if r.kind == "solve":
            extra.append(replace(r, transposed=not r.transposed))
        elif r.kind == "inv_quad":
            extra.append(Request("solve", r.columns, checked=r.checked))
        elif r.kind in ("logdet", "determinant") and structured:
            extra += kind_of(problem.term.kind).logdet_pullback(problem.term, r.checked)
        elif r.kind in ("logdet", "determinant", "inverse", "inverse_diagonal"):
            extra.append(Request("inverse", checked=r.checked))
    return problem.only([*problem.requests, *dict.fromkeys(extra)])


def forming(problem: Problem, *, plain: bool = False) -> list[KernelCall]:
    """Kernels that form the dense matrix of its parts, forward and (if to come) backward.

    ``plain``: as PyTensor does, by general products where a Gram product is one.
    """
    if problem.shared:
        return []
    term, kind = problem.term, kind_of(problem.term.kind)
    if plain or problem.linker not in OWN_OPS:
        return [*kind.forming(term), *(kind.unforming(term) if problem.differentiated else ())]
    backward = problem.differentiated and not has_thin_cotangents(problem)
    return [*_by_gram(problem), *(kind.unforming(term) if backward else ())]


def _by_gram(problem: Problem) -> list[KernelCall]:
    """The kernels that form it, those of a low-rank term that is symmetric and semidefinite by syrk."""
    term = problem.term
    calls, low_rank = kind_of(term.kind).forming(term), term.find("low_rank")
    if low_rank is None or not (low_rank.fact("symmetric") and low_rank.fact("nonnegative_weights")):
        return calls
    n, k = (known(size) for _, size in low_rank.dims)
    product = call("gemm", m=n, n=n, k=k)
    return [c for made in calls for c in (Gram.kernels(n, k) if made == product and pays(k) else [made])]


THIN = 4
"""So many times more rows than columns have the solutions where a cotangent is kept as their product."""


def has_thin_cotangents(problem: Problem) -> bool:
    """Whether a dense factor serves a diagonal plus low rank whose cotangent is of lower rank still.

    Then request Ops keep its parts, and the backward pass makes no matrix of its order: solves alone give
    ``A_bar = -b_bar x.T``.
    """
    if problem.structure != ("diagonal", "low_rank") or problem.shared or problem.batch != 1:
        return False
    columns = [r.columns for r in problem.requests]
    if any(r.kind not in ("solve", "inv_quad") for r in problem.requests) or None in (problem.n, *columns):
        return False
    return THIN * sum(map(known, columns)) <= known(problem.n)


def outer_products(problem: Problem) -> list[KernelCall]:
    """Backward pass of solves on a dense operator: ``A_bar = -b_bar x.T`` per right-hand side.

    Of a low-rank term with few of them: their products with U, twice for each side.
    """
    if not problem.differentiated:
        return []
    n = known(problem.n)
    columns = [known(r.columns) for r in problem.requests if r.kind in ("solve", "inv_quad")]
    if has_thin_cotangents(problem):
        k = known(problem.term.sizes()["rank"])
        return [
            c
            for m in columns
            for c in (call("gemm", m=m, n=k, k=n, count=2), call("gemm", m=n, n=k, k=m, count=2))
        ]
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
