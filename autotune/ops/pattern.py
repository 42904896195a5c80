"""Patterns of symmetric sparse matrices, and the order in which they are factored."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
import pytensor.tensor as pt

from autotune.ops import core_ordering
from autotune.ops._base import SPARSE, Compiled
from autotune.ops.core_sparse import HEIGHT

compiled_ordering = Compiled("core_ordering", SPARSE)

LARGE = 20_000
"""Columns from which on an order is found by compiled code, which takes seconds to compile."""


@dataclass(frozen=True)
class Pattern:
    """The places ``(rows, columns)``, rows >= columns, where a symmetric matrix of order n is not zero: by
    columns, with the whole diagonal."""

    n: int
    digest: bytes
    rows: np.ndarray = field(compare=False, repr=False)
    columns: np.ndarray = field(compare=False, repr=False)

    @classmethod
    def of(cls, n: int, places: np.ndarray) -> Pattern:
        """``places``: sorted and distinct ``column * n + row``."""
        return _pattern(n, np.ascontiguousarray(places, dtype=np.int64).tobytes())

    def __reduce__(self):
        return Pattern.of, (self.n, self.columns.astype(np.int64) * self.n + self.rows)

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Where the entries of the diagonal are."""
        return np.flatnonzero(self.rows == self.columns)

    @cached_property
    def plan(self) -> np.ndarray:
        """How it is factored, see `core_sparse`."""
        return plan_of(self.n, self.rows, self.columns)

    @property
    def height(self) -> int:
        """Root mean square number of entries in a column of the factor."""
        return int(self.plan[HEIGHT])

    @cached_property
    def constants(self) -> tuple[Any, Any, Any]:
        """The plan, rows and columns, as the Ops take them."""
        return pt.constant(self.plan), pt.constant(self.rows), pt.constant(self.columns)


@lru_cache(maxsize=16)
def _pattern(n: int, places: bytes) -> Pattern:
    columns, rows = np.divmod(np.frombuffer(places, np.int64), max(n, 1))
    return Pattern(n, sha256(places).digest(), rows.astype(np.int32), columns.astype(np.int32))


def plan_of(n: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """How a matrix with entries (rows, columns) is factored.

    Of two orders the one with fewer entries: by minimum degree, or reverse Cuthill-McKee.
    """
    core = compiled_ordering if n > LARGE else core_ordering
    full = _both_triangles(n, rows, columns)
    best: Any = None
    for find in (_minimum_degree, _reverse_cuthill_mckee):
        order = find(full)
        indptr, indices = _reordered(full, order)
        parent = core.elimination_tree(indptr, indices)
        most = np.iinfo(np.int64).max if best is None else best[2].sum()
        counts = core.column_counts(indptr, indices, parent, most)
        if counts[:1].sum() >= 0 and (best is None or counts.sum() < most):
            best = order, parent, counts
    order, parent, counts = best
    # an order in which the columns of a front follow one another
    found = core.postorder(parent)
    rank = np.empty(n, np.int32)
    rank[found] = np.arange(n, dtype=np.int32)
    order, counts = rank[order], counts[found]
    parent = np.where(parent[found] >= 0, rank[parent[found]], -1).astype(np.int32)
    indptr, indices = _reordered(full, order)
    first = core.front_columns(parent, counts)
    rows_at, below, above_front, above = core.front_rows(indptr, indices, first)
    where = core.places_of_entries(order, first, rows_at, below, rows, columns)
    height = max(1, round(float(np.mean(counts.astype(float) ** 2)) ** 0.5))
    header = np.array([n, len(above_front), len(rows), len(below), height], np.int32)
    entries_at, entry, place = where
    plan = (header, order, first, rows_at, entries_at, above_front, below, above, entry, place)
    return np.concatenate(plan).astype(np.int32)


def _both_triangles(n: int, rows, columns) -> Any:
    from scipy.sparse import csr_array  # takes time to import

    below = rows != columns
    i, j = (np.concatenate(pair) for pair in ((rows, columns[below]), (columns, rows[below])))
    return csr_array((np.ones(len(i)), (i, j)), shape=(n, n))


def _reordered(full, order) -> tuple[np.ndarray, np.ndarray]:
    inverse = np.argsort(order)
    found = full[inverse][:, inverse]
    return found.indptr.astype(np.int32), found.indices.astype(np.int32)


def _minimum_degree(full) -> np.ndarray:
    """The place of each row, of multiple minimum degree (Liu 1985) as SuperLU finds it.

    Of an incomplete factor that drops what it can, of a matrix that needs no pivoting.
    """
    from scipy.sparse import csc_array, eye_array  # takes time to import
    from scipy.sparse.linalg import spilu

    n = full.shape[0]
    if n < 3:
        return np.arange(n)
    dominant = csc_array(full + n * eye_array(n))
    found = spilu(
        dominant,
        drop_tol=1.0,
        fill_factor=1.0,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    return np.asarray(found.perm_c)


def _reverse_cuthill_mckee(full) -> np.ndarray:
    from scipy.sparse.csgraph import reverse_cuthill_mckee  # takes time to import

    return np.argsort(reverse_cuthill_mckee(full, symmetric_mode=True))
