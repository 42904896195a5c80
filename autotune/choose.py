"""The choice: a pure function of a problem, a policy and a profile.

    candidates = every strategy, and every split of the requests that a policy forces
    price      = sum of its kernels' seconds by the profile
    choice     = the cheapest, if it beats PyTensor's own lowering by more than ``margin``, and by more
                 than the standard error of the prices, of what the two do not have in common

Nothing here sees a graph, so that explaining, testing and the command line use the same code.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from autotune.memory import available_memory
from autotune.plan import Candidate, Decision
from autotune.policy import Policy, PolicyError, Resolved
from autotune.problem import Problem, Request
from autotune.strategies import STRATEGIES, Strategy
from cost_models import KernelCall, Profile

# Where a size is unknown, a candidate must be the cheaper one at each of these.
SIZES_TRIED = {
    "n": (2, 16, 128, 1024, 8192),
    "rank": (1, 16, 256, 4096),
    "columns": (1, 64),
    "batch": (1, 32),
}
# Below this relative difference two predictions are the same.
INDIFFERENT = 0.02
# Standard error of a gain in batches: kernels are timed alone, not in a loop over the items.
BATCH_ERROR = 0.25
# What iterating in vain may cost, as a share of the direct way.
GUARD = 0.3


@dataclass(frozen=True)
class Options:
    """What a strategy is told about a problem beyond its sizes."""

    solve_rtol: float = 1e-10
    condition_number: float | None = None
    max_iterations: int | None = None
    preconditioner: Any = None
    logdet_rtol: float | None = None
    forced: bool = False
    carried: bool = False


def choose(problem: Problem, policy: Policy, profile: Profile) -> Decision:
    """The cheapest way to serve ``problem`` that ``policy`` allows.

    Raises ``PolicyError`` when a forced strategy cannot serve what it is forced on.
    """
    ruled = _ruled(problem, policy)
    options = _options(policy, ruled)
    forced = {i: r.force for i, r in enumerate(ruled) if r.force is not None}
    forbidden = {name: rule for r in ruled for name, rule in r.forbid.items()}
    if forced:
        _check_forced(problem, ruled, replace(options, forced=True))
    assignments = _assignments(problem, forced)
    limit = policy.memory_limit if policy.memory_limit is not None else available_memory()
    candidates = [
        _candidate(problem, names, replace(options, forced=bool(forced)), profile, forbidden, forced, limit)
        for names in assignments
    ]
    if not forced:
        candidates = _without_dominated(candidates)
    chosen, reason = _pick(problem, candidates, assignments, policy, profile, options, forced)
    if forced:
        candidates += _overruled(problem, assignments, options, profile, forbidden, limit)
    assignment = next(names for names in assignments if _label(names) == chosen.name)
    options = within_guard(problem, assignment, replace(options, forced=bool(forced)), profile)
    return Decision(
        problem=problem,
        chosen=chosen.name,
        assignment=assignment,
        candidates=tuple(_with_reasons(candidates, chosen, reason)),
        profile=profile.source,
        before_autodiff=problem.differentiated,
        **_iteration(options),
        undecided=bool(problem.unknown_sizes) and not forced,
    )


def _iteration(options: Options) -> dict[str, Any]:
    """What an iterative strategy is built with, as a decision carries it."""
    names = ("condition_number", "max_iterations", "solve_rtol", "logdet_rtol", "preconditioner")
    return {name: getattr(options, name) for name in names}


def pinned(problem: Problem, policy: Policy) -> Decision | None:
    """The decision that the pins in ``policy`` make by themselves, without prices, so without a profile.

    None where a request has no pin, or where there are none at all. Before autodiff, pins speak for all:
    what they do not name stays as written, as it did when they were saved. Raises as ``choose`` does.
    """
    if not policy.pins:
        return None
    ruled = _ruled(problem, policy)
    if all(r.force_rule is not None and r.force_rule.pin for r in ruled):
        _check_forced(problem, ruled, replace(_options(policy, ruled), forced=True))
        names = tuple(r.force or "" for r in ruled)
        reason = f"pinned by {_origin(ruled[0].force_rule).rstrip(': ')}"
    elif problem.differentiated and all(r.force is None for r in ruled):
        names = ("keep",) * len(ruled)
        reason = "the pins name no choice before autodiff"
    else:
        return None
    options = _options(policy, ruled)
    return Decision(
        problem=problem,
        chosen=_label(names),
        assignment=names,
        candidates=(Candidate(_label(names), None, None, reason),),
        before_autodiff=problem.differentiated,
        **_iteration(options),
        undecided=bool(problem.unknown_sizes) and ruled[0].force is None,
    )


def _ruled(problem: Problem, policy: Policy) -> list[Resolved]:
    """What the policy demands of each request."""
    asked = (problem.structure, problem.n, problem.traits)
    return [policy.resolve(problem.name, r.kind, *asked) for r in problem.requests]


def strategy(name: str) -> Strategy:
    return next(s for s in STRATEGIES if s.name == name)


def seconds(problem: Problem, names: tuple[str, ...], options: Any, profile: Profile) -> tuple[float, float]:
    """Predicted seconds and peak bytes of an assignment of strategies to requests; sizes must be known."""
    total, peak = 0.0, 0.0
    for name in dict.fromkeys(names):
        part = problem.only(r for r, s in zip(problem.requests, names, strict=True) if s == name)
        work = strategy(name).work(part, options)
        total += sum(profile.seconds(c, problem.dtype) for c in work.calls)
        peak = max(peak, work.peak_bytes)
    return total, peak


def distinct_work(problem, names, others, options) -> list[KernelCall]:
    """What an assignment runs beyond what ``others`` run as well.

    Kernels that both run have the same error, so only the rest tells which is faster.
    """
    mine, theirs = _calls(problem, names, options), _calls(problem, others, options)
    return [
        KernelCall(kernel, dims, count - min(count, theirs[kernel, dims]))
        for (kernel, dims), count in mine.items()
    ]


def _calls(problem, names, options) -> defaultdict[Any, float]:
    calls: defaultdict[Any, float] = defaultdict(float)
    for name in dict.fromkeys(names):
        part = problem.only(r for r, s in zip(problem.requests, names, strict=True) if s == name)
        for c in strategy(name).work(part, options).calls:
            calls[c.kernel, c.dims] += c.count
    return calls


def _options(policy, ruled) -> Options:
    merged: dict[str, Any] = {}
    for r in ruled:
        given = r.options.model_dump(exclude_none=True)
        merged |= {key: getattr(r.options, key) for key in given}
    accuracy = policy.accuracy
    return Options(solve_rtol=accuracy.solve_rtol, logdet_rtol=accuracy.logdet_rtol, **merged)


def within_guard(problem, names, options, profile) -> Options:
    """``options`` with the iterations that ``GUARD`` of the direct way pays for, unless the user set them.

    What is forced is not guarded, nor what has unknown sizes.
    """
    if options.max_iterations is not None or options.forced or problem.unknown_sizes:
        return options
    for name in dict.fromkeys(names):
        part = problem.only(r for r, s in zip(problem.requests, names, strict=True) if s == name)
        guarded = strategy(name).guarded(part, options)
        if guarded is not None:
            direct, step = (sum(profile.seconds(c, problem.dtype) for c in calls) for calls in guarded)
            if step > 0:
                return replace(options, max_iterations=max(1, int(GUARD * direct / step)))
    return options


def _check_forced(problem, ruled, options):
    """A forced strategy that cannot serve its requests is an error that says why."""
    for name in dict.fromkeys(r.force for r in ruled if r.force is not None):
        requests = [q for q, r in zip(problem.requests, ruled, strict=True) if r.force == name]
        no = strategy(name).declines(problem.only(requests), options)
        if no is not None:
            rule = next(r.force_rule for r in ruled if r.force == name)
            raise PolicyError(
                f"{_origin(rule)}the policy forces {name!r} on {describe(problem, requests)}, "
                f"but {no.reason}. "
                "Narrow the rule's match or remove the force."
            )


def _origin(rule) -> str:
    origin = getattr(rule, "origin", None)
    return f"{origin}: " if origin else ""


def describe(problem: Problem, requests: tuple[Request, ...] | list[Request] | None = None) -> str:
    """A problem in words, for messages."""
    kinds = ", ".join(dict.fromkeys(r.kind for r in requests or problem.requests))
    name = f"matrix {problem.name!r}" if problem.name else "a matrix"
    return (
        f"{kinds} of {name} ({'+'.join(problem.structure)}, n={problem.n if problem.n is not None else '?'})"
    )


def _assignments(problem, forced) -> list[tuple[str, ...]]:
    """One strategy for all requests, or for all that no rule forces."""
    names = [s.name for s in STRATEGIES]
    return list(
        dict.fromkeys(
            tuple(forced.get(i, name) for i in range(len(problem.requests)))
            for name in (names if len(forced) < len(problem.requests) else names[:1])
        )
    )


def _label(names) -> str:
    return "+".join(dict.fromkeys(names))


def _candidate(problem, names, options, profile, forbidden, forced, limit) -> Candidate:
    label = _label(names)
    options = within_guard(problem, names, options, profile)
    for name in dict.fromkeys(names):
        if name in forbidden and name not in forced.values():
            return Candidate(
                label, None, None, f"forbidden by {_origin(forbidden[name]).rstrip(': ') or 'the policy'}"
            )
        part = problem.only(r for r, s in zip(problem.requests, names, strict=True) if s == name)
        no = strategy(name).declines(part, options)
        if no is not None:
            return Candidate(label, None, None, no.reason)
    if problem.unknown_sizes:
        return Candidate(label, None, None, "")
    total, peak = seconds(problem, names, options, profile)
    if peak > limit and not forced:
        return Candidate(
            label, total, peak, f"needs {peak / 2**30:.2g} GiB, memory_limit is {limit / 2**30:.2g} GiB"
        )
    return Candidate(label, total, peak, "")


def _without_dominated(candidates) -> list[Candidate]:
    """Rule out what another open strategy does with less work: no error of the model turns that round."""
    open_ = {c.name for c in candidates if not c.reason}
    better = {s.name: s.dominated_by for s in STRATEGIES if s.dominated_by in open_}
    return [
        replace(c, reason=f"{better[c.name]} does the same with less work")
        if not c.reason and c.name in better
        else c
        for c in candidates
    ]


def _overruled(problem, assignments, options, profile, forbidden, limit) -> list[Candidate]:
    """The candidates that a force rules out, priced all the same so that its cost can be seen."""
    names = [(s.name,) * len(problem.requests) for s in STRATEGIES]
    others = [
        _candidate(problem, n, options, profile, forbidden, {}, limit) for n in names if n not in assignments
    ]
    return [c if c.reason else replace(c, reason="the policy forces another") for c in others]


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
        return candidates[0], "every candidate was ruled out, the graph stays as written"
    if problem.unknown_sizes:
        return _pick_for_all_sizes(problem, open_, keep, profile, options)
    best = min(open_, key=lambda c: c.seconds)
    if keep is None or best is keep:
        return best, "cheapest" if best is not keep else "PyTensor's own lowering is the cheapest"
    named = {_label(names): names for names in assignments}
    ours = distinct_work(problem, named[best.name], named["keep"], options)
    theirs = distinct_work(problem, named["keep"], named[best.name], options)
    gain, error = _gain(ours, theirs, profile, problem.dtype)
    if problem.batch != 1:
        error = math.hypot(error, BATCH_ERROR)
    if gain <= max(policy.margin, error):
        least, name = max((policy.margin, "the margin"), (error, "the error of the prices"))
        return (
            keep,
            f"{best.name} would gain {100 * gain:.0f} % of what differs, "
            f"not more than {name} of {100 * least:.0f} %",
        )
    return best, "cheapest"


def _gain(ours, theirs, profile, dtype) -> tuple[float, float]:
    """The share of the time of ``theirs`` that is saved, and its standard error if kernels err apart."""
    mine, other = (sum(profile.seconds(c, dtype) for c in calls) for calls in (ours, theirs))
    if not other:
        return 0.0, 0.0
    error = math.hypot(*(profile.uncertainty(c, dtype) for c in (*ours, *theirs)))
    return 1 - mine / other, error / other


def _pick_for_all_sizes(problem, open_, keep, profile, options):
    """Sizes unknown: act only on a candidate that is cheaper whatever they turn out to be."""
    unknown = ", ".join(problem.unknown_sizes)
    stay = keep or open_[0]
    for candidate in open_:
        if candidate is not stay and _wins_everywhere(problem, candidate, stay, profile, options):
            return candidate, f"cheaper for every {unknown}"
    return stay, f"size unknown ({unknown}); no candidate is cheaper for all. Give a hint under 'sizes'"


def _wins_everywhere(problem, candidate, stay, profile, options) -> bool:
    gains = False
    names = problem.unknown_sizes
    for sizes in itertools.product(*(SIZES_TRIED[name] for name in names)):
        sized = problem.with_sizes(**dict(zip(names, sizes, strict=True)))
        ours, _ = seconds(sized, (candidate.name,) * len(problem.requests), options, profile)
        theirs, _ = seconds(sized, (stay.name,) * len(problem.requests), options, profile)
        if ours > theirs * (1 + INDIFFERENT):
            return False
        gains = gains or ours < 0.9 * theirs
    return gains


def _with_reasons(candidates, chosen, reason):
    for c in candidates:
        if c is chosen:
            yield replace(c, reason=reason)
        elif not c.reason and c.seconds is not None and chosen.seconds:
            ratio = c.seconds / chosen.seconds
            yield replace(c, reason=f"{ratio:.3g} times the predicted time of {chosen.name}")
        elif not c.reason:
            yield replace(c, reason=f"not proven cheaper than {chosen.name} for every size")
        else:
            yield c
