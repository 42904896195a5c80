"""The base of all operators: the laws that each keeps, and lengths that PyTensor's rewrites would lose.

An operator never forms its matrix. It answers symbolic questions in the size of its parts: ``A @ x``,
``diag(A)``, ``A.T``, ``s * A``, and the pullback of a matrix cotangent onto the parts. Batches lead, as
everywhere in PyTensor: a part of shape ``(n, k)`` may have shape ``(..., n, k)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar, Protocol

import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.shape import Reshape, Shape, Shape_i, SpecifyShape
from pytensor.tensor.subtensor import Subtensor
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.example import Draft
from autotune.algebra.host import vectorize_node
from autotune.problem import Request, Term, known
from cost_models import KernelCall, call

Size = Callable[[Any, int], int | None]
"""The length of a variable along an axis, None where it is not known."""


class Cotangent(Protocol):
    """A matrix cotangent ``M``, of which an operator's pullback reads only what its parts need."""

    def matmul(self, x: TensorVariable) -> TensorVariable: ...
    def rmatmul(self, x: TensorVariable) -> TensorVariable: ...
    def diagonal(self) -> TensorVariable: ...
    def to_dense(self) -> TensorVariable: ...


@dataclass(frozen=True, eq=False)
class Operator:
    """Base of all operators. ``kind`` names it in plain data; ``parts`` are the variables it is made of."""

    kind: ClassVar[str]
    letters: ClassVar[dict[str, str]] = {}
    """Short names of its dims, for tables; others are shown as they are."""
    in_batches: ClassVar[bool] = False
    """Whether a batch of them is read and served as one of each (`autotune.algebra.batch`)."""
    own_logdet_pullback: ClassVar[bool] = False
    """Whether its algorithms give the cotangents of its parts, of a log-determinant."""

    @property
    def parts(self) -> tuple[TensorVariable, ...]:
        raise AttributeError(f"{type(self).__name__} defines no parts")

    @property
    def summands(self) -> tuple[Any, ...]:
        """What it is the sum of: itself, if it is no sum."""
        return (self,)

    @property
    def unmarked(self) -> Any:
        """The operator without what the user says of it."""
        return self

    @property
    def signature(self) -> tuple[Any, ...]:
        """Hashable description of everything but the variables; its kind comes first."""
        return (self.kind,)

    @classmethod
    def rebuild(cls, signature: tuple[Any, ...], parts: list[TensorVariable]) -> Any:
        """The operator of a signature, which takes its parts from the front of ``parts``."""
        return cls(parts.pop(0))  # type: ignore[call-arg]

    @classmethod
    def axes(cls, signature: tuple[Any, ...], names: Iterator[int]) -> list[str]:
        """The axes of each part: ``n`` is the order, others are told apart by a number of ``names``."""
        raise AttributeError(f"{cls.__name__} defines no axes")

    @classmethod
    def join(cls, terms: Sequence[Any]) -> Any:
        """The sum of operators of this kind as one."""
        raise AttributeError(f"{cls.__name__} defines no sum")

    @classmethod
    def example(cls, term: Term, draft: Draft) -> Any:
        """An operator like ``term``, whose sizes are known, of inputs that ``draft`` makes with values."""
        raise AttributeError(f"{cls.__name__} makes no example")

    # -- plain data -------------------------------------------------------------------------------------

    def dims(self) -> dict[str, tuple[TensorVariable, int]]:
        """Its dims by name, each as a variable and the axis along which it has that length."""
        raise AttributeError(f"{type(self).__name__} defines no dims")

    @property
    def facts(self) -> dict[str, bool]:
        """What its structure proves."""
        return {"symmetric": True} if self.symmetric else {}

    @property
    def static(self) -> Term:
        """The operator as plain data, of static lengths."""
        return self.term(lambda var, axis: var.type.shape[axis])

    def term(self, size: Size) -> Term:
        """The operator as plain data."""
        dims = tuple((name, size(*where)) for name, where in self.dims().items())
        return Term(self.kind, dims, tuple(sorted(self.facts.items())))

    @property
    def structure(self) -> tuple[str, ...]:
        """The kinds of what it is the sum of."""
        return tuple(term.kind for term in self.summands)

    @property
    def dtype(self) -> str:
        return self.parts[0].type.dtype

    @property
    def order(self) -> Any:
        """The number of rows, symbolic where it is not static."""
        return length(*self.dims()["n"])

    @property
    def batch_axes(self) -> list[tuple[TensorVariable, int]]:
        """The batch axes: a variable and its axis for each; of parts that are repeated along it, another."""
        [axes, *_] = type(self).axes(self.signature, count())
        batch = range(self.parts[0].type.ndim - len(axes.split(",")))
        return [(max(self.parts, key=lambda part: part.type.shape[axis] != 1), axis) for axis in batch]

    @property
    def batch(self) -> tuple[int | None, ...]:
        """The lengths of the batch axes, None where they are not static."""
        return tuple(part.type.shape[axis] for part, axis in self.batch_axes)

    # -- laws of kinds, in plain data ---------------------------------------------------------------------

    @staticmethod
    def forming(term: Term) -> list[KernelCall]:
        """The kernels that make the dense matrix."""
        return []

    @staticmethod
    def unforming(term: Term) -> list[KernelCall]:
        """The kernels that take a dense cotangent back to the parts."""
        return []

    @staticmethod
    def multiplying(term: Term, columns: int) -> list[KernelCall]:
        """The kernels of a product with so many columns."""
        n = known(term.n)
        return [call("gemm", m=n, n=columns, k=n)]

    @staticmethod
    def logdet_pullback(term: Term, checked: bool) -> list[Request]:
        """What the gradient of a log-determinant asks of the whole matrix for this part of it."""
        return [Request("inverse", checked=checked)]

    @staticmethod
    def symmetric_part(term: Term) -> str | None:
        """Which part it is of ``S + diag(d) + U diag(c) U'``, the form that iterations take: "S", "d" or "U";
        None where it is formed together with all beside it."""
        return None

    # -- algebra ----------------------------------------------------------------------------------------

    def pullback(self, cotangent: Any) -> list[TensorVariable]:
        """The cotangents of the parts from that of the matrix."""
        raise AttributeError(f"{type(self).__name__} defines no pullback")

    def to_dense(self) -> TensorVariable:
        """The matrix itself."""
        raise AttributeError(f"{type(self).__name__} defines no dense form")

    @property
    def symmetric(self) -> bool:
        """Whether it is symmetric by its structure."""
        return False

    @property
    def positive_definite(self) -> bool:
        """Whether it is positive definite by its structure."""
        return False


KINDS: dict[str, type[Operator]] = {}
"""Operators by kind: those of the registry, `autotune.algebra.registry`."""


def kind_of(name: str) -> type[Operator]:
    """The operator of a kind. Raises ``ValueError`` for a word that no structure has."""
    if name not in KINDS:
        raise ValueError(f"Found the kind {name!r}; there are operators for {', '.join(KINDS)}.")
    return KINDS[name]


def rebuilt(signature: tuple[Any, ...], parts: list[TensorVariable]) -> Any:
    """The operator of a signature, of the first of ``parts``, which it takes away."""
    return kind_of(signature[0]).rebuild(signature, parts)


def length(var: TensorVariable, axis: int) -> Any:
    """The length of ``var`` along ``axis``, a number where its type says so.

    A symbolic one hides the number from what is made of it, and under ``vectorize_graph`` it becomes a batch.
    """
    known = var.type.shape[axis]
    return var.shape[axis] if known is None else known


def of_each(scalar: Any) -> Any:
    """A scalar, or one for each matrix of a batch, to be multiplied with vectors."""
    return scalar if getattr(scalar, "ndim", 0) == 0 else scalar[..., None]


def of_one_batch(operator: Any, batch_ndim: int) -> Any:
    """The same operator of parts with so many batch axes, of length 1 where a part had none."""
    axes = type(operator).axes(operator.signature, count())
    parts = [
        pt.expand_dims(part, tuple(range(batch_ndim + len(own.split(",")) - part.type.ndim)))
        for part, own in zip(operator.parts, axes, strict=True)
    ]
    return rebuilt(operator.signature, parts)


def of_one_length(vectors: Sequence[TensorVariable]) -> list[TensorVariable]:
    """``vectors``, to be combined elementwise, so that lengths which differ are still refused.

    PyTensor's rewrites drop an ``Alloc`` beside another vector, and with it its length: it is specified of
    that other. Batches of vectors are left as they are.
    """
    if any(v.type.ndim > 1 for v in vectors):
        return list(vectors)
    filled = [filled_length(v) for v in vectors]
    vectors = list(vectors)
    if None not in filled:
        return vectors
    firm = filled.index(None)
    for n in filled:
        if n is not None and not _has_length(vectors[firm], n):
            vectors[firm] = of_length(vectors[firm], n)
    return vectors


class SpecifyLengths(SpecifyShape):
    """``SpecifyShape`` by lengths of other variables, of which a batch may be made."""

    def pullback(self, inputs, outputs, output_grads):
        return [self(output_grads[0], *inputs[1:]), *(disconnected_type() for _ in inputs[1:])]


@vectorize_node.register(SpecifyLengths)
def _vectorize_lengths(op, node, x, *lengths):
    more = x.type.ndim - node.inputs[0].type.ndim
    own = [_of_all(n, x.shape[axis]) for axis, n in enumerate(lengths, start=more)]
    return op.make_node(x, *[None] * more, *own)


def _of_all(lengths, of_none):
    """The length that all of a batch have: the first tells, and any will do where there is none."""
    if getattr(lengths.type, "ndim", 0) == 0:
        return lengths
    return pt.switch(pt.eq(lengths.size, 0), of_none, lengths.flatten()[:1].sum())


def of_length(var: TensorVariable, n: Any, axis: int = -1) -> TensorVariable:
    """``var``, which is refused where it has another length than ``n`` along ``axis``."""
    if n is None or var.type.shape[axis] == n:
        return var
    shape: list[Any] = [None] * var.type.ndim
    shape[axis] = n
    return SpecifyLengths()(var, *shape)


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


def value_of(v: TensorVariable) -> Any:
    """The scalar that all entries of a vector are, None where they are not seen to be one."""
    if all(v.type.broadcastable):
        match v.owner_op_and_inputs:
            case (DimShuffle(), inner) if inner.ndim == 0:
                return inner
        return v.squeeze()
    if isinstance(v, Constant):
        equal = v.data.size > 0 and (v.data == v.data.flat[0]).all()
        return pt.constant(v.data.flat[0]) if equal else None
    match v.owner_op_and_inputs:
        case (Alloc(), value, *_):
            return value_of(value)
        case (DimShuffle() | Reshape(), inner, *_):
            return value_of(inner)
        case (Elemwise(scalar_op=ps.Second()), _, value):
            return value_of(value)
        case (Elemwise() as op, *inputs):
            values = [value_of(i) for i in inputs]
            return None if any(x is None for x in values) else op(*values)
    return None


def congruence_diagonal(cotangent: Any, M: TensorVariable) -> TensorVariable:
    """``diag(M' C M)`` of a cotangent C."""
    own = getattr(cotangent, "congruence_diagonal", None)
    return (M * cotangent.matmul(M)).sum(axis=-2) if own is None else own(M)
