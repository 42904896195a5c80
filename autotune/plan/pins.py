"""A plan as a policy that makes the same choices again, and what became of such pins in another compile."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from autotune.choose import strategy as named
from autotune.plan.model import Plan
from autotune.policy import Accuracy, Options, Policy, PolicyError, Rule, yaml_loader
from autotune.policy.files import as_written
from autotune.problem import Decision, Problem, with_parts

logger = logging.getLogger("autotune")
MOST_LISTED = 5


def pins_of(plan: Plan) -> Policy:
    """One rule per decision and strategy, which finds the problem by fingerprint, name, structure and size.

    With what the strategies were built with, and with the size hints that the problems were read with.
    """
    decisions = with_parts(d for one in (plan, *plan.inner) for d in one.decisions)
    rules = [rule for decision in decisions for rule in _rules(decision)]
    unique = [rule for i, rule in enumerate(rules) if rule not in rules[:i]]
    pins: dict[str, Any] = {"accuracy": _accuracy(decisions), "rules": unique}
    return Policy.model_validate(pins | ({"sizes": dict(plan.hints)} if plan.hints else {}))


def pins_text(plan: Plan) -> str:
    """The pins as a policy file that leaves all else to the layers below."""
    return yaml_loader.dump({"version": 1} | as_written(pins_of(plan)))


def _accuracy(decisions: Sequence[Decision]) -> dict[str, float | None]:
    """The strictest tolerances that the decisions were taken with."""
    estimates = [d.logdet_rtol for d in decisions if d.logdet_rtol is not None]
    return {
        "solve_rtol": min((d.solve_rtol for d in decisions), default=Accuracy().solve_rtol),
        "logdet_rtol": min(estimates, default=None),
    }


def _rules(decision: Decision) -> Iterator[dict[str, Any]]:
    match = pin_match(decision)
    strategies = list(dict.fromkeys(decision.assignment))
    for strategy in strategies:
        rule = {"match": match, "force": strategy, "pin": True}
        if len(strategies) > 1:  # one alone serves whatever is asked, before autodiff and after
            asked = zip(decision.problem.requests, decision.assignment, strict=True)
            kinds = list(dict.fromkeys(r.kind for r, s in asked if s == strategy))
            rule["match"] = match | {"request": kinds}
        if decision.before_autodiff and decision.problem.unknown_sizes:
            rule["before_autodiff"] = True
        if decision.crossover is not None:
            rule["crossover"] = decision.crossover.model_dump(mode="json")
        options = _options(decision, strategy)
        yield rule | ({"options": options} if options else {})


def pin_match(decision: Decision) -> dict[str, Any]:
    """The conditions by which a pin finds the problem again, the requests apart."""
    problem = decision.problem
    match: dict[str, Any] = {"structure": problem.structure[-1]}
    for key in ("name", "fingerprint"):
        if getattr(problem, key):
            match[key] = _escaped(getattr(problem, key))
    if problem.n is not None:
        match |= {"min_n": problem.n, "max_n": problem.n}
    return match


def _options(decision: Decision, strategy: str) -> dict[str, Any]:
    """What an iterative strategy was built with; exact ones take no options."""
    if named(strategy).exact:
        return {}
    values = {key: getattr(decision, key) for key in Options.model_fields}
    return {key: value for key, value in values.items() if value is not None}


def _escaped(name: str) -> str:
    """A name as a glob that matches only itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


# -- pins that find nothing -----------------------------------------------------------------------


def report_missing(policy: Policy, own: Sequence[Rule], decisions: Sequence[Decision]) -> None:
    """Say which pins in ``policy`` find no problem among ``decisions``, as ``missing_pins`` demands.

    ``own``: the pins given to this function alone, all of which it must hold. Pins in force for every compile
    are looked for in functions that hold at least one of them. Raises ``PolicyError`` if the policy says so.
    """
    missing = missing_pins(policy, decisions)
    if own or len(missing) < len(policy.pins):
        _report(policy, missing)


def report_lost(policy: Policy, decisions: Sequence[Decision]) -> None:
    """The same for all ``decisions`` of a program, where pins in force for every compile must be found."""
    _report(policy, missing_pins(policy, decisions))


def _report(policy: Policy, missing: Sequence[Rule]) -> None:
    if not missing:
        return
    message = "\n".join(_told(rule) for rule in missing[:MOST_LISTED])
    rest = len(missing) - MOST_LISTED
    message += f"\n{rest} more {'pin finds' if rest == 1 else 'pins find'} nothing." if rest > 0 else ""
    message += "\nSave the plan again, or remove what is gone from the pins."
    if policy.missing_pins == "error":
        raise PolicyError(message)
    logger.warning("%s", message)


def missing_pins(policy: Policy, decisions: Sequence[Decision]) -> tuple[Rule, ...]:
    """The pins of ``policy`` that match no request of any of the decisions."""
    return tuple(rule for rule in policy.pins if not finds(rule, decisions))


def finds(rule: Rule, decisions: Sequence[Decision]) -> bool:
    """Whether the rule matches a request of one of the decisions."""
    return any(_matches(rule, decision.problem) for decision in with_parts(decisions))


def is_pinned(problem: Problem, policy: Policy) -> bool:
    """Whether a pin of ``policy`` finds the problem."""
    return any(_matches(rule, problem) for rule in policy.pins)


def _matches(rule: Rule, problem: Problem) -> bool:
    given = (problem.structure, problem.n, problem.traits)
    return any(rule.match.holds(problem.name, request.kind, *given) for request in problem.requests)


def _told(rule: Rule) -> str:
    match = rule.match
    name = f"matrix {match.name!r}" if match.name else "a matrix"
    size = "" if match.min_n is None else f", n={match.min_n}"
    asked = f"{', '.join(match.request)} of " if match.request else ""
    place = f"({match.fingerprint}{size})"
    return f"{rule.origin}: the pin of {rule.force!r} on {asked}{name} {place} finds nothing."
