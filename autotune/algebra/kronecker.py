"""Kronecker products, of any number of matrices."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import pairwise
from math import prod
from operator import mul
from typing import ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.linalg.products import KroneckerProduct, kron

from autotune.algebra.composite import Composite, CompositeSolver, asks_for_factor
from autotune.problem import known
from cost_models import call


class Kronecker(Composite):
    """``A kron B kron ...``: ``(A kron B)^-1 = A^-1 kron B^-1``, and for A (p, p) and B (q, q)
    ``log|det| = q log|det A| + p log|det B|`` (Van Loan 2000, "The ubiquitous Kronecker product").

    A solve is one with each factor in turn, along its axis of the right-hand side as a tensor: the sum of the
    orders times n flops instead of n^2. Nothing n x n is made but what is asked for.
    """

    kind: ClassVar[str] = "kronecker"
    combines: ClassVar[str] = "product"

    @classmethod
    def read(cls, var, part_of):
        """Products of products are one."""
        factors = _factors(var)
        return None if len(factors) == 1 else cls.of([part_of(factor) for factor in factors])

    @property
    def orders(self):
        return [child.operator.order for child in self.children]

    @property
    def order(self):
        return prod(self.orders)

    def to_dense(self):
        return reduce(kron, [child.operator.to_dense() for child in self.children])

    def diagonal(self):
        return outer([child.operator.diagonal() for child in self.children])

    def scale(self, s):
        first, *others = self.children
        return Kronecker((first.scale(s), *others))

    def matmul(self, x):
        for place, child in enumerate(self.children):
            x = along_axis(self.orders, place, x, child.operator.matmul)
        return x

    @staticmethod
    def asks(term, request, place):
        if request.kind in ("solve", "inv_quad"):
            n, own = term.n, term.children[place].n
            columns = None if None in (request.columns, n, own) else request.columns * (n // max(own, 1))
            return [replace(request, kind="solve", columns=columns)]
        return [replace(request, kind="logdet" if request.kind == "determinant" else request.kind)]

    @staticmethod
    def between(term, request):
        n, factors = known(term.n), len(term.children)
        if request.kind in ("solve", "inv_quad"):
            return [call("transpose", m=n, n=known(request.columns), count=2 * (factors - 1))]
        return [call("stream", n=n * n)] if request.kind in ("inverse", "factor") else []

    def solver(self, solvers):
        return KroneckerSolver(self, solvers)

    def prepared(self, problem):
        """Signs moved between the factors: two that are negative definite make one that is positive definite.

        The product of the signs that are taken out is 1.
        """
        unknown = [place for place, child in enumerate(self.children) if not child.positive_definite]
        if not asks_for_factor(problem) or len(unknown) < 2:
            return self
        children = list(self.children)
        for place, following in pairwise(unknown):
            first_entry = children[place].operator.diagonal()[:1].sum()
            sign = pt.switch(first_entry < 0, -1.0, 1.0).astype(self.dtype)
            children[place] = children[place].scale(sign)
            children[following] = children[following].scale(sign)
        return Kronecker(tuple(children))


class KroneckerSolver(CompositeSolver):
    def __init__(self, operator, solvers):
        super().__init__(operator.children, solvers)
        self.operator = operator

    def solve(self, rhs, transposed=False):
        for place in range(len(self.children)):
            rhs = along_axis(
                self.orders, place, rhs, lambda b, i=place: self.ask(i, "solve", b, transposed)[0]
            )
        return rhs

    def logdet(self):
        powers = [_others(self.orders, place) for place in range(len(self.orders))]
        found = self.ask_all("logdet")
        sign = reduce(mul, [_power(s, power) for (s, _), power in zip(found, powers, strict=True)])
        logabsdet = sum(
            (pt.cast(power, x.type.dtype) * x for (_, x), power in zip(found, powers, strict=True)), 0.0
        )
        return sign, logabsdet

    def inverse(self):
        return reduce(kron, [found for [found] in self.ask_all("inverse")])

    def factor(self):
        """Of lower triangular matrices the product is lower triangular."""
        return reduce(kron, [found for [found] in self.ask_all("factor")])

    def inverse_diagonal(self):
        return outer([found for [found] in self.ask_all("inverse_diagonal")])


def _factors(var) -> list:
    match var.owner_op_and_inputs:
        case (KroneckerProduct(), left, right) if left.type.ndim == right.type.ndim == 2:
            return [*_factors(left), *_factors(right)]
    return [var]


def along_axis(orders, place, x, apply):
    """``apply``, a map of columns, along the axis of one factor of ``x`` (n, m) as a tensor."""
    left, own, right = prod(orders[:place]), orders[place], prod(orders[place + 1 :])
    shape = x.shape
    if place == 0:
        return apply(x.reshape((own, right * shape[1]))).reshape(shape)
    tensor = x.reshape((left, own, right * shape[1])).dimshuffle(1, 0, 2)
    applied = apply(tensor.reshape((own, left * right * shape[1])))
    return applied.reshape((own, left, right * shape[1])).dimshuffle(1, 0, 2).reshape(shape)


def _others(orders, place):
    """The product of the other orders."""
    return prod(order for i, order in enumerate(orders) if i != place)


def _power(sign, power):
    """``sign ** power`` of a sign: itself, or its square, by whether the power is odd."""
    if isinstance(power, int | np.integer):
        return sign if power % 2 else sign * sign
    return pt.switch(pt.eq(power % 2, 0), sign * sign, sign)


def outer(vectors):
    """``diag(a) kron diag(b)`` as a vector."""
    return reduce(lambda a, b: (a[:, None] * b[None, :]).reshape((-1,)), vectors)
