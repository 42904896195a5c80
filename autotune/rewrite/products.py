"""Products with a matrix that is made of constants, without forming it: ``x' (s A + t D) x``.

A Gaussian density given its precision multiplies with the matrix of whose determinant it asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.math import Dot

from autotune.algebra.pencil import Pencil

# So many times fewer columns than rows that a product with each term takes less than forming the matrix.
THIN = 4


def thin_products(fgraph, decided: Iterable[tuple[Any, Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """Each product of a thin matrix with a pencil that is not kept as it is written, old and new."""
    for reading, decision, _ in decided:
        pencil = reading.operator.unmarked
        if reading.deferred or not isinstance(pencil, Pencil) or decision.chosen == "keep":
            continue
        for node, place in _products(fgraph, reading.matrix):
            if _is_thin(node.inputs[1 - place], place):
                other, [out] = node.inputs[1 - place], node.outputs
                new = pencil.matmul(other) if place == 0 else pencil.matmul(other.T).T
                yield out, out.type.filter_variable(new, allow_convert=True)


def _products(fgraph, matrix) -> Iterator[tuple[Any, int]]:
    """The products with a symmetric matrix, or with its transpose, and its place in each."""
    for node, place in fgraph.clients[matrix]:
        if isinstance(node.op, Dot):
            yield node, place
        elif isinstance(node.op, DimShuffle) and node.op.is_matrix_transpose:
            yield from _products(fgraph, node.outputs[0])


def _is_thin(other, place: int) -> bool:
    """Whether the factor on the other side has few columns, or rows, beside the order of the matrix."""
    order, count = other.type.shape if place == 0 else other.type.shape[::-1]
    return None not in (order, count) and THIN * count <= order
