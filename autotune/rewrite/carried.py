"""Decisions from before autodiff in the final compile: what serves their requests there, and how it is shown.

Before autodiff the linker is not known. A strategy that cannot serve under the one in force gives way to
PyTensor's own lowering, and the plan says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import cost_models
from autotune.choose import strategy
from autotune.choose.candidates import label, seconds
from autotune.problem import Candidate, Decision, Options, Problem

Decided = list[tuple[Any, Decision, Decision]]


def carried_decision(reading: Any, problem: Problem) -> Decision:
    """The decision that ``reading`` brought, for what its requests have become in the joint graph."""
    name = reading.carried
    decided = reading.decision or Decision(problem=problem, chosen=name, assignment=(name,), candidates=())
    no = strategy(name).declines(problem, _options(decided))
    names = (name if no is None else "keep",) * len(problem.requests)
    return replace(decided, problem=problem, assignment=names)


def _options(decision: Decision) -> Options:
    return Options(logdet_rtol=decision.logdet_rtol, forced=True, carried=True)


def as_served(decided: Decided) -> Decided:
    """``decided`` with each decision from before autodiff shown as what serves it here."""
    served: dict[Decision, list[tuple[str, Decision]]] = {}
    for reading, decision, shown in decided:
        if reading.carried is not None and shown is reading.whole:
            served.setdefault(shown, []).append((reading.carried, decision))
    truly = {shown: _shown(shown, parts) for shown, parts in served.items()}
    return [
        (reading, decision, truly.get(shown, shown) if reading.carried is not None else shown)
        for reading, decision, shown in decided
    ]


def told(decided: Decided) -> Iterator[Decision]:
    """The decisions as a plan tells them: those for parts that were left open inside that of the whole."""
    late: dict[Decision, dict[tuple[int, ...], Decision]] = {}
    for reading, decision, _ in decided:
        if reading.carried is None and reading.place:
            late.setdefault(reading.whole, {})[reading.place] = decision
    for reading, _, shown in decided:
        whole = shown if reading.carried or not reading.place else reading.whole
        yield _with_parts(whole, late[reading.whole]) if reading.whole in late else shown


def _with_parts(decision: Decision, late: dict[tuple[int, ...], Decision], at: tuple[int, ...] = ()):
    """``decision`` with those for its parts that were taken later."""
    if at in late:
        return late[at]
    parts = (_with_parts(part, late, (*at, i)) for i, part in enumerate(decision.parts))
    return replace(decision, parts=tuple(parts))


def _shown(decision: Decision, parts: Sequence[tuple[str, Decision]]) -> Decision:
    """``decision`` as ``parts`` serve it: each strategy that it names, and the decision for its requests."""
    refused = {name: _refusal(name, part) for name, part in parts if name not in part.assignment}
    if not refused:
        return decision
    names = tuple("keep" if name in refused else name for name in decision.assignment)
    reasons = "; ".join(dict.fromkeys(refused.values()))
    price = _price([part for _, part in parts], decision)
    winner = Candidate(label(names), *price, f"{decision.chosen} was chosen before autodiff, but {reasons}")
    others = [
        Candidate(c.name, None, None, reasons) if c.name == decision.chosen else c
        for c in decision.candidates
        if c.name != winner.name
    ]
    return replace(decision, chosen=winner.name, assignment=names, candidates=(winner, *others))


def _refusal(name: str, part: Decision) -> str:
    no = strategy(name).declines(part.problem, _options(part))
    return "" if no is None else no.reason


def _price(parts: Sequence[Decision], decision: Decision) -> tuple[float | None, float | None]:
    """Seconds and bytes of what serves ``parts``; None without a profile or a size."""
    if not decision.profile or any(part.problem.unknown_sizes for part in parts):
        return None, None
    profile = cost_models.find_profile()
    prices = [seconds(part.problem, part.assignment, _options(decision), profile) for part in parts]
    return sum(price for price, _ in prices), max(peak for _, peak in prices)
