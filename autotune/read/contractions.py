"""What gradients ask of matrices that are sums of thin terms and inverses, without forming them.

In a graph that was differentiated, the cotangent of ``A`` is such a sum: ``s A^-1`` from a
log-determinant, minus outer products from solves. It is contracted with thin matrices, with a
diagonal, or summed against another matrix. Here an inverse answers by requests on the problem of
its matrix; the products of terms are expanded; nothing n x n is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pytensor.tensor as pt

from autotune.algebra.diagonal import Diagonal
from autotune.algebra.low_rank import LowRank, scale_columns
from autotune.algebra.operator import length, of_length, of_one_length


@dataclass(frozen=True, eq=False)
class InverseTerm:
    """``s diag(left) A^-1 diag(right)``, or with ``A^-T``, ``A`` the matrix of ``reading``; None for ones.

    ``checked`` as in `autotune.problem.Request`, of the inverse and of what is asked instead.
    """

    reading: Any
    transposed: bool = False
    s: Any = None
    left: Any = None
    right: Any = None
    checked: bool = False

    @property
    def readings(self):
        return (self.reading,)

    def matmul(self, x):
        x = x if self.right is None else self.right[:, None] * x
        x = self.reading.solve(x, "inverse", transposed=self.transposed, checked=self.checked)
        x = x if self.s is None else self.s * x
        return x if self.left is None else self.left[:, None] * x

    def rmatmul(self, x):
        return self.transpose().matmul(x)

    def diagonal(self):
        [w] = self.reading.demand("inverse_diagonal", "inverse", checked=self.checked)
        for v in (self.s, self.left, self.right):
            w = w if v is None else w * v
        return w

    def transpose(self):
        return replace(self, transposed=not self.transposed, left=self.right, right=self.left)

    def scale(self, s):
        return replace(self, s=s if self.s is None else self.s * s)

    def scale_rows(self, v):
        return replace(self, left=v if self.left is None else self.left * v)


@dataclass(frozen=True, eq=False)
class Product:
    """``A @ B`` of two terms with inverses: it can multiply, its diagonal would cost as much as itself."""

    a: Any
    b: Any

    @property
    def readings(self):
        return (*self.a.readings, *self.b.readings)

    def matmul(self, x):
        return self.a.matmul(self.b.matmul(x))

    def rmatmul(self, x):
        return self.b.rmatmul(self.a.rmatmul(x))

    def transpose(self):
        return Product(self.b.transpose(), self.a.transpose())

    def scale(self, s):
        return Product(self.a.scale(s), self.b)

    def scale_rows(self, v):
        return Product(self.a.scale_rows(v), self.b)


@dataclass(frozen=True, eq=False)
class Lazy:
    """A ``Diagonal`` or ``LowRank`` that needs answers of ``readings``, demanded when it is first used."""

    kind: type
    readings: tuple[Any, ...]
    make: Callable[[], Any]

    @cached_property
    def value(self):
        return self.make()

    def matmul(self, x):
        return self.value.matmul(x)

    def rmatmul(self, x):
        return self.value.rmatmul(x)

    def diagonal(self):
        return self.value.diagonal()

    def transpose(self):
        return replace(self, make=lambda: self.value.transpose())

    def scale(self, s):
        return replace(self, make=lambda: self.value.scale(s))

    def scale_rows(self, v):
        return replace(self, make=lambda: self.value.scale_rows(v))


def readings_of(terms) -> tuple[Any, ...]:
    """The problems whose answers ``terms`` need, each once."""
    return tuple(dict.fromkeys(r for term in terms for r in getattr(term, "readings", ())))


def kind_of(term) -> type:
    return term.kind if isinstance(term, Lazy) else type(term)


def thin(term) -> Any:
    """The ``Diagonal`` or ``LowRank`` itself."""
    return term.value if isinstance(term, Lazy) else term


def is_thin(term) -> bool:
    """A diagonal, an outer product, or a product whose inner dimension is statically the small one."""
    if kind_of(term) is not LowRank or isinstance(term, Lazy):
        return True
    (rows, rank), columns = term.U.type.shape, term.V.type.shape[0]
    return rank == 1 or (None not in (rows, columns, rank) and 2 * rank <= min(rows, columns))


# -- products of terms -------------------------------------------------------------------------------


def product_of(left: Sequence[Any], right: Sequence[Any]) -> list:
    """The terms of ``(sum of left) @ (sum of right)``."""
    return [_product(a, b) for a in left for b in right]


def _product(a, b):
    kinds = kind_of(a), kind_of(b)
    if Diagonal in kinds:
        return _scaled_by_diagonal(a, b) if kinds[0] is Diagonal else _scaled_columns(a, b)
    readings = readings_of((a, b))
    if kinds[1] is LowRank:
        return Lazy(LowRank, readings, lambda: _times_low_rank(a, thin(b)))
    if kinds[0] is LowRank:
        return Lazy(
            LowRank, readings, lambda: _times_low_rank(b.transpose(), thin(a).transpose()).transpose()
        )
    return Product(a, b)


def _times_low_rank(a, b):
    """``A @ U diag(c) V.T``"""
    return LowRank(a.matmul(b.U), b.c, b.V, tied=False)


def _scaled_by_diagonal(a, b):
    """``diag(d) @ B``"""
    if not isinstance(a, Lazy) and not isinstance(b, Lazy):
        return b.scale_rows(a.d)
    if kind_of(b) in (Diagonal, LowRank):
        return Lazy(kind_of(b), readings_of((a, b)), lambda: thin(b).scale_rows(thin(a).d))
    return b.scale_rows(thin(a).d)


def _scaled_columns(a, b):
    """``A @ diag(d)``"""
    return _scaled_by_diagonal(b, a.transpose()).transpose()


# -- contractions: vectors and thin matrices ---------------------------------------------------------


def matmul_of(terms, x):
    """``A @ x``"""
    return _total(term.matmul(x) for term in terms)


def rmatmul_of(terms, x):
    """``A.T @ x``"""
    return _total(term.rmatmul(x) for term in terms)


def diagonal_of(terms):
    """``diag(A)``, for terms that have one cheaply, see ``is_supported``."""
    return _total(of_one_length([term.diagonal() for term in terms]))


def row_sums_of(terms, n=None):
    """``A @ 1``; of terms whose number of columns must be ``n``, if it is given."""
    return _total(_row_sums(term, n) for term in terms)


def row_products_of(left, right):
    """The sums over rows of ``A * B`` (elementwise); at least one of each pair of terms must be thin."""
    return _total(_row_products(a, b) for a in left for b in right)


def _total(values):
    values = list(values)
    return sum(values[1:], values[0])


def _row_sums(term, n):
    if kind_of(term) is Diagonal:
        return thin(term).d
    if kind_of(term) is LowRank:
        core = thin(term)
        return scale_columns(core.U, core.c) @ of_length(core.V, n, -2).sum(axis=0)
    return term.matmul(pt.ones((_order(term), 1), dtype=term.readings[0].dtype))[:, 0]


def columns_of(term):
    """The number of columns of a term, a number where it is static."""
    if kind_of(term) is Product:
        return columns_of(term.b)
    if isinstance(term, InverseTerm):
        return _order(term)
    core = thin(term)
    return length(core.d, -1) if kind_of(term) is Diagonal else length(core.V, -2)


def _order(term):
    return term.readings[0].operator.order


def _row_products(a, b):
    kinds = kind_of(a), kind_of(b)
    if Diagonal in kinds:
        return a.diagonal() * b.diagonal()
    if kinds[1] is not LowRank:
        a, b = b, a
    core = thin(b)
    return (scale_columns(core.U, core.c) * a.matmul(core.V)).sum(axis=-1)


def is_supported(left, right=None) -> bool:
    """Whether row products (with ``right``) or the diagonal (without) of the terms can be had."""
    if right is None:
        return all(kind_of(a) is not Product for a in left)
    pairs = [(kind_of(a), kind_of(b)) for a in left for b in right]
    return all(LowRank in kinds or (Diagonal in kinds and Product not in kinds) for kinds in pairs)
