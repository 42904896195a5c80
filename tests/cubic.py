"""What in a compiled graph costs n^3, and which n x n arrays it makes: to compare with plain PyTensor's."""

from __future__ import annotations

from collections import Counter

from pytensor.graph.basic import Constant
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.linalg.decomposition.cholesky import Cholesky
from pytensor.tensor.linalg.decomposition.eigen import Eig, Eigh, Eigvalsh
from pytensor.tensor.linalg.decomposition.lu import LU, LUFactor
from pytensor.tensor.linalg.decomposition.qr import QR
from pytensor.tensor.linalg.decomposition.svd import SVD
from pytensor.tensor.linalg.inverse import MatrixInverse, MatrixPinv
from pytensor.tensor.linalg.solvers.general import Solve
from pytensor.tensor.linalg.summary import Det, SLogDet

from autotune.ops import CholeskyOrLU
from autotune.pricing.sized import SizedGraph
from autotune.pricing.table import cost_of
from autotune.read.sizes import Sizes
from autotune.read.views import strip_view
from cost_models.kernels import KERNEL_BY_NAME

FACTORISING = (Cholesky, LU, LUFactor, CholeskyOrLU, Eig, Eigh, Eigvalsh, QR, SVD)
FROM_SCRATCH = (Solve, Det, SLogDet, MatrixInverse, MatrixPinv)
"""Ops that factorise a matrix, and those that do so and hand the factor to nobody."""
IN_A_COPY = (Solve, Det, SLogDet)


def core_of(op):
    return op.core_op if isinstance(op, Blockwise) else op


def factorisations(fgraph) -> list:
    """The nodes that factorise, those of graphs inside included; of lazy branches the one that has most."""
    found = []
    for node in fgraph.apply_nodes:
        branches = getattr(node.op, "inner_graphs", None)
        if isinstance(core_of(node.op), FACTORISING + FROM_SCRATCH):
            found.append(node)
        elif branches:
            found += max(map(factorisations, branches.values()), key=len)
        elif getattr(core_of(node.op), "fgraph", None) is not None:
            found += factorisations(core_of(node.op).fgraph)
    return found


def factorised_again(before, after) -> list:
    """The matrices of which the nodes of ``after`` that are not in ``before`` make a second factor.

    Nodes of one Op and the same inputs are one: PyTensor merges them.
    """
    factors = [node for node in after if isinstance(core_of(node.op), FACTORISING)]
    factors = list({(node.op, tuple(node.inputs)): node for node in factors}.values())
    matrices = {node: strip_view(node.inputs[0])[0] for node in factors}
    made, new = list(matrices.values()), [m for node, m in matrices.items() if node not in before]
    return [str(matrix) for matrix in dict.fromkeys(new) if made.count(matrix) > 1]


def square_arrays(fgraph, n: int) -> list:
    """The nodes that put an array of ``n x n`` numbers, or a batch of them, into memory of its own.

    A routine that factorises and hands on no factor works in a copy of its matrix. Constants count.
    """
    constants = [v for v in fgraph.variables if isinstance(v, Constant) and _is_square(v, n)]
    return [*constants, *(node for node in fgraph.apply_nodes for _ in range(_made(node, n)))]


def _made(node, n: int) -> int:
    own = [
        out
        for i, out in enumerate(node.outputs)
        if i not in node.op.view_map and i not in node.op.destroy_map and _is_square(out, n)
    ]
    return len(own) + (isinstance(core_of(node.op), IN_A_COPY) and _is_square(node.inputs[0], n))


def _is_square(var, n: int) -> bool:
    return getattr(var.type, "shape", ())[-2:] == (n, n)


def flops(fgraph) -> float:
    """Of all nodes, in the leading order, as their kernels count them. Sizes must be static."""
    graph = SizedGraph.of_function(fgraph, Sizes(fgraph, {}))
    calls = [one for node in graph.nodes for one in cost_of(graph.sized(node)).calls]
    return sum(one.count * KERNEL_BY_NAME[one.kernel].flops(one.dims) for one in calls)


def named(nodes) -> Counter:
    """How many there are of each Op, for messages."""
    return Counter(type(core_of(getattr(node, "op", node))).__name__ for node in nodes)
