"""The form in which iterations take a matrix: ``S + diag(d) + U diag(c) U'``, each part or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytensor.tensor as pt

from autotune.algebra.dense import Dense
from autotune.algebra.diagonal import Diagonal
from autotune.algebra.low_rank import LowRank
from autotune.problem import Term


@dataclass(frozen=True)
class Parts:
    """As plain data: whether there is an n x n part, whether there are columns U, and how many if known."""

    has_dense: bool
    has_columns: bool
    columns: int | None


def parts_of(term: Term) -> Parts:
    """Terms that are not symmetric by themselves are formed."""
    low_rank = term.find("low_rank")
    strange = not set(term.names) <= {Dense.kind, Diagonal.kind, LowRank.kind}
    if strange or low_rank is None or not low_rank.fact("symmetric"):
        return Parts(True, False, None)
    return Parts(term.find("dense") is not None, True, dict(low_rank.dims)["rank"])


def columns_read(term: Term, n: int) -> int:
    """The columns that a product reads beside a diagonal: those of U, or n of a dense matrix."""
    parts = parts_of(term)
    if term.names == ("diagonal",):
        return 0
    return n if parts.has_dense or parts.columns is None else min(n, parts.columns)


def matrix_parts(operator: Any) -> tuple[Any, ...]:
    """``(S, d, U, c)`` whose sum is the operator, None for what is absent."""
    terms = operator.summands
    low_ranks = [term for term in terms if isinstance(term, LowRank)]
    if not all(term.symmetric for term in low_ranks) or len(low_ranks) > 1:
        return operator.to_dense(), None, None, None
    if not all(isinstance(term, Dense | Diagonal | LowRank) for term in terms):
        return operator.to_dense(), None, None, None
    dense = [term.matrix for term in terms if isinstance(term, Dense)]
    diagonals = [term.d for term in terms if isinstance(term, Diagonal)]
    U, c = (low_ranks[0].U, low_ranks[0].c) if low_ranks else (None, None)
    if U is not None and c is None:
        c = pt.ones((U.shape[-1],), dtype=U.type.dtype)
    return _total(dense), _total(diagonals), U, c


def _total(terms):
    return sum(terms[1:], terms[0]) if terms else None
