"""One small graph per kernel: here those of calls, products and elementwise work, and the list of all."""

from __future__ import annotations

from typing import Any

import numpy as np

from calibration.batch_graphs import BATCHES
from calibration.dense_graphs import DENSE
from calibration.structured_graphs import STRUCTURED
from calibration.timing_graph import Array, TimingGraph, normal, ops, pt

NODES = 20
"""Small nodes in the graph of the kernel `node`."""
OPS = "ops"
"""Asked of a worker in place of a kernel: to compile what autotune's Ops run."""


def compile_ops(dtype: str) -> None:
    """Leave all that autotune's Ops run in Numba's cache, what no kernel runs too: users find it there."""
    ops().compile_all(dtype)


def _chain_of_nodes(x: Any) -> Any:
    """`NODES` small nodes that PyTensor cannot fuse: running sums and products in turn."""
    for _ in range(NODES // 2):
        x = 0.5 * pt().cumsum(x)
    return x


def _chain_of_nodes_answer(x: Array) -> Array:
    for _ in range(NODES // 2):
        x = 0.5 * np.cumsum(x)
    return x


def _filled(x: Any) -> Any:
    """A new vector as long as ``x``, whose numbers are not read."""
    return pt().alloc(pt().as_tensor(0.5, dtype=x.type.dtype), x.shape[0])


GRAPHS: tuple[TimingGraph, ...] = (
    TimingGraph("call", "m", lambda a: a[0, 0] + 1, lambda g: (normal(g, 1, 1),)),
    TimingGraph("node", "v", _chain_of_nodes, lambda g: (normal(g, 3),), _chain_of_nodes_answer, NODES),
    *DENSE,
    *BATCHES,
    TimingGraph(
        "gemm",
        "mm",
        lambda a, b: a @ b,
        lambda g, m, n, k: (normal(g, m, k), normal(g, k, n)),
        np.matmul,
    ),
    TimingGraph("gemv", "mv", lambda a, x: a @ x, lambda g, m, n: (normal(g, m, n), normal(g, n)), np.dot),
    TimingGraph("stream", "vv", lambda x, y: x + y, lambda g, n: (normal(g, n), normal(g, n)), np.add),
    TimingGraph("fill", "v", _filled, lambda g, n: (np.broadcast_to(0.5, (n,)),), lambda x: x),
    TimingGraph("exp", "v", lambda x: pt().exp(x), lambda g, n: (normal(g, n),), np.exp),
    TimingGraph("log", "v", lambda x: pt().log(x), lambda g, n: (0.1 + g.random(n),), np.log),
    TimingGraph("tanh", "v", lambda x: pt().tanh(x), lambda g, n: (normal(g, n),), np.tanh),
    TimingGraph("reduce", "v", lambda x: x.sum(), lambda g, n: (normal(g, n),), np.sum),
    TimingGraph(
        "transpose",
        "m",
        lambda a: 1.5 * a.T,
        lambda g, m, n: (normal(g, n, m),),
        lambda a: 1.5 * a.T,
    ),
    TimingGraph(
        "join",
        "mm",
        lambda a, b: pt().join(0, a, b),
        lambda g, m, n: (normal(g, m // 2, n), normal(g, m - m // 2, n)),
        lambda a, b: np.concatenate([a, b]),
    ),
    TimingGraph("diagonal", "v", lambda x: pt().diag(x), lambda g, n: (normal(g, n),), np.diag),
    *STRUCTURED,
)
"""Every kernel's timing graph, in the order of measuring."""

GRAPH_BY_KERNEL: dict[str, TimingGraph] = {graph.kernel: graph for graph in GRAPHS}
