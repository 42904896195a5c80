"""Solve with a small matrix instead of a large one when the large one is diagonal plus low rank."""

from __future__ import annotations

from copy import copy
from functools import cached_property

import pytensor.tensor as pt

from autotune.algebra.diagonal import Diagonal
from autotune.algebra.low_rank import LowRank, in_range, is_same_matrix
from autotune.algebra.sum import Sum
from autotune.ops.woodbury import (
    LowRankFactor,
    LowRankInverseDiagonal,
    LowRankSolve,
    LowRankSolveColumns,
    LowRankSolveInRange,
    SymmetricRoot,
)
from autotune.problem import Problem, known
from autotune.strategies.base import No, Solver, Strategy, System, Work, times, with_backward
from cost_models import KernelCall, call


class WoodburyStrategy(Strategy):
    """``(D + U C V.T)^-1 = D^-1 - D^-1 U (C^-1 + V.T D^-1 U)^-1 V.T D^-1`` (Woodbury 1950).

    n k^2 flops and n k numbers instead of n^3/3 and n^2. The Ops choose at run time, by the
    values, among a positive-definite form that tolerates up to k tiny, zero or negative entries of
    D, a general form, and a dense factorisation when neither is as accurate as that.
    """

    name = "woodbury"
    provides = frozenset(
        {"solve", "logdet", "determinant", "inverse", "inverse_diagonal", "inv_quad", "is_positive_definite"}
    )
    batched = False
    needs_own_ops = True
    structured = True

    def objects_to(self, problem, options):
        if set(problem.structure) != {"diagonal", "low_rank"}:
            return No("the matrix is not diagonal plus low rank")
        n, rank = problem.n, _rank(problem)
        if n is not None and rank is not None and rank >= n and not options.forced:
            return No("its rank is not below its order")
        if problem.one_triangle and not _is_symmetric(problem):
            return No("its low-rank term has two factors, and the graph may give but one triangle of it")
        return None

    def work(self, problem: Problem, options) -> Work:
        n, k = known(problem.n), known(_rank(problem))
        full = with_backward(problem, structured=True)
        both = problem.checked and not problem.positive_definite  # with the check, and without
        symmetric = _is_symmetric(problem)
        calls = (1 + both) * LowRankFactor.kernels(n, k, symmetric=symmetric)
        columns = [known(r.columns) for r in full.requests if r.kind in ("solve", "inv_quad")]
        columns += [n for r in full.requests if r.kind == "inverse"]
        calls += [c for m in columns for c in LowRankSolve.kernels(n, k, m, symmetric=symmetric)]
        if _is_around(problem):
            calls += [*SymmetricRoot.kernels(k), call("gemm", m=n, n=k, k=k)]
        if full.asks("inverse_diagonal"):
            calls += LowRankInverseDiagonal.kernels(n, k, symmetric=symmetric)
        return Work(times(problem.batch, calls), problem.itemsize * self._numbers(problem, full))

    def _numbers(self, problem: Problem, full: Problem) -> int:
        """The capacitance matrix, a thin matrix while it is made or used, solutions, a few vectors."""
        n, k = known(problem.n), known(_rank(problem))
        columns = sum(known(r.columns) for r in problem.requests if r.kind in ("solve", "inv_quad"))
        inverse = 3 * n * n if full.asks("inverse") else 0
        return k * k + n * k + inverse + (4 if problem.differentiated else 2) * n * columns + 4 * n

    def solver(self, system, options):
        return WoodburySolver(system)


def _rank(problem: Problem) -> int | None:
    low_rank = problem.term.find("low_rank")
    return None if low_rank is None else dict(low_rank.dims)["rank"]


def _is_symmetric(problem: Problem) -> bool:
    """By its structure, so that the compiled Ops serve it."""
    low_rank = problem.term.find("low_rank")
    return low_rank is not None and (bool(low_rank.fact("symmetric")) or _is_around(problem))


def _is_around(problem: Problem) -> bool:
    """Whether its low-rank term is ``U M U'``."""
    low_rank = problem.term.find("low_rank")
    return low_rank is not None and bool(low_rank.fact("around"))


def factorised_in_parts(problem: Problem, columns: list[int], gradient: bool) -> list[KernelCall]:
    """A factor of diagonal plus low rank, solves by it, and the gradient of its log-determinant."""
    n, k = known(problem.n), known(_rank(problem))
    calls = LowRankFactor.kernels(n, k, symmetric=True)
    if gradient:
        calls += LowRankInverseDiagonal.kernels(n, k, symmetric=True)
    return [*calls, *(c for m in columns for c in LowRankSolve.kernels(n, k, m, symmetric=True))]


class WoodburySolver(Solver):
    def __init__(self, system):
        d, low_rank = _diagonal_and_low_rank(system.operator)
        self.around = None
        if low_rank.middle is not None:
            B, c, inverse = SymmetricRoot()(low_rank.middle, return_list=True)
            self.around = low_rank.U, inverse
            U = low_rank.U @ B
            low_rank = LowRank(U, c, U, tied=True)
        self.symmetric = low_rank.symmetric
        if self.symmetric:
            k = low_rank.U.shape[-1]
            right = pt.ones((k,), dtype=d.dtype) if low_rank.c is None else low_rank.c
        else:
            right = low_rank.V if low_rank.c is None else low_rank.V * low_rank.c
        self.positive_definite = system.positive_definite
        self.parts = (d, low_rank.U, right)
        *self.factor, self.sign, self.logabsdet = self._factorised(self.positive_definite)
        self.order = d.shape[0]

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        if checked and not self.positive_definite:
            return self._checked.answer(kind, rhs, transposed)
        return super().answer(kind, rhs, transposed)

    def _factorised(self, positive_definite):
        factor = LowRankFactor(symmetric=self.symmetric, positive_definite=positive_definite)
        return factor(*self.parts, return_list=True)

    @cached_property
    def _checked(self):
        """One whose answers are NaN where the matrix has no Cholesky factor."""
        checked = copy(self)
        *checked.factor, checked.sign, checked.logabsdet = self._factorised(True)
        checked.positive_definite = True
        return checked

    def solve(self, rhs, transposed=False):
        U = self.parts[1]
        if self.symmetric and is_same_matrix(rhs, U):
            return LowRankSolveColumns()(*self.parts, *self.factor)
        coefficients = in_range(rhs, U) if self.symmetric else None
        if coefficients is not None:
            return LowRankSolveInRange()(*self.parts, *self.factor, coefficients)
        if self.around is not None:
            Z, inverse = self.around  # U = Z B, so that Z Y = U B^-1 Y
            Y = pt.eye(Z.type.shape[1], dtype=Z.dtype) if is_same_matrix(rhs, Z) else in_range(rhs, Z)
            if Y is not None:
                return LowRankSolveInRange()(*self.parts, *self.factor, inverse @ Y)
        op = LowRankSolve(symmetric=self.symmetric, transposed=transposed and not self.symmetric)
        return op(*self.parts, *self.factor, rhs)

    def logdet(self):
        return self.sign, self.logabsdet

    def inverse(self):
        return self.solve(pt.eye(self.order, dtype=self.parts[0].dtype))

    def inverse_diagonal(self):
        return LowRankInverseDiagonal(symmetric=self.symmetric)(*self.parts, *self.factor)

    def is_positive_definite(self):
        return pt.invert(pt.isnan(self.logabsdet))


def solver_of_parts(d, U, c) -> WoodburySolver:
    """What answers for a positive definite ``diag(d) + U diag(c) U'``."""
    operator = Sum((Diagonal(d), LowRank(U, c, U, tied=True)))
    return WoodburySolver(System(operator, positive_definite=True, symmetric=True))


def _diagonal_and_low_rank(operator) -> tuple:
    [diagonal] = [term for term in operator.summands if isinstance(term, Diagonal)]
    [low_rank] = [term for term in operator.summands if isinstance(term, LowRank)]
    return diagonal.d, low_rank
