"""What a matrix variable *is*: dense, diagonal, low rank, or a sum of these.

An operator never forms its matrix. It answers symbolic questions in the size of its parts:
``A @ x``, ``diag(A)``, ``A.T``, ``s * A``, and the pullback of a matrix cotangent onto the parts.
Batches lead, as everywhere in PyTensor: a part of ``LowRank`` has shape ``(..., n, k)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.raise_op import Assert
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.shape import Shape, Shape_i
from pytensor.tensor.subtensor import Subtensor
from pytensor.tensor.variable import TensorVariable

# Not a shape that is specified: that does not go through ``vectorize_graph``.
_REFUSED = Assert("The factors of a low-rank term, or its weights, have not as many columns.")


class Cotangent(Protocol):
    """A matrix cotangent ``M``, of which an operator's pullback reads only what its parts need."""

    def matmul(self, x: TensorVariable) -> TensorVariable: ...
    def rmatmul(self, x: TensorVariable) -> TensorVariable: ...
    def diagonal(self) -> TensorVariable: ...
    def to_dense(self) -> TensorVariable: ...


def length(var: TensorVariable, axis: int) -> Any:
    """The length of ``var`` along ``axis``, a number where its type says so.

    A symbolic one hides the number from what is made of it, and under ``vectorize_graph`` it becomes a batch.
    """
    known = var.type.shape[axis]
    return var.shape[axis] if known is None else known


def of_one_length(vectors: Sequence[TensorVariable]) -> list[TensorVariable]:
    """``vectors``, to be combined elementwise, so that lengths which differ are still refused.

    PyTensor's rewrites drop an ``Alloc`` beside another vector, and with it its length: it is specified of
    that other.
    """
    filled = [filled_length(v) for v in vectors]
    vectors = list(vectors)
    if None not in filled:
        return vectors
    firm = filled.index(None)
    for n in filled:
        if n is not None and not _has_length(vectors[firm], n):
            vectors[firm] = pt.specify_shape(vectors[firm], (n,))
    return vectors


def filled_length(v: TensorVariable) -> Any:
    """The symbolic length that a vector has only because it was filled so; else None."""
    if v.type.shape != (None,):
        return None
    match v.owner_op_and_inputs:
        case (Alloc(), value, n) if all(value.type.broadcastable):
            return n
        case (Elemwise(scalar_op=ps.Second()), like, value) if all(value.type.broadcastable):
            return like.shape[0]
        case (Elemwise(), *inputs):
            lengths = [filled_length(i) for i in inputs if not i.type.broadcastable[0]]
            return None if None in lengths else lengths[0]
    return None


def _has_length(v, n) -> bool:
    """Whether ``n`` is seen to be the length of vector ``v``, or of what it is made of elementwise."""
    match n.owner_op_and_inputs:
        case (Subtensor(), shape, *_) if isinstance(shape.owner_op, Shape):
            of = shape.owner.inputs[0]
        case (Shape_i(), of):
            pass
        case _:
            return False
    while v is not of and isinstance(v.owner_op, Elemwise):
        inputs = [i for i in v.owner.inputs if not i.type.broadcastable[0]]
        if of in inputs or not inputs:
            return bool(inputs)
        v = inputs[0]
    return v is of and v.type.ndim == 1


def equal_weights(U: TensorVariable, value: Any = 1.0) -> TensorVariable:
    """The scalar ``value`` once for every column of ``U``, in its dtype."""
    value = pt.cast(value, U.type.dtype)
    known = U.type.shape[-1]
    if known is not None:
        return pt.full((known,), value)
    return pt.second(U.sum(axis=-2), value)  # no symbolic length, see above


def scale_columns(u: TensorVariable, c: TensorVariable | None) -> TensorVariable:
    """``U diag(c)``; ``None`` stands for ``c = 1``."""
    return u if c is None else u * c[..., None, :]


@dataclass(frozen=True, eq=False)
class Operator:
    """Base of all operators. ``parts`` are the variables it is made of."""

    @property
    def parts(self) -> tuple[TensorVariable, ...]:
        raise AttributeError(f"{type(self).__name__} defines no parts")

    @property
    def structure(self) -> tuple[str, ...]:
        """Names of its terms, as a policy's ``structure`` writes them."""
        raise AttributeError(f"{type(self).__name__} defines no structure")

    def to_dense(self) -> TensorVariable:
        """The matrix itself."""
        raise AttributeError(f"{type(self).__name__} defines no dense form")

    @property
    def symmetric(self) -> bool:
        """Whether it is symmetric by its structure."""
        return False

    @property
    def signature(self) -> tuple[Any, ...]:
        """Hashable description of everything but the variables."""
        return self.structure


@dataclass(frozen=True, eq=False)
class Dense(Operator):
    """A matrix without structure that we know, shape ``(..., n, n)``."""

    matrix: TensorVariable

    @property
    def parts(self):
        return (self.matrix,)

    @property
    def structure(self):
        return ("dense",)

    def matmul(self, x):
        return self.matrix @ x

    def rmatmul(self, x):
        return self.matrix.mT @ x

    def diagonal(self):
        return pt.diagonal(self.matrix, axis1=-2, axis2=-1)

    def to_dense(self):
        return self.matrix

    def transpose(self):
        return Dense(self.matrix.mT)

    def scale(self, s):
        return Dense(self.matrix * s)

    def pullback(self, cotangent: Cotangent) -> list[TensorVariable]:
        return [cotangent.to_dense()]


@dataclass(frozen=True, eq=False)
class Diagonal(Operator):
    """``diag(d)``, ``d`` of shape ``(..., n)``."""

    d: TensorVariable

    @property
    def parts(self):
        return (self.d,)

    @property
    def structure(self):
        return ("diagonal",)

    @property
    def symmetric(self):
        return True

    def matmul(self, x):
        return self.d[..., :, None] * x

    rmatmul = matmul

    def diagonal(self):
        return self.d

    def to_dense(self):
        """By selection: a product with the identity would spread NaN and infinity off the diagonal."""
        on_diagonal = pt.eye(length(self.d, -1), dtype="bool")
        return pt.switch(on_diagonal, self.d[..., None, :], np.zeros((), dtype=self.d.type.dtype))

    def transpose(self):
        return self

    def scale(self, s):
        return Diagonal(self.d * s)

    def scale_rows(self, v):
        d, v = of_one_length([self.d, v])
        return Diagonal(d * v)

    def pullback(self, cotangent):
        return [cotangent.diagonal()]


@dataclass(frozen=True, eq=False)
class LowRank(Operator):
    """``U diag(c) V.T``: ``U``, ``V`` of shape ``(..., n, k)``, ``c`` ``(..., k)`` or ``None`` for ones.

    ``tied``: V stands for U, the term is symmetric and its parts are ``(U, c)``; by default whether
    ``V is U``. It is kept when the operator is rebuilt, since merging may make two parts one variable.
    """

    U: TensorVariable
    c: TensorVariable | None
    V: TensorVariable
    tied: bool | None = None

    @property
    def symmetric(self) -> bool:
        return self.V is self.U if self.tied is None else self.tied

    @property
    def parts(self):
        return (self.U,) + (() if self.c is None else (self.c,)) + (() if self.symmetric else (self.V,))

    @property
    def structure(self):
        return ("low_rank",)

    @property
    def signature(self):
        return ("low_rank", self.c is not None, self.symmetric)

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
        return self if self.symmetric else LowRank(self.V, self.c, self.U, tied=False)

    def scale(self, s):
        c = equal_weights(self.U) if self.c is None else self.c
        return LowRank(self.U, c * s, self.V, self.tied)

    def scale_rows(self, v):
        return LowRank(self.U * v[:, None], self.c, self.V, tied=False)

    def pullback(self, cotangent):
        """Of ``sum(M * (U diag(c) V.T))``: ``U_bar = M V diag(c)``, ``V_bar = M.T U diag(c)``."""
        right = cotangent.matmul(self.V)
        U_bar = scale_columns(right, self.c)
        c_bar = [] if self.c is None else [(self.U * right).sum(axis=-2)]
        V_bar = scale_columns(cotangent.rmatmul(self.U), self.c)
        if self.symmetric:
            return [U_bar + V_bar, *c_bar]
        return [U_bar, *c_bar, V_bar]


@dataclass(frozen=True, eq=False)
class Sum(Operator):
    """``A + B + ...`` of structured terms."""

    terms: tuple[Any, ...]

    @property
    def parts(self):
        return tuple(part for term in self.terms for part in term.parts)

    @property
    def structure(self):
        return tuple(name for term in self.terms for name in term.structure)

    @property
    def symmetric(self):
        return all(term.symmetric for term in self.terms)

    @property
    def signature(self):
        return ("sum", *(term.signature for term in self.terms))

    def matmul(self, x):
        return sum((term.matmul(x) for term in self.terms[1:]), self.terms[0].matmul(x))

    def rmatmul(self, x):
        return self.transpose().matmul(x)

    def diagonal(self):
        return sum((term.diagonal() for term in self.terms[1:]), self.terms[0].diagonal())

    def to_dense(self):
        return sum((term.to_dense() for term in self.terms[1:]), self.terms[0].to_dense())

    def transpose(self):
        return Sum(tuple(term.transpose() for term in self.terms))

    def scale(self, s):
        return Sum(tuple(term.scale(s) for term in self.terms))

    def pullback(self, cotangent):
        return [bar for term in self.terms for bar in term.pullback(cotangent)]


@dataclass(frozen=True, eq=False)
class Marked(Operator):
    """``A`` itself, with what the user says of it (`autotune.marks`), which changes no result.

    ``inverse``: an operator ``M ~ A^-1``. ``condition_number``: that of A, or of ``M A``, at most. None where
    nothing is said.
    """

    operator: Any
    inverse: Any = None
    condition_number: float | None = None

    @property
    def terms(self):
        return getattr(self.operator, "terms", (self.operator,))

    @property
    def parts(self):
        return (*self.operator.parts, *self._parts_of_inverse)

    @property
    def structure(self):
        return self.operator.structure

    @property
    def symmetric(self):
        return self.operator.symmetric

    @property
    def signature(self):
        inverse = None if self.inverse is None else self.inverse.signature
        return ("marked", self.operator.signature, inverse, self.condition_number)

    def matmul(self, x):
        return self.operator.matmul(x)

    def rmatmul(self, x):
        return self.operator.rmatmul(x)

    def diagonal(self):
        return self.operator.diagonal()

    def to_dense(self):
        return self.operator.to_dense()

    def transpose(self):
        return replace(self, operator=self.operator.transpose())

    def scale(self, s):
        return replace(self, operator=self.operator.scale(s))

    def pullback(self, cotangent):
        return [*self.operator.pullback(cotangent), *map(pt.zeros_like, self._parts_of_inverse)]

    @property
    def _parts_of_inverse(self):
        return () if self.inverse is None else self.inverse.parts


def operator_from(signature: tuple[Any, ...], parts: Sequence[TensorVariable]) -> Any:
    """Inverse of ``(operator.signature, operator.parts)``."""
    parts = list(parts)
    operator = _take(signature, parts)
    if parts:
        raise ValueError(f"{len(parts)} parts too many for an operator of signature {signature}.")
    return operator


def _take(signature, parts):
    match signature:
        case ("dense",):
            return Dense(parts.pop(0))
        case ("diagonal",):
            return Diagonal(parts.pop(0))
        case ("low_rank", weighted, symmetric):
            U = parts.pop(0)
            c = parts.pop(0) if weighted else None
            return LowRank(U, c, U if symmetric else parts.pop(0), tied=symmetric)
        case ("sum", *signatures):
            return Sum(tuple(_take(s, parts) for s in signatures))
        case ("marked", signature, inverse, condition_number):
            operator = _take(signature, parts)
            return Marked(operator, None if inverse is None else _take(inverse, parts), condition_number)
    raise ValueError(f"Unknown operator signature {signature}.")


def part_axes(signature: tuple[Any, ...], ranks: Iterator[int]) -> list[str]:
    """The axes of each part of an operator: ``n`` is the order, ``k0``, ``k1`` ... are ``ranks``."""
    match signature:
        case ("dense",):
            return ["n,n"]
        case ("diagonal",):
            return ["n"]
        case ("low_rank", weighted, symmetric):
            k = f"k{next(ranks)}"
            return [f"n,{k}"] + [k] * weighted + [f"n,{k}"] * (not symmetric)
        case ("sum", *signatures):
            return [axes for s in signatures for axes in part_axes(s, ranks)]
        case ("marked", signature, inverse, _):
            return part_axes(signature, ranks) + ([] if inverse is None else part_axes(inverse, ranks))
    raise ValueError(f"Unknown operator signature {signature}.")


def sum_of(terms: Sequence[Dense | Diagonal | LowRank]) -> Any:
    """Gather terms into a dense one, ``diag(d)``, ``U diag(c) V.T`` or the sum of one of each, in this order.

    Several low-rank terms become one by joining their columns: ``[U1 U2] diag(c1, c2) [V1 V2].T``.
    """
    dense = [term for term in terms if isinstance(term, Dense)]
    diagonals = [term for term in terms if isinstance(term, Diagonal)]
    low_ranks = [term for term in terms if isinstance(term, LowRank)]
    found: list[Operator] = []
    if dense:
        found.append(Dense(sum((t.matrix for t in dense[1:]), dense[0].matrix)))
    if diagonals:
        first, *others = of_one_length([t.d for t in diagonals])
        found.append(Diagonal(sum(others, first)))
    if low_ranks:
        found.append(_join_columns(low_ranks))
    return found[0] if len(found) == 1 else Sum(tuple(found))


def _join_columns(terms: list[LowRank]) -> LowRank:
    if len(terms) == 1:
        return terms[0]
    terms = [_of_one_rank(t) for t in terms]
    U = pt.concatenate([t.U for t in terms], axis=-1)
    c = None
    if any(t.c is not None for t in terms):
        c = pt.concatenate([equal_weights(t.U) if t.c is None else t.c for t in terms], axis=-1)
    symmetric = all(t.symmetric for t in terms)
    V = U if symmetric else pt.concatenate([t.V for t in terms], axis=-1)
    return LowRank(U, c, V, tied=symmetric)


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
