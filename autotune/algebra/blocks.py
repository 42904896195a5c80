"""Two-by-two block matrices, with square blocks on the diagonal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytensor.tensor as pt

from autotune.algebra.composite import Composite, Part
from autotune.algebra.operator import kind_of, rebuilt
from autotune.problem import known


@dataclass(frozen=True, eq=False)
class Blocks(Composite):
    """``[[A, B], [C, D]]``; its children are A and D. ``mirrored``: C is B', and no part of its own.

    B or C is None where it is zero.
    """

    kind: ClassVar[str] = "blocks"
    combines: ClassVar[str] = "total"

    B: Any = None
    C: Any = None
    mirrored: bool = False

    @classmethod
    def around(cls, children: tuple[Part, ...], B: Any) -> Any:
        """``[[A, B], [B', D]]``"""
        return cls(children, B, B.mT, mirrored=True)

    @property
    def corners(self) -> tuple[Any, ...]:
        """The parts that are no square blocks."""
        return tuple(x for x in (self.B, None if self.mirrored else self.C) if x is not None)

    @property
    def parts(self):
        return (*super().parts, *self.corners)

    @property
    def signature(self):
        present = (self.B is not None, self.C is not None, self.mirrored)
        return (self.kind, present, *(child.signature for child in self.children))

    @classmethod
    def rebuild(cls, signature, parts):
        _, (above, below, mirrored), *inside = signature
        children = tuple(Part(rebuilt(own, parts), *known) for own, *known in inside)
        B = parts.pop(0) if above else None
        if mirrored:
            return cls.around(children, B)
        return cls(children, B, parts.pop(0) if below else None)

    @classmethod
    def axes(cls, signature, names):
        _, (above, below, mirrored), *inside = signature
        orders, found = [f"p{next(names)}" for _ in inside], []
        for order, (own, *_) in zip(orders, inside, strict=True):
            for axes in kind_of(own[0]).axes(own, names):
                found.append(",".join(order if axis == "n" else axis for axis in axes.split(",")))
        corners = [",".join(orders)] * above + [",".join(reversed(orders))] * (below and not mirrored)
        return found + corners

    @classmethod
    def example(cls, term, draft):
        children = tuple(Part.example(child, draft) for child in term.children)
        first, last = (known(child.n) for child in term.children)
        B = draft.part("B", 0.3 * draft.columns(first, last))
        if term.fact("symmetric"):
            return cls.around(children, B)
        return cls(children, B, draft.part("C", 0.3 * draft.columns(last, first)))

    @property
    def orders(self) -> list[Any]:
        return [child.operator.order for child in self.children]

    @property
    def order(self):
        return sum(self.orders)

    @property
    def symmetric(self):
        return self.mirrored and super().symmetric

    @property
    def positive_definite(self):
        return False

    def to_dense(self):
        A, D = (child.operator.to_dense() for child in self.children)
        first, last = self.orders
        B = pt.zeros((first, last), dtype=A.dtype) if self.B is None else self.B
        C = pt.zeros((last, first), dtype=A.dtype) if self.C is None else self.C
        rows = [pt.concatenate(row, axis=1) for row in ((A, B), (C, D))]
        return pt.concatenate(rows, axis=0)

    def diagonal(self):
        return pt.concatenate([child.operator.diagonal() for child in self.children])

    def scale(self, s):
        children = tuple(child.scale(s) for child in self.children)
        if self.mirrored:
            return self.around(children, self.B * s)
        return replace(self, children=children, B=_scaled(self.B, s), C=_scaled(self.C, s))

    def transpose(self):
        children = tuple(child.transpose() for child in self.children)
        if self.mirrored:
            return replace(self, children=children)
        B, C = (x if x is None else x.mT for x in (self.C, self.B))
        return replace(self, children=children, B=B, C=C)

    def swapped(self) -> Any:
        """``[[D, C], [B, A]]``, the same with rows and columns in another order."""
        children = tuple(reversed(self.children))
        if self.mirrored:
            return self.around(children, self.B.mT)
        return replace(self, children=children, B=self.C, C=self.B)


def _scaled(x, s):
    return x if x is None else x * s
