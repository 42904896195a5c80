"""Pencils of constants: a constant matrix and a constant diagonal, each with a scalar that changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.operator import Operator, length
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
        draft_A = draft.matrix(n) if not draft.general else draft.positive(n) * np.eye(n)
        spectrum, M = np.linalg.eigh(draft_A)
        values = {"A": draft_A, "w": np.array([0.8, 0.3]), "spectrum": spectrum, "M": M}
        return cls(*(draft.input(name, value) for name, value in values.items()))

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

    def solved_coordinates(self, M, rhs) -> Any:
        """``M' K^-1 rhs`` where that is seen at once, else None."""
        return self.dual.T @ rhs / self.eigenvalues[:, None] if M is self.M else None

    def inverse_congruence(self, M) -> Any:
        """``diag(M' K^-1 M)`` where that is seen at once, else None."""
        return pt.reciprocal(self.eigenvalues) if M is self.M else None

    def inverse_sandwich(self, M, g) -> Any:
        """``diag(M' K^-1 diag(g) K^-1 M)`` where that is seen at once, else None."""
        return pt.sqr(self.dual).T @ g / pt.sqr(self.eigenvalues) if M is self.M else None


def congruence_diagonal(cotangent, M) -> TensorVariable:
    """``diag(M' C M)``"""
    own = getattr(cotangent, "congruence_diagonal", None)
    return (M * cotangent.matmul(M)).sum(axis=-2) if own is None else own(M)
