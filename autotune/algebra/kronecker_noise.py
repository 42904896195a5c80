"""A Kronecker product of symmetric matrices plus a multiple of the identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import grad
from pytensor.tensor.linalg.products import kron
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.diagonal import Diagonal
from autotune.algebra.kronecker import along_axis, outer
from autotune.algebra.operator import Operator, length
from autotune.problem import Term, known
from cost_models import call


@dataclass(frozen=True, eq=False)
class KroneckerNoise(Operator):
    """``F_1 kron ... kron F_k + diag(d)``, symmetric F_i (p_i, p_i), and d (n,) of equal entries.

    The eigenvectors of all factors together are those of the whole, whatever d is (Stegle et al. 2011,
    "Efficient inference in matrix-variate Gaussian models with iid observation noise").
    """

    kind: ClassVar[str] = "kronecker_noise"
    in_batches: ClassVar[bool] = True

    factors: tuple[TensorVariable, ...]
    d: TensorVariable

    @property
    def parts(self):
        return (self.d, *self.factors)

    @property
    def signature(self):
        return (self.kind, len(self.factors))

    @classmethod
    def rebuild(cls, signature, parts):
        d, *factors = (parts.pop(0) for _ in range(signature[1] + 1))
        return cls(tuple(factors), d)

    @classmethod
    def axes(cls, signature, names):
        return ["n", *(f"k{i},k{i}" for i in (next(names) for _ in range(signature[1])))]

    @classmethod
    def example(cls, term, draft):
        orders = orders_of(term)
        d = draft.part("d", 0.3 + 0 * draft.positive(known(term.n)))
        return cls(tuple(draft.part(f"F{i}", draft.matrix(p)) for i, p in enumerate(orders)), d)

    def dims(self):
        orders: dict[str, Any] = {f"p{i}": (F, -1) for i, F in enumerate(self.factors)}
        return {"n": (self.d, -1), **orders}

    @staticmethod
    def forming(term):
        return [call("stream", n=known(term.n) ** 2)]

    @staticmethod
    def unforming(term):
        return [call("stream", n=known(term.n) ** 2, count=len(orders_of(term)))]

    @staticmethod
    def logdet_pullback(term, checked):
        return []

    @property
    def symmetric(self):
        return True

    @property
    def lengths(self) -> list[Any]:
        return [length(F, -1) for F in self.factors]

    def matmul(self, x):
        return self.product(x) + self.d[:, None] * x

    rmatmul = matmul

    def product(self, x, skipped: int | None = None) -> TensorVariable:
        """``(F_1 kron ... kron F_k) x``, without one of the factors."""
        maps = [None if i == skipped else (lambda b, F=F: F @ b) for i, F in enumerate(self.factors)]
        return along_axes(self.lengths, maps, x)

    def diagonal(self):
        return outer([pt.diagonal(F) for F in self.factors]) + self.d

    def to_dense(self):
        return reduce(kron, self.factors) + Diagonal(self.d).to_dense()

    def transpose(self):
        return self

    def scale(self, s):
        first, *others = self.factors
        return KroneckerNoise(((first * s).astype(self.dtype), *others), (self.d * s).astype(self.dtype))

    def spectra(self) -> list[tuple[TensorVariable, TensorVariable]]:
        """Eigenvalues and eigenvectors of each factor. Nothing is differentiated through them: a gradient of
        eigenvectors divides by differences of eigenvalues, that of the whole does not. NaN where a factor is
        not finite, of which `eigh` is an error."""
        return [_spectrum(F) for F in self.factors]

    def pullback(self, cotangent):
        own = getattr(cotangent, "onto_factors", lambda operator: None)(self)
        if own is None:
            fixed = cotangent.to_dense()
            total = (fixed * reduce(kron, self.factors)).sum()
            own = grad(total, list(self.factors), consider_constant=[fixed])
        return [cotangent.diagonal(), *own]

    def of_outer(self, left, right) -> list[TensorVariable]:
        """The cotangents of the factors from that of the whole, ``left right'``."""
        found = []
        for place in range(len(self.factors)):
            rest = self.product(right, skipped=place)
            found.append(unfolded(self.lengths, place, left) @ unfolded(self.lengths, place, rest).T)
        return found

    def of_inverse(self, g) -> list[TensorVariable]:
        """The same from ``g K^-1``: in the eigenvectors of a factor it is diagonal."""
        spectra = self.spectra()
        values = [w for w, _ in spectra]
        inverse = 1 / eigenvalues(values, self.d[:1].sum())
        found = []
        for place, (_, Q) in enumerate(spectra):
            others = outer([pt.ones_like(w) if i == place else w for i, w in enumerate(values)])
            h = unfolded(self.lengths, place, (others * inverse)[:, None]).sum(axis=1)
            found.append(g * (Q * h) @ Q.T)
        return found


def _spectrum(F) -> tuple[TensorVariable, TensorVariable]:
    finite = pt.invert(pt.isnan(F) | pt.isinf(F)).all()
    w, Q = pt.linalg.eigh(pt.switch(finite, F, np.zeros((), F.type.dtype)))
    return pt.switch(finite, w, np.full((), np.nan, F.type.dtype)), Q


def orders_of(term: Term) -> list[int]:
    return [known(size) for name, size in term.dims if name != "n"]


def eigenvalues(of_factors: Sequence[TensorVariable], t) -> TensorVariable:
    return outer(of_factors) + t


def along_axes(lengths: list[Any], maps: Sequence[Callable | None], x) -> TensorVariable:
    """Maps of columns, each along its axis of ``x`` (n, m) as a tensor; None leaves an axis as it is."""
    for place, apply in enumerate(maps):
        x = x if apply is None else along_axis(lengths, place, x, apply)
    return x


def unfolded(lengths: list[Any], place: int, x) -> TensorVariable:
    """``x`` (n, m) as a matrix whose rows are along one axis of it as a tensor."""
    left, own, right = prod(lengths[:place]), lengths[place], prod(lengths[place + 1 :])
    return x.reshape((left, own, right * x.shape[1])).dimshuffle(1, 0, 2).reshape((own, -1))
