"""A low-rank update of a matrix with another structure, or of a batch of diagonal ones, by requests on that
matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytensor.tensor as pt

from autotune.algebra.composite import Part, part_problem
from autotune.algebra.guarded_solver import PROBES, DirectSolver, GuardedSolver, cancels_little, probes
from autotune.algebra.low_rank import LowRank, repeated_for, scale_columns
from autotune.problem import Problem, Request, Term, known
from autotune.strategies.base import No, Strategy, System, Work, dense_bytes, times
from cost_models import call

# The kernels of the value, and again for the cotangents on both sides of them.
WITH_GRADIENT = 3


class LowRankUpdateStrategy(Strategy):
    """``(B + U C V')^-1 = B^-1 - B^-1 U S^-1 C V' B^-1`` with ``S = I + C V' B^-1 U``, and
    ``det(B + U C V') = det(B) det(S)`` (Woodbury 1950; Hager 1989, "Updating the inverse of a matrix").

    B, the base, is decided as a part: a solve with the columns of U, and what is asked of the whole. Where B
    is singular, or much closer to it than the sum, its solutions are far larger than those of the sum and
    cancel (Yip 1986, "A note on the stability of solving a rank-p modification"): then, seen at run time,
    PyTensor's own dense routines take over.
    """

    name = "low_rank_update"
    provides = frozenset(
        {"solve", "logdet", "determinant", "inverse", "inverse_diagonal", "inv_quad", "is_positive_definite"}
    )
    structured = True

    def concerns(self, problem):
        return _split(problem) is not None

    def objects_to(self, problem, options):
        split = _split(problem)
        if split is None:
            return No(
                "the matrix is not one with another structure, or a batch of diagonal ones, plus low rank"
            )
        base, low_rank = split
        if problem.one_triangle:
            return No("it is not known to be symmetric, and the graph may give but one triangle of it")
        if problem.checked and not _by_factor(problem, base, low_rank):
            return No("the base may have a Cholesky factor where the sum has none")
        n, rank = problem.n, dict(low_rank.dims)["rank"]
        if n is not None and rank is not None and 2 * rank >= n and not options.forced:
            return No("its rank is not far below its order")
        return None

    def parts(self, problem):
        split = _split(problem)
        if split is None:
            return ()
        base, low_rank = split
        return (part_problem(problem, base, "A", _asked(problem, base, low_rank)),)

    def reduced(self, operator, problem):
        [base] = [term for term in operator.summands if not isinstance(term, LowRank)]
        [low_rank] = [term for term in operator.summands if isinstance(term, LowRank)]
        part = Part(base, base.positive_definite, base.symmetric)
        return Update(operator, low_rank, (part,), _by_factor(problem, part.term(_nothing), low_rank.static))

    def work(self, problem: Problem, options) -> Work:
        low_rank = problem.term.find("low_rank") or problem.term
        n, k = known(problem.n), known(dict(low_rank.dims)["rank"])
        calls = [call("gemm", m=k, n=k + PROBES, k=n), call("getrf", n=k), call("gemm", m=n, n=PROBES, k=k)]
        for r in problem.requests:
            m = n if r.kind == "inverse" else known(r.columns) if r.kind in ("solve", "inv_quad") else 0
            m = k if r.kind == "inverse_diagonal" else m
            calls += [call("gemm", m=k, n=m, k=n), call("getrs", n=k, m=m), call("gemm", m=n, n=m, k=k)]
        held = (2 * k + PROBES) * n * problem.itemsize * known(problem.batch)
        formed = dense_bytes(problem, 2) if problem.asks("inverse") else 0
        calls = list(times(problem.batch, calls))
        return Work(times(WITH_GRADIENT if problem.differentiated else 1, calls), held + formed)

    def solver(self, system, options):
        return LowRankUpdateSolver(system)


@dataclass(frozen=True, eq=False)
class Update:
    """``operator``, the sum of the one of ``children``, the base, and ``low_rank``.

    ``by_factor``: the base is asked of its Cholesky factor; without one the whole is solved directly.
    """

    operator: Any
    low_rank: Any
    children: tuple[Part, ...]
    by_factor: bool


def _split(problem: Problem) -> tuple[Term, Term] | None:
    """The base and the low-rank term of a sum of just these. One diagonal matrix has an algorithm."""
    low_rank = problem.term.find("low_rank")
    others = [summand for summand in problem.term.summands if summand is not low_rank]
    if low_rank is None or len(others) != 1:
        return None
    [base] = others
    served = problem.batch != 1 if base.kind == "diagonal" else base.kind != "dense"
    return (base, low_rank) if served else None


def _by_factor(problem: Problem, base: Term, low_rank: Term) -> bool:
    """Whether the base, if the whole has a Cholesky factor, is likely to have one."""
    definite = problem.positive_definite or problem.checked
    # weights of unknown sign are looked at when the function runs
    added = low_rank.fact("symmetric") and (low_rank.fact("nonnegative_weights") or problem.checked)
    return bool(definite and base.fact("symmetric") and added)


def _asked(problem: Problem, base: Term, low_rank: Term) -> tuple[Request, ...]:
    """What the base is asked for."""
    checked, rank = _by_factor(problem, base, low_rank), dict(low_rank.dims)["rank"]
    first = Request("solve", None if rank is None else rank + PROBES)
    asked = [first, *(own for r in problem.requests for own in _asked_for(r, problem.n))]
    symmetric = base.fact("symmetric") and low_rank.fact("symmetric")
    other_side = any(r.transposed or r.kind == "inverse_diagonal" for r in problem.requests)
    if not symmetric and (problem.differentiated or other_side):
        asked.append(Request("solve", rank, transposed=True))
    return tuple(dict.fromkeys(replace(r, checked=checked) for r in asked))


def _asked_for(request: Request, n: int | None) -> list[Request]:
    if request.kind in ("solve", "inv_quad"):
        return [Request("solve", request.columns, request.transposed)]
    if request.kind == "inverse":
        return [Request("solve", n)]
    if request.kind in ("logdet", "determinant"):
        return [Request("logdet")]
    return [Request("inverse_diagonal")] if request.kind == "inverse_diagonal" else []


def _nothing(var: Any, axis: int) -> None:
    """No size is known."""


class LowRankUpdateSolver(GuardedSolver):
    """The base is solved with the columns of U and with probes, once for all requests."""

    def __init__(self, system: System):
        update = system.operator
        [base], [self.base] = update.children, system.solvers
        self.checked = update.by_factor and not base.positive_definite
        self.symmetric = base.symmetric and update.low_rank.symmetric
        self.before_autodiff = system.before_autodiff
        self.inputs = update.operator.parts
        dense = update.operator.to_dense()
        self.direct = DirectSolver(dense, system.positive_definite, system.symmetric)
        self.U, self.c, self.V = update.low_rank.U, update.low_rank.c, update.low_rank.V
        k = self.U.shape[-1]
        known = repeated_for(self.U, probes(self.U.shape[-2], self.U.dtype), 2)
        columns = self._base("solve", pt.concatenate([self.U, known], axis=-1))
        self.Z, of_probes = columns[..., :k], columns[..., k:]
        self.S = pt.eye(k, dtype=self.U.dtype) + self._weighted(self.V.mT @ self.Z)
        self.accepted = cancels_little(of_probes, self._corrected(of_probes))
        if update.by_factor and "nonnegative_weights" not in update.low_rank.facts:
            self.accepted = pt.all(self.c >= 0) & self.accepted

    def _base(self, kind, rhs=None, transposed=False) -> Any:
        found = self.base.answer(kind, rhs, transposed and not self.symmetric, self.checked)
        return found if kind == "logdet" else found[0]

    def _weighted(self, M):
        """``C M``."""
        return M if self.c is None else self.c[..., :, None] * M

    def _corrected(self, y):
        """The solution of the whole from ``y``, that of the base."""
        return y - self.Z @ pt.linalg.solve(self.S, self._weighted(self.V.mT @ y), b_ndim=2)

    def solve(self, rhs, transposed=False):
        if rhs is self.U and not transposed:
            return pt.linalg.solve(self.S.mT, self.Z.mT, b_ndim=2).mT
        if not transposed or self.symmetric:
            return self._corrected(self._base("solve", rhs))
        y = self._base("solve", rhs, True)
        small = pt.linalg.solve(self._small_transposed(), self._weighted(self.U.mT @ y), b_ndim=2)
        return y - self._left() @ small

    def _left(self):
        """``B^-T V``."""
        return self.Z if self.symmetric else self._base("solve", self.V, True)

    def _small_transposed(self):
        return pt.eye(self.U.shape[-1], dtype=self.U.dtype) + self._weighted((self.V.mT @ self.Z).mT)

    def logdet(self):
        sign, logabsdet = self._base("logdet")
        small_sign, small = pt.linalg.slogdet(self.S)
        return sign * small_sign, logabsdet + small

    def inverse(self):
        return self.solve(pt.eye(self.U.shape[-2], dtype=self.U.dtype))

    def inverse_diagonal(self):
        left = scale_columns(self._left(), self.c)
        small = pt.linalg.solve(self.S.mT, self.Z.mT, b_ndim=2).mT
        return self._base("inverse_diagonal") - (small * left).sum(axis=-1)

    def is_positive_definite(self):
        """Of a base that has a Cholesky factor, plus a term that is semidefinite."""
        return pt.ones_like(self.S, dtype="bool").all(axis=(-2, -1))
