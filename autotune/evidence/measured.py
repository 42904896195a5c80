"""``effort: measure`` and ``exhaustive``: the candidates for a problem are timed, and the fastest is taken.

    measure      those predicted to take at most ``WITHIN_REACH`` times the best, at most ``MOST``, and keep
    exhaustive   every candidate that applies and fits in memory
    choice       the fastest; of those within ``NEARLY_EQUAL`` of it the choice by prices, else keep

Each is compiled as a function of its own (`autotune.evidence.stand_ins`), must give keep's answers, and is
timed in alternation with the others (`autotune.evidence.trials`). What was measured is remembered
(`autotune.evidence.store`), so that the next compile times nothing. FFTW's planner does the same for Fourier
transforms (Frigo & Johnson 2005).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autotune.choose.candidates import options_of, strategy, within_guard
from autotune.choose.choice import decide
from autotune.choose.memory import available_memory
from autotune.evidence import store
from autotune.evidence.stand_ins import Modes, has_stand_in
from autotune.evidence.store import Entry
from autotune.evidence.timing import ROUNDS, SHORTEST_SAMPLE
from autotune.evidence.trials import try_out
from autotune.problem import Candidate, Decision
from autotune.problem.formats import three_digits
from autotune.strategies.base import dense_bytes
from cost_models import Profile

WITHIN_REACH = 2.5
MOST = 4
NEARLY_EQUAL = 0.02
BUILT_WITH = ("solve_rtol", "logdet_rtol", "condition_number", "max_iterations")
# Matrices of a problem's order beside a candidate's own: the input, and the answers that are compared.
HELD = 4

if TYPE_CHECKING:
    from autotune.policy import Policy

logger = logging.getLogger("autotune")


@dataclass(frozen=True)
class Task:
    """A decision by prices, what it would be for each candidate to time, and the key under which their times
    are remembered."""

    decision: Decision
    built: dict[str, Decision]
    key: dict[str, Any]


def measured(decisions: Sequence[Decision], policy: Policy, profile: Profile, modes: Modes) -> list[Decision]:
    """``decisions`` by prices, taken by measured times where the policy's effort says so.

    What is forced stands, and so does what has unknown sizes. ``modes``: those of the function being
    compiled. Whatever goes wrong leaves a decision as it was, with one line in the log.
    """
    if policy.effort == "estimate":
        return list(decisions)
    tasks = {
        i: task for i, d in enumerate(decisions) if (task := _task(d, policy, profile, modes)) is not None
    }
    entries = {i: _remembered(task) for i, task in tasks.items()}
    entries |= _timed({i: tasks[i] for i, entry in entries.items() if entry is None}, policy, modes)
    found = list(decisions)
    for i, entry in entries.items():
        if entry is not None:
            found[i] = decided(tasks[i], entry)
    return found


# -- which ----------------------------------------------------------------------------------------


def _task(decision: Decision, policy: Policy, profile: Profile, modes: Modes) -> Task | None:
    """What is to be timed; None where there is no choice, or no way to time it."""
    if not has_stand_in(decision.problem) or _is_forced(decision, policy):
        return None
    names = _wanted(decision, policy)
    if len(names) < 2 or decision.chosen not in names:
        return None
    linker = type(modes.plain.linker).__name__
    built = {name: _as_built(decision, name, policy, profile) for name in names}
    built_with = {name: given for name, one in built.items() if (given := _built_with(one))}
    return Task(decision, built, store.key_of(decision.problem, built_with, linker))


def _is_forced(decision: Decision, policy: Policy) -> bool:
    p = decision.problem
    asked = (policy.resolve(p.name, r.kind, p.structure, p.n, p.traits) for r in p.requests)
    return any(resolved.force is not None for resolved in asked)


def _wanted(decision: Decision, policy: Policy) -> tuple[str, ...]:
    """The candidates to time, those with the lowest price first."""
    limit = policy.memory_limit if policy.memory_limit is not None else available_memory()
    room = limit - dense_bytes(decision.problem, HELD)
    priced = [c for c in decision.candidates if c.seconds is not None and "+" not in c.name]
    fitting = sorted((c for c in priced if (c.peak_bytes or 0) <= room), key=lambda c: c.seconds or 0.0)
    open_ = [c for c in fitting if strategy(c.name).exact or _iterates_alike(decision)]
    wanted = open_ if policy.effort == "exhaustive" else _within_reach(open_)
    while wanted and _least_seconds(wanted) > policy.effort_budget:
        wanted.pop()
    return tuple(c.name for c in wanted)


def _iterates_alike(decision: Decision) -> bool:
    """Whether iterations take as long on the stand-in: it has the declared condition number only."""
    problem = decision.problem
    preconditioned = decision.preconditioner is not None or problem.inverse is not None
    told = problem.spectrum is None or problem.spectrum.origin == "declared"
    return told and problem.structure == ("dense",) and not preconditioned


def _within_reach(open_: Sequence[Candidate]) -> list[Candidate]:
    """Of candidates in the order of their prices: those near the first, no more than ``MOST`` with keep."""
    names = {c.name for c in open_}
    near = [c for c in open_ if (c.seconds or 0.0) <= WITHIN_REACH * (open_[0].seconds or 0.0)]
    others = [c for c in near if c.name != "keep" and strategy(c.name).dominated_by not in names]
    others = others[: MOST - ("keep" in names)]
    return [c for c in open_ if c.name == "keep" or c in others]


def _least_seconds(candidates: Sequence[Candidate]) -> float:
    """Predicted seconds of the fewest rounds, and of the two calls before them."""
    return (ROUNDS[0] + 2) * sum(max(c.seconds or 0.0, SHORTEST_SAMPLE) for c in candidates)


def _as_built(decision: Decision, name: str, policy: Policy, profile: Profile) -> Decision:
    """The decision as it would be for one candidate."""
    problem = decision.problem
    names = (name,) * len(problem.requests)
    options = within_guard(problem, names, options_of(decision), profile)
    parts = tuple(decide(part, policy, lambda: profile) for part in strategy(name).parts(problem))
    return replace(
        decision, chosen=name, assignment=names, max_iterations=options.max_iterations, parts=parts
    )


def _built_with(decision: Decision) -> dict[str, Any]:
    """What strategies that iterate, or serve by parts, are built with, as plain data."""
    found: dict[str, Any] = {}
    if not all(strategy(name).exact for name in decision.assignment):
        given = decision.preconditioner
        plain = None if given is None else given.model_dump(mode="json")
        found |= {**{key: getattr(decision, key) for key in BUILT_WITH}, "preconditioner": plain}
    if decision.parts:
        found["parts"] = [[part.chosen, _built_with(part)] for part in decision.parts]
    return found


# -- timing ---------------------------------------------------------------------------------------


def _timed(tasks: Mapping[int, Task], policy: Policy, modes: Modes) -> dict[int, Entry | None]:
    """Times for each task, all in the policy's budget: what does not fit is left to the next compile."""
    entries: dict[int, Entry | None] = {}
    remaining = policy.effort_budget
    for done, (i, task) in enumerate(tasks.items()):
        least = _least_seconds([task.decision.candidate(name) for name in task.built])
        entries[i] = _remembered(task)  # one problem may stand in a graph twice
        if entries[i] is None and least <= remaining:
            budget = max(least, remaining / (len(tasks) - done))
            entry = entries[i] = _tried(task, budget, modes)
            remaining -= entry.spent if entry is not None else 0.0
        elif entries[i] is None:
            logger.warning("effort_budget is spent: %s is left to the next compile.", _named(task))
    return entries


def _remembered(task: Task) -> Entry | None:
    """What is remembered of these candidates, if it is of all of them."""
    entry = store.load(task.key)
    return entry if entry is not None and entry.tried >= set(task.built) else None


def _tried(task: Task, budget: float, modes: Modes) -> Entry | None:
    """Times of the candidates, in about ``budget`` seconds; None if they cannot be had."""
    try:
        # In a context of its own: neither a session nor a graph being compiled around it takes part.
        entry = Context().run(try_out, task.built, budget, modes)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        logger.warning("%s could not be timed, so prices decide: %s", _named(task), found)
        return None
    store.save(task.key, entry)
    return entry


def _named(task: Task) -> str:
    problem = task.decision.problem
    return f"The matrix {problem.name or problem.source or problem.fingerprint} (n={problem.n})"


# -- what comes of it -----------------------------------------------------------------------------


def decided(task: Task, entry: Entry) -> Decision:
    """The decision by the times in ``entry``, of candidates that the policy lets in now."""
    seconds = {name: entry.seconds[name] for name in task.built if name in entry.seconds}
    ruled_out = {name: entry.ruled_out[name] for name in task.built if name in entry.ruled_out}
    if not seconds:
        return task.decision
    chosen = fastest(seconds, task.decision.chosen)
    candidates = (_with_time(c, seconds, ruled_out, chosen) for c in task.decision.candidates)
    return replace(task.built[chosen], candidates=tuple(candidates))


def fastest(seconds: Mapping[str, float], by_prices: str) -> str:
    """The candidate of the least time; of nearly equal ones the choice by prices, or else keep.

    So noise alone changes nothing. What differs outside of the matrix is not timed here, such as a dense
    identity that only keep leaves in the graph.
    """
    best = min(seconds, key=seconds.__getitem__)
    near = [name for name, time in seconds.items() if time <= (1 + NEARLY_EQUAL) * seconds[best]]
    return next((name for name in (by_prices, "keep") if name in near), best)


def _with_time(
    candidate: Candidate, seconds: Mapping[str, float], ruled_out: Mapping[str, str], chosen: str
) -> Candidate:
    name = candidate.name
    if name in ruled_out:
        return replace(candidate, reason=ruled_out[name])
    if name not in seconds:
        return candidate
    reason = f"{three_digits(seconds[name] / seconds[chosen])} times the measured time of {chosen}"
    if name == chosen and seconds[name] == min(seconds.values()):
        reason = "fastest when measured"
    elif name == chosen:
        reason = f"within {100 * NEARLY_EQUAL:.0f} % of the fastest measured"
    return replace(candidate, measured=seconds[name], reason=reason)
