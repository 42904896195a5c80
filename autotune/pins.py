"""A plan as a policy that makes the same choices again."""

from __future__ import annotations

from typing import Any

from autotune.plan import Decision, Plan
from autotune.policy import Accuracy, Options, Policy


def pins_of(plan: Plan) -> Policy:
    """One rule per decision and strategy, matching the problem by name, structure, size and request."""
    rules = [rule for decision in plan.decisions for rule in _rules(decision)]
    unique = [rule for i, rule in enumerate(rules) if rule not in rules[:i]]
    rtol = min((d.solve_rtol for d in plan.decisions), default=Accuracy().solve_rtol)
    asked = [d.logdet_rtol for d in plan.decisions if "lanczos" in d.assignment and d.logdet_rtol]
    accuracy = {"solve_rtol": rtol} | ({"logdet_rtol": min(asked)} if asked else {})
    return Policy.model_validate({"accuracy": accuracy, "rules": unique})


def _rules(decision: Decision):
    problem = decision.problem
    match: dict[str, Any] = {"structure": problem.structure[-1]}
    if problem.name:
        match["name"] = _escaped(problem.name)
    if problem.n is not None:
        match |= {"min_n": problem.n, "max_n": problem.n}
    for strategy in dict.fromkeys(decision.assignment):
        kinds = [r.kind for r, s in zip(problem.requests, decision.assignment, strict=True) if s == strategy]
        rule: dict[str, Any] = {"match": match | {"request": list(dict.fromkeys(kinds))}, "force": strategy}
        options = {key: getattr(decision, key) for key in Options.model_fields}
        if strategy in ("cg", "lanczos") and any(v is not None for v in options.values()):
            rule["options"] = {k: v for k, v in options.items() if v is not None}
        yield rule


def _escaped(name: str) -> str:
    """A name as a glob that matches only itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
