"""The plan of a graph, carried by the graph itself while it is compiled and afterwards."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import replace
from typing import Any
from weakref import ref

from pytensor.graph.features import Feature
from pytensor.graph.fg import Output

from autotune.algebra.host import features_of, mode_of_compile
from autotune.plan.model import Plan

# The function's graph that is being rewritten: PyTensor rewrites the graphs inside it meanwhile.
_outermost: ContextVar[Any] = ContextVar("autotune_outermost", default=None)


class PlanFeature(Feature):
    """Carries the plan, or the failure to make one, and tells the pass that it has been here.

    ``inner``: plans of the graphs inside (Scan, OpFromGraph, branches), as they are made. ``final``: the
    graph is about to be linked; its outputs are then marked as well, for ``fn.copy()`` keeps nothing else.
    """

    def __init__(self, plan: Plan, *, final: bool = False):
        self.plan = plan
        self.inner: list[Plan] = []
        self.final = final

    def clone(self):
        copy = PlanFeature(self.plan, final=self.final)
        copy.inner = self.inner
        return copy

    def on_attach(self, fgraph):
        for out in fgraph.outputs if self.final else ():
            out.tag.autotune_plan = self

    def on_change_input(self, fgraph, node, i, old, new, reason=None):
        if self.final and isinstance(node.op, Output):
            new.tag.autotune_plan = self


def feature_of(fgraph) -> PlanFeature | None:
    return next((f for f in features_of(fgraph) if isinstance(f, PlanFeature)), None)


def plan_of(fgraph) -> Plan | None:
    """The plan of a graph that the pass has seen."""
    feature = feature_of(fgraph)
    return None if feature is None else feature.plan


def compiled_plan(fgraph) -> Plan | None:
    """The plan of a compiled graph or of a copy of one, with the plans of the graphs inside."""
    marks = (getattr(out.tag, "autotune_plan", None) for out in fgraph.outputs)
    feature = feature_of(fgraph) or next((mark for mark in marks if mark is not None), None)
    return None if feature is None else replace(feature.plan, inner=tuple(feature.inner))


def enclosing(fgraph) -> Any:
    """The graph of the function inside which ``fgraph`` is being rewritten; None for a function's own.

    PyTensor keeps the mode on a graph for as long as it rewrites it.
    """
    outermost = _outermost.get()
    outer = None if outermost is None else outermost()
    if outer is not None and outer is not fgraph and mode_of_compile(outer) is not None:
        return outer
    _outermost.set(ref(fgraph))
    return None
