"""The JSON schema of a policy file for editors, and the reference table of the documentation made from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from autotune.policy.messages import meaning_and_valid
from autotune.policy.model import Policy

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _WithoutTitles(GenerateJsonSchema):
    """Titles that pydantic makes of the keys say nothing new."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """What a policy file may hold, as a JSON schema. It accepts whatever `load_policy` accepts.

    It cannot state what concerns several keys at once, such as `min_n <= max_n`: `load_policy` checks that.
    """
    schema = Policy.model_json_schema(schema_generator=_WithoutTitles)
    return {"$schema": DIALECT, **schema, "title": "Policy of pytensor-autotune"}


def schema_text() -> str:
    """The schema as the text of a file."""
    return json.dumps(json_schema(), indent=2) + "\n"


def reference_table(schema: dict[str, Any] | None = None) -> str:
    """A Markdown table of every key: its default, what it means, and what is valid."""
    full = json_schema() if schema is None else schema
    rows = [
        f"| `{path}` | {default} | {meaning} | {valid} |" for path, default, meaning, valid in _rows(full)
    ]
    return "\n".join(["| key | default | meaning | valid |", "|---|---|---|---|", *rows]) + "\n"


def _rows(full: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for path, key in _keys(full, full, ""):
        meaning, valid = meaning_and_valid(key["description"])
        yield path, _default(key), _cell(meaning), _cell(valid)


def _keys(full: dict[str, Any], section: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths and schemas of all keys of a section, each followed by those of the section it holds."""
    for name, key in section["properties"].items():
        path = f"{prefix}{name}"
        yield path, key
        for inner, infix in _sections_in(key):
            target = full["$defs"][inner.rsplit("/", 1)[1]]
            yield from _keys(full, target, f"{path}{infix}.")


def _sections_in(key: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """References to the section that a key holds, or a list of; lists are marked `[]`."""
    for option in (key, *key.get("anyOf", ())):
        if "$ref" in option:
            yield option["$ref"], ""
        elif "$ref" in option.get("items", {}):
            yield option["items"]["$ref"], "[]"


def _default(key: dict[str, Any]) -> str:
    """The default of a key, `-` for sections, which default to that of their keys, and for required keys."""
    default = key.get("default", {})
    return "-" if isinstance(default, dict) else f"`{json.dumps(default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")
