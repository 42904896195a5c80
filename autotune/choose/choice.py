"""The choice: a pure function of a problem, a policy and a profile.

    candidates = every strategy, and every split of the requests that a policy forces
    price      = sum of its kernels' seconds by the profile
    choice     = the cheapest, if it beats PyTensor's own lowering by more than ``margin``, and by more
                 than the standard error of the prices, of what the two do not have in common

Nothing here sees a graph, so that explaining, testing and the command line use the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autotune.choose.all_sizes import Prices, pick_for_all_sizes
from autotune.choose.best_preconditioner import with_preconditioner
from autotune.choose.candidates import (
    all_assignments,
    candidate_of,
    label,
    overruled,
    parts,
    place,
    seconds,
    strategy,
    within_guard,
    without_dominated,
)
from autotune.choose.margins import predicted_gain
from autotune.choose.memory import available_memory
from autotune.policy import PolicyError, Resolved
from autotune.problem import REQUEST_KINDS, Candidate, Decision, Options, Problem, Request
from autotune.problem.formats import three_digits
from autotune.strategies import Strategy
from autotune.strategies.iterations import condition_number
from cost_models import Profile

if TYPE_CHECKING:
    from autotune.policy import Policy
    from autotune.policy.crossover import Crossover

__all__ = ["Options", "choose", "describe", "pinned", "seconds", "strategy", "with_crossover"]


def decide(problem: Problem, policy: Policy, profile: Callable[[], Profile]) -> Decision:
    """The decision by the pins in ``policy``, else by prices; ``profile`` is asked for only then."""
    return pinned(problem, policy, profile) or choose(problem, policy, profile())


def choose(problem: Problem, policy: Policy, profile: Profile) -> Decision:
    """The cheapest way to serve ``problem`` that ``policy`` allows; a part that occurs twice is chosen once.

    Raises ``PolicyError`` when a forced strategy cannot serve what it is forced on.
    """
    return _choose(problem, policy, profile, {})


def _choose(problem: Problem, policy: Policy, profile: Profile, known: dict[Problem, Decision]) -> Decision:
    """``known``: the decisions for parts, so far."""

    def decide_part(part: Problem) -> Decision:
        if part not in known:
            pin = pinned(part, policy, lambda: profile)
            known[part] = pin or _choose(part, policy, profile, known)
        return known[part]

    ruled = _ruled(problem, policy)
    given = replace(_options(problem, policy, ruled), decide=decide_part)
    options = with_preconditioner(problem, given, profile)
    forced = {i: r.force for i, r in enumerate(ruled) if r.force is not None}
    if forced:
        _check_forced(problem, ruled, replace(options, forced=True))
    forbidden = {name: rule for r in ruled for name, rule in r.forbid.items()}
    limit = policy.memory_limit if policy.memory_limit is not None else available_memory()
    assignments = all_assignments(problem, forced)
    given = replace(options, forced=bool(forced))
    candidates = [candidate_of(problem, n, given, profile, forbidden, forced, limit) for n in assignments]
    if not forced:
        candidates = without_dominated(candidates)
    chosen, reason = _pick(problem, candidates, assignments, policy, profile, options, forced)
    if forced:
        candidates += overruled(problem, assignments, options, profile, forbidden, limit)
    assignment = next(names for names in assignments if label(names) == chosen.name)
    options = within_guard(problem, assignment, replace(options, forced=bool(forced)), profile)
    return Decision(
        problem=problem,
        chosen=chosen.name,
        assignment=assignment,
        candidates=tuple(_with_reasons(candidates, chosen, reason)),
        profile=profile.source,
        before_autodiff=problem.differentiated,
        **_iteration(options) | {"condition_number": condition_number(problem, options)},
        undecided=bool(problem.unknown_sizes) and not forced and not _parts_of(problem, assignment),
        parts=tuple(map(decide_part, _parts_of(problem, assignment))),
    )


def _parts_of(problem: Problem, names: tuple[str, ...]) -> list[Problem]:
    """The parts by which an assignment serves a problem."""
    return [part for served_by, own in parts(problem, names) for part in served_by.parts(own)]


def _iteration(options: Options) -> dict[str, Any]:
    """What an iterative strategy is built with, as a decision carries it."""
    names = ("condition_number", "max_iterations", "solve_rtol", "logdet_rtol", "preconditioner")
    return {name: getattr(options, name) for name in names}


def with_crossover(decision: Decision, policy: Policy, profile: Profile) -> Decision:
    """The decision to look at run-time sizes, where the candidate chosen without them is crossed by another.

    The same decision where nothing is gained by looking, or where its sizes are known or it is forced.
    The search is imported where sizes are unknown: most compiles need none.
    """
    problem = decision.problem
    if not decision.undecided or not decision.profile or problem.batch is None:
        return decision
    from autotune.choose.crossing import find_crossover

    options = _options(problem, policy, _ruled(problem, policy))
    others = [c.name for c in decision.candidates if c.could_serve and strategy(c.name).exact]
    found = find_crossover(Prices(problem, options, profile, policy.margin), decision.chosen, others)
    return decision if found is None else _crossing(decision, found, str(found))


def _crossing(decision: Decision, found: Crossover, reason: str) -> Decision:
    """``decision`` with the two candidates of ``found`` as the one chosen."""
    either = Candidate(found.name, None, None, reason)
    candidates = tuple(
        replace(c, reason=f"one of the two that {found.name} chooses from")
        if c.name in (found.below, found.above)
        else c
        for c in decision.candidates
    )
    return replace(decision, chosen=found.name, candidates=(either, *candidates), crossover=found)


def pinned(problem: Problem, policy: Policy, profile: Callable[[], Profile]) -> Decision | None:
    """The decision that the pins in ``policy`` make by themselves, without prices, so without a profile.

    None where a request has no pin, or where there are none at all. Parts that have none are chosen by
    ``profile``. Before autodiff, pins speak for all: what they do not name stays as written, as it did when
    they were saved, and what waited for its sizes then waits again. Raises as ``choose`` does.
    """
    if not policy.pins:
        return None
    ruled = _ruled(problem, policy)
    if problem.part and problem.differentiated and problem.n is None:
        ruled = _of_some_order(problem, policy) or ruled
    if _are_pins(ruled):
        _check_forced(problem, ruled, replace(_options(problem, policy, ruled), forced=True))
        names = tuple(r.force or "" for r in ruled)
        reason = f"pinned by {place(ruled[0].force_rule).rstrip(': ')}"
    elif problem.differentiated and all(r.force is None for r in ruled):
        names = ("keep",) * len(ruled)
        reason = "the pins name no choice before autodiff"
    else:
        return None
    options = _options(problem, policy, ruled)
    later = problem.differentiated and any(r.force_rule and not r.force_rule.before_autodiff for r in ruled)
    decision = Decision(
        problem=problem,
        chosen=label(names),
        assignment=names,
        candidates=(Candidate(label(names), None, None, reason),),
        before_autodiff=problem.differentiated,
        **_iteration(options),
        undecided=bool(problem.unknown_sizes) and later,
        parts=tuple(decide(part, policy, profile) for part in _parts_of(problem, names)),
    )
    crossover = getattr(ruled[0].force_rule, "crossover", None)
    if crossover is None or problem.differentiated:  # sizes are looked at when that is over
        return decision
    return _crossing(decision, crossover, f"{crossover}, {reason}")


def _ruled(problem: Problem, policy: Policy, n: int | None = None) -> list[Resolved]:
    """What the policy demands of each request; ``n``: the order, if the problem does not know it."""
    asked = (problem.structure, problem.n if n is None else n, problem.traits)
    return [policy.resolve(problem.name, r.kind, *asked) for r in problem.requests]


def _are_pins(ruled: list[Resolved]) -> bool:
    return all(r.force_rule is not None and r.force_rule.pin for r in ruled)


def _of_some_order(problem: Problem, policy: Policy) -> list[Resolved] | None:
    """The pins of a part whose order was known after autodiff only, when they were saved."""
    orders = dict.fromkeys(rule.match.min_n for rule in policy.pins)
    found = (_ruled(problem, policy, n) for n in orders if n is not None)
    return next((ruled for ruled in found if _are_pins(ruled)), None)


def _options(problem, policy, ruled) -> Options:
    """What the user says of the problem: in the policy, else in the code."""
    declared = None if problem.spectrum is None else problem.spectrum.condition_number
    merged: dict[str, Any] = {"condition_number": declared}
    for r in ruled:
        given = {key: getattr(r.options, key) for key in r.option_rules}
        merged |= {key: value for key, value in given.items() if value is not None}
    accuracy = policy.accuracy
    return Options(solve_rtol=accuracy.solve_rtol, logdet_rtol=accuracy.logdet_rtol, **merged)


def _check_forced(problem, ruled, options):
    """A forced strategy that cannot serve its requests is an error that says why."""
    for name in dict.fromkeys(r.force for r in ruled if r.force is not None):
        requests = [q for q, r in zip(problem.requests, ruled, strict=True) if r.force == name]
        no = strategy(name).declines(problem.only(requests), options)
        if no is not None:
            rule = next(r.force_rule for r in ruled if r.force == name)
            raise PolicyError(
                f"{place(rule)}the policy forces {name!r} on {describe(problem, requests)}: {no.reason}. "
                f"{_narrowing(strategy(name), requests)}"
            )


def _narrowing(forced: Strategy, requests: list[Request]) -> str:
    """What to do about a force. A gradient may ask for what the user never wrote; a match leaves that out."""
    if all(r.kind in forced.provides for r in requests):
        return "Narrow the rule's match or remove the force."
    kinds = ", ".join(kind for kind in REQUEST_KINDS if kind in forced.provides)
    return f"Narrow the rule, such as by match: {{request: [{kinds}]}}, or remove the force."


def describe(problem: Problem, requests: tuple[Request, ...] | list[Request] | None = None) -> str:
    """A problem in words, for messages."""
    kinds = ", ".join(dict.fromkeys(r.kind for r in requests or problem.requests))
    name = f"matrix {problem.name!r}" if problem.name else "a matrix"
    return (
        f"{kinds} of {name} ({'+'.join(problem.structure)}, n={problem.n if problem.n is not None else '?'})"
    )


def _pick(problem, candidates, assignments, policy, profile, options, forced) -> tuple[Candidate, str]:
    open_ = [c for c in candidates if not c.reason]
    keep = next((c for c in open_ if c.name == "keep"), None)
    if forced:
        best = min(open_, key=lambda c: c.seconds if c.seconds is not None else 0.0, default=None)
        if best is None:
            raise PolicyError(
                f"No strategy is left for {describe(problem)}: "
                + "; ".join(f"{c.name} {c.reason}" for c in candidates)
            )
        return best, "forced by the policy"
    if not open_:
        as_written = next(c for c in candidates if c.name == "keep")
        return as_written, "every candidate was ruled out, the graph stays as written"
    by_parts = [c for c in open_ if strategy(c.name).parts(problem)]
    if problem.unknown_sizes and by_parts:
        return by_parts[0], "asks its parts alone, whatever the sizes"
    if problem.unknown_sizes:
        prices = Prices(problem, options, profile, policy.margin)
        name, reason = pick_for_all_sizes(prices, [c.name for c in open_])
        return next(c for c in open_ if c.name == name), reason
    by_price = sorted(open_, key=lambda c: c.seconds)
    if keep is None:
        return by_price[0], "cheapest"
    named = {label(names): names for names in assignments}
    shortfalls: list[str] = []
    for candidate in by_price[: by_price.index(keep)]:
        gain, error = predicted_gain(problem, named[candidate.name], named["keep"], options, profile)
        if gain > max(policy.margin, error):
            cheaper = f" of those whose gain is sure ({'; '.join(shortfalls)})" if shortfalls else ""
            return candidate, f"cheapest{cheaper}"
        least, name = max((policy.margin, "the margin"), (error, "the error of the prices"))
        shortfalls.append(
            f"{candidate.name} would gain {100 * gain:.0f} % of what differs, "
            f"not more than {name} of {100 * least:.0f} %"
        )
    return keep, "; ".join(shortfalls) or "PyTensor's own lowering is the cheapest"


def _with_reasons(candidates, chosen, reason):
    for c in candidates:
        if c is chosen:
            yield replace(c, reason=reason)
        elif not c.reason and c.seconds is not None and chosen.seconds:
            ratio = c.seconds / chosen.seconds
            yield replace(c, reason=f"{three_digits(ratio)} times the predicted time of {chosen.name}")
        elif not c.reason:
            unproven = f"not proven cheaper than {chosen.name} for every size"
            yield replace(c, reason=unproven, could_serve=True)
        else:
            yield c
