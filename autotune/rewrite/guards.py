"""Structure that canonicalisation would destroy, put out of its reach, and given back.

``eye(n)`` of static size is folded into a dense n x n constant, ``s * I`` with it, and so is ``X @ X.T`` of
a constant X, ``g[:, None] == g[None, :]`` and ``t[:, None] - t[None, :]`` of constants, and ``diag(d, 1)``
of a constant d; a product with a constant one-hot matrix becomes an index; eigenvectors of a
constant are folded apart from those of what it is multiplied with.
"""

from __future__ import annotations

from typing import Any

import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.scalar import EQ, Mul, Sub
from pytensor.tensor.basic import AllocDiag, ARange, Eye
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.linalg.constructors import BlockDiagonal
from pytensor.tensor.linalg.decomposition.eigen import Eigh
from pytensor.tensor.linalg.products import KroneckerProduct
from pytensor.tensor.math import Dot

from autotune.algebra.marks import AsWritten, Mark
from autotune.read.scan import is_root
from autotune.read.views import strip_view

COMPOSITES = (KroneckerProduct, BlockDiagonal)


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
    """Mark the constants of thin products, outer products, differences, diagonals and comparisons of groups.

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
    if isinstance(op, Elemwise) and isinstance(op.scalar_op, Mul | EQ | Sub):
        return _sides(node.inputs, known)
    return [0] if isinstance(op, AllocDiag) and _is_constant(node.inputs[0], known) else []


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


def _core_op(var):
    return getattr(var.owner_op, "core_op", var.owner_op)
