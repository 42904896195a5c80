"""One LU factorisation for all requests of a general matrix."""

from __future__ import annotations

import pytensor.tensor as pt
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.linalg.solvers.general import lu_solve

from autotune.ops.cholesky_or_lu import CholeskyOrLUSolve, ExchangeSign, FactorSlogdet
from autotune.ops.factor import SharedLU
from autotune.ops.inverse import LUInverse
from autotune.problem import Problem, known
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
    shares_nothing,
    times,
    with_backward,
)


class LUStrategy(Strategy):
    """``A = P L U`` (getrf), then getrs, getri, and sign and log-determinant from the diagonal of U.

    2/3 n^3 flops for the factors, 4/3 n^3 more for the inverse (Golub & Van Loan 2013, 3.4).
    """

    name = "lu"
    dominated_by = "cholesky"
    provides = frozenset({"solve", "logdet", "determinant", "inverse", "inverse_diagonal"})

    def objects_to(self, problem, options):
        if problem.checked:
            return No("the graph expects NaN where the matrix is not positive definite")
        if not options.forced and shares_nothing(problem):
            return shares_nothing(problem)
        inverse = with_backward(problem, structured=False)
        if (inverse.asks("inverse") or inverse.asks("inverse_diagonal")) and problem.linker not in OWN_OPS:
            return No("the linker in force cannot run its inverse")
        return None

    def work(self, problem: Problem, options) -> Work:
        n = known(problem.n)
        full = with_backward(problem, structured=False)
        batched = in_own_loops(problem)
        factor = factorising(problem, SharedLU.kernels(n, batched=batched))
        calls = [*factor, *forming(problem), *outer_products(problem)]
        for r in full.requests:
            if r.kind == "solve":
                calls += CholeskyOrLUSolve.kernels(n, known(r.columns), definite=False, batched=batched)
        inverse = full.asks("inverse") or full.asks("inverse_diagonal")
        if inverse:
            calls += LUInverse.kernels(n, batched=batched)
        # getrf wants columns and copies the matrix; getri does not overwrite the factors
        gradient = 5 if problem.asks("inverse") else 3 if problem.positive_definite else 4
        return Work(
            times(problem.batch, calls), peak_of(problem, value=3 if inverse else 2, gradient=gradient)
        )

    def solver(self, system, options):
        return LUSolver(system.operator.to_dense(), own_ops=system.linker in OWN_OPS)


class LUSolver(Solver):
    """``own_ops``: whether getrs solves, or PyTensor's own Ops: row exchanges and two triangular solves."""

    def __init__(self, matrix, *, own_ops):
        self.own_ops = own_ops
        self.LU, self.pivots = Blockwise(SharedLU())(matrix)
        self.is_cholesky = pt.constant(0, dtype="int8")
        self.diagonal_of_factor = pt.diagonal(self.LU, axis1=-2, axis2=-1)
        self._inverse = None

    def solve(self, rhs, transposed=False):
        if not self.own_ops:
            return lu_solve((self.LU, self.pivots), rhs, trans=transposed, b_ndim=2)
        solve = Blockwise(CholeskyOrLUSolve(transposed=transposed))
        return solve(self.LU, self.pivots, self.is_cholesky, rhs)

    def permutation_sign(self):
        """-1 to the number of row interchanges."""
        if self.own_ops:
            return Blockwise(ExchangeSign())(self.pivots).astype(self.LU.dtype)
        moved = pt.neq(self.pivots, pt.arange(self.pivots.shape[-1]))
        return pt.prod(pt.switch(moved, -1.0, 1.0).astype(self.LU.dtype), axis=-1)

    def logdet(self):
        if self.own_ops:
            return Blockwise(FactorSlogdet())(self.LU, self.pivots, self.is_cholesky)
        sign = self.permutation_sign() * pt.prod(pt.sign(self.diagonal_of_factor), axis=-1)
        return sign, pt.log(pt.abs(self.diagonal_of_factor)).sum(axis=-1)

    def determinant(self):
        return self.permutation_sign() * pt.prod(self.diagonal_of_factor, axis=-1)

    def inverse(self):
        if self._inverse is None:
            self._inverse = Blockwise(LUInverse())(self.LU, self.pivots)
        return self._inverse

    def inverse_diagonal(self):
        return pt.diagonal(self.inverse(), axis1=-2, axis2=-1)
