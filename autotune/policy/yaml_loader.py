"""YAML text to plain data and back, remembering the line of every key and item.

Stricter than YAML: a key may stand once, keys are text, there are no anchors, aliases, merge keys or tags,
and nesting is shallow, so that no short text grows large. And closer to what is meant: plain values are read
by YAML 1.2's core schema, in which `no` is text and `1:30` no number, with `1e-8` as a number.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from autotune.policy.defaults import PolicyError
from autotune.policy.names import shown

Path = tuple[str | int, ...]

# A policy's own depth is 6: rules, a rule, options, preconditioner.
DEEPEST = 16

_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))\Z"
    r"|\.(?:nan|NaN|NAN)\Z"
)
_RESOLVERS = {"null": _NULL, "bool": _BOOL, "int": _INT, "float": _FLOAT}
_SURROGATE = re.compile("[\ud800-\udfff]")  # written as an escape; no text can hold it alone
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


class _Loader(yaml.SafeLoader):
    """The safe loader, without what refers, labels or nests deeply, reading scalars by `_RESOLVERS`."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        for what in ("anchor", "tag"):
            if getattr(event, what, None) is not None:
                kind = "alias" if self.check_event(yaml.AliasEvent) else what
                found = shown(getattr(event, what))
                raise _error(f"found the {kind} {found}; write the value itself", event.start_mark)
        if self.depth >= DEEPEST:
            raise _error(f"found more than {DEEPEST} levels; a policy is not that deep", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """The safe dumper, quoting text that `_Loader`, or a loader of YAML 1.1, would not read as text."""


_Loader.yaml_implicit_resolvers = {}  # instead of YAML 1.1's
for _tag, _pattern in _RESOLVERS.items():
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, None)


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Escaped if it holds a line break other than a newline: single quotes would fold that into a blank."""
    style = '"' if _LINE_BREAK.search(text.replace("\n", "")) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


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
    """Read one YAML document; an empty one is None. Raises `PolicyError` with the line of a mistake."""
    lines: dict[Path, int] = {}
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data = None if node is None else _construct(loader, node, (), lines)
    except yaml.reader.ReaderError as error:
        line = len(_LINE_BREAK.findall(text, 0, error.position)) + 1
        found = chr(error.character)
        raise PolicyError(f"{source}:{line}: found the character {found!r}; remove it.") from None
    except yaml.MarkedYAMLError as error:
        raise PolicyError(_syntax_message(error, source)) from None
    except (ValueError, OverflowError):  # an escape such as "\UFFFFFFFF" in the scanner
        line = 1 if loader is None else loader.line + 1
        raise PolicyError(f"{source}:{line}: found a number or escape that is out of range.") from None
    return Document(data, source, lines)


def dump(data: object) -> str:
    """YAML text that `parse` reads back as the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def dump_inline(data: object) -> str:
    """The same on a single line, as in `{name: K, min_n: 5}`."""
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=2**31)
    return text.removesuffix("...\n").rstrip("\n")


def dotted(path: Path) -> str:
    """`rules[0].match.name`, keys shortened and on one line."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_plain(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def _plain(key: str) -> str:
    return key if key.isprintable() and len(key) <= 60 else shown(key)[1:-1]


def _error(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _syntax_message(error: yaml.MarkedYAMLError, source: str) -> str:
    mark = error.problem_mark or error.context_mark
    place = source if mark is None else f"{source}:{mark.line + 1}"
    problem = error.problem or "found text that is not YAML"
    if "'\\t'" in problem:
        return f"{place}: found a tab; use spaces."
    if "another document" in problem:
        return f"{place}: found a second document; a policy is one, remove the line '---'."
    hint = "" if ";" in problem else "; check quotes, brackets and indentation there"
    return f"{place}: {problem[:200]}{hint}."


def _construct(loader: _Loader, node: yaml.Node, path: Path, lines: dict[Path, int]) -> Any:
    """Plain data of `node`, entering the line of each of its parts into `lines`."""
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(loader, node, path)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, (*path, i), lines) for i, item in enumerate(node.value)]
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _key(loader, key_node)
        here = (*path, key)
        if key in data:
            problem = f"key '{dotted(here)}': found twice, first on line {lines[here]}; keep one"
            raise _error(problem, key_node.start_mark)
        lines[here] = key_node.start_mark.line + 1
        data[key] = _construct(loader, value_node, here, lines)
    return data


def _scalar(loader: _Loader, node: yaml.ScalarNode, path: Path) -> Any:
    surrogate = _SURROGATE.search(node.value)
    if surrogate:
        raise _error(f"found the character {surrogate[0]!r}; remove it", node.start_mark)
    try:
        return loader.construct_object(node)
    except ValueError:  # Python refuses to read integers of thousands of digits
        problem = f"key '{dotted(path)}': found a number of {len(node.value)} digits; valid: a smaller one"
        raise _error(problem, node.start_mark) from None


def _key(loader: _Loader, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _error("found a list or mapping as a key; a key is text", node.start_mark)
    if node.value == "<<" and node.style is None:
        raise _error("found the merge key '<<'; write the values themselves", node.start_mark)
    key = _scalar(loader, node, ())
    if not isinstance(key, str):
        raise _error(f"found the key {shown(node.value)}; a key is text, quoted if need be", node.start_mark)
    return key
