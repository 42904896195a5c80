"""Which decisions agree with the pins of a saved plan, and which pins find nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from autotune.plan.pins import missing_pins
from autotune.plan.table import handle
from autotune.policy import Policy, PolicyError, Rule
from autotune.policy.files import load_policy
from autotune.problem import Decision, with_parts
from autotune.problem.formats import counted

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
    """Compare decisions with the pins of a policy that ``Plan.save`` wrote; its other rules do not count."""
    alone = pins.model_copy(update={"rules": pins.pins})
    verdicts = tuple((decision, _verdict(alone, decision)) for decision in with_parts(decisions))
    return Agreement(verdicts, missing_pins(pins, decisions))


def load_pins(path: Path) -> Policy:
    """The policy file of a saved plan; ``PolicyError`` for one that holds no pins."""
    saved = load_policy(path, layers=False)
    if not saved.pins:
        raise PolicyError(f"{path}: found no pins; give a file that Plan.save has written.")
    return saved


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
    lost = counted(len(found.lost), "pin") if found.lost else "no pins"
    heading = Text(f"{count}, {lost} without a problem")
    table = Table("problem", "chosen", "pins", box=None, pad_edge=False)
    for decision, verdict in found.verdicts:
        table.add_row(*map(Text, (handle(decision.problem), decision.chosen, verdict)))
    for rule in found.lost:
        name = rule.match.name or rule.match.fingerprint or ""
        table.add_row(*map(Text, (name, "", f"{rule.force} pinned at {rule.origin}, not in the script")))
    return Group(heading, table)
