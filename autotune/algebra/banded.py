"""Banded matrices: all entries lie on a few diagonals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.operator import Operator, length, of_each, of_length
from autotune.ops import BandedDot
from autotune.problem import Request, known
from cost_models import call


@dataclass(frozen=True, eq=False)
class Banded(Operator):
    """``A[i, j] = bands[upper + i - j, j]`` for ``-upper <= i - j <= lower``, else 0.

    ``bands`` (lower + upper + 1, n); of a ``mirrored`` matrix (symmetric, upper = lower) ``bands[i - j, j]``
    for i >= j alone, (lower + 1, n). What is stored beyond the matrix is not read.
    """

    kind: ClassVar[str] = "banded"
    in_batches: ClassVar[bool] = True
    letters: ClassVar[dict[str, str]] = {"bands": "b"}
    own_logdet_pullback: ClassVar[bool] = True

    bands: TensorVariable
    lower: int
    upper: int
    mirrored: bool

    @property
    def parts(self):
        return (self.bands,)

    @property
    def signature(self):
        return (self.kind, self.lower, self.upper, self.mirrored)

    @classmethod
    def rebuild(cls, signature, parts):
        return cls(parts.pop(0), *signature[1:])

    @classmethod
    def axes(cls, signature, names):
        return [f"b{next(names)},n"]

    @classmethod
    def of(cls, diagonals: Mapping[int, TensorVariable], n: Any, dtype: str, *, mirrored: bool) -> Banded:
        """The matrix of diagonals, by their offset j - i, each as long as the matrix has room for it."""
        lower, upper = (max([0, *(sign * k for k in diagonals)]) for sign in (-1, 1))
        bands = pt.zeros((lower + 1 if mirrored else lower + upper + 1, n), dtype=dtype)
        for k, diagonal in sorted(diagonals.items()):
            if mirrored and k > 0:
                continue
            room = of_length(diagonal.astype(dtype), n - abs(k)) if k else diagonal.astype(dtype)
            columns = slice(k, None) if k > 0 else slice(None, n + k)
            bands = pt.set_subtensor(bands[-k if mirrored else upper - k, columns], room)
        return cls(bands, lower, lower if mirrored else upper, mirrored)

    @classmethod
    def example(cls, term, draft):
        n, rows = known(term.n), known(term.sizes()["bands"])
        mirrored = bool(term.fact("symmetric"))
        lower = rows - 1 if mirrored else rows // 2
        upper = lower if mirrored else rows - 1 - lower
        values = draft.columns(n, rows).T
        values[0 if mirrored else upper] = draft.positive(n) + np.abs(values).sum(axis=0).max() * 2
        return cls(draft.part("bands", values), lower, upper, mirrored)

    def dims(self):
        return {"n": (self.bands, -1), "bands": (self.bands, -2)}

    @staticmethod
    def forming(term):
        return [call("stream", n=known(term.n) ** 2)]

    @staticmethod
    def unforming(term):
        return [call("stream", n=known(term.n) * known(term.sizes()["bands"]))]

    @staticmethod
    def multiplying(term, columns):
        return [call("stream", n=known(term.n) * known(term.sizes()["bands"]) * columns)]

    @staticmethod
    def logdet_pullback(term, checked):
        return [Request("logdet_pullback", checked=checked)]

    @property
    def symmetric(self):
        return self.mirrored

    @property
    def band(self) -> dict[str, Any]:
        """Where the diagonals lie."""
        return {"lower": self.lower, "upper": self.upper, "mirrored": self.mirrored}

    def offset(self, k: int) -> TensorVariable:
        """The diagonal at offset j - i = k, as long as the matrix has room for it."""
        n = length(self.bands, -1)
        if self.mirrored:
            return self.bands[abs(k), : n - abs(k)]
        return self.bands[self.upper - k, k:] if k > 0 else self.bands[self.upper - k, : n + k]

    @property
    def offsets(self) -> range:
        return range(-self.lower, self.upper + 1)

    def matmul(self, x):
        return BandedDot(**self.band)(self.bands, x)

    def rmatmul(self, x):
        return BandedDot(transposed=True, **self.band)(self.bands, x)

    def diagonal(self):
        return self.bands[0 if self.mirrored else self.upper]

    def to_dense(self):
        n = length(self.bands, -1)
        M, places = pt.zeros((n, n), dtype=self.dtype), pt.arange(n)
        for k in self.offsets:
            rows, columns = places[max(-k, 0) : n - max(k, 0)], places[max(k, 0) : n - max(-k, 0)]
            M = M[rows, columns].set(self.offset(k))
        return M

    def transpose(self):
        if self.mirrored:
            return self
        diagonals = {-k: self.offset(k) for k in self.offsets}
        return Banded.of(diagonals, length(self.bands, -1), self.dtype, mirrored=False)

    def scale(self, s):
        return Banded((self.bands * of_each(s)).astype(self.dtype), **self.band)

    def pullback(self, cotangent):
        """The entries of the cotangent on the band."""
        own = getattr(cotangent, "onto_bands", lambda operator: None)(self)
        return [self.of_dense(cotangent.to_dense()) if own is None else own]

    def of_dense(self, M) -> TensorVariable:
        """The cotangent of the bands from that of the matrix."""
        if self.mirrored:
            M = M + pt.tril(M.mT, -1)
        diagonals = {k: pt.diagonal(M, offset=k) for k in self.offsets if not (self.mirrored and k > 0)}
        return Banded.of(diagonals, length(self.bands, -1), self.dtype, mirrored=self.mirrored).bands
