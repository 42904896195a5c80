"""The form in which iterations take a matrix: ``S + diag(d) + U diag(c) U'``, each part or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytensor.tensor as pt

from autotune.algebra.operator import kind_of
from autotune.problem import Term


@dataclass(frozen=True)
class Parts:
    """As plain data: whether there is an n x n part, whether there are columns U, and how many if known."""

    has_dense: bool
    has_columns: bool
    columns: int | None


def parts_of(term: Term) -> Parts:
    """What is not symmetric by itself is formed, and so is all beside it."""
    places = [kind_of(one.kind).symmetric_part(one) for one in term.summands]
    if None in places or "U" not in places:
        return Parts(True, False, None)
    dims = dict(term.summands[places.index("U")].dims)
    return Parts("S" in places, True, next(size for name, size in dims.items() if name != "n"))


def columns_read(term: Term, n: int) -> int:
    """The columns that a product reads beside a diagonal: those of U, or n of a dense matrix."""
    parts = parts_of(term)
    if term.names == ("diagonal",):
        return 0
    return n if parts.has_dense or parts.columns is None else min(n, parts.columns)


def matrix_parts(operator: Any) -> tuple[Any, ...]:
    """``(S, d, U, c)`` whose sum is the operator, None for what is absent."""
    places = [type(term).symmetric_part(term.static) for term in operator.summands]
    if None in places or places.count("U") > 1:
        return operator.to_dense(), None, None, None
    pairs = list(zip(places, operator.summands, strict=True))
    dense, diagonals = ([term.parts[0] for place, term in pairs if place == one] for one in "Sd")
    U, c = next((_weighted(*term.parts) for place, term in pairs if place == "U"), (None, None))
    return _total(dense), _total(diagonals), U, c


def _weighted(U, c=None):
    """``(U, c)``, with ones for weights that are left out."""
    return U, pt.ones((U.shape[-1],), dtype=U.type.dtype) if c is None else c


def _total(terms):
    return sum(terms[1:], terms[0]) if terms else None
