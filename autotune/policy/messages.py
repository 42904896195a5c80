"""Findings of the schema as messages: `file:line: key 'x': what was found; what is valid.`"""

from typing import Any

import pydantic

from autotune.policy.model import Accuracy, Match, Options, Policy, Preconditioner, Rule
from autotune.policy.names import did_you_mean, shown
from autotune.policy.yaml_loader import Document, Path, dotted

# More findings than these are counted only.
MOST_SHOWN = 20

_SECTIONS: dict[str | int, type[pydantic.BaseModel]] = {
    "accuracy": Accuracy,
    "rules": Rule,
    "match": Match,
    "options": Options,
    "preconditioner": Preconditioner,
}


def messages(document: Document, failure: pydantic.ValidationError) -> str:
    """A line for each finding in the order of the file, at most `MOST_SHOWN`.

    That a list is too short because its items are wrong is not worth a line.
    """
    found = failure.errors()
    parents = {error["loc"][:length] for error in found for length in range(len(error["loc"]))}
    innermost = [error for error in found if error["loc"] not in parents]
    errors = sorted(innermost, key=lambda error: document.line(error["loc"]) or 0)
    texts = [_message(document, dict(error)) for error in errors[:MOST_SHOWN]]
    rest = len(errors) - MOST_SHOWN
    return "\n".join([*texts, f"{document.source}: {rest} more mistakes."] if rest > 0 else texts)


def meaning_and_valid(description: str | None) -> tuple[str, str]:
    """The two halves of a field's description, without the full stop of the second."""
    meaning, _, valid = (description or "").partition(" Valid: ")
    return meaning, valid.removesuffix(".")


def _message(document: Document, error: dict[str, Any]) -> str:
    path = tuple(part for part in error["loc"] if part != "[key]")
    is_scalar_item = path[-1:] == (0,) and document.lines and path not in document.lines
    shown_path = path[:-1] if is_scalar_item else path
    return f"{document.place(path)}: key '{dotted(shown_path)}': {_finding(path, error)}"


def _finding(path: Path, error: dict[str, Any]) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] in ("extra_forbidden", "invalid_key"):
        return _unknown_key(path)
    expected = _valid_at(path) or error["msg"]
    found = "no value" if error["type"] == "missing" else f"found {shown(error['input'])}"
    return f"{found}; valid: {expected}."


def _unknown_key(path: Path) -> str:
    key, valid = path[-1], list(_section_at(path[:-1]).model_fields)
    hint = did_you_mean(key, valid)
    homes = [name for name, section in _SECTIONS.items() if key in section.model_fields]
    if not hint and homes:
        hint = f" '{key}' belongs under '{homes[0]}'."
    elif not hint and key in Policy.model_fields:
        hint = f" '{key}' belongs at the top level."
    return f"found an unknown key; valid: {', '.join(valid)}.{hint}"


def _section_at(path: Path) -> type[pydantic.BaseModel]:
    """The model that validates the mapping at `path`."""
    return next((_SECTIONS[part] for part in reversed(path) if part in _SECTIONS), Policy)


def _valid_at(path: Path) -> str | None:
    """What is valid at `path`, by the innermost field on it."""
    names = [part for part in path if isinstance(part, str)]
    if names[:1] == ["sizes"]:
        return meaning_and_valid(Policy.model_fields["sizes"].description)[1]
    if path[:1] == ("rules",) and len(path) == 2:
        return f"a mapping with keys of {', '.join(Rule.model_fields)}"
    info = _section_at(tuple(names[:-1])).model_fields.get(names[-1]) if names else None
    return meaning_and_valid(info.description)[1] if info else None
