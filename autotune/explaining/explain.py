"""Find the plan of something compiled, and price the whole function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autotune.plan import Plan
from autotune.plan.feature import compiled_plan

# How PyMC's wrappers of a compiled function hold it.
_WRAPPED = ("_pytensor_function", "pytensor_function", "f", "fn", "func")


def explain(fn: Any, arguments: Sequence[Any] = ()) -> Plan:
    """The plan of a compiled PyTensor function, or of PyMC's wrappers of one.

    Its ``price`` is that of the whole function. Lengths that are unknown when the graph is compiled are
    taken from ``arguments``, if these are given as the function takes them.

    Raises ``TypeError`` for something that holds no compiled function, ``ValueError`` for a function
    that was compiled without autotune.
    """
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
    from autotune.pricing import ExampleSizes, price
    from cost_models import find_profile

    return price(fgraph, ExampleSizes(fgraph, arguments, dict(hints)), find_profile())


def compiled_function(fn: Any):
    """The PyTensor function inside ``fn``; ``TypeError`` if there is none."""
    found = _compiled(fn)
    if found is None:
        raise TypeError(
            f"Found {type(fn).__name__}, which holds no compiled PyTensor function. "
            "Give the result of pytensor.function or of PyMC's compile_logp, compile_fn "
            "or logp_dlogp_function."
        )
    return found


def _compiled(fn: Any):
    for _ in range(5):
        if hasattr(getattr(fn, "maker", None), "fgraph"):
            return fn
        fn = next((getattr(fn, name) for name in _WRAPPED if getattr(fn, name, None) is not None), None)
        if fn is None:
            return None
    return None
