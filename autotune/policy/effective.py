"""The policy in force with the origin of every value and rule, as entries, as a table and as a file."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from autotune.policy import yaml_loader
from autotune.policy.conflicts import without_dead_demands
from autotune.policy.files import Layer, as_written, merged
from autotune.policy.model import Policy, Rule

if TYPE_CHECKING:
    from rich.table import Table

DEFAULT = "default"


@dataclass(frozen=True)
class Entry:
    """One value of the policy in force, and where it was stated."""

    path: yaml_loader.Path
    value: Any
    origin: str


def entries(layers: Sequence[Layer]) -> list[Entry]:
    """Every single value, each with the highest of `layers` (lowest first) that states it."""
    policy = merged(layers)
    stated = [
        (path, layer) for layer in layers for path, _ in _values(layer.policy.given(), lambda s: s.given())
    ]
    origins = {path: f"{layer.origin(path)} ({layer.kind})" for path, layer in stated}
    everything = _values(dict(policy), dict)
    return [Entry(path, value, origins.get(path, DEFAULT)) for path, value in everything]


def sourced_rules(layers: Sequence[Layer]) -> list[tuple[Rule, str]]:
    """Every rule in force in its order, and where it was stated."""
    return [(rule, f"{rule.origin} ({layer.kind})") for layer in layers for rule in layer.policy.rules]


def as_tables(layers: Sequence[Layer]) -> list[Table]:
    """The values, and below them the rules, if there are any."""
    values = _table("key", "value", "from")
    for entry in entries(layers):
        _add(values, yaml_loader.dotted(entry.path), yaml_loader.dump_inline(entry.value), entry.origin)
    rules = _table("rule", "match", "demands", "from")
    for number, (rule, origin) in enumerate(sourced_rules(layers)):
        _add(rules, str(number), *told_rule(rule), origin)
    return [values, rules] if rules.row_count else [values]


def as_yaml(layers: Sequence[Layer]) -> str:
    """A policy file that states everything in force, with the origins as comments.

    Demands that a later rule always takes back are left out, because one file may not hold both.
    """
    found = entries(layers)
    lines = []
    for name in (name for name in Policy.model_fields if name != "rules"):
        inner = [entry for entry in found if entry.path[0] == name]
        if [entry.path for entry in inner] == [(name,)]:
            lines.append(_commented(inner[0]))
        else:
            lines += [f"{name}:", *(textwrap.indent(_commented(entry), "  ") for entry in inner)]
    return "\n".join([*lines, *_rule_lines(layers)]) + "\n"


def told_rule(rule: Rule) -> tuple[str, str]:
    """What a rule matches and what it demands, each as YAML on one line."""
    written = as_written(rule)
    match = written.pop("match", None)
    return yaml_loader.dump_inline(match or {}), yaml_loader.dump_inline(written)[1:-1]


def _rule_lines(layers: Sequence[Layer]) -> list[str]:
    rules = sourced_rules(layers)
    kept = without_dead_demands([rule for rule, _ in rules])
    lines = [
        f"# {origin}\n{yaml_loader.dump([as_written(rule)]).rstrip()}"
        for (_, origin), rule in zip(rules, kept, strict=True)
        if rule is not None
    ]
    return ["rules:", *lines] if lines else [f"rules: []  # {DEFAULT}"]


def _commented(entry: Entry) -> str:
    return f"{yaml_loader.dump({entry.path[-1]: entry.value}).rstrip()}  # {entry.origin}"


def _values(
    fields: Mapping[str, Any], members: Callable[[Any], dict[str, Any]]
) -> Iterator[tuple[yaml_loader.Path, Any]]:
    """Single values with their paths; a section is its `members`, an empty mapping is itself a value."""
    for name, value in fields.items():
        inner = members(value) if isinstance(value, BaseModel) else value
        if isinstance(inner, dict) and (inner or value is not inner):
            yield from (((name, key), member) for key, member in inner.items())
        elif name != "rules":
            yield (name,), value


def _table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, header_style="bold")


def _add(table: Table, *cells: str) -> None:
    """Add a row of plain text, in which `[lu]` is no markup."""
    from rich.text import Text

    table.add_row(*map(Text, cells))
