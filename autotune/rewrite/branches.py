"""The graph of a decision that looks at run-time sizes: one lazy ``ifelse`` for all results of a matrix.

PyTensor's Numba and VM linkers evaluate no more than the branch that is taken. A branch holds what only this
matrix's results need; it depends on none of them, so that no result waits for itself.
"""

from __future__ import annotations

from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

import pytensor.tensor as pt
from pytensor.conditional.op import IfElse
from pytensor.graph.rewriting.basic import MergeOptimizer, get_active_mode
from pytensor.graph.traversal import ancestors, toposort

from autotune.algebra.guarded import either, is_either
from autotune.read.scan import is_root
from autotune.read.views import strip_view
from autotune.rewrite.build import lower, substitute, wire


def is_lazy(fgraph) -> bool:
    """Whether the linker in force evaluates only the branch of an ``ifelse`` that is taken."""
    from pytensor.link.numba import NumbaLinker
    from pytensor.link.vm import VMLinker

    linker = get_active_mode(fgraph).linker
    return isinstance(linker, NumbaLinker) or (isinstance(linker, VMLinker) and linker.lazy is not False)


def left_to_decide(fgraph, readings: list) -> list:
    """The readings but those in branches of ours: what is there has been decided."""
    if not any(is_either(node) for node in fgraph.apply_nodes):
        return readings
    inside: set[Any] = set()
    for node in reversed(fgraph.toposort()):
        clients = [client for out in node.outputs for client in fgraph.clients[out]]
        if clients and all(n in inside or (is_either(n) and i > 0) for n, i in clients):
            inside.add(node)
    return [r for r in readings if r.deferred or any(old.owner not in inside for old in r.replacements)]


def separable(readings: list) -> list:
    """The readings whose results can be computed all at once, in a branch that holds no other's problem."""
    ordered = _have_an_order(readings)
    return [r for r in readings if ordered and _stands_alone(r, readings)]


def _have_an_order(readings) -> bool:
    """Whether no two readings need results of each other: then all results of each can be one node's."""
    feeds = {
        i: [j for j, other in enumerate(readings) if j != i and not above.isdisjoint(other.replacements)]
        for i, above in enumerate(set(ancestors(r.replacements)) for r in readings)
    }
    try:
        TopologicalSorter(feeds).prepare()
    except CycleError:
        return False
    return True


def _stands_alone(reading, readings) -> bool:
    """Whether its results need no placeholder of another reading, nor another's matrix between its own."""
    if reading.batched or reading.needs or any(reading in n for r in readings for n in r.needs.values()):
        return False
    if _unknown_columns(reading) and not _columns(reading):
        return False
    own = _placeholders(reading)
    others = [r for r in readings if r is not reading]
    theirs = [a.rhs for r in others for a in r.requests.values() if a.rhs is not None]
    if not own.isdisjoint(ancestors([*theirs, *(v for r in others for v in r.replacements.values())])):
        return False
    nodes = _between(reading)
    made = {out for node in nodes for out in node.outputs}
    return made.issuperset(reading.replacements) and all(_is_root_of(n, reading) for n in nodes if is_root(n))


def _between(reading) -> list[Any]:
    """The nodes from the first solve, inverse or factorisation of the matrix to its results, in order."""
    found: dict[Any, None] = {}
    for node in toposort(list(reading.replacements)):
        if _is_root_of(node, reading) or any(i.owner in found for i in node.inputs):
            found[node] = None
    return list(found)


def _is_root_of(node, reading) -> bool:
    """Whether the node solves with, inverts or factorises the matrix of ``reading``."""
    if not is_root(node):
        return False
    if reading.deferred:
        return all(a is b for a, b in zip(node.inputs, reading.operator.parts, strict=False))
    return strip_view(node.inputs[0])[0] is reading.matrix


# -- building ---------------------------------------------------------------------------------------


def branches(reading, decision, existing) -> list[tuple[Any, Any]]:
    """Each variable that ``reading`` replaces, with the result of the branch that run-time sizes take.

    ``existing``: the variables of the graph.
    """
    found = decision.crossover
    condition = found.is_below(_run_time_sizes(reading, found), pt)
    old = list(reading.replacements)
    values = [_results(reading, decision, name, existing) for name in (found.below, found.above)]
    return list(zip(old, either(condition, *values), strict=True))


def join_branches(fgraph) -> None:
    """Make one ``ifelse`` of all of ours that ask the same, where nothing large would be computed twice.

    PyTensor's Numba linker computes what two of them share whatever the condition says. Those of a value and
    of its gradient ask the same by variables of their own, until equal ones are merged.
    """
    if len({node.inputs[0] for node in fgraph.apply_nodes if is_either(node)}) > 1:
        MergeOptimizer().rewrite(fgraph)
    for condition in dict.fromkeys(node.inputs[0] for node in fgraph.toposort() if is_either(node)):
        # anew in their order, which those that were joined before have changed
        nodes = [node for node in fgraph.toposort() if is_either(node) and node.inputs[0] is condition]
        old = [out for node in nodes for out in node.outputs]
        used = [out for out in old if fgraph.clients[out]]  # not the cotangents of constants
        if len(nodes) < 2 and len(used) == len(old):
            continue
        needed = _needed_beside(fgraph, nodes)
        fast, direct = (_side(nodes, which, needed) for which in (0, 1))
        if fast is not None and direct is not None:
            new = either(condition, *([side[out] for out in used] for side in (fast, direct)))
            fgraph.replace_all_validate(list(zip(used, new, strict=True)), reason="autotune_branches")


def _needed_beside(fgraph, nodes) -> set[Any]:
    """The nodes that are computed whichever branches of ``nodes`` are taken, or in other branches."""
    needed: set[Any] = set()
    queue = list(fgraph.outputs)
    while queue:
        node = queue.pop().owner
        if node is not None and node not in needed:
            needed.add(node)
            queue += node.inputs[:1] if node in nodes else node.inputs
    return needed


def _side(nodes, which: int, needed: set[Any]) -> dict[Any, Any] | None:
    """All results of several nodes by their first or second branch, in terms of none of their results; None
    if that would compute anew what is ``needed`` beside it and takes long."""
    found: dict[Any, Any] = {}
    for node in nodes:
        count = len(node.outputs)
        values = node.inputs[1 + which * count :][:count]
        anew = _that_use(values, found)
        if any(n in needed and (is_root(n) or isinstance(n.op, IfElse)) for n in anew):
            return None
        found |= dict(zip(node.outputs, substitute(values, found), strict=True))
    return found


def _that_use(values, variables) -> list[Any]:
    """The nodes between ``variables`` and ``values``."""
    found: dict[Any, None] = {}
    for node in toposort(values, blockers=variables):
        if any(i in variables or i.owner in found for i in node.inputs):
            found[node] = None
    return list(found)


def _results(reading, decision, name, existing) -> list[Any]:
    """The results by one strategy; by ``keep`` those of the graph as it was written."""
    if name == "keep" and not reading.deferred:
        return _copies(reading)
    closed = _closed(reading)
    answers = lower(closed, decision, (name,) * len(closed.requests))
    return [new for _, new in wire([closed], answers, existing)]


def _copies(reading) -> list[Any]:
    """The variables that ``reading`` replaces, computed by nodes of their own."""
    copies: dict[Any, Any] = {}
    for node in _between(reading):
        inputs = [copies.get(i, i) for i in node.inputs]
        copies.update(
            zip(node.outputs, node.clone_with_new_inputs(inputs, strict=False).outputs, strict=True)
        )
    return [copies[old] for old in reading.replacements]


def _closed(reading) -> Any:
    """The reading in terms of its placeholders alone, also where it is made of its own results.

    A branch that used one of the variables that it replaces would wait for itself.
    """
    closed: dict[Any, Any] = {}
    for node in toposort(list(reading.replacements)):  # what a result is made of comes before it
        for old in node.outputs:
            if old in reading.replacements:
                closed |= {old: substitute([reading.replacements[old]], closed)[0]}
    requests = {
        key: asked if asked.rhs is None else replace(asked, rhs=substitute([asked.rhs], closed)[0])
        for key, asked in reading.requests.items()
    }
    in_order = {old: closed[old] for old in reading.replacements}
    return replace(reading, requests=requests, replacements=in_order)


def _placeholders(reading) -> set[Any]:
    return {answer for asked in reading.requests.values() for answer in asked.answers}


def _unknown_columns(reading) -> list[Any]:
    """The right-hand sides whose number of columns is not known."""
    rhs = (asked.rhs for asked in reading.requests.values())
    return [b for b in rhs if b is not None and b.type.shape[-1] is None]


def _columns(reading) -> list[Any]:
    """The numbers of columns that are known when the function runs, before any result of the matrix is."""
    own = {*reading.replacements, *_placeholders(reading)}
    return [b.shape[-1] for b in _unknown_columns(reading) if own.isdisjoint(ancestors([b]))]


def _run_time_sizes(reading, found) -> dict[str, Any]:
    columns, dims = _columns(reading), reading.operator.dims()
    names = (found.size, *found.over)
    sizes = {name: dims[name][0].shape[dims[name][1]] for name in names if name in dims}
    if "columns" in names:
        sizes["columns"] = pt.add(*columns) / len(columns) if len(columns) > 1 else columns[0]
    return sizes
