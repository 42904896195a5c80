"""Raw measurements on disk, so that an interrupted calibration goes on where it stopped.

They are kept next to the profile, written whole after every kernel. A session of another machine,
another set of sizes or other library versions is not continued, nor is one that has finished.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from calibration.graphs import GRAPH_BY_KERNEL
from cost_models.files import write_atomically
from cost_models.kernels import KERNEL_BY_NAME, Dims
from cost_models.model import RESOLUTION

CLEARLY = 1.25
SPIKE = 10.0
Times = list[tuple[Dims, float]]
LEAST_SECONDS = 1e-8  # what is left of a kernel after the cost of the call, at the least


@dataclass(frozen=True)
class Measured:
    """The least seconds seen per size over all passes; `idle` is a call that does nothing."""

    idle: float
    times: dict[Dims, float]
    passes: int = 1

    @classmethod
    def read(cls, plain: dict[str, Any]) -> Self:
        """From what the worker or the file says: `times` is a list of sizes and seconds."""
        times = {tuple(map(int, dims)): float(seconds) for dims, seconds in plain["times"]}
        return cls(float(plain["idle"]), times, int(plain.get("passes", 1)))

    def plain(self) -> dict[str, Any]:
        """What `read` reads."""
        return {"idle": self.idle, "times": list(self.times.items()), "passes": self.passes}

    def merged(self, other: Measured) -> Measured:
        """Noise only adds: of two passes the smaller time is the truer one, size by size."""
        times = dict(self.times)
        for dims, seconds in other.times.items():
            times[dims] = min(seconds, times.get(dims, seconds))
        return Measured(min(self.idle, other.idle), times, self.passes + other.passes)

    def net(self, kernel: str) -> Times:
        """The kernel's own seconds: without the call, and per run if the graph repeats it."""
        if kernel == "call":
            return [((), self.idle)]
        share = GRAPH_BY_KERNEL[kernel].repeats
        own = {dims: max(s - self.idle, LEAST_SECONDS) / share for dims, s in self.times.items()}
        return plausible(kernel, own)


def plausible(kernel: str, times: dict[Dims, float]) -> Times:
    """The times without those that only a disturbance explains, such as a core taken away.

    Time is monotone: a size is dropped if a larger one (in every dimension) took clearly less.
    Nor does the time per unit of work rise much: a size is dropped if it took `SPIKE` times what
    a smaller one would make it. Noise only adds, so what is dropped was too slow, never too fast.
    """
    found = KERNEL_BY_NAME[kernel]
    work = {dims: 1 + found.flops(dims) + found.bytes(dims, 8) for dims in times}
    return [
        (dims, seconds)
        for dims, seconds in times.items()
        if not any(
            (_within(dims, other) and seconds > CLEARLY * least + RESOLUTION)
            or (_within(other, dims) and seconds > SPIKE * (least + RESOLUTION) * work[dims] / work[other])
            for other, least in times.items()
        )
    ]


def _within(small: Dims, large: Dims) -> bool:
    return all(a <= b for a, b in zip(small, large, strict=True))


@dataclass
class Session:
    """What has been measured, by dtype and kernel, and the file it is kept in."""

    path: Path
    identity: dict[str, Any]
    measured: dict[str, Measured] = field(default_factory=dict)

    def passes(self, kernel: str, dtype: str) -> int:
        """How many times this kernel has been measured."""
        found = self.measured.get(_key(kernel, dtype))
        return found.passes if found is not None else 0

    def net(self, kernel: str, dtype: str) -> Times:
        """The kernel's own seconds by size; empty if it has not been measured."""
        found = self.measured.get(_key(kernel, dtype))
        return found.net(kernel) if found is not None else []

    def record(self, kernel: str, dtype: str, measured: Measured) -> None:
        """Keep one pass over a kernel, also on disk."""
        key = _key(kernel, dtype)
        before = self.measured.get(key)
        self.measured[key] = before.merged(measured) if before is not None else measured
        self._save(complete=False)

    def finish(self) -> None:
        """Everything is measured: the next calibration starts afresh."""
        self._save(complete=True)

    def _save(self, complete: bool) -> None:
        plain = {
            "complete": complete,
            "identity": self.identity,
            "measured": {key: found.plain() for key, found in self.measured.items()},
        }
        write_atomically(self.path, json.dumps(plain))


def _key(kernel: str, dtype: str) -> str:
    return f"{dtype}/{kernel}"


def open_session(profile: Path, identity: dict[str, Any]) -> Session:
    """The unfinished session of the same identity next to the profile, or a new one."""
    path = profile.with_suffix(".raw.json")
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if not plain["complete"] and plain["identity"] == identity:
            measured = {key: Measured.read(found) for key, found in plain["measured"].items()}
            return Session(path, identity, measured)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # nothing to continue, or nothing readable: measure again
    return Session(path, identity)


def waiting(session: Session, tasks: Sequence[tuple[str, str]], passes: int) -> list[tuple[str, str]]:
    """What is still to be measured, pass after pass, so that a noisy minute spoils no kernel."""
    return [task for turn in range(passes) for task in tasks if session.passes(*task) <= turn]
