"""Constant matrices of which the inverse is known, and constant too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.operator import Operator
from autotune.problem import known


@dataclass(frozen=True, eq=False)
class KnownInverse(Operator):
    """``M`` (n, n), as of eigenvectors, with its inverse, ``inverted``, and the sign and logarithm of its
    determinant."""

    kind: ClassVar[str] = "known_inverse"

    M: TensorVariable
    inverted: TensorVariable
    sign: TensorVariable
    logabsdet: TensorVariable

    @classmethod
    def of(cls, M: np.ndarray, inverse: np.ndarray, dtype: str) -> KnownInverse:
        arrays = (M, inverse, *np.linalg.slogdet(M))
        return cls(*(pt.constant(np.asarray(x, dtype=dtype)) for x in arrays))

    @property
    def parts(self):
        return (self.M, self.inverted, self.sign, self.logabsdet)

    @classmethod
    def rebuild(cls, signature, parts):
        return cls(*(parts.pop(0) for _ in range(4)))

    @classmethod
    def axes(cls, signature, names):
        return ["n,n", "n,n", "", ""]

    @classmethod
    def example(cls, term, draft):
        Q = np.linalg.qr(draft.columns(known(term.n), known(term.n)))[0]
        return cls.of(Q, Q.T, draft.dtype)

    def dims(self):
        return {"n": (self.M, -1)}

    @staticmethod
    def logdet_pullback(term, checked):
        return []

    def matmul(self, x):
        return self.M @ x

    def rmatmul(self, x):
        return self.M.mT @ x

    def diagonal(self):
        return pt.diagonal(self.M)

    def to_dense(self):
        return self.M

    def transpose(self):
        return KnownInverse(self.M.mT, self.inverted.mT, self.sign, self.logabsdet)

    def pullback(self, cotangent):
        """Of constants nothing is asked."""
        return [part.zeros_like() for part in self.parts]
