"""Find the plan of something compiled, and price the whole function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cost_models
from autotune.plan import Plan
from autotune.plan.feature import compiled_plan
from autotune.pricing import ExampleSizes, price
from autotune.report.inside import compiled_function
from autotune.report.model import explain_model, is_model

if TYPE_CHECKING:
    from autotune.policy.places import PolicySource


def explain(fn: Any, arguments: Sequence[Any] = (), *, policy: PolicySource = None) -> Plan:
    """The plan of a compiled PyTensor function, or of the one that a callable calls, however it wraps it.

    Its ``price`` is that of the whole function. Lengths that are unknown when the graph is compiled are
    taken from ``arguments``, if these are given as the function takes them.

    Of a PyMC model: the plan of its log-probability with gradient, compiled under ``policy`` on top of what
    is enabled, with the price of the same by plain PyTensor (``plain``) and hints (``advice``): changes of
    the model that are predicted to make it faster.

    Raises ``TypeError`` for something that holds no compiled function, or several, ``ValueError`` for a
    function that was compiled without autotune.
    """
    if is_model(fn):
        return explain_model(fn, policy)
    if policy is not None:
        raise TypeError(f"Found a policy for {type(fn).__name__}, which is compiled. Only models take one.")
    compiled = compiled_function(fn)
    plan = compiled_plan(compiled.maker.fgraph)
    if plan is None:
        raise ValueError(
            "This function was compiled without autotune. "
            "Compile it with mode=autotune.mode() or after autotune.enable()."
        )
    if plan.failure:
        return plan
    return replace(plan, price=_price(compiled.maker.fgraph, arguments, plan.hints))


def _price(fgraph, arguments: Sequence[Any], hints: Mapping[str, int]):
    return price(fgraph, ExampleSizes(fgraph, arguments, dict(hints)), cost_models.find_profile())
