"""Two compiled functions of the same thing: times in alternation, and how far the results differ."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from autotune.plan import Plan

TOLERANCE = 1e-6
LEAST_ROUNDS = 2
BURST_SECONDS = 0.02
"""A function is called for so long, at least once, before the other has its turn."""


@dataclass(frozen=True)
class Case:
    """The same function, compiled by plain PyTensor and with autotune: first the value, then gradients."""

    plain: Callable[..., Any]
    tuned: Callable[..., Any]
    arguments: tuple[Any, ...]
    plan: Plan


@dataclass(frozen=True)
class Times:
    """Seconds of all calls of one function."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        return min(self.seconds)


@dataclass(frozen=True)
class Comparison:
    """``values_differ`` and ``gradients_differ`` (None without gradients): see ``difference``."""

    title: str
    plain: Times
    tuned: Times
    values_differ: float
    gradients_differ: float | None

    @property
    def ratio(self) -> float:
        """How many times as fast the tuned function is, by medians."""
        return self.plain.median / self.tuned.median

    @property
    def agrees(self) -> bool:
        return max(self.values_differ, self.gradients_differ or 0.0) <= TOLERANCE


def compare(
    title: str, case: Case, seconds: float, tell: Callable[[str], object] = lambda text: None
) -> Comparison:
    """Call both in alternation for about ``seconds``; first calls, which may compile, are told of apart."""
    expected = _first_call("plain PyTensor", case.plain, case.arguments, tell)
    found = _first_call("autotune", case.tuned, case.arguments, tell)
    plain: list[float] = []
    tuned: list[float] = []
    deadline = time.perf_counter() + seconds
    rounds = 0
    while rounds < LEAST_ROUNDS or time.perf_counter() < deadline:
        turns = [(case.plain, plain), (case.tuned, tuned)]
        for function, times in turns if rounds % 2 == 0 else reversed(turns):
            times += _burst(function, case.arguments)
        rounds += 1
    gradients = [difference(f, e) for f, e in zip(found[1:], expected[1:], strict=True)]
    return Comparison(
        title,
        Times(tuple(plain)),
        Times(tuple(tuned)),
        difference(found[0], expected[0]),
        max(gradients) if gradients else None,
    )


def _first_call(
    name: str, function: Callable[..., Any], arguments: tuple[Any, ...], tell: Callable[[str], object]
) -> Any:
    tell(f"first call of {name} ...")
    start = time.process_time()
    result = function(*arguments)
    tell(f"first call of {name}: {time.process_time() - start:.1f} CPU s")
    return result


def _burst(function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[float]:
    """Seconds of every call of one turn."""
    times: list[float] = []
    end = time.perf_counter() + BURST_SECONDS
    while (start := time.perf_counter()) < end:
        function(*arguments)
        times.append(time.perf_counter() - start)
    return times


def difference(found: Any, expected: Any) -> float:
    """``max|found - expected| / max|expected|``; infinite where a value is not finite."""
    found, expected = np.asarray(found), np.asarray(expected)
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    largest = np.abs(expected).max()
    return float(np.abs(found - expected).max() / (largest if largest > 0 else 1.0))
