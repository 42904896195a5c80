"""Products of square matrices."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import mul
from typing import ClassVar

import pytensor.tensor as pt

from autotune.algebra.composite import CompositeSolver, OfOneOrder
from autotune.algebra.operator import kind_of
from autotune.problem import known
from cost_models import call


class Product(OfOneOrder):
    """``A B ...`` of matrices of one order: ``(A B)^-1 = B^-1 A^-1``, ``det(A B) = det A det B``.

    Nothing is proven of a Cholesky factor of its lower triangle.
    """

    kind: ClassVar[str] = "product"

    @property
    def symmetric(self):
        return False

    @property
    def positive_definite(self):
        return False

    def to_dense(self):
        first, *others = (child.operator.to_dense() for child in self.children)
        return reduce(pt.matmul, others, first)

    def scale(self, s):
        first, *others = self.children
        return Product((first.scale(s), *others))

    def transpose(self):
        return Product(tuple(child.transpose() for child in reversed(self.children)))

    def matmul(self, x):
        return reduce(lambda y, child: child.operator.matmul(y), reversed(self.children), x)

    @staticmethod
    def forming(term):
        n = known(term.n)
        inside = [c for child in term.children for c in kind_of(child.kind).forming(child)]
        return [*inside, call("gemm", m=n, n=n, k=n, count=len(term.children) - 1)]

    @staticmethod
    def unforming(term):
        n = known(term.n)
        inside = [c for child in term.children for c in kind_of(child.kind).unforming(child)]
        return [*inside, call("gemm", m=n, n=n, k=n, count=2 * (len(term.children) - 1))]

    @staticmethod
    def objection(problem):
        if problem.checked or problem.asks("factor"):
            return "a Cholesky factor is asked of a product that may not be symmetric"
        return None

    @staticmethod
    def asks(term, request, place):
        if request.kind == "inverse_diagonal":
            return [replace(request, kind="inverse")]
        kind = {"determinant": "logdet", "inv_quad": "solve"}.get(request.kind, request.kind)
        return [replace(request, kind=kind)]

    @staticmethod
    def between(term, request):
        n = known(term.n)
        if request.kind in ("inverse", "inverse_diagonal"):
            return [call("gemm", m=n, n=n, k=n, count=len(term.children) - 1)]
        return []

    def solver(self, solvers):
        return ProductSolver(self.children, solvers)


class ProductSolver(CompositeSolver):
    def solve(self, rhs, transposed=False):
        places = range(len(self.children))
        for place in reversed(places) if transposed else places:
            [rhs] = self.ask(place, "solve", rhs, transposed)
        return rhs

    def logdet(self):
        signs, logs = zip(*self.ask_all("logdet"), strict=True)
        return reduce(mul, signs), sum(logs[1:], logs[0])

    def inverse(self):
        return reduce(pt.matmul, [found for [found] in reversed(self.ask_all("inverse"))])

    def inverse_diagonal(self):
        *others, last = [found for [found] in reversed(self.ask_all("inverse"))]
        return (reduce(pt.matmul, others) * last.T).sum(axis=1)
