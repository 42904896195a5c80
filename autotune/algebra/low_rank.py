"""Products of thin matrices, with weights between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.raise_op import Assert
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.math import Dot
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.operator import Operator, congruence_diagonal, length, of_each
from autotune.algebra.signs import is_nonnegative
from autotune.problem import Request, Term, known
from cost_models import call

# Not a shape that is specified: that does not go through ``vectorize_graph``.
_REFUSED = Assert("The factors of a low-rank term, or its weights, have not as many columns.")


@dataclass(frozen=True, eq=False)
class LowRank(Operator):
    """``U diag(c) V.T``: ``U``, ``V`` of shape ``(..., n, k)``, ``c`` ``(..., k)`` or ``None`` for ones.

    ``tied``: V stands for U, the term is symmetric and its parts are ``(U, c)``; by default whether
    ``V is U``. It is kept when the operator is rebuilt, since merging may make two parts one variable.
    ``orthonormal``: so are the columns of U, which is constant, and beside it is a multiple of the identity.
    ``middle``: M, (k, k) and symmetric, of ``U M U'``; V is then ``U M``, there is no c, and its parts are
    ``(U, M)``.
    """

    kind: ClassVar[str] = "low_rank"
    letters: ClassVar[dict[str, str]] = {"rank": "k"}

    U: TensorVariable
    c: TensorVariable | None
    V: TensorVariable
    tied: bool | None = None
    orthonormal: bool = False
    middle: TensorVariable | None = None

    @classmethod
    def around(cls, U: TensorVariable, M: TensorVariable) -> LowRank:
        """``U M U'``, M symmetric: semidefinite or not, or singular."""
        return cls(U, None, U @ M, tied=False, middle=M)

    @property
    def symmetric(self) -> bool:
        return self.V is self.U if self.tied is None else self.tied

    @property
    def parts(self):
        if self.middle is not None:
            return (self.U, self.middle)
        return (self.U,) + (() if self.c is None else (self.c,)) + (() if self.symmetric else (self.V,))

    @property
    def signature(self):
        around = self.middle is not None
        return (self.kind, self.c is not None, self.symmetric, self.orthonormal, around)

    @classmethod
    def rebuild(cls, signature, parts):
        _, weighted, symmetric, orthonormal, around = signature
        U = parts.pop(0)
        if around:
            return LowRank.around(U, parts.pop(0))
        c = parts.pop(0) if weighted else None
        return LowRank(U, c, U if symmetric else parts.pop(0), symmetric, orthonormal)

    @classmethod
    def axes(cls, signature, names):
        _, weighted, symmetric, _, around = signature
        k = f"k{next(names)}"
        if around:
            return [f"n,{k}", f"{k},{k}"]
        return [f"n,{k}"] + [k] * weighted + [f"n,{k}"] * (not symmetric)

    @classmethod
    def join(cls, terms):
        """Several become one by joining their columns: ``[U1 U2] diag(c1, c2) [V1 V2].T``."""
        if len(terms) == 1:
            return terms[0]
        terms = [_of_one_rank(t) for t in terms]
        U = _beside([t.U for t in terms], 2)
        c = None
        if any(t.c is not None for t in terms):
            c = _beside([equal_weights(t.U) if t.c is None else t.c for t in terms], 1)
        symmetric = all(t.symmetric for t in terms)
        V = U if symmetric else _beside([t.V for t in terms], 2)
        return LowRank(U, c, V, tied=symmetric)

    @classmethod
    def example(cls, term, draft):
        """With ``c`` where its sign is not known, and V other than U where it is."""
        n, k = (known(size) for _, size in term.dims)
        if term.fact("around"):
            return LowRank.around(
                draft.part("U", draft.columns(n, k)), draft.part("M", np.eye(k) + np.ones((k, k)) / k)
            )
        values, orthonormal = draft.columns(n, k), bool(term.fact("orthonormal"))
        U = V = draft.constant(np.linalg.qr(values)[0]) if orthonormal else draft.part("U", values)
        if not term.fact("symmetric"):
            V = draft.part("V", values + 0.1 * draft.columns(n, k))
        weighted = not term.fact("nonnegative_weights")
        c = draft.part("c", draft.rng.uniform(0.5, 1.5, k)) if weighted else None
        return LowRank(U, c, V, orthonormal=orthonormal)

    def dims(self):
        return {"n": (self.U, -2), "rank": (self.U, -1)}

    @property
    def facts(self):
        """Two factors that are not one never make a symmetric matrix, but by chance or around another."""
        if self.middle is not None:
            return {"around": True}
        nonnegative = self.c is None or is_nonnegative(self.c)
        found = {"nonnegative_weights": nonnegative, "orthonormal": self.orthonormal}
        return {"symmetric": self.symmetric, **{name: True for name, holds in found.items() if holds}}

    @staticmethod
    def forming(term):
        n, k = (known(size) for _, size in term.dims)
        return [call("gemm", m=n, n=n, k=k)]

    @staticmethod
    def unforming(term):
        n, k = (known(size) for _, size in term.dims)
        return [call("gemm", m=n, n=k, k=n, count=2)]

    @staticmethod
    def multiplying(term, columns):
        n, k = (known(size) for _, size in term.dims)
        return [call("gemm", m=k, n=columns, k=n), call("gemm", m=n, n=columns, k=k)]

    @staticmethod
    def logdet_pullback(term, checked):
        return [Request("solve", dict(term.dims)["rank"], checked=checked)]

    @staticmethod
    def symmetric_part(term):
        return "U" if term.fact("symmetric") else None

    def matmul(self, x):
        inner = self.V.mT @ x
        return self.U @ (inner if self.c is None else self.c[..., :, None] * inner)

    def rmatmul(self, x):
        return self.transpose().matmul(x)

    def diagonal(self):
        return (scale_columns(self.U, self.c) * self.V).sum(axis=-1)

    def to_dense(self):
        U = scale_columns(self.U, self.c)
        # an outer product elementwise, so that it fuses with what is made of it
        return U * self.V.mT if self.U.type.shape[-1] == 1 else U @ self.V.mT

    def transpose(self):
        if self.symmetric or self.middle is not None:
            return self
        return LowRank(self.V, self.c, self.U, tied=False)

    def scale(self, s):
        if self.middle is not None:
            return LowRank.around(self.U, self.middle * s)
        c = equal_weights(self.U) if self.c is None else self.c
        return replace(self, c=c * of_each(s))

    def scale_rows(self, v):
        return LowRank(self.U * v[..., :, None], self.c, self.V, tied=False)

    def pullback(self, cotangent):
        """Of ``sum(G * (U diag(c) V.T))``: ``U_bar = G V diag(c)``, ``V_bar = G.T U diag(c)``; of
        ``sum(G * (U M U'))``: ``U_bar = (G + G.T) U M``, ``M_bar = U' G U``."""
        if self.orthonormal:
            c_bar = [] if self.c is None else [congruence_diagonal(cotangent, self.U)]
            return [self.U.zeros_like(), *c_bar]  # of the constant nothing is asked
        if self.middle is not None:
            right, left = cotangent.matmul(self.U), cotangent.rmatmul(self.U)
            return [(right + left) @ self.middle, self.U.mT @ right]
        right = cotangent.matmul(self.V)
        U_bar = scale_columns(right, self.c)
        c_bar = [] if self.c is None else [(self.U * right).sum(axis=-2)]
        V_bar = scale_columns(cotangent.rmatmul(self.U), self.c)
        if self.symmetric:
            return [U_bar + V_bar, *c_bar]
        return [U_bar, *c_bar, V_bar]


def _beside(arrays: Sequence[Any], ndim: int) -> TensorVariable:
    """Vectors (``ndim`` 1) or matrices joined along their last axis; what has no batch is repeated."""
    widest = max(arrays, key=lambda x: x.type.ndim)
    return pt.concatenate([repeated_for(widest, x, ndim) for x in arrays], axis=-1)


def repeated_for(batch: TensorVariable, x: TensorVariable, ndim: int) -> TensorVariable:
    """``x``, a vector (``ndim`` 1) or a matrix, once for each in ``batch``, if that has more axes."""
    if x.type.ndim == batch.type.ndim:
        return x
    # only the shape of the sum is computed; its type says 1, which that of ``batch[..., :1]`` does not
    return pt.second(batch.sum(axis=tuple(range(-ndim, 0)), keepdims=True), x)


def _of_one_rank(term: LowRank) -> LowRank:
    """``term``, to be joined with others, so that columns and weights which are not as many are refused."""
    c = None if term.c is None else _as_long_as(term.U, term.c)
    V = term.V if term.symmetric else _as_long_as(term.U, term.V)
    return replace(term, c=c, V=V)


def _as_long_as(U: TensorVariable, v: TensorVariable) -> TensorVariable:
    """``v``, along its last axis of the length that U has there; known lengths that differ are an error."""
    lengths = U.type.shape[-1], v.type.shape[-1]
    if None not in lengths and lengths[0] == lengths[1]:
        return v
    return _REFUSED(v, pt.eq(length(U, -1), length(v, -1)))


def low_rank_term(
    n: int | None, rank: int | None, *, symmetric: bool = True, nonnegative: bool = True
) -> Term:
    """``U diag(c) V'`` as plain data: whether V is U, and whether ``c >= 0`` is proven."""
    facts = {"symmetric": symmetric, **({"nonnegative_weights": True} if nonnegative else {})}
    return Term("low_rank", (("n", n), ("rank", rank)), tuple(sorted(facts.items())))


def equal_weights(U: TensorVariable, value: Any = 1.0) -> TensorVariable:
    """The scalar ``value``, or that of each matrix, once for every column of ``U``, in its dtype if it holds
    fractions."""
    value = pt.as_tensor(value, dtype=None if isinstance(value, TensorVariable) else U.type.dtype)
    value = of_each(value.astype(U.type.dtype) if U.type.numpy_dtype.kind == "f" else value)
    known = U.type.shape[-1]
    if value.type.ndim:
        return value + pt.zeros((length(U, -1),), dtype=value.type.dtype)
    if known is not None:
        return pt.full((known,), value)
    return pt.second(U.sum(axis=-2), value)  # no symbolic length, see above


def scale_columns(u: TensorVariable, c: TensorVariable | None) -> TensorVariable:
    """``U diag(c)``; ``None`` stands for ``c = 1``."""
    return u if c is None else u * c[..., None, :]


def is_same_matrix(a: TensorVariable, b: TensorVariable) -> bool:
    """Whether two matrices are one variable, or transposes of one."""
    return _untransposed(a) == _untransposed(b)


def in_range(rhs: TensorVariable, U: TensorVariable) -> TensorVariable | None:
    """Z of right-hand sides (n, m) that are written as a product ``U Z``, else None."""
    core, transposed = _untransposed(rhs)
    while rhs.type.broadcastable == (False, True) and isinstance(core.owner_op, DimShuffle):
        core, transposed = core.owner.inputs[0], False  # one column, whatever axes of length 1 are put to it
    if not isinstance(getattr(core.owner_op, "core_op", core.owner_op), Dot) or core.type.ndim != 2:
        return None
    left, right = core.owner.inputs
    Z = None
    if not transposed and is_same_matrix(left, U):
        Z = right
    elif (transposed or core.type.broadcastable == (True, False)) and is_same_matrix(right, U.mT):
        Z = left.mT
    return Z if Z is not None and Z.type.dtype == U.type.dtype else None


def _untransposed(var: TensorVariable) -> tuple[TensorVariable, bool]:
    """What a matrix is a view of, and whether it is the transpose of that."""
    transposed = False
    while isinstance(var.owner_op, DimShuffle) and var.owner.op.new_order == (1, 0):
        var, transposed = var.owner.inputs[0], not transposed
    return var, transposed
