"""The ways to serve a problem: every strategy, and every split of the requests that a policy forces.

Each is priced by a profile where the sizes are known, or ruled out with a reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from autotune.problem import Candidate, Decision, Options, Problem
from autotune.problem.formats import format_bytes
from autotune.strategies import STRATEGIES, Strategy, Work
from cost_models import Profile

# What iterating in vain may cost, as a share of the direct way.
GUARD = 0.3
# Where the guard pays for fewer iterations than these none are tried: beside so few, what a fallback costs
# more than the direct way (checks, true residuals, a call from Python) is not little.
FEWEST_ITERATIONS = 10


def strategy(name: str) -> Strategy:
    return next(s for s in STRATEGIES if s.name == name)


def parts(problem: Problem, names: tuple[str, ...]) -> Iterator[tuple[Strategy, Problem]]:
    """Each strategy of an assignment with the requests that it serves."""
    if len(set(names)) == 1:
        yield strategy(names[0]), problem
        return
    for name in dict.fromkeys(names):
        yield (
            strategy(name),
            problem.only(r for r, s in zip(problem.requests, names, strict=True) if s == name),
        )


def work_of(served_by: Strategy, problem: Problem, options: Any) -> Work:
    """All that a strategy runs, the work on the parts by which it serves included; sizes must be known."""
    work = served_by.work(served_by.as_served(problem), options)
    calls, peak = list(work.calls), work.peak_bytes
    for part in served_by.parts(problem):
        decision = options.decide(part)
        for inner, asked in parts(part, decision.assignment):
            found = work_of(inner, asked, options_of(decision, options.decide))
            calls += found.calls
            peak = max(peak, work.peak_bytes + found.peak_bytes)
    return Work(tuple(calls), peak)


def options_of(decision: Decision, decide: Any = None) -> Options:
    """What the strategies of a decision are built with."""
    names = ("solve_rtol", "condition_number", "max_iterations", "preconditioner", "logdet_rtol")
    return Options(**{name: getattr(decision, name) for name in names}, decide=decide)


def seconds(problem: Problem, names: tuple[str, ...], options: Any, profile: Profile) -> tuple[float, float]:
    """Predicted seconds and peak bytes of an assignment of strategies to requests; sizes must be known."""
    total, peak = 0.0, 0.0
    for served_by, part in parts(problem, names):
        work = work_of(served_by, part, options)
        total += sum(profile.seconds(c, problem.dtype) for c in work.calls)
        peak = max(peak, work.peak_bytes)
    return total, peak


def within_guard(problem, names, options, profile) -> Options:
    """``options`` with the iterations that ``GUARD`` of the direct way pays for, unless the user set them.

    A preconditioner and other preparations are paid for from the same share; none may be left. What is
    forced is not guarded, nor what has unknown sizes.
    """
    if options.max_iterations is not None or options.forced or problem.unknown_sizes:
        return options
    for served_by, part in parts(problem, names):
        guarded = served_by.guarded(part, options)
        if guarded is not None:
            kernels = (*guarded, served_by.preparation(part, options))
            direct, step, setup = (sum(profile.seconds(c, problem.dtype) for c in calls) for calls in kernels)
            if step > 0:
                allowed = int((GUARD * direct - setup) / step)
                return replace(options, max_iterations=allowed if allowed >= FEWEST_ITERATIONS else 0)
    return options


def all_assignments(problem, forced) -> list[tuple[str, ...]]:
    """One strategy for all requests, or for all that no rule forces."""
    names = [s.name for s in STRATEGIES if s.concerns(problem)]
    return list(
        dict.fromkeys(
            tuple(forced.get(i, name) for i in range(len(problem.requests)))
            for name in (names if len(forced) < len(problem.requests) else names[:1])
        )
    )


def label(names) -> str:
    """An assignment as a candidate's name."""
    return "+".join(dict.fromkeys(names))


def place(rule) -> str:
    """File and line of a rule, to begin a message with; empty for a rule made in code."""
    origin = getattr(rule, "origin", None)
    return f"{origin}: " if origin else ""


def candidate_of(problem, names, options, profile, forbidden, forced, limit) -> Candidate:
    """An assignment with its price, or with the reason why it is out."""
    reason = _ruled_out(problem, names, options, forbidden, forced)
    if not reason:  # only what else may serve is worth the price of its guard
        options = within_guard(problem, names, options, profile)
        reason = _ruled_out(problem, names, options, forbidden, forced)
    if reason or problem.unknown_sizes:
        return Candidate(label(names), None, None, reason)
    total, peak = seconds(problem, names, options, profile)
    if peak > limit and not forced:
        reason = f"needs {format_bytes(peak)}, memory_limit is {format_bytes(limit)}"
    return Candidate(label(names), total, peak, reason)


def _ruled_out(problem, names, options, forbidden, forced) -> str:
    for served_by, part in parts(problem, names):
        if served_by.name in forbidden and served_by.name not in forced.values():
            return f"forbidden by {place(forbidden[served_by.name]).rstrip(': ') or 'the policy'}"
        no = served_by.declines(part, options)
        if no is not None:
            return no.reason
    return ""


def without_dominated(candidates) -> list[Candidate]:
    """Rule out what another open strategy does with less work: no error of the model turns that round."""
    open_ = {c.name for c in candidates if not c.reason}
    better = {s.name: s.dominated_by for s in STRATEGIES if s.dominated_by in open_}
    return [
        replace(c, reason=f"{better[c.name]} does the same with less work")
        if not c.reason and c.name in better
        else c
        for c in candidates
    ]


def overruled(problem, assignments, options, profile, forbidden, limit) -> list[Candidate]:
    """The candidates that a force rules out, priced all the same so that its cost can be seen."""
    names = [(s.name,) * len(problem.requests) for s in STRATEGIES if s.concerns(problem)]
    others = [
        candidate_of(problem, n, options, profile, forbidden, {}, limit)
        for n in names
        if n not in assignments
    ]
    return [c if c.reason else replace(c, reason="the policy forces another") for c in others]
