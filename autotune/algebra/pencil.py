"""Pencils of constants: a constant matrix and a constant diagonal, each with a scalar that changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.diagonal import Diagonal
from autotune.algebra.low_rank import LowRank, equal_weights
from autotune.algebra.operator import Operator, congruence_diagonal, length, value_of
from autotune.algebra.sum import Sum
from autotune.problem import known
from cost_models import call


@dataclass(frozen=True, eq=False)
class Pencil(Operator):
    """``w[0] A + w[1] D``: A (n, n) constant and symmetric, D the identity or ``diag(d)``, d (n,) positive.

    With ``A = M diag(spectrum) M'`` and ``D = M M'`` the whole is ``M diag(eigenvalues) M'``. Its inverse is
    made of the dual basis P, ``P' M = I``; of an identity M is orthogonal and its own dual. ``w`` (2,).
    """

    kind: ClassVar[str] = "pencil"

    A: TensorVariable
    w: TensorVariable
    spectrum: TensorVariable
    M: TensorVariable
    d: TensorVariable | None = None
    P: TensorVariable | None = None

    @property
    def parts(self):
        weighted = () if self.d is None else (self.d, self.P)
        return (self.A, self.w, self.spectrum, self.M, *weighted)

    @property
    def signature(self):
        return (self.kind, self.d is not None)

    @classmethod
    def rebuild(cls, signature, parts):
        count = 6 if signature[1] else 4
        taken = parts[:count]
        del parts[:count]
        return cls(*taken)

    @classmethod
    def axes(cls, signature, names):
        return ["n,n", f"k{next(names)}", "n", "n,n", *(["n", "n,n"] if signature[1] else [])]

    @classmethod
    def example(cls, term, draft):
        n = known(term.n)
        A = draft.positive(n) * np.eye(n) if draft.general else draft.matrix(n)
        spectrum, M = np.linalg.eigh(A)
        w = draft.part("w", np.array([0.8, 0.3]))
        return cls(draft.constant(A), w, draft.constant(spectrum), draft.constant(M))

    def dims(self):
        return {"n": (self.A, -1)}

    @staticmethod
    def forming(term):
        return [call("stream", n=known(term.n) ** 2)]

    @staticmethod
    def unforming(term):
        return [call("stream", n=known(term.n) ** 2)]

    @staticmethod
    def logdet_pullback(term, checked):
        return []

    @property
    def symmetric(self):
        return True

    @property
    def dual(self) -> TensorVariable:
        return self.M if self.P is None else self.P

    @property
    def eigenvalues(self) -> TensorVariable:
        """Those of the pencil (A, D), weighted."""
        return self.w[0] * self.spectrum + self.w[1]

    def matmul(self, x):
        return self.w[0] * (self.A @ x) + self.w[1] * (x if self.d is None else self.d[:, None] * x)

    rmatmul = matmul

    def diagonal(self):
        return self.w[0] * pt.diagonal(self.A) + self.w[1] * self._diagonal_of_D

    def to_dense(self):
        on_diagonal = pt.eye(length(self.A, -1), dtype="bool")
        added = pt.switch(on_diagonal, self.w[1] * self._diagonal_of_D[None, :], np.zeros((), self.dtype))
        return self.w[0] * self.A + added

    @property
    def _diagonal_of_D(self):
        return pt.ones((length(self.A, -1),), dtype=self.dtype) if self.d is None else self.d

    def transpose(self):
        return self

    def scale(self, s):
        others = (self.spectrum, self.M) if self.d is None else (self.spectrum, self.M, self.d, self.P)
        return Pencil(self.A, (self.w * s).astype(self.dtype), *others)

    def of_eigenvalues(self, inner: Any) -> TensorVariable:
        """The cotangent of ``w`` from that of the eigenvalues."""
        return pt.stack([(inner * self.spectrum).sum(), inner.sum()])

    def pullback(self, cotangent):
        """Of the constants nothing is asked."""
        w_bar = self.of_eigenvalues(congruence_diagonal(cotangent, self.M))
        return [w_bar if part is self.w else part.zeros_like() for part in self.parts]


@dataclass(frozen=True, eq=False)
class Basis:
    """Constant columns M with ``K^-1 M = dual diag(1 / eigenvalues)`` and ``dual' M = I``."""

    M: TensorVariable
    dual: TensorVariable
    eigenvalues: TensorVariable


def basis_of(operator) -> Basis | None:
    """That of a pencil, or of a multiple of the identity plus low rank with orthonormal columns."""
    match operator.unmarked:
        case Pencil() as pencil:
            return Basis(pencil.M, pencil.dual, pencil.eigenvalues)
        case Sum(terms=(Diagonal(d=d), LowRank(orthonormal=True, U=U, c=c))):
            t = multiple_of_identity(d)
            return Basis(U, U, t + (equal_weights(U) if c is None else c))
    return None


def multiple_of_identity(d) -> TensorVariable:
    """The entry of a diagonal whose entries are equal."""
    found = value_of(d)
    return d[:1].sum() if found is None else found.astype(d.type.dtype)
