"""Honest timing of compiled functions at several sizes.

Every case is warmed up, looped until a sample is long against the clock, and sampled in turn with
the others, so that a burst of noise hits all cases a little instead of one case fully. The minimum
of the samples is kept: noise only ever adds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

ROUNDS = 40
MIN_ROUNDS = 5
SAMPLE_SECONDS = 4e-4


@dataclass
class Case:
    """One function at one size: its arguments, loops per sample, and the samples so far."""

    function: Callable[..., Any]
    dims: tuple[int, ...]
    arguments: tuple[Any, ...]
    loops: int = 1
    samples: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The least of the samples."""
        return min(self.samples)

    @property
    def spread(self) -> float:
        """How much longer than the least the middle sample took, relatively: 0 on a quiet machine."""
        return statistics.median(self.samples) / self.seconds - 1


def measure(cases: Iterable[Case], budget: float) -> list[Case]:
    """The cases that fit into `budget` seconds, each with one sample or more.

    Cases come in rising order of work; the budget cuts off the largest. `cases` is consumed
    lazily, so arguments that would not fit are never built. The rounds go on until the budget is
    spent; the small cases have at least `MIN_ROUNDS` samples whatever the large ones take.
    """
    deadline = time.perf_counter() + budget
    kept = _warmed_up(cases, budget)
    for turn in range(ROUNDS):
        for case in kept:
            late = time.perf_counter() > deadline
            if not late or (turn < MIN_ROUNDS and case.loops > 1):
                case.samples.append(sample(case))
    return kept


def _warmed_up(cases: Iterable[Case], budget: float) -> list[Case]:
    """Run each case and set its loops, until half of the budget is used up."""
    kept: list[Case] = []
    start = time.perf_counter()
    for case in cases:
        once = _quickest(case, budget / 40)
        case.loops = max(1, round(SAMPLE_SECONDS / max(once, 1e-8)))
        case.samples.append(once)
        kept.append(case)
        if time.perf_counter() - start > budget / 2:
            break
    return kept


def _quickest(case: Case, long: float) -> float:
    """Seconds of one run. The first runs touch fresh memory and wake threads: try a few times."""
    once = _timed(case, 1)
    for _ in range(3):
        if once < long:
            once = min(once, _timed(case, 1))
    return once


def sample(case: Case) -> float:
    """Seconds of one run, the mean over the loops; the caches are as after runs of the same."""
    _timed(case, 1 + case.loops // 4)
    return _timed(case, case.loops)


def _timed(case: Case, loops: int) -> float:
    function, arguments = case.function, case.arguments
    start = time.perf_counter_ns()
    for _ in range(loops):
        function(*arguments)
    return (time.perf_counter_ns() - start) / (1e9 * loops)
