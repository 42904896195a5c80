"""Ops that hold a graph of their own, and cores that are repeated over a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from pytensor.scalar.basic import ScalarOp
from pytensor.tensor.basic import ScalarFromTensor, TensorFromScalar
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise
from pytensor.tensor.subtensor import AdvancedIncSubtensor, AdvancedSubtensor

from autotune.pricing.arrays import Array, Cost, SizedNode, Unknown, cost
from autotune.pricing.elementwise import loop
from autotune.pricing.peak import peak_bytes
from cost_models import KernelCall

CostOf = Callable[[SizedNode], Cost]
"""The price of any node: `autotune.pricing.table.cost_of`, which looks these rules up."""

IN_THE_LOOP = (
    ScalarOp,
    TensorFromScalar,
    ScalarFromTensor,
    DimShuffle,
    AdvancedSubtensor,
    AdvancedIncSubtensor,
)
"""What a fused loop does with the numbers that it reads or writes anyway."""


def fused(sized: SizedNode, cost_of: CostOf) -> Cost:
    """Loops that PyTensor has fused with the indexing before and the reductions after them.

    A result that is only reduced stays in a register.
    """
    graph = sized.graph.inner(sized.op.fgraph, sized.node.inputs)
    calls: list[KernelCall] = []
    for node in graph.nodes:
        seen = graph.sized(node)
        if isinstance(node.op, Elemwise):
            written = sum(not _only_reduced(graph.fgraph.clients[out]) for out in node.outputs)
            calls += loop(node.op.scalar_op, seen.inputs, seen.outputs, written)
        elif not isinstance(node.op, IN_THE_LOOP) and not _reduces_a_loop(node):
            calls += cost_of(seen).calls
    return cost(*calls)


def _only_reduced(clients: Sequence[tuple[Any, Any]]) -> bool:
    return all(isinstance(getattr(client, "op", None), CAReduce) for client, _ in clients)


def _reduces_a_loop(node: Any) -> bool:
    made_by = node.inputs[0].owner if isinstance(node.op, CAReduce) else None
    return made_by is not None and isinstance(made_by.op, Elemwise)


def repeated(calls: tuple[KernelCall, ...], times: float) -> tuple[KernelCall, ...]:
    return tuple(KernelCall(c.kernel, c.dims, c.count * times) for c in calls)


def blockwise(sized: SizedNode, cost_of: CostOf) -> Cost:
    """The core's cost for every item of the batch."""
    op = sized.op
    cores = [len(core) for core in (*op.inputs_sig, *op.outputs_sig)]
    arrays = (*sized.inputs, *sized.outputs)
    batches = [
        a.shape[: len(a.shape) - core] for a, core in zip(arrays, cores, strict=True) if len(a.shape) > core
    ]
    batch = prod(max(map(_or_unknown, lengths)) for lengths in zip(*batches, strict=True))
    inside = [
        replace(a, shape=a.shape[len(a.shape) - core :], fortran=False)
        for a, core in zip(arrays, cores, strict=True)
    ]
    count = len(sized.inputs)
    one = cost_of(
        SizedNode(op.core_op, tuple(inside[:count]), tuple(inside[count:]), sized.node, sized.graph)
    )
    return Cost(repeated(one.calls, batch), one.workspace)


def _or_unknown(length: int | None) -> int:
    if length is None:
        raise Unknown("the size of the batch is unknown")
    return length


def inner_graph(sized: SizedNode, cost_of: CostOf) -> Cost:
    """All nodes of the inner graph; what it holds at its peak beyond its outputs is work space."""
    return _cost_of_graph(sized.graph.inner(sized.op.fgraph, sized.node.inputs), cost_of)


def conditional(sized: SizedNode, cost_of: CostOf) -> Cost:
    """The dearer of two lazy branches."""
    branches = [
        _cost_of_graph(sized.graph.inner(fgraph, sized.node.inputs[1:]), cost_of)
        for fgraph in sized.op.inner_graphs.values()
    ]
    return max(branches, key=lambda branch: sum(c.count * prod(c.dims) for c in branch.calls))


def scan(sized: SizedNode, cost_of: CostOf) -> Cost:
    """Every step runs the inner graph."""
    op, steps = sized.op, sized.inputs[0].value
    if steps is None:
        raise Unknown("the number of steps is unknown")
    one = _cost_of_graph(sized.graph.inner(op.fgraph, _step_inputs(op, sized)), cost_of)
    return Cost(repeated(one.calls, steps), one.workspace)


def _step_inputs(op: Any, sized: SizedNode) -> list[Array]:
    """Inputs of one step: a row of each sequence and of each state, the rest as they are."""
    info, rows = op.info, iter(sized.inputs[1:])
    arrays = [_row(next(rows)) for _ in range(info.n_seqs)]
    for taps in (*info.mit_mot_in_slices, *info.mit_sot_in_slices, *info.sit_sot_in_slices):
        arrays += [_row(next(rows))] * len(taps)
    untraced = [next(rows) for _ in range(info.n_untraced_sit_sot)]
    _ = [next(rows) for _ in range(info.n_nit_sot)]
    return [*arrays, *untraced, *rows]


def _row(array: Array) -> Array:
    return replace(array, shape=array.shape[1:], fortran=False, value=None)


def _cost_of_graph(graph: Any, cost_of: CostOf) -> Cost:
    costs = {node: cost_of(graph.sized(node)) for node in graph.nodes}
    calls = [c for one in costs.values() for c in one.calls]
    return cost(*calls, workspace=_workspace(graph, costs))


def _workspace(graph: Any, costs: dict[Any, Cost]) -> float:
    outputs = sum(graph.array(v).bytes for v in graph.fgraph.outputs if v.owner is not None)
    return max(0.0, peak_bytes(graph, {node: one.workspace for node, one in costs.items()}) - outputs)
