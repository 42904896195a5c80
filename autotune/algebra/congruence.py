"""Congruences: a square matrix and its transpose, and another matrix between them or none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytensor.tensor as pt
from pytensor.tensor.linalg.solvers.psd import cho_solve
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.composite import CompositeSolver, OfOneOrder, Part
from autotune.algebra.diagonal import Diagonal
from autotune.algebra.low_rank import equal_weights
from autotune.algebra.operator import kind_of
from autotune.problem import Request, known
from cost_models import call


@dataclass(frozen=True, eq=False)
class Guard:
    """``matrix`` is what it is read as where ``condition`` holds; all is made of ``inputs``."""

    condition: TensorVariable
    matrix: TensorVariable
    inputs: tuple[TensorVariable, ...]

    def scale(self, s) -> Guard:
        return replace(
            self, matrix=(self.matrix * s).astype(self.matrix.dtype), inputs=(*self.inputs, pt.as_tensor(s))
        )

    def transpose(self) -> Guard:
        return replace(self, matrix=self.matrix.mT)


@dataclass(frozen=True, eq=False)
class Congruence(OfOneOrder):
    """``B M B'``, or ``B B'``: the inverse is ``B'^-1 M^-1 B^-1``, the determinant ``(det B)^2 det M``.

    It is positive definite where M is and B is not singular (Sylvester's law of inertia). Its children are B
    and, if there is one, M. ``guard``: it is one only where something holds at run time.
    """

    kind: ClassVar[str] = "congruence"

    guard: Guard | None = None

    @property
    def B(self) -> Part:
        return self.children[0]

    @property
    def M(self) -> Part | None:
        return self.children[1] if len(self.children) > 1 else None

    @property
    def symmetric(self):
        return self.M is None or self.M.symmetric or self.M.positive_definite

    def to_dense(self):
        if self.guard is not None:
            return self.guard.matrix
        B = self.B.operator.to_dense()
        if self.M is None:
            return B @ B.mT
        M = self.M.operator.to_dense()
        if isinstance(self.B.operator, Diagonal):
            d = self.B.operator.d
            return d[:, None] * M * d[None, :]
        return B @ M @ B.mT

    def scale(self, s):
        if self.M is not None:
            return Congruence((self.B, self.M.scale(s)), self.guard and self.guard.scale(s))
        d = equal_weights(self.B.operator.to_dense(), s)
        return Congruence((self.B, Part(Diagonal(d), symmetric=True)))

    def transpose(self):
        if self.M is None:
            return self
        return Congruence((self.B, self.M.transpose()), self.guard and self.guard.transpose())

    def matmul(self, x):
        x = self.B.operator.rmatmul(x)
        return self.B.operator.matmul(x if self.M is None else self.M.operator.matmul(x))

    @staticmethod
    def forming(term):
        inside = [c for child in term.children for c in kind_of(child.kind).forming(child)]
        return [*inside, *_products(term, 1)]

    @staticmethod
    def unforming(term):
        inside = [c for child in term.children for c in kind_of(child.kind).unforming(child)]
        return [*inside, *_products(term, 2)]

    @staticmethod
    def objection(problem):
        B = problem.term.children[0]
        if problem.checked and _is_dense(B):
            return "the matrix on both sides may be singular, and a Cholesky factor is asked for"
        if problem.asks("factor") and B.kind != "diagonal" and not B.fact("lower"):
            return "a Cholesky factor is asked for, and the matrix on the left is not lower triangular"
        return None

    @staticmethod
    def asks(term, request, place):
        of_B, of_M = _asked(term, request)
        return of_M if place else [replace(r, checked=False) for r in of_B]

    @staticmethod
    def asks_if_checked(place):
        return Request("is_positive_definite", checked=True) if place else Request("logdet")

    @staticmethod
    def between(term, request):
        n, many = known(term.n), len(term.children)
        if request.kind == "inverse" and _is_cholesky(term):
            return [call("potrs", n=n, m=n)]
        if request.kind not in ("inverse", "factor"):
            return []
        multiplied = request.kind == "inverse" or many > 1
        return _products(term, 1) if multiplied else [call("stream", n=n * n)]

    def solver(self, solvers):
        return CongruenceSolver(self, solvers)


class CongruenceSolver(CompositeSolver):
    def __init__(self, operator, solvers):
        super().__init__(operator.children, solvers)
        self.operator = operator
        self.has_middle = operator.M is not None
        self.is_scaling = isinstance(operator.B.operator, Diagonal)

    def ask(self, place, kind, rhs=None, transposed=False):
        """Of B no Cholesky factor is asked."""
        if place == 0:
            return self.solvers[0].answer(kind, rhs, transposed)
        return super().ask(place, kind, rhs, transposed)

    def _of_middle(self, kind, x, transposed=False):
        return self.ask(1, kind, x, transposed)[0] if self.has_middle else x

    def solve(self, rhs, transposed=False):
        [y] = self.ask(0, "solve", rhs)
        return self.ask(0, "solve", self._of_middle("solve", y, transposed), True)[0]

    def inv_quad(self, rhs):
        [y] = self.ask(0, "solve", rhs)
        return self.ask(1, "inv_quad", y)[0] if self.has_middle else pt.sqr(y).sum(axis=-2)

    def logdet(self):
        found = self.ask_all("logdet")
        sign, logabsdet = found[0]
        sign, logabsdet = sign * sign, 2 * logabsdet
        for s, x in found[1:]:
            sign, logabsdet = sign * s, logabsdet + x
        return sign, logabsdet

    def inverse(self):
        if self.is_scaling and self.has_middle:
            [v] = self.ask(0, "inverse_diagonal")
            return v[:, None] * self.ask(1, "inverse")[0] * v[None, :]
        B = self.operator.B.operator
        if not self.has_middle and B.static.fact("lower"):
            return cho_solve((B.to_dense(), True), pt.eye(B.order, dtype=B.dtype), b_ndim=2)
        [Y] = self.ask(0, "inverse")
        return Y.mT @ (self.ask(1, "inverse")[0] @ Y if self.has_middle else Y)

    def inverse_diagonal(self):
        if self.is_scaling and self.has_middle:
            return pt.sqr(self.ask(0, "inverse_diagonal")[0]) * self.ask(1, "inverse_diagonal")[0]
        [Y] = self.ask(0, "inverse")
        return (Y * self._of_middle("solve", Y)).sum(axis=0)

    def is_positive_definite(self):
        _, logabsdet = self.ask(0, "logdet")
        regular = pt.invert(pt.isnan(logabsdet) | pt.isinf(logabsdet))
        return regular & self.ask(1, "is_positive_definite")[0] if self.has_middle else regular

    def factor(self):
        B = self.operator.B.operator
        L = B.matmul(self.ask(1, "factor")[0]) if self.has_middle else B.to_dense()
        return L * pt.sign(pt.diagonal(L))


def _asked(term, request) -> tuple[list[Request], list[Request]]:
    """What a request asks of B, and of M."""
    diagonal = term.children[0].kind == "diagonal"
    match request.kind:
        case "solve":
            return [replace(request, transposed=False), replace(request, transposed=True)], [request]
        case "inv_quad":
            return [replace(request, kind="solve")], [request]
        case "logdet" | "determinant":
            return [replace(request, kind="logdet")], [replace(request, kind="logdet")]
        case "inverse" if diagonal and len(term.children) > 1:
            return [replace(request, kind="inverse_diagonal")], [request]
        case "inverse":
            return [] if _is_cholesky(term) else [request], [request]
        case "inverse_diagonal" if diagonal and len(term.children) > 1:
            return [request], [request]
        case "inverse_diagonal":
            return [replace(request, kind="inverse")], [replace(request, kind="solve", columns=term.n)]
        case "is_positive_definite":
            return [Request("logdet")], [request]
    return [], [request]


def _is_dense(term) -> bool:
    """Whether rounding alone may make it regular."""
    return term.kind == "dense" or any(map(_is_dense, term.children))


def _is_cholesky(term) -> bool:
    """Whether it is ``L L'`` of a lower triangular L."""
    return len(term.children) == 1 and bool(term.children[0].fact("lower"))


def _products(term, times):
    """The products that form it, or as many."""
    n = known(term.n)
    if "diagonal" in (child.kind for child in term.children[:1]):
        return [call("stream", n=n * n, count=times)]
    return [call("gemm", m=n, n=n, k=n, count=times * len(term.children))]
