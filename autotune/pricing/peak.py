"""Peak memory of one call: what is alive at once when the nodes run in order.

An array lives from the node that makes it through its last use, by way of all views of it, and, as Numba
compiles it, through the node after that. What is overwritten is taken over, unless an Op copies what it says
that it overwrites. Inputs and constants were there before the call and do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autotune.pricing.arrays import Unknown
from autotune.pricing.layout import overwrites

RELEASED_AFTER = 1
"""Nodes that run between the last use of an array and its release (measured on chains of products)."""


def peak_bytes(graph: Any, workspace: Mapping[Any, float]) -> float:
    """The most bytes alive at once; arrays of unknown size are left out.

    ``workspace`` holds what each node needs only while it runs.
    """
    owner: dict[Any, Any] = {}
    for node in graph.nodes:
        for index, out in enumerate(node.outputs):
            source = _reused(node, index)
            copied = index in node.op.destroy_map and not overwrites(graph, node, index)
            owner[out] = out if source is None or copied else owner.get(source, source)
    return _sweep(graph, owner, _last_uses(graph, owner), workspace)


def largest_bytes(graph: Any) -> float:
    """The largest array that a node makes, views and overwritten arrays apart."""
    made = [
        out for node in graph.nodes for index, out in enumerate(node.outputs) if _reused(node, index) is None
    ]
    return max((_bytes(graph, out) for out in made), default=0.0)


def _reused(node: Any, index: int) -> Any:
    """The input that an output overwrites or looks into, None for a fresh array."""
    reused = node.op.destroy_map.get(index) or node.op.view_map.get(index)
    return node.inputs[reused[0]] if reused else None


def _last_uses(graph: Any, owner: Mapping[Any, Any]) -> dict[Any, int]:
    """The position of the last node that needs each buffer; one beyond all for what is returned."""
    last: dict[Any, int] = {}
    for position, node in enumerate(graph.nodes):
        for variable in (*node.inputs, *node.outputs):
            last[owner.get(variable, variable)] = position
    for output in graph.fgraph.outputs:
        last[owner.get(output, output)] = len(graph.nodes)
    return last


def _sweep(
    graph: Any, owner: Mapping[Any, Any], last_use: Mapping[Any, int], workspace: Mapping[Any, float]
) -> float:
    ends: dict[int, list[Any]] = {}
    for buffer, position in last_use.items():
        ends.setdefault(position + RELEASED_AFTER, []).append(buffer)
    alive: dict[Any, float] = {}
    held = peak = 0.0
    for position, node in enumerate(graph.nodes):
        for out in node.outputs:
            if owner[out] is out:
                alive[out] = _bytes(graph, out)
                held += alive[out]
        peak = max(peak, held + workspace.get(node, 0.0))
        for buffer in ends.get(position, ()):
            held -= alive.pop(buffer, 0.0)
    return peak


def _bytes(graph: Any, variable: Any) -> float:
    try:
        return graph.array(variable).bytes if graph.lengths(variable) else 0.0
    except Unknown:
        return 0.0
