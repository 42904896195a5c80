"""The price of a whole compiled function.

    seconds = one call + inputs and outputs + every node's kernels + what the cache no longer holds

Kernels are timed in loops, with their operands in the cache. In a function other kernels run in between: as
far as it works on more than the cache holds, what a kernel would have found there comes from memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from autotune.pricing.arrays import Cost, Unknown
from autotune.pricing.peak import peak_bytes
from autotune.pricing.sized import SizedGraph
from autotune.pricing.table import cost_of
from cost_models import KERNEL_BY_NAME, KernelCall, Profile, call

INPUT, OUTPUT = 0.07, 0.17
"""What each further input and output adds to the fixed cost of a call, as a share of it."""
ITEMSIZE = {"float64": 8, "float32": 4}


@dataclass(frozen=True)
class NodePrice:
    """One node: its Op, the kernels it runs, seconds. ``seconds`` is None when unknown; ``reason``: why."""

    op: str
    calls: tuple[KernelCall, ...] = ()
    seconds: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Price:
    """Predicted seconds and peak bytes of one call, without what is unknown; ``nodes`` in falling order."""

    seconds: float
    peak_bytes: float
    nodes: tuple[NodePrice, ...] = ()

    @property
    def unknown(self) -> tuple[NodePrice, ...]:
        """The nodes that the price leaves out."""
        return tuple(node for node in self.nodes if node.seconds is None)


def price(fgraph: Any, sizes: Any, profile: Profile) -> Price:
    """What one call of the compiled ``fgraph`` is predicted to take. Never raises, whatever the graph.

    ``sizes``: an `autotune.sizes.Sizes` or, from actual arguments, an `ExampleSizes`. What an Op with no
    rule, a size that is not known or an error leaves open is listed under ``unknown``, never free.
    """
    try:
        graph = SizedGraph.of_function(fgraph, sizes)
    except Exception as error:
        return Price(0.0, 0.0, (NodePrice("the whole graph", reason=_said(error)),))
    costs: dict[Any, Cost | str] = {node: _cost_or_reason(graph, node) for node in graph.nodes}
    known = {node: found for node, found in costs.items() if isinstance(found, Cost)}
    peak = peak_bytes(graph, {node: found.workspace for node, found in known.items()})
    share = evicted_share(peak, profile)
    nodes = [NodePrice("call", (one_call(fgraph),), profile.seconds(one_call(fgraph), "float64"))]
    for node, found in costs.items():
        if isinstance(found, Cost):
            seconds = _seconds(found.calls, graph.sized(node).dtype, profile, share, peak)
            nodes.append(NodePrice(str(node.op), found.calls, seconds))
        else:
            nodes.append(NodePrice(str(node.op), reason=found))
    nodes.sort(key=lambda node: -(node.seconds or 0.0))
    return Price(sum(node.seconds or 0.0 for node in nodes), peak, tuple(nodes))


def one_call(fgraph: Any) -> KernelCall:
    """The fixed cost: that of a function with one input and one output, and of each further one."""
    inputs, outputs = max(len(fgraph.inputs) - 1, 0), max(len(fgraph.outputs) - 1, 0)
    return call("call", count=1 + INPUT * inputs + OUTPUT * outputs)


def evicted_share(peak: float, profile: Profile) -> float:
    """How much of what a kernel leaves in the cache other kernels have driven out when it is needed."""
    return min(1.0, max(0.0, peak / profile.fingerprint.cache_bytes - 1))


def _seconds(calls: Iterable[KernelCall], dtype: str, profile: Profile, share: float, peak: float) -> float:
    calls = tuple(calls)
    return profile.seconds_of(calls, dtype) + share * sum(_refill(c, dtype, profile, peak) for c in calls)


def _refill(one: KernelCall, dtype: str, profile: Profile, peak: float) -> float:
    """Seconds to fetch from memory what the kernel, run in a loop, finds in the cache."""
    model = profile.models[dtype][one.kernel]
    touched = KERNEL_BY_NAME[one.kernel].bytes(one.dims, ITEMSIZE[dtype])
    cached = min(one.count * min(touched, model.cache_bytes), peak)
    return model.coefficients.get("bytes_beyond", 0.0) * cached


def _cost_or_reason(graph: SizedGraph, node: Any) -> Cost | str:
    try:
        return cost_of(graph.sized(node))
    except Unknown as unknown:
        return str(unknown)
    except Exception as error:
        return _said(error)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
