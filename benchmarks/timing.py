"""Timing in alternation: every function once per round, so that a drifting machine hurts all alike."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

SHORTEST_SAMPLE = 2e-4
"""Seconds: a faster function is called several times a sample, so that it is timed with warm caches."""


def alternate(
    functions: Mapping[str, Callable[..., Any]],
    arguments: Sequence[Any],
    *,
    budget: float = 2.0,
    rounds: tuple[int, int] = (5, 200),
    statistic: Callable[[Sequence[float]], float] = np.median,
) -> dict[str, float]:
    """Median seconds a call of each function, in about ``budget`` seconds and (least, most) ``rounds``.

    ``statistic``: another one than the median, such as ``min`` where a quiet machine is to be predicted.

    The order is shuffled every round (always in the same way): what a function leaves in the caches is
    not always met by the same neighbour.
    """
    loops = {name: _loops(fn, arguments) for name, fn in functions.items()}
    samples: dict[str, list[float]] = {name: [] for name in functions}
    order, shuffle = list(functions), random.Random(0).shuffle
    start = time.perf_counter()
    for done in range(rounds[1]):
        if done >= rounds[0] and time.perf_counter() - start > budget:
            break
        shuffle(order)
        for name in order:
            samples[name].append(_seconds(functions[name], arguments, loops[name]))
    return {name: float(statistic(times)) for name, times in samples.items()}


def _seconds(fn, arguments, loops: int) -> float:
    """Mean seconds of ``loops`` calls."""
    before = time.perf_counter()
    for _ in range(loops):
        fn(*arguments)
    return (time.perf_counter() - before) / loops


def _loops(fn, arguments) -> int:
    """Calls that fill the shortest sample; the first call, which compiles, is not counted."""
    fn(*arguments)
    fastest = _seconds(fn, arguments, 1)
    if fastest < SHORTEST_SAMPLE:
        fastest = min(fastest, _seconds(fn, arguments, 5))
    return max(1, math.ceil(SHORTEST_SAMPLE / fastest))


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))
