"""A PyMC model: what is chosen in its log-probability and gradient, what that gains, what would gain more.

PyMC is not imported here: who has a model has imported it.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytensor.graph.replace import clone_replace

import cost_models
from autotune.plan import Plan
from autotune.plan.feature import compiled_plan
from autotune.plan.model import Hint
from autotune.plan.session import switched_off
from autotune.pricing import ExampleSizes, Price, price
from autotune.report.advice import Looked, proposals
from autotune.rewrite.doors import enabled

if TYPE_CHECKING:
    from autotune.policy.places import PolicySource

logger = logging.getLogger("autotune")
# A predicted gain below that, as a share of the time, is no advice: prices are not so sure.
GAIN = 0.2


def is_model(thing: Any) -> bool:
    """Whether it is a PyMC model."""
    pymc = sys.modules.get("pymc")
    return pymc is not None and isinstance(thing, pymc.Model)


def explain_model(model: Any, policy: PolicySource = None) -> Plan:
    """The plan of what PyMC compiles for the samplers: log-probability with gradient.

    With its price, that of plain PyTensor (``plain``), and ``advice``: changes of the model that are
    predicted to make that function faster by ``GAIN`` or more, each compiled and priced to find out.
    """
    with switched_off():
        plain = _price(_compiled(model, model.logp()))
    with enabled(policy):
        cost = model.logp()
        compiled = _compiled(model, cost)
        plan = compiled_plan(compiled) or Plan()
        if plan.failure:
            return plan
        plan = replace(plan, price=_price(compiled, plan), plain=plain)
        return replace(plan, advice=tuple(_advice(model, cost, plan)))


def _advice(model: Any, cost: Any, plan: Plan) -> list[Hint]:
    """The best of what wins for each variable or matrix, the best first."""
    best: dict[str, Hint] = {}
    for hint, changed in proposals(Looked(model, cost)):
        known = best.get(hint.about, plan).seconds
        try:
            seconds = _price(_compiled(model, changed), plan).seconds
        except Exception:  # what cannot be compiled so is no advice
            logger.debug("autotune could not try: %s", hint, exc_info=True)
            continue
        if known is not None and 0 < seconds < (1 - GAIN) * known:
            best[hint.about] = replace(hint, seconds=seconds)
    return sorted(best.values(), key=lambda hint: hint.seconds or 0.0)


def _compiled(model: Any, cost: Any) -> Any:
    """The graph of ``cost`` and its gradient by all continuous variables, compiled as PyMC does."""
    from pymc.model.core import ValueGradFunction

    point = model.initial_point(0)
    by = model.continuous_value_vars
    others = {var: point[var.name] for var in model.value_vars if var not in by}
    known = {"model": model, "initial_point": point, "compute_grads": bool(by), "ravel_inputs": bool(by)}
    function = ValueGradFunction([clone_replace(cost)], by, others, **known)  # it rewrites what it is given
    return function._pytensor_function.maker.fgraph


def _price(fgraph: Any, plan: Plan | None = None) -> Price:
    hints = {} if plan is None else dict(plan.hints)
    return price(fgraph, ExampleSizes(fgraph, (), hints), cost_models.find_profile())
