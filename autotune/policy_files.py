"""Policies from files, dicts and objects, laid over each other.

defaults < user config directory < ./autotune.yaml < AUTOTUNE_POLICY < enable()/enabled() < argument.
Single values overlay key by key, rules append, and of rules the later ones win.
"""

import os
from collections.abc import Mapping
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

import platformdirs
import pydantic

from autotune import policy_yaml
from autotune.policy import (
    Accuracy,
    Match,
    Options,
    Origin,
    Policy,
    PolicyError,
    Preconditioner,
    Rule,
    did_you_mean,
)
from autotune.policy_yaml import Document

PolicySource = None | str | os.PathLike[str] | Mapping[str, Any] | Policy

FILE_NAME = "autotune.yaml"
SUPPORTED_VERSIONS = (1,)
_SECTIONS: dict[str | int, type[pydantic.BaseModel]] = {
    "accuracy": Accuracy,
    "rules": Rule,
    "match": Match,
    "options": Options,
    "preconditioner": Preconditioner,
}


def load_policy(source: PolicySource = None, *, layers: bool = True) -> Policy:
    """The policy in force when `source` is the argument; without `layers`, `source` over the defaults."""
    return layered(source, layers=layers)


def layered(*sources: PolicySource, layers: bool = True) -> Policy:
    """`sources`, lowest first, over the defaults and (`layers`) the files that are in force."""
    given = [_read(source) for source in sources if source is not None]
    return reduce(overlay, [*(_file_layers() if layers else ()), *given], Policy())


def overlay(lower: Policy, upper: Policy) -> Policy:
    """`upper` where it sets a value, `lower` elsewhere; the rules of both, those of `upper` last."""
    merged = lower.given() | upper.given()
    merged["accuracy"] = Accuracy.model_validate(lower.accuracy.given() | upper.accuracy.given())
    merged["sizes"] = lower.sizes | upper.sizes
    merged["rules"] = lower.rules + upper.rules
    return Policy.model_validate(merged)


def dump_policy(policy: Policy) -> str:
    """YAML text that loads back as an equal policy, whatever the lower layers say about single values."""
    data = policy.model_dump(mode="json", exclude={"rules"})
    data["rules"] = [rule.model_dump(mode="json", exclude_unset=True) for rule in policy.rules]
    return policy_yaml.dump(data)


def _file_layers() -> list[Policy]:
    """The files that apply without being asked for; only the one that AUTOTUNE_POLICY names must exist."""
    user = Path(platformdirs.user_config_dir("autotune", appauthor=False)) / FILE_NAME
    found = [_read_file(path) for path in (user, Path(FILE_NAME)) if path.exists()]
    named = os.environ.get("AUTOTUNE_POLICY")
    return [*found, _read_file(Path(named), " (named by AUTOTUNE_POLICY)")] if named else found


def _read(source: str | os.PathLike[str] | Mapping[str, Any] | Policy) -> Policy:
    if isinstance(source, Policy):
        return source
    if isinstance(source, Mapping):
        return _validate(Document(dict(source), "<dict>", {}))
    if isinstance(source, str | os.PathLike):
        return _read_file(Path(source))
    raise PolicyError(f"found a policy of type {type(source).__name__}; valid: a path, a dict or a Policy.")


def _read_file(path: Path, named_by: str = "") -> Policy:
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise PolicyError(f"{path}{named_by}: found bytes that are not UTF-8; save it as UTF-8.") from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PolicyError(f"{path}{named_by}: {reason}; give the path of a policy file.") from None
    return _parse(text, str(path))


@lru_cache(maxsize=64)
def _parse(text: str, source: str) -> Policy:
    """The policy a file's text states; cached by the text, so that an edit is always noticed."""
    document = policy_yaml.parse(text, source)
    return _validate(Document({}, source, {}) if document.data is None else document)


def _validate(document: Document) -> Policy:
    """Check the data against the schema; all findings go into one `PolicyError`, a line each."""
    if not isinstance(document.data, dict):
        valid = ", ".join(Policy.model_fields)
        found = _shown(document.data)
        raise PolicyError(f"{document.place(())}: found {found}; a policy is a mapping with keys of {valid}.")
    _check_version(document)
    try:
        policy = Policy.model_validate(document.data)
    except pydantic.ValidationError as failure:
        errors = sorted(failure.errors(), key=lambda error: document.line(error["loc"]) or 0)
        raise PolicyError("\n".join(_message(document, dict(error)) for error in errors)) from None
    for index, rule in enumerate(policy.rules):
        if isinstance(document.data["rules"][index], dict):
            rule._origin = _origin(document, index)
    return policy


def _check_version(document: Document) -> None:
    version = document.data.get("version", 1)
    if type(version) is not int or version not in SUPPORTED_VERSIONS:
        supported = ", ".join(map(str, SUPPORTED_VERSIONS))
        place = document.place(("version",))
        raise PolicyError(f"{place}: key 'version': found {_shown(version)}; supported: {supported}.")


def _origin(document: Document, index: int) -> Origin:
    line = document.lines.get(("rules", index))
    return Origin(document.source if line is not None else f"{document.source} rules[{index}]", line)


def _message(document: Document, error: dict[str, Any]) -> str:
    """`source:line: key 'x': what was found; what is valid.` for one finding of pydantic."""
    path = tuple(part for part in error["loc"] if part != "[key]")
    is_scalar_item = path[-1:] == (0,) and document.lines and path not in document.lines
    shown = path[:-1] if is_scalar_item else path
    return f"{document.place(path)}: key '{_dotted(shown)}': {_finding(path, error)}"


def _finding(path: policy_yaml.Path, error: dict[str, Any]) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] in ("extra_forbidden", "invalid_key"):
        valid = list(_section_at(path[:-1]).model_fields)
        return f"found an unknown key; valid: {', '.join(valid)}.{did_you_mean(path[-1], valid)}"
    expected = _description(path) or error["msg"]
    found = "no value" if error["type"] == "missing" else f"found {_shown(error['input'])}"
    return f"{found}; valid: {expected}."


def _section_at(path: policy_yaml.Path) -> type[pydantic.BaseModel]:
    """The model that validates the mapping at `path`."""
    return next((_SECTIONS[part] for part in reversed(path) if part in _SECTIONS), Policy)


def _description(path: policy_yaml.Path) -> str | None:
    """What is valid at `path`: the description of the innermost field on it."""
    names = [part for part in path if isinstance(part, str)]
    if names[:1] == ["sizes"]:
        return Policy.model_fields["sizes"].description
    if path[:1] == ("rules",) and len(path) == 2:
        return f"a mapping with keys of {', '.join(Rule.model_fields)}"
    info = _section_at(tuple(names[:-1])).model_fields.get(names[-1]) if names else None
    return info.description if info else None


def _dotted(path: policy_yaml.Path) -> str:
    """`rules[0].match.name`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def _shown(value: object) -> str:
    """A value as its file writes it, shortened."""
    names = {dict: "a mapping", list: "a list", tuple: "a list", type(None): "null", bool: str(value).lower()}
    text = names.get(type(value)) or repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
