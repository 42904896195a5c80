"""The dense algorithms in PyTensor's own Ops, which every linker runs."""

from __future__ import annotations

from functools import cached_property

import pytensor.tensor as pt
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.linalg.decomposition.cholesky import cholesky
from pytensor.tensor.linalg.inverse import matrix_inverse
from pytensor.tensor.linalg.solvers.general import solve
from pytensor.tensor.linalg.solvers.psd import cho_solve
from pytensor.tensor.linalg.solvers.triangular import solve_triangular
from pytensor.tensor.linalg.summary import SLogDet, det

from autotune.algebra.solver import Solver


class PlainSolver(Solver):
    """The plain dense algorithms in PyTensor's own Ops: inner graph of every request Op."""

    def __init__(self, matrix, positive_definite, symmetric):
        self.matrix = matrix
        self.positive_definite = positive_definite
        self.assume_a = "pos" if positive_definite else "sym" if symmetric else "gen"

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        if checked and not self.positive_definite:
            return self._checked.answer(kind, rhs, transposed)
        return super().answer(kind, rhs, transposed)

    @cached_property
    def _checked(self):
        return CheckedSolver(self.matrix, True, True)

    @cached_property
    def _factor(self):
        return cholesky(self.matrix, lower=True)

    def factor(self):
        return self._factor

    def solve(self, rhs, transposed=False):
        matrix = self.matrix.mT if transposed and self.assume_a == "gen" else self.matrix
        return solve(matrix, rhs, assume_a=self.assume_a, b_ndim=2)

    def inv_quad(self, rhs):
        if self.positive_definite:
            return pt.sqr(solve_triangular(self.factor(), rhs, lower=True, b_ndim=2)).sum(axis=-2)
        return super().inv_quad(rhs)

    def logdet(self):
        if not self.positive_definite:
            return Blockwise(SLogDet())(self.matrix)
        logabsdet = 2 * pt.log(self._factor_diagonal()).sum(axis=-1)
        return pt.switch(pt.isnan(logabsdet), logabsdet, pt.ones_like(logabsdet)), logabsdet

    def determinant(self):
        return det(self.matrix)

    def inverse(self):
        return matrix_inverse(self.matrix)

    def inverse_diagonal(self):
        return pt.diagonal(self.inverse(), axis1=-2, axis2=-1)

    def is_positive_definite(self):
        return pt.all(self._factor_diagonal() > 0, axis=-1)

    def _factor_diagonal(self):
        return pt.diagonal(self.factor(), axis1=-2, axis2=-1)


class CheckedSolver(PlainSolver):
    """What is asked of a Cholesky factor that the matrix may not have.

    By the factor: of a solve with ``assume_a="pos"`` PyTensor believes it of all that is asked of the matrix.
    """

    def solve(self, rhs, transposed=False):
        return cho_solve((self.factor(), True), rhs, b_ndim=2)
