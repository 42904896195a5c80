"""Which problems of a graph look at their sizes at run time: the policy's ``runtime_dispatch``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cost_models
from autotune.choose import with_crossover
from autotune.problem import Decision
from autotune.rewrite.branches import is_lazy, left_to_decide, separable

if TYPE_CHECKING:
    from autotune.policy import Policy

# Problems of a function that get two branches where the policy leaves it open: each takes time to compile.
MOST_DISPATCHED = 4


def dispatched(fgraph, decided: list[tuple[Any, Decision, Decision]], policy: Policy, *, allowed: bool):
    """``decided``, with the crossover of those problems that gain by looking at run-time sizes.

    A pin's crossover counts as found; where no branches can be built, its second choice stands alone.
    """
    readings = left_to_decide(fgraph, [reading for reading, *_ in decided])
    decided = [d for d in decided if d[0] in readings]
    if not any(decision.undecided or decision.crossover is not None for _, decision, _ in decided):
        return decided
    allowed = allowed and policy.runtime_dispatch is not False and is_lazy(fgraph)
    able, left = separable(readings) if allowed else [], MOST_DISPATCHED
    found = []
    for reading, decision, shown in decided:
        if shown is decision:
            unasked = policy.runtime_dispatch is None and decision.crossover is None
            wanted = reading in able and (left > 0 or not unasked)
            decision = shown = _looking(decision, policy) if wanted else _not_looking(decision)
            left -= decision.crossover is not None
        found.append((reading, decision, shown))
    return found


def _looking(decision: Decision, policy: Policy) -> Decision:
    pinned = decision.crossover is not None or not decision.undecided
    return decision if pinned else with_crossover(decision, policy, cost_models.find_profile())


def _not_looking(decision: Decision) -> Decision:
    """Without the crossover of a pin."""
    if decision.crossover is None:
        return decision
    [alone] = dict.fromkeys(decision.assignment)
    winner = replace(
        decision.winner, name=alone, reason=f"{decision.winner.reason}; no branches can be built"
    )
    return replace(decision, chosen=alone, candidates=(winner,), crossover=None)


def will_look(decision: Decision, policy: Policy) -> bool:
    """Whether the final compile may look at run-time sizes, so that deciding can wait for it.

    What is undecided by pins has waited when they were saved.
    """
    if policy.runtime_dispatch is False or not decision.undecided:
        return False
    return bool(policy.pins) or _looking(decision, policy).crossover is not None
