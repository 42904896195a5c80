"""Banded matrices: a factor on the band."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt

from autotune.algebra.banded import Banded
from autotune.algebra.solver import Solver
from autotune.ops import BandedFactor, BandedLogdetPullback, BandedSolve
from autotune.ops.banded import kernels_of, product_kernels
from autotune.problem import GRADIENT_KINDS, REQUEST_KINDS, Problem, known
from autotune.strategies.base import No, Strategy, Work, times, with_backward
from cost_models import call


class BandedStrategy(Strategy):
    """``L D L'`` of the band where it exists, else LU by partial pivoting: O(n b^2) (Golub & Van Loan 2013,
    4.3), and the entries of the inverse on the band for gradients (Takahashi, Fagan & Chin 1973)."""

    name = "banded"
    provides = frozenset((*REQUEST_KINDS, *GRADIENT_KINDS))
    needs_own_ops = True
    structured = True

    def concerns(self, problem):
        return problem.structure == ("banded",)

    def objects_to(self, problem, options):
        if not self.concerns(problem):
            return No("the matrix is not banded")
        if (problem.positive_definite or problem.checked) and not problem.term.fact("symmetric"):
            return No("a Cholesky factor of its lower triangle is asked for")
        return None

    def work(self, problem: Problem, options) -> Work:
        n, bands = known(problem.n), known(problem.term.sizes()["bands"])
        definite = bool(problem.term.fact("symmetric"))
        lower, upper = (bands - 1,) * 2 if definite else (bands // 2, bands - 1 - bands // 2)

        def kernels(kernel, **sizes):
            return kernels_of(kernel, n, lower, upper, definite=definite, **sizes)

        calls, held = kernels("band_factor"), 4 * n * bands
        for r in with_backward(problem, structured=True).requests:
            if r.kind in ("solve", "inv_quad", "inverse"):
                m = n if r.kind == "inverse" else known(r.columns)
                calls += kernels("band_solve", m=m)
                held += 2 * n * m
                if problem.differentiated and r.kind != "inverse":
                    calls += product_kernels(n, lower + upper + 1, m)
            elif r.kind in ("logdet_pullback", "inverse_diagonal"):
                calls += kernels("band_inverse")
            elif r.kind == "factor":
                calls.append(call("stream", n=n * n))
                held += n * n
        return Work(times(problem.batch, calls), problem.itemsize * held * known(problem.batch))

    def solver(self, system, options):
        operator = system.operator.unmarked
        if system.in_batch and system.positive_definite:
            return BandedSolver(operator, checked=True)
        return BandedSolver(operator, definite=not system.in_batch)


class BandedSolver(Solver):
    """``checked``: a matrix without a Cholesky factor gives NaN. ``definite``: it is looked for elsewhere."""

    def __init__(self, operator, *, checked=False, definite=True):
        self.operator = operator
        self.checked, self.definite = checked, definite

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        asked = BandedSolver(self.operator, checked=checked or self.checked, definite=self.definite)
        return super(BandedSolver, asked).answer(kind, rhs, transposed)

    @property
    def _factor(self):
        definite = self.definite or self.checked
        return BandedFactor(definite=definite, checked=self.checked, **self.operator.band)(
            self.operator.bands
        )

    @property
    def _checked_factor(self):
        return BandedFactor(definite=True, checked=True, **self.operator.band)(self.operator.bands)

    def solve(self, rhs, transposed=False):
        F, M, pivots, *_ = self._factor
        return BandedSolve(transposed=transposed, **self.operator.band)(F, M, pivots, rhs)

    def logdet(self):
        *_, sign, logabsdet = self._factor
        return sign, logabsdet

    def logdet_pullback(self):
        F, M, pivots, *_ = self._factor
        return [BandedLogdetPullback(**self.operator.band)(F, M, pivots)]

    def inverse(self):
        return self.solve(pt.eye(self.operator.order, dtype=self.operator.dtype))

    def inverse_diagonal(self):
        [bars] = self.logdet_pullback()
        return bars[0 if self.operator.mirrored else self.operator.upper]

    def is_positive_definite(self):
        *_, sign, _ = self._checked_factor
        return sign > 0

    def factor(self):
        """``L D^1/2`` as a full matrix."""
        F, *_, sign, _ = self._checked_factor
        L = pt.set_subtensor((F * pt.sqrt(F[:, 0])[:, None])[:, 0], pt.sqrt(F[:, 0])).T
        dense = Banded(L, self.operator.lower, 0, mirrored=False).to_dense()
        return pt.switch(sign > 0, dense, np.full((), np.nan, dense.type.dtype))
