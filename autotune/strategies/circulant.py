"""Circulant matrices: their eigenvalues are the Fourier transform of the first column."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt

from autotune.algebra.circulant import Circulant, turned_round
from autotune.algebra.solver import Solver
from autotune.ops import CirculantDot, CirculantFactor, CirculantSolve
from autotune.problem import GRADIENT_KINDS, REQUEST_KINDS, Problem, known
from autotune.strategies.base import No, Strategy, Work, with_backward
from cost_models import call


class CirculantStrategy(Strategy):
    """Divisions by the eigenvalues, between two fast Fourier transforms: O(n log n) (Davis 1979, "Circulant
    matrices")."""

    name = "circulant"
    provides = frozenset((*REQUEST_KINDS, *GRADIENT_KINDS)) - {"factor"}
    batched = False
    needs_own_ops = True
    structured = True

    def concerns(self, problem):
        return problem.structure == ("circulant",)

    def objects_to(self, problem, options):
        if not self.concerns(problem):
            return No("the matrix is not circulant")
        if (problem.positive_definite or problem.checked) and not problem.term.fact("symmetric"):
            return No("a Cholesky factor of its lower triangle is asked for")
        return None

    def work(self, problem: Problem, options) -> Work:
        n = known(problem.n)
        calls, columns = CirculantFactor().kernels(n), 4
        for r in with_backward(problem, structured=True).requests:
            if r.kind in ("solve", "inv_quad"):
                m = known(r.columns)
                calls += CirculantSolve().kernels(n, m)
                columns += 2 * m
                if problem.differentiated:
                    calls += CirculantDot().kernels(n, m)
            elif r.kind == "inverse":
                calls.append(call("stream", n=n * n, count=2))
                columns += 2 * n
        return Work(tuple(calls), problem.itemsize * n * columns)

    def solver(self, system, options):
        return CirculantSolver(system.operator.unmarked)


class CirculantSolver(Solver):
    """``checked``: a matrix without a Cholesky factor gives NaN."""

    def __init__(self, operator):
        self.operator = operator
        self.d, self.sign, self.logabsdet, self.smallest = CirculantFactor()(operator.c)

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        answers = super().answer(kind, rhs, transposed)
        if not checked or kind == "is_positive_definite":
            return answers
        missing = np.full((), np.nan, self.operator.dtype)
        return [pt.switch(self.is_positive_definite(), answer, missing) for answer in answers]

    def solve(self, rhs, transposed=False):
        transposed = transposed and not self.operator.mirrored
        return CirculantSolve(transposed=transposed)(self.operator.c, rhs)

    def logdet(self):
        return self.sign, self.logabsdet

    def logdet_pullback(self):
        return [self.operator.order * turned_round(self._d)]

    @property
    def _d(self):
        return self.d.astype(self.operator.dtype)

    def inverse(self):
        return Circulant(self._d, self.operator.mirrored).to_dense()

    def inverse_diagonal(self):
        return Circulant(self._d, self.operator.mirrored).diagonal()

    def is_positive_definite(self):
        return self.smallest > 0
