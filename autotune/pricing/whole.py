"""The price of a whole compiled function.

    seconds = one call + inputs and outputs + every node's kernels + what has left the cache + fresh pages

Kernels are timed in loops, with their operands in the cache. In a function other kernels run in between: as
far as it works on more than the cache holds, what a kernel would have found there comes from memory.

And kernels are timed in memory that their process has got before. A function that holds more at once than the
allocator keeps gives the rest back to the system after each call, and gets it anew, cleared page by page, in
the next (glibc's trim threshold, mallopt(3): twice the largest block of up to 32 MiB that was freed).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from autotune.pricing.arrays import Cost, Unknown
from autotune.pricing.peak import largest_bytes, peak_bytes
from autotune.pricing.sized import SizedGraph
from autotune.pricing.table import cost_of
from cost_models import KERNEL_BY_NAME, KernelCall, Profile, call
from cost_models.model import FRESH, ITEMSIZE

INPUT, OUTPUT = 0.07, 0.17
"""What each further input and output adds to the fixed cost of a call, as a share of it."""
FREED = 2**20
"""Bytes of the largest block that a process is taken to have freed before: compiling does."""
KEPT_BLOCKS = 2
"""How many times the largest block freed the allocator keeps for reuse."""


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

    ``sizes``: an `autotune.read.sizes.Sizes` or, from actual arguments, an `ExampleSizes`. What an Op with no
    rule, a size that is not known or an error leaves open is listed under ``unknown``, never free.
    """
    try:
        graph = SizedGraph.of_function(fgraph, sizes)
    except Exception as error:
        return Price(0.0, 0.0, (NodePrice("the whole graph", reason=_said(error)),))
    by_node, peak = _priced(graph, profile)
    nodes = [NodePrice("call", (one_call(fgraph),), profile.seconds(one_call(fgraph), "float64"))]
    if (fresh := fresh_bytes(peak, largest_bytes(graph))) > 0:
        nodes.append(NodePrice("fresh pages", seconds=fresh * seconds_per_fresh_byte(profile)))
    nodes = sorted([*nodes, *by_node.values()], key=lambda node: -(node.seconds or 0.0))
    return Price(sum(node.seconds or 0.0 for node in nodes), peak, tuple(nodes))


def price_by_node(fgraph: Any, sizes: Any, profile: Profile) -> dict[Any, NodePrice]:
    """The price of every node of ``fgraph``, as it is part of that of the whole."""
    return _priced(SizedGraph.of_function(fgraph, sizes), profile)[0]


def _priced(graph: SizedGraph, profile: Profile) -> tuple[dict[Any, NodePrice], float]:
    """The price of every node, and the peak of bytes."""
    costs: dict[Any, Cost | str] = {node: _cost_or_reason(graph, node) for node in graph.nodes}
    known = {node: found for node, found in costs.items() if isinstance(found, Cost)}
    peak = peak_bytes(graph, {node: found.workspace for node, found in known.items()})
    prices = {}
    for node, found in costs.items():
        if isinstance(found, Cost):
            seconds = _seconds(found.calls, graph.sized(node).dtype, profile, peak)
            prices[node] = NodePrice(str(node.op), found.calls, seconds)
        else:
            prices[node] = NodePrice(str(node.op), reason=found)
    return prices, peak


def one_call(fgraph: Any) -> KernelCall:
    """The fixed cost: that of a function with one input and one output, and of each further one."""
    inputs, outputs = max(len(fgraph.inputs) - 1, 0), max(len(fgraph.outputs) - 1, 0)
    return call("call", count=1 + INPUT * inputs + OUTPUT * outputs)


def fresh_bytes(peak: float, largest: float) -> float:
    """Bytes of a call that the system supplies anew; the kernels' own prices hold those of larger blocks."""
    kept = KEPT_BLOCKS * max(largest, FREED)
    return max(0.0, peak - kept) if largest <= FRESH else 0.0


def seconds_per_fresh_byte(profile: Profile) -> float:
    """What `fill` shows; where a short calibration did not, `stream`, one of whose three arrays is new."""
    fill, stream = (
        profile.models["float64"][name].coefficients.get("fresh", 0.0) for name in ("fill", "stream")
    )
    return fill or 3 * stream


def evicted_share(peak: float, cache_bytes: int) -> float:
    """How much of what a kernel leaves in the cache other kernels have driven out when it is needed."""
    return min(1.0, max(0.0, peak / cache_bytes - 1))


def _seconds(calls: Iterable[KernelCall], dtype: str, profile: Profile, peak: float) -> float:
    calls = tuple(calls)
    return profile.seconds_of(calls, dtype) + sum(_refill(c, dtype, profile, peak) for c in calls)


def _refill(one: KernelCall, dtype: str, profile: Profile, peak: float) -> float:
    """Seconds to fetch from memory what the kernel, run in a loop, finds in its share of the cache.

    What is beyond that share the kernel's own price holds, and so that of fresh pages: nothing is paid twice.
    """
    model = profile.models[dtype][one.kernel]
    touched = KERNEL_BY_NAME[one.kernel].bytes(one.dims, ITEMSIZE[dtype])
    cached = min(one.count * min(touched, model.cache_bytes), peak)
    share = evicted_share(peak, model.cache_bytes)
    return share * model.coefficients.get("bytes_beyond", 0.0) * cached


def _cost_or_reason(graph: SizedGraph, node: Any) -> Cost | str:
    try:
        return cost_of(graph.sized(node))
    except Unknown as unknown:
        return str(unknown)
    except Exception as error:
        return _said(error)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
