"""Inverses, of what is asked for by their own inverse."""

from __future__ import annotations

from typing import ClassVar

import pytensor.tensor as pt
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.linalg.inverse import MatrixInverse

from autotune.algebra.composite import CompositeSolver, OfOneOrder
from autotune.algebra.operator import kind_of
from autotune.problem import Request, known
from cost_models import call


class Inverse(OfOneOrder):
    """``A^-1``, as of a precision A: a solve is a product with A, the determinant is ``1 / det A``.

    It has a Cholesky factor where A has one.
    """

    kind: ClassVar[str] = "inverse"

    @classmethod
    def read(cls, var, part_of):
        match var.owner_op_and_inputs:
            case (Blockwise(core_op=core), A) if type(core) is MatrixInverse and A.type.ndim == 2:
                return cls.of([part_of(A)])
        return None

    def to_dense(self):
        return pt.linalg.inv(self.children[0].operator.to_dense())

    def scale(self, s):
        return Inverse((self.children[0].scale(1 / s),))

    def matmul(self, x):
        return pt.linalg.solve(self.children[0].operator.to_dense(), x, b_ndim=2)

    @staticmethod
    def forming(term):
        [A] = term.children
        return [*kind_of(A.kind).forming(A), call("inv", n=known(term.n))]

    @staticmethod
    def unforming(term):
        [A], n = term.children, known(term.n)
        return [*kind_of(A.kind).unforming(A), call("gemm", m=n, n=n, k=n, count=2)]

    @staticmethod
    def objection(problem):
        return "a Cholesky factor of an inverse is asked for" if problem.asks("factor") else None

    @staticmethod
    def asks(term, request, place):
        """Of a solve nothing; but every part is asked for something."""
        if request.kind == "is_positive_definite":
            return [request]
        return [Request("logdet", checked=request.checked)]

    @staticmethod
    def between(term, request):
        [A] = term.children
        if request.kind in ("solve", "inv_quad"):
            return kind_of(A.kind).multiplying(A, known(request.columns))
        return kind_of(A.kind).forming(A) if request.kind == "inverse" else []

    def solver(self, solvers):
        return InverseSolver(self.children, solvers)


class InverseSolver(CompositeSolver):
    def solve(self, rhs, transposed=False):
        A = self.children[0].operator
        return A.rmatmul(rhs) if transposed else A.matmul(rhs)

    def logdet(self):
        sign, logabsdet = self.ask(0, "logdet")
        return sign, -logabsdet

    def inverse(self):
        return self.children[0].operator.to_dense()

    def inverse_diagonal(self):
        return self.children[0].operator.diagonal()
