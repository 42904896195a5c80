"""A plan as JSON: what the table shows, and what rules can match."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autotune.plan.model import Plan
    from autotune.pricing import Price
    from autotune.problem import Decision

VERSION = 1


def text(plan: Plan) -> str:
    """The plan as the text of a JSON object."""
    return json.dumps(as_data(plan), indent=2, allow_nan=False)


def as_data(plan: Plan) -> dict[str, Any]:
    """The plan as dicts, lists, texts, numbers and None; unknown sizes and prices are None."""
    return {
        "version": VERSION,
        "failure": plan.failure,
        "sizes": dict(plan.hints),
        "decisions": [_decision(decision) for decision in plan.decisions],
        "inner": [as_data(inner) for inner in plan.inner],
        "whole_function": None if plan.price is None else _price(plan.price),
        "plain": None if plan.plain is None else _price(plan.plain),
        "advice": [asdict(hint) for hint in plan.advice],
    }


def _decision(decision: Decision) -> dict[str, Any]:
    sections = {"preconditioner": decision.preconditioner, "crossover": decision.crossover}
    given = {key: part and part.model_dump(mode="json") for key, part in sections.items()}
    data = asdict(replace(decision, parts=())) | given
    problem = decision.problem
    data["problem"] |= {"n": problem.n, "structure": problem.structure, "sizes": problem.sizes}
    data["parts"] = [_decision(part) for part in decision.parts]
    return data


def _price(price: Price) -> dict[str, Any]:
    nodes = [{"op": n.op, "seconds": n.seconds, "reason": n.reason} for n in price.nodes]
    return {"seconds": price.seconds, "peak_bytes": price.peak_bytes, "nodes": nodes}
