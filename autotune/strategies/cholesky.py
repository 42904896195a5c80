"""One Cholesky factor for all requests of a positive-definite matrix."""

from __future__ import annotations

import pytensor.tensor as pt
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.linalg.solvers.psd import cho_solve
from pytensor.tensor.linalg.solvers.triangular import solve_triangular

from autotune.ops import CholeskyInverse, CholeskySolveMany, FactorSlogdet, SharedCholesky, are_many
from autotune.problem import REQUEST_KINDS, Problem, known
from autotune.strategies.base import (
    OWN_OPS,
    No,
    Solver,
    Strategy,
    Work,
    factorising,
    forming,
    in_own_loops,
    outer_products,
    peak_of,
    times,
    with_backward,
)
from cost_models import call


class CholeskyStrategy(Strategy):
    """``A = L L.T`` (potrf), then potrs, potri and ``2 sum(log diag L)`` on the one factor.

    LAPACK Users' Guide (Anderson et al. 1999): n^3/3 flops for the factor, 2/3 n^3 more for the inverse.
    """

    name = "cholesky"
    provides = frozenset(REQUEST_KINDS)

    def objects_to(self, problem, options):
        if not problem.positive_definite:
            return No("the matrix is not known to be positive definite")
        needs_potri = problem.asks("inverse") or problem.asks("inverse_diagonal") or problem.differentiated
        if needs_potri and problem.linker not in OWN_OPS:
            return No("the linker in force cannot run its inverse")
        return None

    def work(self, problem: Problem, options) -> Work:
        n = known(problem.n)
        full = with_backward(problem, structured=False)
        batched = in_own_loops(problem)
        factor = factorising(problem, SharedCholesky.kernels(n, batched=batched))
        calls = [*factor, *forming(problem), *outer_products(problem)]
        for r in full.requests:
            if r.kind == "solve":
                calls += CholeskySolveMany.kernels(n, known(r.columns), batched=batched)
        calls += [call("trsm", n=n, m=known(r.columns)) for r in full.requests if r.kind == "inv_quad"]
        inverse = full.asks("inverse") or full.asks("inverse_diagonal")
        if inverse:
            calls += CholeskyInverse.kernels(n, batched=batched)
        # potrf and potri overwrite the matrix; the pullback of an inverse is two products
        peak = peak_of(problem, value=1, gradient=5 if problem.asks("inverse") else 2)
        return Work(times(problem.batch, calls), peak)

    def solver(self, system, options):
        L = Blockwise(SharedCholesky())(system.operator.to_dense())
        return CholeskySolver(L, runs_own_ops=system.linker in OWN_OPS)


class CholeskySolver(Solver):
    """NaN everywhere, and not positive definite, when the factorisation fails: as PyTensor does."""

    def __init__(self, L, *, runs_own_ops=True):
        self.L = L
        self.runs_own_ops = runs_own_ops
        self.diagonal_of_factor = pt.diagonal(self.L, axis1=-2, axis2=-1)
        self.in_own_loops = runs_own_ops and L.type.ndim > 2
        self._inverse = None

    def solve(self, rhs, transposed=False):
        n, m = rhs.type.shape[-2:]
        if self.in_own_loops or (self.runs_own_ops and (are_many(n, m) or (m != 1 and None in (n, m)))):
            return Blockwise(CholeskySolveMany())(self.L, rhs)
        return cho_solve((self.L, True), rhs, b_ndim=2)

    def inv_quad(self, rhs):
        """``b' A^-1 b = |L^-1 b|^2``: one triangular solve."""
        return pt.sqr(solve_triangular(self.L, rhs, lower=True, b_ndim=2)).sum(axis=-2)

    def logdet(self):
        if self.in_own_loops:
            no_exchanges = pt.zeros(self.L.shape[-1:], dtype="int32")
            return Blockwise(FactorSlogdet())(self.L, no_exchanges, pt.constant(1, dtype="int8"))
        logabsdet = 2 * pt.log(self.diagonal_of_factor).sum(axis=-1)
        return pt.switch(pt.isnan(logabsdet), logabsdet, pt.ones_like(logabsdet)), logabsdet

    def determinant(self):
        return pt.sqr(pt.prod(self.diagonal_of_factor, axis=-1))

    def inverse(self):
        if self._inverse is None:
            self._inverse = Blockwise(CholeskyInverse())(self.L)
        return self._inverse

    def inverse_diagonal(self):
        return pt.diagonal(self.inverse(), axis1=-2, axis2=-1)

    def is_positive_definite(self):
        return pt.all(self.diagonal_of_factor > 0, axis=-1)

    def factor(self):
        return self.L
