"""Which decisions agree with the pins of a saved plan, and which pins find nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

from autotune.plan.model import Decision
from autotune.plan.pins import finds
from autotune.plan.table import handle
from autotune.policy import Policy, Rule

AS_PINNED = "as pinned"
NO_PIN = "no pin"


@dataclass(frozen=True)
class Agreement:
    """``verdicts``: for each decision whether it is as pinned; ``lost``: the pins that find nothing."""

    verdicts: tuple[tuple[Decision, str], ...]
    lost: tuple[Rule, ...]

    def __bool__(self) -> bool:
        return not self.lost and all(verdict == AS_PINNED for _, verdict in self.verdicts)


def agreement(pins: Policy, decisions: Sequence[Decision]) -> Agreement:
    """Compare decisions with ``pins``, a policy that ``Plan.save`` wrote."""
    verdicts = tuple((decision, _verdict(pins, decision)) for decision in decisions)
    return Agreement(verdicts, tuple(rule for rule in pins.pins if not finds(rule, decisions)))


def _verdict(pins: Policy, decision: Decision) -> str:
    p = decision.problem
    pinned = tuple(pins.resolve(p.name, r.kind, p.structure, p.n, p.traits).force for r in p.requests)
    if pinned == decision.assignment:
        return AS_PINNED
    names = list(dict.fromkeys(name for name in pinned if name is not None))
    return f"pinned to {'+'.join(names)}" if names else NO_PIN


def renderable(found: Agreement) -> Group:
    """A line that counts, and a table."""
    good = sum(verdict == AS_PINNED for _, verdict in found.verdicts)
    count = f"{good} of {len(found.verdicts)} decisions as pinned"
    heading = Text(f"{count}, {len(found.lost) or 'no'} pins without a problem")
    table = Table("problem", "chosen", "pins", box=None, pad_edge=False)
    for decision, verdict in found.verdicts:
        table.add_row(*map(Text, (handle(decision.problem), decision.chosen, verdict)))
    for rule in found.lost:
        name = rule.match.name or rule.match.fingerprint or ""
        table.add_row(*map(Text, (name, "", f"{rule.force} pinned at {rule.origin}, not in the script")))
    return Group(heading, table)
