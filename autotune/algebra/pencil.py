"""Pencils of constants: two matrices, one of them positive definite, each with a scalar that changes."""

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
    """``w[0] A + w[1] D``: A (n, n) constant and symmetric, D the identity, ``diag(d)`` or positive definite.

    d (n,) is positive; of a D that is no diagonal it holds the pivots, whose product is the determinant of D.
    With ``A = M diag(spectrum) M'`` and ``D = M M'`` the whole is ``M diag(eigenvalues) M'``. Its inverse is
    made of the dual basis P, ``P' M = I``; of an identity M is orthogonal and its own dual. ``w`` (2,).
    """

    kind: ClassVar[str] = "pencil"
    in_batches: ClassVar[bool] = True

    A: TensorVariable
    w: TensorVariable
    spectrum: TensorVariable
    M: TensorVariable
    d: TensorVariable | None = None
    P: TensorVariable | None = None
    D: TensorVariable | None = None

    @property
    def parts(self):
        return (self.A, self.w, *self._constants)

    @property
    def _constants(self):
        found = (self.spectrum, self.M, self.d, self.P, self.D)
        return tuple(part for part in found if part is not None)

    @property
    def signature(self):
        return (self.kind, len(self.parts))

    @classmethod
    def rebuild(cls, signature, parts):
        count = signature[1]
        taken = parts[:count]
        del parts[:count]
        return cls(*taken)

    @classmethod
    def axes(cls, signature, names):
        return ["n,n", f"k{next(names)}", "n", "n,n", "n", "n,n", "n,n"][: signature[1]]

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
        return self.w[0] * (self.A @ x) + self.w[1] * self._times_D(x)

    rmatmul = matmul

    def _times_D(self, x):
        if self.D is not None:
            return self.D @ x
        return x if self.d is None else self.d[:, None] * x

    def diagonal(self):
        return self.w[0] * pt.diagonal(self.A) + self.w[1] * self._diagonal_of_D

    def to_dense(self):
        if self.D is not None:
            return self.w[0] * self.A + self.w[1] * self.D
        on_diagonal = pt.eye(length(self.A, -1), dtype="bool")
        added = pt.switch(on_diagonal, self.w[1] * self._diagonal_of_D[None, :], np.zeros((), self.dtype))
        return self.w[0] * self.A + added

    @property
    def _diagonal_of_D(self):
        if self.D is not None:
            return pt.diagonal(self.D)
        return pt.ones((length(self.A, -1),), dtype=self.dtype) if self.d is None else self.d

    def transpose(self):
        return self

    def scale(self, s):
        return Pencil(self.A, (self.w * s).astype(self.dtype), *self._constants)

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
