"""Two-by-two blocks, of which one on the diagonal is eliminated, by requests on it and on what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytensor.tensor as pt

from autotune.algebra.block_diagonal import split_rows
from autotune.algebra.composite import CompositeSolver, Part, part_problem
from autotune.algebra.dense import Dense
from autotune.algebra.guarded_solver import PROBES, DirectSolver, WhereItHolds, cancels_little, probes
from autotune.algebra.solver import Solver
from autotune.problem import Problem, Request, Term, known
from autotune.problem.term import dense
from autotune.strategies.base import No, Strategy, Work, dense_bytes, times
from cost_models import call

# The kernels of the value, and again for the cotangents on both sides of them.
WITH_GRADIENT = 3


class EliminationStrategy(Strategy):
    """``[[A, B], [C, D]]`` by A and its Schur complement ``S = D - C A^-1 B``, or by D and that of D:
    ``det = det(A) det(S)``, and a solve is one with each (Zhang 2005, "The Schur Complement").

    Both are decided as parts. Of a positive definite matrix both are positive definite. Of any other, A may
    be singular, or much closer to it than the whole: then, seen at run time, PyTensor's own dense routines
    take over.
    """

    provides = frozenset(
        {
            *("solve", "logdet", "determinant", "inverse", "inverse_diagonal", "inv_quad"),
            *("is_positive_definite", "factor"),
        }
    )
    batched = False
    structured = True

    def __init__(self, place: int):
        self.place = place
        self.name = ("eliminate_first", "eliminate_last")[place]  # type: ignore[misc]

    def concerns(self, problem):
        return problem.structure == ("blocks",)

    def objects_to(self, problem, options):
        if not self.concerns(problem):
            return No("the matrix is not one of two by two blocks")
        if problem.one_triangle:
            return No("it is not known to be symmetric, and the graph may give but one triangle of it")
        if problem.term.children[self.place].kind == "low_rank":
            return No("the block is singular, as its rank is below its order")
        if problem.asks("factor") and self.place:
            return No("a Cholesky factor is asked for, which begins with the first block")
        return None

    def parts(self, problem):
        if not self.concerns(problem):
            return ()
        first, last = _in_order(problem.term.children, self.place)
        definite = _is_definite(problem)
        asked = _asked(problem, first.n, last.n)
        letter = "AD"[self.place]
        return (
            part_problem(problem, _with_facts(first, definite, problem.symmetric), letter, asked[0]),
            part_problem(problem, _with_facts(dense(last.n), definite, problem.symmetric), "S", asked[1]),
        )

    def reduced(self, operator, problem):
        return Elimination(operator, self.place, problem)

    def work(self, problem: Problem, options) -> Work:
        first, last = (known(child.n) for child in _in_order(problem.term.children, self.place))
        calls = [call("gemm", m=last, n=last, k=first)]
        for r in problem.requests:
            if r.kind in ("solve", "inv_quad"):
                calls += [call("gemm", m=last, n=known(r.columns), k=first, count=2)]
            elif r.kind == "inverse":
                calls += [call("gemm", m=first, n=last, k=last), call("gemm", m=first, n=first, k=last)]
            elif r.kind == "factor":
                calls += [call("gemm", m=last, n=first, k=first)]
        held = (2 * first * last + last**2) * problem.itemsize
        formed = dense_bytes(problem, 2) if problem.asks("inverse") or problem.asks("factor") else 0
        return Work(times(WITH_GRADIENT if problem.differentiated else 1, calls), held + formed)

    def solver(self, system, options):
        elimination = system.operator
        solver = EliminationSolver(elimination, system.solvers)
        if not elimination.guarded:
            return solver
        direct = DirectSolver(elimination.matrix.to_dense(), system.positive_definite, system.symmetric)
        inputs = elimination.matrix.parts
        return WhereItHolds(solver, direct, elimination.accepted(solver), inputs, system.before_autodiff)


def _in_order(pair: Sequence[Any], place: int) -> Sequence[Any]:
    """The block that is eliminated, and the other."""
    return tuple(reversed(pair)) if place else pair


def _is_definite(problem: Problem) -> bool:
    """Whether it is known to be positive definite, as all its blocks on the diagonal then are."""
    return problem.positive_definite and not problem.checked


def _with_facts(term: Term, definite: bool, symmetric: bool) -> Term:
    found = {"positive_definite": definite, "symmetric": symmetric}
    facts = {**dict(term.facts), **{name: True for name, holds in found.items() if holds}}
    return replace(term, facts=tuple(sorted(facts.items())))


def _asked(problem: Problem, first: int | None, last: int | None) -> tuple[tuple[Request, ...], ...]:
    """What is asked of the block that is eliminated, and of what is left."""
    checked = problem.checked and problem.positive_definite
    more = 0 if problem.positive_definite else PROBES
    of_first = [Request("solve", None if last is None else last + more, checked=checked)]
    of_rest = [Request("solve", more)] if more else []
    if not problem.symmetric and (
        problem.differentiated or problem.asks("inverse") or problem.asks("inverse_diagonal")
    ):
        of_first.append(Request("solve", last, transposed=True))
    for r in problem.requests:
        kind = {"determinant": "logdet"}.get(r.kind, r.kind)
        kind = "solve" if kind == "inv_quad" and not problem.symmetric else kind
        asked = replace(r, kind=kind, transposed=r.transposed and not problem.symmetric)
        of_first.append(asked)
        of_rest.append(asked)
        if kind == "inverse_diagonal":
            of_rest.append(Request("solve", first, checked=r.checked))
    if problem.checked:
        of_first.append(Request("is_positive_definite", checked=True))
        of_rest.append(Request("is_positive_definite", checked=True))
    return tuple(dict.fromkeys(of_first)), tuple(dict.fromkeys(of_rest))


class Elimination:
    """``matrix``, the blocks, of which the one at ``place`` is eliminated: the first part, before the other.

    ``guarded``: whether it may be singular where the whole is not. ``checked``: it is asked of its Cholesky
    factor.
    """

    def __init__(self, matrix: Any, place: int, problem: Problem):
        self.matrix, self.place = matrix, place
        self.blocks = matrix.swapped() if place else matrix
        self.definite, self.symmetric = _is_definite(problem), problem.symmetric
        self.guarded = not problem.positive_definite
        self.checked = problem.checked and problem.positive_definite
        first, other = self.blocks.children
        self.first = replace(
            first,
            positive_definite=first.positive_definite or self.definite,
            symmetric=first.symmetric or self.symmetric,
        )
        self.orders = (first.operator.order, other.operator.order)
        self.W: Any = None
        self.of_probes: Any = None

    @property
    def children(self):
        return (self.first, self.complement)

    def complement(self, solvers: Sequence[Solver]) -> Part:
        """``S = D - C W`` with ``W = A^-1 B``, which is kept."""
        B, columns = self.blocks.B, self.orders[1]
        if self.guarded:
            B = pt.concatenate([B, probes(self.orders[0], B.dtype)], axis=1)
        checked = self.checked and not self.first.positive_definite
        [solved] = solvers[0].answer("solve", B, False, checked)
        if self.guarded:
            solved, self.of_probes = solved[:, :columns], solved[:, columns:]
        self.W = solved
        D = self.blocks.children[1].operator.to_dense()
        self.rest = Part(Dense(D - self.blocks.C @ self.W), self.definite, self.symmetric)
        return self.rest

    def accepted(self, solver: EliminationSolver) -> Any:
        """Whether A is about as far from singular as the whole."""
        [below] = solver.ask(1, "solve", -(self.blocks.C @ self.of_probes))
        return cancels_little(self.of_probes, self.of_probes - self.W @ below)


class EliminationSolver(CompositeSolver):
    def __init__(self, elimination: Elimination, solvers: Sequence[Solver]):
        super().__init__((elimination.first, elimination.rest), solvers)
        self.blocks, self.place = elimination.blocks, elimination.place
        self.W, self.symmetric = elimination.W, elimination.symmetric

    def _split(self, x) -> Sequence[Any]:
        return _in_order(split_rows(x, list(_in_order(self.orders, self.place))), self.place)

    def _joined(self, first, last, axis: int = 0):
        return pt.concatenate(_in_order((first, last), self.place), axis=axis)

    def solve(self, rhs, transposed=False):
        above, below = self._split(rhs)
        if transposed and not self.symmetric:
            [x2] = self.ask(1, "solve", below - self.W.mT @ above, True)
            [x1] = self.ask(0, "solve", above - self.blocks.C.mT @ x2, True)
            return self._joined(x1, x2)
        [y] = self.ask(0, "solve", above)
        [x2] = self.ask(1, "solve", below - self.blocks.C @ y)
        return self._joined(y - self.W @ x2, x2)

    def inv_quad(self, rhs):
        if not self.symmetric:
            return super().inv_quad(rhs)
        above, below = self._split(rhs)
        return self.ask(0, "inv_quad", above)[0] + self.ask(1, "inv_quad", below - self.W.mT @ above)[0]

    def logdet(self):
        (sign, one), (other_sign, other) = self.ask_all("logdet")
        return sign * other_sign, one + other

    def _left(self):
        """``C A^-1``"""
        return self.W.mT if self.symmetric else self.ask(0, "solve", self.blocks.C.mT, True)[0].mT

    def inverse(self):
        [P], [Q] = self.ask_all("inverse")
        below = -(Q @ self._left())
        first = self._joined(P - self.W @ below, -(self.W @ Q), axis=1)
        return self._joined(first, self._joined(below, Q, axis=1))

    def inverse_diagonal(self):
        [p], [q] = self.ask_all("inverse_diagonal")
        [below] = self.ask(1, "solve", self._left())
        return self._joined(p + (self.W * below.mT).sum(axis=1), q)

    def factor(self):
        [L], [of_rest] = self.ask_all("factor")
        above = pt.zeros((self.orders[0], self.orders[1]), dtype=L.dtype)
        rows = [pt.concatenate(row, axis=1) for row in ((L, above), (self.W.mT @ L, of_rest))]
        return pt.concatenate(rows, axis=0)
