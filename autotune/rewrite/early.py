"""What canonicalisation would write in another way, or in more operations, written before it.

``inv(A) @ B @ z`` would become a solve with all columns of B, a diagonal of a product the whole product; a
symmetric solve with the transpose would read another triangle.
"""

from __future__ import annotations

from typing import Any

import pytensor.tensor as pt
from pytensor.scalar import Add, Mul, Sub
from pytensor.tensor.basic import AllocDiag, ExtractDiag
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.linalg.inverse import MatrixInverse
from pytensor.tensor.linalg.solvers.general import Solve
from pytensor.tensor.math import Dot

from autotune.read.scan import core_of


def sum_diagonals_of_products(fgraph) -> None:
    """``diag(A @ B) -> sum(A * B.T, axis=1)``, so also a trace: n^2 instead of n^3 operations.

    Before canonicalize, which would make ``inv(K) @ B`` a solve with n right-hand sides. A product that is
    used elsewhere too is computed anyway, unless it may yet be read as the low rank that it is.
    """
    pairs = []
    for node in fgraph.apply_nodes:
        match node.op:
            case ExtractDiag(offset=0) if node.inputs[0].ndim == 2:
                product, out = node.inputs[0], node.outputs[0]
                alone = len(fgraph.clients[product]) == 1
                if _is_product_of_one_dtype(product) and (alone or _is_thin(*product.owner.inputs)):
                    pairs.append((out, _row_products(*product.owner.inputs).astype(out.type.dtype)))
    if pairs:
        fgraph.replace_all(pairs, reason="autotune_traces")


def solve_as_given(fgraph) -> None:
    """``solve(A.T, b, "sym", lower) -> solve(A, b, "sym", not lower)``: one triangle of A, maybe all of it.

    Gradients have the transpose. PyTensor drops it where a solve with A itself promises that A is symmetric.
    """
    for node in list(fgraph.apply_nodes):
        core = core_of(node.op)
        if isinstance(core, Solve) and core.assume_a in ("sym", "her"):
            match node.inputs[0].owner_op_and_inputs:
                case (DimShuffle(is_matrix_transpose=True), A) if not A.type.dtype.startswith("complex"):
                    other = type(core)(**{**core._props_dict(), "lower": not core.lower})
                    op = other if core is node.op else Blockwise(other, signature=node.op.signature)
                    [out] = node.outputs
                    fgraph.replace(out, op(A, node.inputs[1]), reason="autotune_triangle")


def cast_terms(fgraph) -> None:
    """Sums of matrices, and multiples of these, in one dtype.

    Canonicalize makes one sum of nested ones. Of such a sum with a product of matrices PyTensor 3.3 makes a
    Gemm, and drops the terms in which a matrix has another dtype than its multiple.
    """
    for node in fgraph.toposort():
        if isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, Add | Sub | Mul):
            [out] = node.outputs
            if out.type.ndim == 2 and any(i.type.dtype != out.type.dtype for i in node.inputs):
                whole = node.op(*(i.astype(out.type.dtype) for i in node.inputs))
                fgraph.replace(out, whole, reason="autotune_structure")


def read_diagonals_back(fgraph) -> None:
    """``diag(diag(v)) -> v``, before autodiff: its gradient would make a matrix of every cotangent of v.

    Canonicalize writes products with diagonal matrices so; PyTensor takes them back after autodiff only.
    """
    pairs = []
    for node in fgraph.apply_nodes:
        match node.op, node.inputs[0].owner_op if node.inputs else None:
            case ExtractDiag(offset=0, axis1=0, axis2=1), AllocDiag(offset=0, axis1=0, axis2=1):
                pairs.append((node.outputs[0], node.inputs[0].owner.inputs[0]))
    if pairs:
        fgraph.replace_all(pairs, reason="autotune_diagonals")


def solve_few_columns(fgraph) -> None:
    """``(A^-1 B) z -> A^-1 (B z)`` and ``z (B A^-1) -> (z B) A^-1`` where that solves with fewer columns.

    Before canonicalize, which makes ``inv(A) @ B`` a solve. A product that is used elsewhere too is computed
    anyway.
    """
    for node in reversed(fgraph.toposort()):
        out = node.outputs[0]
        if isinstance(_core_op(out), Dot) and out.type.ndim == 2 and node in fgraph.apply_nodes:
            for product, z, mirrored in (*node.inputs, False), (*reversed(node.inputs), True):
                inverse = isinstance(
                    _core_op(product), MatrixInverse
                )  # a solve with the columns of z as it is
                new = None if inverse else _solved_last(fgraph, product, z, mirrored=mirrored)
                if new is not None and new.type.dtype == out.type.dtype:
                    new = out.type.filter_variable(new, allow_convert=True)
                    fgraph.replace(out, new, reason="autotune_few_columns")
                    break


def _solved_last(fgraph, product, z, *, mirrored: bool) -> Any:
    """``product @ z`` (``mirrored``: ``z @ product``) by a solve with few columns.

    None if it has no inverse, or z is not known to have fewer columns, or precision would be lost.
    """
    op: Any = _core_op(product)
    inputs: Any = product.owner.inputs if product.owner else ()
    times = (lambda a, b: b @ a) if mirrored else (lambda a, b: a @ b)
    if isinstance(op, MatrixInverse):
        return times(product, z)
    if len(fgraph.clients[product]) > 1 or not _is_narrow(z.type.shape[-2 if mirrored else -1], product):
        return None
    match op, inputs:
        case DimShuffle(is_matrix_transpose=True), [inner]:
            solved = _solved_last(fgraph, inner, z.mT, mirrored=not mirrored)
            return None if solved is None else solved.mT
        case Solve(b_ndim=2), [A, B] if not mirrored:
            rhs = B @ z
            return product.owner.op(A, rhs) if rhs.type.dtype == product.type.dtype else None
        case Dot(), _:
            outer, inner = inputs[::-1] if mirrored else inputs
            solved = _solved_last(fgraph, inner, z, mirrored=mirrored)
            if solved is not None:
                return times(outer, solved)
            z = times(inner, z)
            if z.type.dtype == product.type.dtype:
                return _solved_last(fgraph, outer, z, mirrored=mirrored)
    return None


def _is_narrow(columns: int | None, product) -> bool:
    """Whether so many columns are known to be fewer than a matrix has rows, and than it has columns."""
    lengths = product.type.shape
    if columns is None or product.type.ndim != 2:
        return False
    return all(columns == 1 if n is None else columns < n for n in lengths)


def _is_product_of_one_dtype(var) -> bool:
    """Of two, the gradients of an elementwise product have other dtypes than those of a matrix product."""
    return isinstance(_core_op(var), Dot) and all(i.type.dtype == var.type.dtype for i in var.owner.inputs)


def _is_thin(left, right) -> bool:
    """A product whose inner dimension is the smallest by far, or of unknown sizes: row products cost little
    beside it, and its square cotangent, of a trace alone, costs as much as the product."""
    (rows, inner), columns = left.type.shape[-2:], right.type.shape[-1]
    return None in (rows, inner, columns) or 2 * inner < min(rows, columns)


def _core_op(var):
    return getattr(var.owner_op, "core_op", var.owner_op)


def _row_products(left, right):
    rows, columns = left.type.shape[0], right.type.shape[1]
    if (rows is None or rows != columns) and _length_of(left, 0) != _length_of(right, 1):
        length = pt.minimum(left.shape[0], right.shape[1])
        left, right = left[:length], right[:, :length]
    return (left * right.T).sum(axis=1)


def _length_of(var, axis: int) -> tuple[Any, int]:
    """The variable and its axis from which a matrix has its number of rows or columns."""
    while True:
        match _core_op(var), var.owner and var.owner.inputs:
            case DimShuffle(new_order=(1, 0)), [inner]:
                var, axis = inner, 1 - axis
            case Dot(), factors if len(factors[axis].type.shape) == 2:
                var = factors[axis]
            case Solve(b_ndim=2), [_, b] if axis == 1 and b.type.ndim == 2:
                var = b
            case _:
                return var, axis
