"""Log-determinants of Kronecker products and block-diagonal matrices that are not read as a whole.

PyTensor writes the determinant as a product of powers, which overflows.
"""

from __future__ import annotations

from functools import reduce
from operator import mul

import pytensor.tensor as pt
from pytensor.scalar import Abs, Log, Sign
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.linalg.constructors import BlockDiagonal
from pytensor.tensor.linalg.products import KroneckerProduct
from pytensor.tensor.linalg.summary import Det, slogdet

from autotune.read.idioms import log_of_determinant
from autotune.read.views import strip_view


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


def _is_square(var) -> bool:
    rows, columns = var.type.shape[-2:]
    return rows is not None and rows == columns
