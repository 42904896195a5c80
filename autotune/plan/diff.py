"""What one plan decides otherwise than another."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from autotune.choose import strategy
from autotune.plan.table import as_text, handle
from autotune.problem import with_parts
from autotune.problem.formats import counted, format_seconds

if TYPE_CHECKING:
    from autotune.plan.model import Plan
    from autotune.problem import Decision, Problem

# A relative difference up to this is the same price.
SAME_PRICE = 0.01
# How a problem of one plan is found in the other: the first of these keys that both share.
KEYS: tuple[Callable[[Problem], Hashable], ...] = (
    lambda p: p.fingerprint and (p.fingerprint, p.name),
    lambda p: p.fingerprint,
    lambda p: p.name and (p.name, p.structure, p.differentiated),
)
BUILT_WITH = ("condition_number", "max_iterations", "preconditioner", "solve_rtol", "logdet_rtol")


@dataclass(frozen=True)
class Change:
    """One problem in both plans; ``what`` says in words what differs besides the price."""

    before: Decision
    after: Decision
    what: tuple[str, ...] = ()

    @property
    def seconds(self) -> tuple[float | None, float | None]:
        return _seconds(self.before), _seconds(self.after)


@dataclass(frozen=True)
class PlanDiff:
    """``added`` and ``removed`` problems, those ``changed``, those only ``repriced``; true if there are any.

    ``alike`` counts the rest.
    """

    added: tuple[Decision, ...]
    removed: tuple[Decision, ...]
    changed: tuple[Change, ...]
    repriced: tuple[Change, ...]
    alike: int

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.repriced)

    def __str__(self) -> str:
        return as_text(renderable(self))


def difference(before: Plan, after: Plan) -> PlanDiff:
    """What ``after`` has, lacks, or decides and prices otherwise."""
    pairs, removed, added = _paired(with_parts(before.decisions), with_parts(after.decisions))
    changes = [Change(b, a, tuple(_what(b, a))) for b, a in pairs]
    changed = tuple(c for c in changes if c.what)
    repriced = tuple(c for c in changes if not c.what and _priced_apart(c))
    alike = len(changes) - len(changed) - len(repriced)
    return PlanDiff(tuple(added), tuple(removed), changed, repriced, alike)


def _paired(before: Sequence[Decision], after: Sequence[Decision]):
    """Pairs of decisions on the same problem, and what is left of both sides."""
    left, right = list(before), list(after)
    pairs: list[tuple[Decision, Decision]] = []
    for key in KEYS:
        for decision in tuple(left):
            own = key(decision.problem)
            mate = next((d for d in right if own and key(d.problem) == own), None)
            if mate is not None:
                pairs.append((decision, mate))
                left.remove(decision)
                right.remove(mate)
    return pairs, left, right


def _what(before: Decision, after: Decision) -> Iterator[str]:
    asked = [", ".join(sorted(r.kind for r in d.problem.requests)) for d in (before, after)]
    if before.chosen != after.chosen or (asked[0] == asked[1] and _served(before) != _served(after)):
        yield f"{before.chosen} -> {after.chosen}"
    if asked[0] != asked[1]:
        yield f"asks {asked[0]} -> {asked[1]}"
    sizes = before.problem.sizes, after.problem.sizes
    for size in {**sizes[0], **sizes[1]}:
        old, new = (of.get(size) for of in sizes)
        if old != new:
            yield f"{size} {_word(old)} -> {_word(new)}"
    if not (_is_exact(before) and _is_exact(after)):
        for key in BUILT_WITH:
            old, new = getattr(before, key), getattr(after, key)
            if old != new:
                yield f"{key} {_word(old)} -> {_word(new)}"


def _served(decision: Decision) -> set[tuple[str, str]]:
    """Which strategy serves which kind of request."""
    return {(r.kind, s) for r, s in zip(decision.problem.requests, decision.assignment, strict=True)}


def _is_exact(decision: Decision) -> bool:
    return all(strategy(name).exact for name in decision.assignment)


def _word(value: object) -> str:
    return "?" if value is None else str(value)


def _priced_apart(change: Change) -> bool:
    """Whether both have a price, and not the same: that of a pinned decision is not known."""
    old, new = change.seconds
    return old is not None and new is not None and abs(new - old) > SAME_PRICE * max(old, new)


def _seconds(decision: Decision) -> float | None:
    return next((c.seconds for c in decision.candidates if c.name == decision.chosen), None)


# -- the table ------------------------------------------------------------------------------------


def renderable(diff: PlanDiff) -> Group:
    """A line that counts, and a table of what differs; of no difference it says so."""
    alike = f"{counted(diff.alike, 'problem')} decided alike"
    if not diff:
        return Group(Text(f"The plans do not differ: {alike}."))
    table = Table("", "problem", "decision", "before", "after", box=None, pad_edge=False)
    for row in _rows(diff):
        table.add_row(*map(Text, row))
    return Group(table, Text(f"\n{alike}" if diff.alike else ""))


def _rows(diff: PlanDiff) -> Iterator[tuple[str, ...]]:
    for change in diff.changed:
        yield "otherwise", handle(change.after.problem), ", ".join(change.what), *_prices(change)
    for decision in diff.removed:
        yield "removed", handle(decision.problem), decision.chosen, format_seconds(_seconds(decision)), ""
    for decision in diff.added:
        yield "added", handle(decision.problem), decision.chosen, "", format_seconds(_seconds(decision))
    for change in diff.repriced:
        yield "price", handle(change.after.problem), change.after.chosen, *_prices(change)


def _prices(change: Change) -> tuple[str, str]:
    old, new = change.seconds
    return format_seconds(old), format_seconds(new)
