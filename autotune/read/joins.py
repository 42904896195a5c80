"""Matrices that are joined from others in rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import Join

Grid = list[list[Any]]


def grid_of(var) -> Grid | None:
    """The blocks of a matrix, row by row, as many in each row as there are rows."""
    match var.owner_op_and_inputs:
        case (Join(axis=axis), *lines) if len(lines) > 1 and var.type.ndim == 2:
            read = _lines(lines, 1 - axis)
            if read is None or any(len(line) != len(lines) for line in read):
                return None
            return read if axis == 0 else [list(column) for column in zip(*read, strict=True)]
    return None


def _lines(lines: Sequence[Any], axis: int) -> Grid | None:
    """The blocks of each line along ``axis``; a constant is cut as the others are."""
    read = [_joined(line, axis) for line in lines]
    lengths = next((found for blocks in read if blocks and (found := _lengths(blocks, axis))), None)
    for i, line in enumerate(lines):
        if read[i] is None and lengths is not None and isinstance(line, Constant):
            read[i] = _cut(line, lengths, axis)
    found = [blocks for blocks in read if blocks is not None]
    return found if len(found) == len(lines) else None


def _joined(line, axis: int) -> list[Any] | None:
    match line.owner_op_and_inputs:
        case (Join(axis=own), *blocks) if own == axis:
            return list(blocks)
    return None


def _lengths(blocks: Sequence[Any], axis: int) -> Any:
    lengths = [block.type.shape[axis] for block in blocks]
    return None if None in lengths else lengths


def _cut(line: Constant, lengths: Sequence[int], axis: int) -> list[Any] | None:
    ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
    if ends[-1] != line.data.shape[axis]:
        return None
    data = line.data if axis == 0 else line.data.T
    pieces = [data[end - own : end] for end, own in zip(ends, lengths, strict=True)]
    return [pt.constant(piece if axis == 0 else piece.T) for piece in pieces]


def joined(grid: Sequence[Sequence[Any]]) -> Any:
    """The matrix of some blocks."""
    rows = [row[0] if len(row) == 1 else pt.concatenate(row, axis=1) for row in grid]
    return rows[0] if len(rows) == 1 else pt.concatenate(rows, axis=0)
