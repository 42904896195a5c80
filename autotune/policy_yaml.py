"""YAML text to plain data and back, remembering the line of every key and item.

Stricter than YAML: a key may stand once, keys are text, there are no aliases and no tags. And closer to what
is meant: `1e-8` is a number.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from autotune.policy import PolicyError

Path = tuple[str | int, ...]

_FLOAT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+\Z")
_DATA_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class _Loader(yaml.SafeLoader):
    """The safe loader, without aliases, reading `1e-8` as a number."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _error("found an alias; write the value out", mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """The safe dumper, quoting text that `_Loader` would read as a number."""


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


@dataclass(frozen=True)
class Document:
    """Plain data, and the line on which each of its keys and items stands (empty for data without a file)."""

    data: Any
    source: str
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int | None:
        """The line of the entry at `path`, or of the innermost part around it that is written."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def place(self, path: Path) -> str:
        """`source:line` of the entry, as far as it is known."""
        line = self.line(path)
        return self.source if line is None else f"{self.source}:{line}"


def parse(text: str, source: str) -> Document:
    """Read one YAML document; an empty one is None."""
    lines: dict[Path, int] = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data = None if node is None else _construct(loader, node, (), lines)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = chr(error.character)
        raise PolicyError(f"{source}:{line}: found the character {found!r}; remove it.") from None
    except yaml.MarkedYAMLError as error:
        raise PolicyError(_syntax_message(error, source)) from None
    return Document(data, source, lines)


def dump(data: object) -> str:
    """YAML text that `parse` reads back as the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _error(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _syntax_message(error: yaml.MarkedYAMLError, source: str) -> str:
    mark = error.problem_mark or error.context_mark
    place = source if mark is None else f"{source}:{mark.line + 1}"
    problem = error.problem or "found text that is not YAML"
    if "'\\t'" in problem:
        return f"{place}: found a tab; indent with spaces."
    hint = "" if ";" in problem else "; check quotes, brackets and indentation there"
    return f"{place}: {problem}{hint}."


def _construct(loader: _Loader, node: yaml.Node, path: Path, lines: dict[Path, int]) -> Any:
    """Plain data of `node`, entering the line of each of its parts into `lines`."""
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(loader, node)
    if node.tag not in _DATA_TAGS:
        raise _error(f"found the tag {node.tag!r}; write plain mappings and lists", node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, (*path, i), lines) for i, item in enumerate(node.value)]
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _key(loader, key_node)
        if key in data:
            first = lines[(*path, key)]
            raise _error(f"key '{key}': found twice, first on line {first}; keep one", key_node.start_mark)
        lines[(*path, key)] = key_node.start_mark.line + 1
        data[key] = _construct(loader, value_node, (*path, key), lines)
    return data


def _scalar(loader: _Loader, node: yaml.ScalarNode) -> Any:
    try:
        return loader.construct_object(node)
    except ValueError:
        raise _error(f"found {node.value!r}, which is no valid value; quote text", node.start_mark) from None


def _key(loader: _Loader, node: yaml.Node) -> str:
    key = _scalar(loader, node) if isinstance(node, yaml.ScalarNode) else None
    if not isinstance(key, str):
        shown = node.value if isinstance(node, yaml.ScalarNode) else "a list or mapping"
        raise _error(f"found the key {shown!r}; a key is text, quoted if need be", node.start_mark)
    return key
