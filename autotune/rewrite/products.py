"""Products with a matrix that is made of others, without forming it: ``x' (s A + t D) x``, ``x' L L' x``.

A Gaussian density given its precision multiplies with the matrix of whose determinant it asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.math import Dot

# So many times fewer columns than rows that a product with each term takes less than forming the matrix.
THIN = 4


def thin_products(fgraph, decided: Iterable[tuple[Any, Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """Each product of a thin matrix with one that is not kept as it is written, old and new."""
    for reading, decision, _ in decided:
        operator = reading.operator.unmarked
        formed = "dense" not in operator.structure and decision.chosen != "keep"
        if reading.deferred or not formed:
            continue
        for node, place, transposed in _products(fgraph, reading.matrix, False):
            if _is_thin(node.inputs[1 - place], place):
                other, [out] = node.inputs[1 - place], node.outputs
                multiply = operator.matmul if transposed == (place == 1) else operator.rmatmul
                new = multiply(other) if place == 0 else multiply(other.T).T
                yield out, out.type.filter_variable(new, allow_convert=True)


def _products(fgraph, matrix, transposed: bool) -> Iterator[tuple[Any, int, bool]]:
    """The products with a matrix or its transpose, its place in each, and whether it is the transpose."""
    for node, place in fgraph.clients[matrix]:
        if isinstance(node.op, Dot):
            yield node, place, transposed
        elif isinstance(node.op, DimShuffle) and node.op.is_matrix_transpose:
            yield from _products(fgraph, node.outputs[0], not transposed)


def _is_thin(other, place: int) -> bool:
    """Whether the factor on the other side has few columns, or rows, beside the order of the matrix."""
    order, count = other.type.shape if place == 0 else other.type.shape[::-1]
    return None not in (order, count) and THIN * count <= order
