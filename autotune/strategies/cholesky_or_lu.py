"""One factorisation of a matrix of which nothing is known: Cholesky if it has one at run time, else LU."""

from __future__ import annotations

from functools import cached_property

import pytensor.tensor as pt
from pytensor.tensor.blockwise import Blockwise

from autotune.ops import CholeskyOrLU, CholeskyOrLUInverse, CholeskyOrLUSolve, FactorOrNaN
from autotune.problem import REQUEST_KINDS, Problem, known
from autotune.strategies.base import (
    Strategy,
    Work,
    factorising,
    forming,
    in_own_loops,
    outer_products,
    peak_of,
    shares_nothing,
    times,
    with_backward,
)
from autotune.strategies.cholesky import CholeskySolver
from autotune.strategies.lu import LUSolver


class CholeskyOrLUStrategy(Strategy):
    """``A = L L.T`` if A is symmetric with a positive diagonal and potrf succeeds, else ``A = P L U``.

    Exact for every matrix. Priced for a positive definite one: most matrices that are inverted are
    covariances which nobody tagged. A general matrix pays LU's price and a test that ends at the first
    asymmetric pair, in microseconds. A symmetric indefinite one with a positive diagonal pays at most n^3/3
    flops on top of LU's 2/3 n^3 (1.5 times), usually far less: potrf stops at the first pivot that is not
    positive. A low-rank term with two different factors is never symmetric: such a matrix is priced as LU.
    Requests on a Cholesky factor beside general ones share it where the matrix has one; where not they
    factorise once more, and are NaN.
    """

    name = "cholesky_or_lu"
    dominated_by = "cholesky"
    needs_own_ops = True
    provides = frozenset(REQUEST_KINDS)

    def objects_to(self, problem, options):
        return None if options.forced or may_be_definite(problem) else shares_nothing(problem)

    def work(self, problem: Problem, options) -> Work:
        n = known(problem.n)
        full = with_backward(problem, structured=False)
        definite = may_be_definite(problem)
        kind = {"definite": definite, "batched": in_own_loops(problem)}
        calls = factorising(problem, CholeskyOrLU.kernels(n, **kind))
        calls += [*forming(problem), *outer_products(problem)]
        for r in full.requests:
            if r.kind in ("solve", "inv_quad"):
                calls += CholeskyOrLUSolve.kernels(n, known(r.columns), **kind)
        inverse = full.asks("inverse") or full.asks("inverse_diagonal")
        if inverse:
            calls += CholeskyOrLUInverse.kernels(n, **kind)
        peak = peak_of(problem, value=1, gradient=5 if problem.asks("inverse") else 2)
        return Work(times(problem.batch, calls), peak)

    def solver(self, system, options):
        return CholeskyOrLUSolver(system.operator.to_dense())


def may_be_definite(problem: Problem) -> bool:
    """Whether it is priced as positive definite.

    In batches of small matrices the look costs more than it may save: they are priced as general.
    """
    return problem.batch == 1 and problem.term.fact("symmetric") is not False


class CholeskyOrLUSolver(LUSolver):
    """Its Cholesky factor comes with pivots that move no row and a positive diagonal: LU's sign holds."""

    own_ops = True

    def __init__(self, matrix):
        self.matrix = matrix
        self.LU, self.pivots, self.is_cholesky = Blockwise(CholeskyOrLU())(matrix)
        self.diagonal_of_factor = pt.diagonal(self.LU, axis1=-2, axis2=-1)
        self._inverse = None

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        if checked or kind in ("factor", "is_positive_definite", "inv_quad"):
            return self._of_factor.answer(kind, rhs, transposed)
        return super().answer(kind, rhs, transposed)

    @cached_property
    def _of_factor(self):
        """What a Cholesky factor alone answers."""
        # Of one matrix it is a view: in-place rewrites must see that, before PyTensor unwraps a Blockwise.
        op = FactorOrNaN() if self.matrix.ndim == 2 else Blockwise(FactorOrNaN())
        return PackedCholeskySolver(op(self.matrix, self.LU, self.is_cholesky))

    def determinant(self):
        once = pt.prod(self.diagonal_of_factor, axis=-1)
        return super().determinant() * pt.switch(self.is_cholesky, once, pt.ones_like(once))

    def inverse(self):
        if self._inverse is None:
            self._inverse = Blockwise(CholeskyOrLUInverse())(self.LU, self.pivots, self.is_cholesky)
        return self._inverse


class PackedCholeskySolver(CholeskySolver):
    """By a factor of which the lower triangle counts."""

    def factor(self):
        return pt.tril(self.L)
