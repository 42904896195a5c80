"""Policies from files, dicts and objects, laid over each other.

defaults < user config directory < ./autotune.yaml < AUTOTUNE_POLICY < enable()/enabled() < argument.
Single values overlay key by key, rules append, and of rules the later ones win.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from autotune.policy import yaml_loader
from autotune.policy.conflicts import Conflict, conflicts, without_dead_demands
from autotune.policy.messages import messages
from autotune.policy.model import Accuracy, Origin, Policy, PolicyError
from autotune.policy.names import printable, shown
from autotune.policy.places import NAMED, policy_files
from autotune.policy.yaml_loader import Document

if TYPE_CHECKING:
    from autotune.policy.places import PolicySource

SUPPORTED_VERSIONS = (1,)
# What a policy needs at most: reading one takes seconds even if it was made to be slow.
MOST_BYTES = 256 * 1024
MOST_RULES = 1000


@dataclass(frozen=True)
class Layer:
    """One source of the policy in force: its kind, what it states, and the places of its entries."""

    kind: str
    policy: Policy
    document: Document | None = None
    path: Path | None = None

    def origin(self, path: yaml_loader.Path) -> Origin:
        """File and line of the entry at `path`."""
        if self.document is None:
            return Origin()
        return Origin(self.document.source, self.document.line(path))


def load_policy(source: PolicySource = None, *, layers: bool = True) -> Policy:
    """The policy in force when `source` is the argument; without `layers`, `source` over the defaults."""
    return layered(source, layers=layers)


def layered(*sources: PolicySource, layers: bool = True) -> Policy:
    """`sources`, lowest first, over the defaults and (`layers`) the files that are in force."""
    return merged(layers_of(*sources, layers=layers))


def layers_of(*sources: PolicySource, layers: bool = True) -> list[Layer]:
    """The layers over the defaults, lowest first; `sources` last.

    A file that is given counts there only: as the later one wins, its lower place has no effect.
    """
    given = [_read(source) for source in sources if source is not None]
    named = {layer.path for layer in given} - {None}
    return [*(layer for layer in (_file_layers() if layers else ()) if layer.path not in named), *given]


def merged(layers: Iterable[Layer]) -> Policy:
    """One policy from layers, lowest first."""
    return reduce(overlay, (layer.policy for layer in layers), Policy())


def overlay(lower: Policy, upper: Policy) -> Policy:
    """`upper` where it sets a value, `lower` elsewhere; the rules of both, those of `upper` last."""
    fields = lower.given() | upper.given()
    fields["accuracy"] = Accuracy.model_validate(lower.accuracy.given() | upper.accuracy.given())
    fields["sizes"] = lower.sizes | upper.sizes
    fields["rules"] = lower.rules + upper.rules
    return Policy.model_validate(fields)


def dump_policy(policy: Policy) -> str:
    """YAML text that loads back as a policy that resolves alike, whatever the lower layers say of values.

    It loads back equal unless a rule takes back what an earlier one demands, as rules of several layers may.
    """
    data = policy.model_dump(mode="json", exclude={"rules"})
    data["rules"] = [as_written(rule) for rule in without_dead_demands(policy.rules) if rule is not None]
    return yaml_loader.dump(data)


def as_written(section: pydantic.BaseModel) -> Any:
    """A part of a policy as a file would state it: what was given, in plain data."""
    return section.model_dump(mode="json", exclude_unset=True)


def _file_layers() -> list[Layer]:
    """The files that apply without being asked for."""
    named = {NAMED: f" (named by {NAMED})"}
    return [_read_file(path, kind, named.get(kind, "")) for kind, path in policy_files().items()]


def _read(source: str | os.PathLike[str] | Mapping[str, Any] | Policy) -> Layer:
    kind = "argument"
    if isinstance(source, Policy):
        return Layer(kind, source)
    if isinstance(source, Mapping):
        document = Document(dict(source), "<dict>", {})
        return Layer(kind, _validate(document), document)
    if isinstance(source, str | os.PathLike):
        if not os.fspath(source):  # Path("") is the directory that the program runs in
            raise PolicyError("found an empty path; None is for no policy: give the path of a policy file.")
        return _read_file(Path(source), kind)
    raise PolicyError(f"found a policy of type {type(source).__name__}; valid: a path, a dict or a Policy.")


def _read_file(path: Path, kind: str, named_by: str = "") -> Layer:
    place = printable(str(path))
    try:
        content = _content(path.expanduser())
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PolicyError(f"{place}{named_by}: {reason}; give the path of a policy file.") from None
    if len(content) > MOST_BYTES:
        limit = f"{MOST_BYTES // 1024} KiB"
        raise PolicyError(f"{place}{named_by}: found more than {limit}; a policy file is smaller.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|[\r\n]", content[: error.start])) + 1
        raise PolicyError(
            f"{place}:{line}: found bytes that are not UTF-8; save the file as UTF-8."
        ) from None
    policy, document = _parse(text, place)
    return Layer(kind, policy, document, path.expanduser().resolve())


def _content(path: Path) -> bytes:
    """The bytes of a regular file, up to one more than allowed: a pipe or a device could go on for ever."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise OSError("Is a directory" if stat.S_ISDIR(mode) else "Is no regular file")
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


@lru_cache(maxsize=64)
def _parse(text: str, source: str) -> tuple[Policy, Document]:
    """The policy a file's text states; cached by the text, so that an edit is always noticed."""
    document = yaml_loader.parse(text, source)
    if document.data is None:
        document = Document({}, source, {})
    return _validate(document), document


def _validate(document: Document) -> Policy:
    """Check the data against the schema; all findings go into one `PolicyError`, a line each."""
    if not isinstance(document.data, dict):
        valid = ", ".join(Policy.model_fields)
        found = shown(document.data)
        raise PolicyError(f"{document.place(())}: found {found}; a policy is a mapping with keys of {valid}.")
    _check_version(document)
    _check_number_of_rules(document)
    try:
        policy = Policy.model_validate(document.data)
    except pydantic.ValidationError as failure:
        raise PolicyError(messages(document, failure)) from None
    for index, rule in enumerate(policy.rules):
        if isinstance(document.data["rules"][index], dict):
            rule._origin = _origin(document, index)
    _check_conflicts(policy, document)
    return policy


def _check_version(document: Document) -> None:
    version = document.data.get("version", 1)
    if type(version) is not int or version not in SUPPORTED_VERSIONS:
        supported = ", ".join(map(str, SUPPORTED_VERSIONS))
        place = document.place(("version",))
        raise PolicyError(f"{place}: key 'version': found {shown(version)}; supported: {supported}.")


def _check_number_of_rules(document: Document) -> None:
    rules = document.data.get("rules")
    if isinstance(rules, list) and len(rules) > MOST_RULES:
        place = document.place(("rules",))
        raise PolicyError(f"{place}: key 'rules': found {len(rules)} rules; valid: at most {MOST_RULES}.")


def _check_conflicts(policy: Policy, document: Document) -> None:
    """Refuse rules of which a later one always takes back what an earlier one demands."""
    found = next(conflicts(policy.rules), None)
    if found is not None:
        raise PolicyError(_conflict_message(found, policy, document))


def _conflict_message(conflict: Conflict, policy: Policy, document: Document) -> str:
    earlier, later = ("forces", "forbids") if conflict.forced else ("forbids", "forces")
    key = "forbid" if conflict.forced else "force"
    place = document.place(("rules", conflict.later, key))
    name = repr(conflict.strategy)
    return (
        f"{place}: key 'rules[{conflict.later}].{key}': {later} {name} for everything that the rule at "
        f"{policy.rules[conflict.earlier].origin} {earlier} it for, so that one never takes effect. "
        "Remove one of them; a general rule stands before its exceptions."
    )


def _origin(document: Document, index: int) -> Origin:
    line = document.lines.get(("rules", index))
    return Origin(document.source if line is not None else f"{document.source} rules[{index}]", line)
