"""Matrices whose rows and columns stand in another order than that in which they have a structure."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.raise_op import Assert

from autotune.algebra.composite import CompositeSolver, OfOneOrder, Part
from autotune.algebra.operator import kind_of, rebuilt
from autotune.problem import known
from cost_models import call

_REFUSED = Assert("A vector, or right-hand sides, have not as many rows as the matrix.")


def in_order(x: Any, places: np.ndarray) -> Any:
    """The rows of ``x``, as many as there are places, in this order; more or fewer are refused."""
    n = len(places)
    return (x if x.type.shape[0] == n else _REFUSED(x, pt.eq(x.shape[0], n)))[places]


@dataclass(frozen=True)
class Order:
    """A permutation of ``0, ..., n - 1``."""

    digits: bytes = field(repr=False)

    @classmethod
    def of(cls, places: Any) -> Order:
        return cls(np.asarray(places, dtype=np.int64).tobytes())

    @cached_property
    def places(self) -> np.ndarray:
        return np.frombuffer(self.digits, dtype=np.int64)

    @cached_property
    def back(self) -> np.ndarray:
        return np.argsort(self.places)


@dataclass(frozen=True, eq=False)
class Permuted(OfOneOrder):
    """``A[i][:, i] = P A P'`` of a constant permutation i: the order cancels in determinants, and is one of
    rows in a solve, ``P A^-1 P'``."""

    kind: ClassVar[str] = "permuted"

    by: Order

    @property
    def signature(self):
        return (self.kind, self.by, self.children[0].signature)

    @classmethod
    def rebuild(cls, signature, parts):
        _, by, (inside, *facts) = signature
        return cls((Part(rebuilt(inside, parts), *facts),), by)

    @classmethod
    def axes(cls, signature, names):
        inside = signature[2][0]
        return kind_of(inside[0]).axes(inside, names)

    @classmethod
    def example(cls, term, draft):
        [child] = term.children
        return cls((Part.example(child, draft),), Order.of(draft.rng.permutation(known(child.n))))

    def to_dense(self):
        i = self.by.places
        return self.children[0].operator.to_dense()[i[:, None], i[None, :]]

    def diagonal(self):
        return self.children[0].operator.diagonal()[self.by.places]

    def matmul(self, x):
        return self.children[0].operator.matmul(in_order(x, self.by.back))[self.by.places]

    def scale(self, s):
        return Permuted((self.children[0].scale(s),), self.by)

    def transpose(self):
        return Permuted((self.children[0].transpose(),), self.by)

    @staticmethod
    def objection(problem):
        if problem.asks("factor"):
            return "a Cholesky factor is asked for, which depends on the order"
        return None

    @staticmethod
    def asks(term, request, place):
        return [request]

    @staticmethod
    def between(term, request):
        n = known(term.n)
        columns = {
            "solve": known(request.columns or 1),
            "inv_quad": known(request.columns or 1),
            "inverse": n,
        }
        return [call("stream", n=2 * n * columns.get(request.kind, 1))]

    def solver(self, solvers):
        return PermutedSolver(self, solvers)


class PermutedSolver(CompositeSolver):
    def __init__(self, operator, solvers):
        super().__init__(operator.children, solvers)
        self.by = operator.by

    def _inside(self, rhs):
        return in_order(rhs, self.by.back)

    def solve(self, rhs, transposed=False):
        return self.ask(0, "solve", self._inside(rhs), transposed)[0][self.by.places]

    def inv_quad(self, rhs):
        return self.ask(0, "inv_quad", self._inside(rhs))[0]

    def logdet(self):
        return self.ask(0, "logdet")

    def determinant(self):
        return self.ask(0, "determinant")[0]

    def inverse(self):
        i = self.by.places
        return self.ask(0, "inverse")[0][i[:, None], i[None, :]]

    def inverse_diagonal(self):
        return self.ask(0, "inverse_diagonal")[0][self.by.places]
