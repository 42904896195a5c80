"""Matrices that are joined of blocks: two by two, one of which may be zero, or blocks on the diagonal."""

from __future__ import annotations

from typing import Any

import pytensor.tensor as pt

from autotune.algebra.block_diagonal import BlockDiagonal
from autotune.algebra.block_triangular import BlockTriangular
from autotune.algebra.blocks import Blocks
from autotune.algebra.composite import Composite, Part
from autotune.algebra.low_rank import LowRank
from autotune.algebra.operator import length
from autotune.read.congruence import are_transposed
from autotune.read.factors import is_zero
from autotune.read.joins import Grid, grid_of, joined
from autotune.read.terms import is_square


def blocks_of(var: Any, reader: Any) -> Composite | None:
    """A matrix that gains by being taken apart into blocks: where some are zero, or have a structure.

    ``reader`` reads a matrix as a part (`autotune.read.matrices.Recogniser`).
    """
    grid = grid_of(var)
    if grid is None or reader.facts is None or not _is_aligned(grid, reader.facts):
        return None
    places = range(len(grid))
    if all(is_zero(grid[i][j]) for i in places for j in places if i != j):
        return BlockDiagonal.of([_part(grid[i][i], reader) for i in places])
    k = _cut(grid)
    A, B = joined([row[:k] for row in grid[:k]]), joined([row[k:] for row in grid[:k]])
    C, D = joined([row[:k] for row in grid[k:]]), joined([row[k:] for row in grid[k:]])
    children = [_part(block, reader) for block in (A, D)]
    first, last = children
    if first is None or last is None:
        return None
    above, below = (all(is_zero(x) for row in rows for x in row) for rows in _corners(grid, k))
    if above or below:
        return BlockTriangular((first, last), None if above else B, None if below else C)
    if {first.operator.unmarked.kind, last.operator.unmarked.kind} == {"dense"}:
        return None
    if are_transposed(B, C, reader.facts):
        return Blocks.around((first, last), B)
    return Blocks((first, last), B, C)


def _corners(grid: Grid, k: int) -> tuple[Grid, Grid]:
    return [row[k:] for row in grid[:k]], [row[:k] for row in grid[k:]]


def _cut(grid: Grid) -> int:
    """How many blocks the first of two has: most of those that have zeros between them."""
    many = len(grid)
    if all(is_zero(grid[i][j]) for i in range(many - 1) for j in range(many - 1) if i != j):
        return many - 1
    return 1


def _is_aligned(grid: Grid, facts: Any) -> bool:
    """Whether the blocks of a row are as high, and those of a column as wide, as the one on the diagonal:
    by their static shapes, or as transposes of each other, of which those that are joined are as long."""
    return all(
        _has_shape(grid[i][j], grid[i][i], grid[j][j]) or are_transposed(grid[i][j], grid[j][i], facts)
        for i in range(len(grid))
        for j in range(len(grid))
        if i != j
    )


def _has_shape(block: Any, beside: Any, below: Any) -> bool:
    shape = (beside.type.shape[0], below.type.shape[1])
    return None not in shape and block.type.shape == shape


def _part(block: Any, reader: Any) -> Part | None:
    if is_zero(block) and is_square(block):
        U = pt.zeros((length(block, 0), 1), dtype=block.type.dtype)
        return Part(LowRank(U, None, U), symmetric=True)
    return reader.part(block)
