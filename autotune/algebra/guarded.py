"""Answers that are right only where a run-time check holds, beside direct ones that always are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytensor.tensor as pt
from pytensor.compile.builders import OpFromGraph
from pytensor.conditional.op import IfElse
from pytensor.gradient import DisconnectedType, disconnected_type, grad
from pytensor.graph.replace import graph_replace

# Marks an ``ifelse`` as ours: what is in its branches has been decided. PyTensor keeps the name.
BRANCHES = "autotune"


def either(condition: Any, fast: Sequence[Any], direct: Sequence[Any]) -> list[Any]:
    """``fast`` where ``condition`` holds, else ``direct``, of which lazy linkers compute only one."""
    return IfElse(len(fast), name=BRANCHES)(condition, *fast, *direct, return_list=True)


def is_either(node: Any) -> bool:
    """Whether it is a node of ``either``."""
    return isinstance(node.op, IfElse) and node.op.name == BRANCHES


def guarded(condition: Any, fast: Sequence[Any], direct: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """The same before automatic differentiation, of which the gradient is one of two as well.

    Through an ``ifelse`` PyTensor would differentiate both and compute both gradients, one of them of zeros.
    ``inputs``: the variables that all is made of.
    """
    own = list(dict.fromkeys(inputs))
    dummies = [var.type() for var in own]
    pairs = dict(zip(own, dummies, strict=True))
    condition, *answers = graph_replace([condition, *fast, *direct], pairs, strict=False)
    return Guarded(dummies, either(condition, answers[: len(fast)], answers[len(fast) :]))(
        *own, return_list=True
    )


class Guarded(OpFromGraph):
    """One of two graphs by a condition, as an Op that differentiates both. Compiled it is an ``ifelse``."""

    def __init__(self, inputs, outputs, **kwargs):
        super().__init__(inputs, outputs, **{"inline": True, **kwargs})

    def pullback(self, inputs, outputs, output_grads):
        graph = self.fgraph.unfreeze()
        own, results = list(graph.inputs), list(graph.outputs)
        condition, *answers = results[0].owner.inputs
        given = [not isinstance(bar.type, DisconnectedType) for bar in output_grads]
        bars = [bar.type() for bar in output_grads if not isinstance(bar.type, DisconnectedType)]
        fast, direct = (
            _pulled_back([a for a, known in zip(branch, given, strict=True) if known], own, bars)
            for branch in (answers[: len(results)], answers[len(results) :])
        )
        # as PyTensor sees it: zeros may be connected to what they are the cotangents of
        reached = [
            any(one for one, known in zip(row, given, strict=True) if known)
            for row in self.connection_pattern(None)
        ]
        pairs = [
            (_or_zeros(a, var), _or_zeros(b, var))
            for a, b, var, reach in zip(fast, direct, own, reached, strict=True)
            if reach
        ]
        if not pairs:
            return [disconnected_type() for _ in inputs]
        both = either(condition, *(list(side) for side in zip(*pairs, strict=True)))
        known = [bar for bar, is_given in zip(output_grads, given, strict=True) if is_given]
        found = iter(Guarded([*own, *bars], both)(*inputs, *known, return_list=True))
        return [next(found) if reach else disconnected_type() for reach in reached]


def _pulled_back(answers, inputs, bars) -> list[Any]:
    """The cotangents of ``inputs``, None where there is none.

    Of copies: the known cotangent of an answer that another answer is computed from would hide the other's.
    """
    answers = [answer.copy() for answer in answers]
    found = grad(
        None,
        inputs,
        known_grads=dict(zip(answers, bars, strict=True)),
        disconnected_inputs="ignore",
        return_disconnected="none",
    )
    return list(found)


def _or_zeros(bar, var):
    return pt.zeros_like(var) if bar is None else var.type.filter_variable(bar, allow_convert=True)
