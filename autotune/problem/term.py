"""What a matrix is made of, as plain data: what is priced, pinned, matched by rules and shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

STRUCTURES = (
    *("dense", "diagonal", "low_rank", "triangular", "banded", "sparse", "known_inverse", "pencil"),
    *("quasiseparable", "toeplitz", "circulant", "kronecker_noise", "kronecker", "block_diagonal"),
    *("product", "congruence", "inverse", "block_triangular", "blocks", "permuted"),
)
"""The structures that are known: one more is a file of its name in `autotune.algebra` and an entry here."""

Sizes = tuple[tuple[str, int | None], ...]

ORDERS: dict[str, Callable[[list[int]], int]] = {"product": math.prod, "total": sum}
"""How the order of a matrix follows from those of its children, where it has not one order with them."""


@dataclass(frozen=True)
class Term:
    """``kind`` of matrix, as a policy's ``structure`` writes it, with its own ``dims`` by name, None where a
    size is not known, proven ``facts``, True or False, and the matrices it is made of, ``children``.

    ``order``: how n follows. It is a dim of the term itself ("own"), the one of every child ("same"), or
    the "product" or "total" of theirs. The dims of children of one order go by one name; those of others by
    their place, ``0.n``, ``1.n``. ``label``: the name that the user gave it.
    """

    kind: str = "dense"
    dims: Sizes = ()
    facts: tuple[tuple[str, bool], ...] = ()
    children: tuple[Term, ...] = ()
    order: str = "own"
    label: str | None = None

    @property
    def n(self) -> int | None:
        """Rows and columns; None where that is not known."""
        if self.order == "own":
            return dict(self.dims).get("n")
        orders = [child.n for child in self.children]
        if self.order == "same":
            return next((n for n in orders if n is not None), None)
        known = [n for n in orders if n is not None]
        return ORDERS[self.order](known) if len(known) == len(orders) else None

    def fact(self, name: str) -> bool | None:
        """Whether something is proven to hold, or not to hold; None where neither is."""
        return dict(self.facts).get(name)

    @property
    def summands(self) -> tuple[Term, ...]:
        """What the matrix is the sum of: itself, if it is no sum."""
        return self.children if self.kind == "sum" else (self,)

    @property
    def names(self) -> tuple[str, ...]:
        """The kinds of the summands."""
        return tuple(term.kind for term in self.summands)

    def find(self, kind: str) -> Term | None:
        """The summand of a kind."""
        return next((term for term in self.summands if term.kind == kind), None)

    def sizes(self) -> dict[str, int | None]:
        """All dims, each once, by their names."""
        found: dict[str, int | None] = dict(self.dims)
        for prefix, child in self._named():
            for name, size in child.sizes().items():
                known = found.get(prefix + name)
                found[prefix + name] = size if known is None else known
        return found

    def with_sizes(self, sizes: Mapping[str, int]) -> Term:
        """The same with the unknown ones of its dims filled in."""
        dims = tuple((name, sizes.get(name) if size is None else size) for name, size in self.dims)
        children = tuple(
            child.with_sizes({k[len(prefix) :]: v for k, v in sizes.items() if k.startswith(prefix)})
            for prefix, child in self._named()
        )
        return replace(self, dims=dims, children=children)

    def _named(self) -> Iterator[tuple[str, Term]]:
        for place, child in enumerate(self.children):
            yield ("" if self.order == "same" else f"{place}."), child


def dense(n: int | None, **facts: bool) -> Term:
    """A matrix of which no structure is known."""
    return Term("dense", (("n", n),), tuple(sorted(facts.items())))
