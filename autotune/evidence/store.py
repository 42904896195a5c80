"""Measured times that are remembered: one small file for each problem, next to the profiles.

``<data directory>/measured/<machine>/<digest>.json``. A file is written whole or not at all, and each problem
has its own, so processes that measure at the same time lose nothing. It holds all that must be equal for the
times to mean anything, and is refused where that differs.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autotune.problem import Problem
from cost_models import fingerprint
from cost_models.files import data_dir, write_atomically
from cost_models.find import installed_version

SCHEMA = 1
LIBRARIES = ("pytensor", "numba", "numpy", "scipy")
# What a problem's stand-in does not have.
NAMES = ("name", "rv", "terms", "source", "fingerprint", "spectrum")

logger = logging.getLogger("autotune")


@dataclass(frozen=True)
class Entry:
    """Times of candidates in seconds a call, and reasons of those that were ruled out when they were tried.

    ``spent``: seconds that timing them took.
    """

    seconds: Mapping[str, float]
    ruled_out: Mapping[str, str] = field(default_factory=dict)
    spent: float = 0.0
    created: str = ""

    @property
    def tried(self) -> set[str]:
        return {*self.seconds, *self.ruled_out}


def measured_dir() -> Path:
    """Where the times of all machines are, present or not."""
    return data_dir() / "measured"


def key_of(problem: Problem, built_with: Mapping[str, Any], linker: str) -> dict[str, Any]:
    """All that must be equal for times to hold: machine, libraries, code, problem, and what is built."""
    asked = {name: value for name, value in asdict(problem).items() if name not in NAMES}
    asked |= {"structure": problem.structure, "sizes": problem.sizes}
    key = _surroundings() | {"linker": linker, "problem": asked, "built_with": dict(built_with)}
    as_read: dict[str, Any] = json.loads(json.dumps(key))
    return as_read


def _surroundings() -> dict[str, Any]:
    """All that times depend on beside the problem."""
    libraries = {name: installed_version(name) for name in LIBRARIES}
    return {"schema": SCHEMA, "machine": asdict(fingerprint()), "libraries": libraries, "code": _code()}


def outdated(key: Mapping[str, Any]) -> str:
    """What has changed since an entry was written, in words; empty if it holds here and now."""
    changed = [name for name, value in _surroundings().items() if key.get(name) != value]
    return f"other {', '.join(changed)}" if changed else ""


def path_of(key: Mapping[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return measured_dir() / fingerprint().key() / f"{digest}.json"


def load(key: Mapping[str, Any]) -> Entry | None:
    """What is remembered of a problem; None if nothing is, or, with one line in the log, nothing usable."""
    path = path_of(key)
    try:
        return _entry(_read(path), key)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s cannot be used (%s); the candidates are timed again.", path, error)
        return None


def save(key: Mapping[str, Any], entry: Entry) -> None:
    """Remember times; where nothing can be written, that is one line in the log."""
    data: dict[str, Any] = {"key": key, "created": datetime.now(UTC).isoformat(timespec="seconds")}
    data |= {"seconds": dict(entry.seconds), "ruled_out": dict(entry.ruled_out)}
    data["spent"] = entry.spent
    try:
        write_atomically(path_of(key), json.dumps(data, indent=1) + "\n")
    except OSError as error:
        logger.warning("Measured times cannot be stored (%s): the next compile measures again.", error)


def stored() -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Every file, of whatever machine and version, with its data, None if it cannot be read."""
    for path in sorted(measured_dir().glob("*/*.json")):
        try:
            data = _read(path)
            _entry(data, data["key"])
            yield path, data
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            yield path, None


def clear(*, everywhere: bool = False) -> int:
    """Forget what was measured under this machine's key, or under any; how many problems that were."""
    folder = "*" if everywhere else fingerprint().key()
    paths = list(measured_dir().glob(f"{folder}/*.json"))
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def _read(path: Path) -> dict[str, Any]:
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ValueError("it holds no JSON object")
    return data


def _entry(data: dict[str, Any], key: Mapping[str, Any]) -> Entry:
    """The entry in a file, each value checked; ValueError for that of another problem."""
    if data["key"] != key:
        raise ValueError("it is about another machine, version or problem")
    seconds = {str(name): float(value) for name, value in data["seconds"].items()}
    if not seconds or not all(0 < value < math.inf for value in seconds.values()):
        raise ValueError(f"it holds the times {data['seconds']}")
    reasons = {str(name): str(reason) for name, reason in data["ruled_out"].items()}
    return Entry(seconds, reasons, float(data["spent"]), str(data["created"]))


@functools.cache
def _code() -> str:
    """Digest of what candidates are built from: our Ops, strategies and synthetic graphs."""
    folder = Path(__file__).parent.parent
    patterns = ("ops/*.py", "strategies/*.py", "algebra/*.py", "evidence/stand_ins.py")
    files = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]
