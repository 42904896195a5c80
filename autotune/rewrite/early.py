"""What canonicalisation would destroy, put out of its reach.

``eye(n)`` of static size is folded into a dense n x n constant, ``s * I`` with it, and so is ``X @ X.T`` of
a constant X and ``g[:, None] == g[None, :]`` of a constant g; a product with a constant one-hot matrix
becomes an index; the determinant of a Kronecker product or block-diagonal matrix becomes a product of powers
that overflows; ``inv(A) @ B @ z`` becomes a solve with all columns of B; a symmetric solve with the
transpose reads another triangle.
"""

from __future__ import annotations

from functools import reduce
from operator import mul
from typing import Any

import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.scalar import EQ, Abs, Add, Log, Mul, Sign, Sub
from pytensor.tensor.basic import AllocDiag, ARange, ExtractDiag, Eye
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.linalg.constructors import BlockDiagonal
from pytensor.tensor.linalg.decomposition.eigen import Eigh
from pytensor.tensor.linalg.inverse import MatrixInverse
from pytensor.tensor.linalg.products import KroneckerProduct
from pytensor.tensor.linalg.solvers.general import Solve
from pytensor.tensor.linalg.summary import Det, slogdet
from pytensor.tensor.math import Dot

from autotune.algebra.marks import AsWritten, Mark
from autotune.read.idioms import log_of_determinant
from autotune.read.scan import core_of, is_root
from autotune.read.views import strip_view


class Identity(Eye):
    """``eye`` that is not folded into a constant while the pass may still need to read it."""

    def do_constant_folding(self, fgraph, node):
        return False


class Positions(ARange):
    """``arange`` that is not folded, so that neither is what is made of it."""

    def do_constant_folding(self, fgraph, node):
        return False


def guard_structure(fgraph) -> None:
    """Keep identities, and what is made of thin constants, from being folded or indexed."""
    _swap(fgraph, Eye, lambda node: Identity(dtype=node.op.dtype) if _keeps_dtype(fgraph, node) else None)
    _hide_constants(fgraph)
    _hide_bases(fgraph)


def _hide_bases(fgraph) -> None:
    """Mark the constants of which eigenvectors are asked beside those of other matrices: of a density that is
    written in the eigenvectors of several (`autotune.read.eigenbases`) all must be seen."""
    known: dict[Any, bool] = {}
    nodes = [node for node in fgraph.toposort() if isinstance(_core_op(node.outputs[0]), Eigh)]
    constant = [node for node in nodes if _is_constant(node.inputs[0], known)]
    for node in constant if len(constant) < len(nodes) else ():
        fgraph.change_node_input(node, 0, AsWritten()(node.inputs[0]), reason="autotune_structure")


def _hide_constants(fgraph) -> None:
    """Mark the constants of thin products, outer products and comparisons of groups.

    What is made of a mark is not folded, and PyTensor does not see that a constant selects columns. One
    constant has one mark: ``X @ X.T`` stays a Gram product.
    """
    known: dict[Any, bool] = {}
    marks: dict[Any, Any] = {}
    for node in fgraph.toposort():  # what is made of a mark is no constant
        for place in _hidden(node, known):
            matrix = node.inputs[place]
            core, transposed = strip_view(matrix)
            if core.type.ndim != matrix.type.ndim:
                core, transposed = matrix, False
            if core not in marks:
                marks[core] = AsWritten()(core)
            marked = marks[core].mT if transposed else marks[core]
            fgraph.change_node_input(node, place, marked, reason="autotune_structure")


def guard_composites(fgraph) -> None:
    """Mark Kronecker products and block-diagonal matrices that are solved, inverted or factorised.

    PyTensor would write the determinant of one as powers that overflow, and push a solve into blocks, apart
    from all else that is asked of the matrix.
    """
    for node in list(fgraph.apply_nodes):
        if is_root(node) and isinstance(_core_op(strip_view(node.inputs[0])[0]), COMPOSITES):
            matrix = node.inputs[0]
            if not isinstance(matrix.owner_op, Mark):
                fgraph.change_node_input(node, 0, AsWritten()(matrix), reason="autotune_structure")


def release_structure(fgraph, *, in_expressions: bool = False) -> None:
    """Give PyTensor back the identities that no rewrite has used up.

    ``in_expressions``: an identity that only elementwise expressions use becomes a comparison of
    row and column numbers, which fuses with them: no n x n constant in memory, and none in the way
    of PyTensor's cache of compiled code.
    """
    for identity in (Identity, Eye) if in_expressions else ():
        _swap(fgraph, identity, lambda node: _comparison(node) if _is_in_expressions(fgraph, node) else None)
    _swap(fgraph, Identity, lambda node: Eye(dtype=node.op.dtype))


def _is_in_expressions(fgraph, node) -> bool:
    on_main_diagonal = getattr(node.inputs[2], "data", None) == 0
    return on_main_diagonal and all(
        isinstance(client.op, Elemwise) for client, _ in fgraph.clients[node.outputs[0]]
    )


def _comparison(node):
    """Builds ``eye(rows, columns)`` elementwise."""

    def build(rows, columns, offset):
        i, j = (Positions(dtype="int64")(0, length, 1) for length in (rows, columns))
        return pt.eq(i[:, None], j[None, :]).astype(node.op.dtype)

    return build


def _swap(fgraph, old_class, new_op):
    pairs = []
    for node in list(fgraph.apply_nodes):
        op = new_op(node) if type(node.op) is old_class else None
        if op is not None:
            pairs.append((node.outputs[0], op(*node.inputs)))
    if pairs:
        fgraph.replace_all(pairs, reason="autotune_structure")


def _keeps_dtype(fgraph, node) -> bool:
    """Whether nothing mixes it with another dtype; not of order 1, which PyTensor takes for a scalar.

    What is left of such sums in the end meets a rewrite of PyTensor 3.3 that drops their terms (into Gemm).
    """
    if any(node.outputs[0].type.broadcastable):
        return False
    dtypes = {out.type.dtype for client, _ in fgraph.clients[node.outputs[0]] for out in client.outputs}
    return dtypes <= {node.op.dtype}


def _hidden(node, known: dict[Any, bool]) -> list[int]:
    """The places of the constants among the inputs of a node that are structure as long as they are seen."""
    out = node.outputs[0]
    if len(node.outputs) != 1 or getattr(out.type, "broadcastable", None) != (False, False):
        return []
    op = _core_op(out)
    if isinstance(op, Dot):
        constants = [i for i, factor in enumerate(node.inputs) if _is_constant(factor, known)]
        return constants if constants and _is_structure(node.inputs, constants) else []
    if isinstance(op, Elemwise) and isinstance(op.scalar_op, Mul | EQ):
        return _sides(node.inputs, known)
    return []


def _is_structure(factors, constants: list[int]) -> bool:
    """Whether a product with constant factors is of low rank by them, or an index.

    Both are constant and thin; or one is a column, and in gradients the other becomes a constant row when
    simplified; or one has a single entry in each column.
    """
    left, right = factors
    (rows, inner), columns = left.type.shape, right.type.shape[1]
    if len(constants) == 2:
        return None not in (rows, columns) and (inner is None or inner < min(rows, columns))
    return inner == 1 or _selects(factors[constants[0]])


def _selects(var) -> bool:
    """Whether a constant that is not square has one entry in each column or each row, which is 1."""
    core, _ = strip_view(var)
    if not isinstance(core, Constant) or core.type.ndim != 2 or len(set(core.data.shape)) == 1:
        return False
    entries = core.data != 0
    lines = [axis for axis in (0, 1) if entries.take([0], axis=1 - axis).sum() == 1]
    return any((entries.sum(axis=axis) == 1).all() for axis in lines) and bool(
        (core.data[entries] == 1).all()
    )


def _sides(inputs, known: dict[Any, bool]) -> list[int]:
    """The places of all columns and rows, where there are both and all inputs are constants."""
    pattern = [i.type.broadcastable for i in inputs]
    sides = [i for i, one in enumerate(pattern) if one != (True, True)]
    both = {pattern[i] for i in sides} == {(False, True), (True, False)}
    return sides if both and all(_is_constant(i, known) for i in inputs) else []


def _is_constant(var, known: dict[Any, bool]) -> bool:
    """A constant, or what is computed from constants alone and will be one; what is marked will not."""
    if var not in known:
        if var.owner is None or isinstance(var.owner.op, Mark):
            known[var] = isinstance(var, Constant)
        else:
            known[var] = all(_is_constant(i, known) for i in var.owner.inputs)
    return known[var]


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


def split_determinants(fgraph) -> None:
    """``log|det(kron(A, B))| -> q log|det A| + p log|det B|`` and the same for blocks, signs likewise.

    Only logarithms and signs are replaced; a determinant used as such is PyTensor's.
    """
    while True:
        replacements = [pair for node in fgraph.toposort() for pair in _split(fgraph, node)]
        if not replacements:
            return
        fgraph.replace_all(replacements, reason="autotune_determinants")


def _split(fgraph, node):
    if not (isinstance(node.op, Blockwise) and type(node.op.core_op) is Det):
        return
    det = node.outputs[0]
    uses = list(_log_and_sign_uses(fgraph, det))
    if not uses:
        return
    factors = _factors(node.inputs[0])
    if factors is None or all(_is_square(matrix) for matrix, _ in factors):
        return  # read as a whole
    summaries = [(slogdet(matrix), power) for matrix, power in factors]
    logabsdet = sum(power * logabs for (_, logabs), power in summaries)
    sign = reduce(mul, [_integer_power(s, power) for (s, _), power in summaries])
    for kind, var in uses:
        if kind == "sign":
            yield var, sign.astype(var.dtype)
        elif kind == "log_abs":
            yield var, logabsdet.astype(var.dtype)
        else:
            yield var, log_of_determinant(sign, logabsdet).astype(var.dtype)


def _integer_power(sign, power):
    """``sign ** power`` for a sign: itself, or its square, by the parity of ``power``."""
    return pt.switch(pt.eq(power % 2, 0), sign * sign, sign)


def _log_and_sign_uses(fgraph, det):
    for client, _ in fgraph.clients[det]:
        match client.op:
            case Elemwise(scalar_op=Sign()):
                yield "sign", client.outputs[0]
            case Elemwise(scalar_op=Log()):
                yield "log", client.outputs[0]
            case Elemwise(scalar_op=Abs()):
                for second, _ in fgraph.clients[client.outputs[0]]:
                    match second.op:
                        case Elemwise(scalar_op=Log()):
                            yield "log_abs", second.outputs[0]


def _factors(matrix):
    """Square matrices and powers whose determinants multiply to that of ``matrix``; None if not so read."""
    if matrix.dtype.startswith("complex"):
        return None
    core, _ = strip_view(matrix)
    match core.owner_op_and_inputs:
        case (KroneckerProduct(), a, b) if _may_be_square(a) and _may_be_square(b):
            if a.ndim == b.ndim == matrix.ndim == 2:
                return [(a, b.shape[-1]), (b, a.shape[-1])]
        case (Blockwise(core_op=BlockDiagonal()), *blocks) if matrix.ndim == 2:
            if all(block.ndim == 2 and _is_square(block) for block in blocks):
                return [(block, pt.constant(1)) for block in blocks]
    return None


def _may_be_square(var) -> bool:
    """det(kron(A, B)) is defined for A (p, p) and B (q, q); PyTensor assumes the same."""
    rows, columns = var.type.shape[-2:]
    return rows is None or columns is None or rows == columns


COMPOSITES = (KroneckerProduct, BlockDiagonal)


def _is_square(var) -> bool:
    rows, columns = var.type.shape[-2:]
    return rows is not None and rows == columns
