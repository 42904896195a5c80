"""Find the plan of something compiled."""

from __future__ import annotations

from typing import Any

from autotune.plan import Plan
from autotune.rewriting import plan_of

# How PyMC's wrappers of a compiled function hold it.
_WRAPPED = ("_pytensor_function", "pytensor_function", "f", "fn", "func")


def explain(fn: Any) -> Plan:
    """The plan of a compiled PyTensor function, or of PyMC's wrappers of one.

    Raises ``TypeError`` for something that holds no compiled function, ``ValueError`` for a function
    that was compiled without autotune.
    """
    compiled = _compiled(fn)
    if compiled is None:
        raise TypeError(
            f"Found {type(fn).__name__}, which holds no compiled PyTensor function. "
            "Give the result of pytensor.function or of PyMC's compile_logp, compile_fn "
            "or logp_dlogp_function."
        )
    plan = plan_of(compiled.maker.fgraph)
    if plan is None:
        raise ValueError(
            "This function was compiled without autotune. "
            "Compile it with mode=autotune.mode() or after autotune.enable()."
        )
    return plan


def _compiled(fn: Any):
    for _ in range(5):
        if hasattr(getattr(fn, "maker", None), "fgraph"):
            return fn
        fn = next((getattr(fn, name) for name in _WRAPPED if getattr(fn, name, None) is not None), None)
        if fn is None:
            return None
    return None
