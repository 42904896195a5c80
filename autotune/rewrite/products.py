"""Products that matrices are multiplied in, or made of, in fewer operations.

``x' (s A + t D) x`` and ``x' L L' x`` with a matrix that is made of others, without forming it: a Gaussian
density given its precision multiplies with the matrix of whose determinant it asks. And ``X diag(w) X'`` by
syrk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytensor.tensor as pt
from pytensor.graph.rewriting.basic import out2in
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.math import Dot
from pytensor.tensor.rewriting.math import local_lift_transpose_through_dot

from autotune.algebra.low_rank import LowRank, scale_columns
from autotune.algebra.signs import is_nonnegative
from autotune.ops import Gram
from autotune.ops.gram import pays
from autotune.read.facts import Facts
from autotune.read.terms import Terms

# So many times fewer columns than rows that a product with each term takes less than forming the matrix.
THIN = 4


def thin_products(fgraph, decided: Iterable[tuple[Any, Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """Each product of a thin matrix with one that is not kept as it is written, old and new."""
    for reading, decision, _ in decided:
        operator = reading.operator.unmarked
        formed = not {"dense", "inverse"} & {*operator.structure} and decision.chosen != "keep"
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


def lift_transposes(fgraph) -> None:
    """``(A B)' -> B' A'``, as PyTensor had done before what is new was written.

    Its later reordering of products takes those that a transposed product is made of in the wrong order.
    """
    out2in(local_lift_transpose_through_dot, ignore_newtrees=False).apply(fgraph)


def form_gram_products(fgraph) -> None:
    """``X diag(w) X' -> Gram(X w^1/2)`` for ``w >= 0``, when nothing is read from the graph any more."""
    products = [node for node in fgraph.toposort() if _may_be_gram(node)]
    if not products:
        return
    terms, pairs = Terms(facts=Facts(fgraph)), []
    for node in products:
        new, out = _gram(terms.weighted_product(*node.inputs)), node.outputs[0]
        if new is not None and new.type.dtype == out.type.dtype:
            pairs.append((out, out.type.filter_variable(new, allow_convert=True)))
    fgraph.replace_all_validate(pairs, reason="autotune_gram")


def _may_be_gram(node) -> bool:
    """Whether it is a product of matrices that are not known to be of other shapes than transposes are."""
    if not isinstance(getattr(node.op, "core_op", node.op), Dot):
        return False
    left, right = node.inputs
    if left.type.ndim != 2 or right.type.ndim != 2 or any(node.outputs[0].type.broadcastable):
        return False
    rows, columns = left.type.shape[0], right.type.shape[1]
    floats = node.outputs[0].type.numpy_dtype.kind == "f"
    return floats and (None in (rows, columns) or rows == columns) and pays(left.type.shape[1])


def _gram(product: LowRank) -> Any:
    if not product.symmetric:
        return None
    if product.c is None:
        return Gram()(product.U)
    return Gram()(scale_columns(product.U, pt.sqrt(product.c))) if is_nonnegative(product.c) else None
