"""Raw measurements on disk, so that an interrupted calibration goes on where it stopped.

They are kept next to the profile, written whole after every kernel, and stay there when the profile
is fitted: prices can be fitted anew without measuring. A session of another machine, another set of
sizes or other library versions is not continued, nor is one that has finished.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from calibration.graphs import GRAPH_BY_KERNEL
from cost_models.files import write_atomically
from cost_models.kernels import KERNEL_BY_NAME, Dims
from cost_models.model import RESOLUTION

VERSION = 3
"""Of the file of raw measurements; a file of another version is not read."""
CLEARLY = 1.25
SPIKE = 40.0
Times = list[tuple[Dims, float]]
LEAST_SECONDS = 1e-8  # what is left of a kernel after the cost of the call, at the least


@dataclass(frozen=True)
class Pass:
    """One pass over a kernel's sizes: the least seconds of each, and how much longer its middle sample took.

    `idle` is a call with as many inputs that does nothing.
    """

    idle: float
    times: Mapping[Dims, float]
    spread: Mapping[Dims, float]

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """From what the worker or the file says: `times` lists sizes, seconds and spread."""
        rows = [(tuple(map(int, dims)), float(s), float(spread)) for dims, s, spread in plain["times"]]
        return cls(
            float(plain["idle"]), {dims: s for dims, s, _ in rows}, {dims: spread for dims, _, spread in rows}
        )

    def plain(self) -> dict[str, Any]:
        """What `read` reads."""
        return {"idle": self.idle, "times": [(d, s, self.spread[d]) for d, s in self.times.items()]}


@dataclass(frozen=True)
class Measured:
    """All passes over one kernel. Noise only adds: the least time of a size is its truest."""

    passes: tuple[Pass, ...]

    @property
    def idle(self) -> float:
        return min(one.idle for one in self.passes)

    @property
    def times(self) -> dict[Dims, float]:
        """The least seconds per size over all passes."""
        least: dict[Dims, float] = {}
        for one in self.passes:
            for dims, seconds in one.times.items():
                least[dims] = min(seconds, least.get(dims, seconds))
        return least

    def net(self, kernel: str, idle: float) -> Times:
        """The kernel's own seconds: without the call that takes `idle`, and per run if it is repeated."""
        if kernel == "call":
            return [((), idle)]
        share = GRAPH_BY_KERNEL[kernel].repeats
        own = {dims: max(s - idle, LEAST_SECONDS) / share for dims, s in self.times.items()}
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
    identity: Mapping[str, Any]
    measured: dict[str, Measured] = field(default_factory=dict)
    complete: bool = False

    def passes(self, kernel: str, dtype: str) -> int:
        """How many times this kernel has been measured."""
        found = self.measured.get(_key(kernel, dtype))
        return len(found.passes) if found is not None else 0

    def net(self, kernel: str, dtype: str) -> Times:
        """The kernel's own seconds by size; empty if it has not been measured."""
        found = self.measured.get(_key(kernel, dtype))
        return found.net(kernel, self._idle(kernel, dtype)) if found is not None else []

    def _idle(self, kernel: str, dtype: str) -> float:
        """The least that a call with so many inputs took, whichever kernel was measured beside it."""
        inputs = len(GRAPH_BY_KERNEL[kernel].inputs)
        return min(
            found.idle
            for key, found in self.measured.items()
            if key.startswith(f"{dtype}/") and len(GRAPH_BY_KERNEL[key.split("/")[1]].inputs) == inputs
        )

    def record(self, kernel: str, dtype: str, one: Pass) -> None:
        """Keep one pass over a kernel, also on disk."""
        key = _key(kernel, dtype)
        before = self.measured.get(key, Measured(()))
        self.measured[key] = Measured((*before.passes, one))
        self._save()

    def finish(self) -> None:
        """Everything is measured: the next calibration starts afresh."""
        self.complete = True
        self._save()

    def spread(self) -> dict[str, float]:
        """By kernel, how much longer than the least the middle sample took: the median over the sizes."""
        return {
            key: statistics.median(spreads)
            for key, found in self.measured.items()
            if (spreads := [value for one in found.passes for value in one.spread.values()])
        }

    def drift(self) -> float:
        """The last pass over the first: the median ratio of times. Above 1 the machine became slower."""
        return statistics.median([*self._first_and_last()] or [1.0])

    def _first_and_last(self) -> Iterator[float]:
        for found in self.measured.values():
            first, last = found.passes[0].times, found.passes[-1].times
            yield from (last[dims] / first[dims] for dims in first if dims in last)

    def _save(self) -> None:
        plain = {
            "version": VERSION,
            "complete": self.complete,
            "identity": self.identity,
            "measured": {key: [one.plain() for one in m.passes] for key, m in self.measured.items()},
        }
        write_atomically(self.path, json.dumps(plain))


def _key(kernel: str, dtype: str) -> str:
    return f"{dtype}/{kernel}"


def _path(profile: Path) -> Path:
    return profile.with_suffix(".raw.json")


def stored_session(profile: Path) -> Session | None:
    """The raw measurements kept next to a profile, finished or not; None if none can be read."""
    path = _path(profile)
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["version"] != VERSION:
            return None
        measured = {
            key: Measured(tuple(Pass.read(one) for one in passes))
            for key, passes in plain["measured"].items()
        }
        return Session(path, dict(plain["identity"]), measured, bool(plain["complete"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def open_session(profile: Path, identity: Mapping[str, Any], fresh: bool = False) -> Session:
    """The unfinished session of the same identity next to the profile, or a new one."""
    found = None if fresh else stored_session(profile)
    if found is not None and not found.complete and found.identity == identity:
        return found
    return Session(_path(profile), identity)


def waiting(session: Session, tasks: Sequence[tuple[str, str]], passes: int) -> list[tuple[str, str]]:
    """What is still to be measured, pass after pass, so that a noisy minute spoils no kernel."""
    return [task for turn in range(passes) for task in tasks if session.passes(*task) <= turn]
