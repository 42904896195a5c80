"""Which rule of a policy hits which problem, with what effect, and why the others hit nothing.

Recomputed from the decisions alone, by `Policy.resolve`: nothing is recorded while a graph is compiled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from autotune.policy.model import Match, Policy, Resolved, Rule
from autotune.policy.names import did_you_mean, shown
from autotune.problem import Decision, Problem, Traits, with_parts

# What a rule is matched with: name, request, structure, number of rows, and the rest.
Asked = tuple[str | None, str, tuple[str, ...], int | None, Traits]

MOST_LISTED = 8


@dataclass(frozen=True)
class Hit:
    """A rule matches these requests of a problem: `effects` says what comes of its demands on all of them."""

    problem: Problem
    chosen: str
    requests: tuple[str, ...]
    effects: tuple[str, ...]


@dataclass(frozen=True)
class RuleReport:
    """A rule with its hits, or with the reason why there is none."""

    rule: Rule
    hits: tuple[Hit, ...]
    miss: str


def report(policy: Policy, decisions: Sequence[Decision]) -> list[RuleReport]:
    """What each rule of `policy` does to the problems of `decisions`; equal problems count once."""
    found = list(dict.fromkeys((decision.problem, decision.chosen) for decision in with_parts(decisions)))
    return [_reported(policy, rule, found) for rule in policy.rules]


def _reported(policy: Policy, rule: Rule, found: Sequence[tuple[Problem, str]]) -> RuleReport:
    problems = [problem for problem, _ in found]
    hits = tuple(hit for problem, chosen in found for hit in _hits(policy, rule, problem, chosen))
    return RuleReport(rule, hits, "" if hits else why_missed(rule.match, problems))


def _hits(policy: Policy, rule: Rule, problem: Problem, chosen: str) -> Iterator[Hit]:
    """One hit for the requests on which the rule has the same effects."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for kind in dict.fromkeys(request.kind for request in problem.requests):
        asked = _asked(problem, kind)
        if rule.match.holds(*asked):
            kinds.setdefault(tuple(_effects(rule, policy.resolve(*asked))), []).append(kind)
    for effects, matched in kinds.items():
        yield Hit(problem, chosen, tuple(matched), effects)


def _effects(rule: Rule, resolved: Resolved) -> Iterator[str]:
    """What comes of each demand of `rule`, given the demands of all rules that match a request."""
    if rule.force is not None:
        stands = resolved.force == rule.force
        yield _told(f"forces {rule.force}", stands, resolved.forbid.get(rule.force) or resolved.force_rule)
    for name in rule.forbid:
        yield _told(f"forbids {name}", name in resolved.forbid, resolved.force_rule)
    for key, value in rule.options.given().items():
        yield _told(f"sets {key}", getattr(resolved.options, key) == value, resolved.option_rules[key])


def _told(demand: str, stands: bool, decisive: Rule | None) -> str:
    return demand if stands or decisive is None else f"{demand} (overruled by {decisive.origin})"


# -- rules that hit nothing -----------------------------------------------------------------------


def why_missed(match: Match, problems: Sequence[Problem]) -> str:
    """The first condition that no request meets, with what there is; or that none meets all together."""
    asked = [_asked(problem, request.kind) for problem in problems for request in problem.requests]
    unmet = [match.unmet(*request) for request in asked]
    for condition in match.given() if asked else ():
        if all(condition in conditions for conditions in unmet):
            return _told_condition(condition, getattr(match, condition), asked)
    return "No request meets all of its conditions together."


def _told_condition(condition: str, value: Any, asked: Sequence[Asked]) -> str:
    column = {"name": 0, "request": 1, "structure": 2, "min_n": 3, "max_n": 3}
    values = [r[column[condition]] if condition in column else getattr(r[4], condition) for r in asked]
    there = list(dict.fromkeys(map(_word, values)))
    wanted = " or ".join(value) if isinstance(value, tuple) else _word(value)
    listed = ", ".join(there[:MOST_LISTED]) + (", ..." if len(there) > MOST_LISTED else "")
    hint = did_you_mean(value, there) if condition == "name" else ""
    return f"{condition} {wanted}: there is only {listed}.{hint}"


def _word(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, tuple):
        return " + ".join(value)
    return value if isinstance(value, str) and value.isprintable() else shown(value)


def _asked(problem: Problem, kind: str) -> Asked:
    return problem.name, kind, problem.structure, problem.n, problem.traits
