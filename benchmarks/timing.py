"""Timing in alternation: every function once per round, so that a drifting machine hurts all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


def alternate(
    functions: Mapping[str, Callable[..., Any]],
    arguments: Sequence[Any],
    *,
    budget: float = 2.0,
    rounds: tuple[int, int] = (5, 200),
) -> dict[str, float]:
    """Median seconds a call of each function, in about ``budget`` seconds and (least, most) ``rounds``."""
    for fn in functions.values():
        fn(*arguments)
    samples: dict[str, list[float]] = {name: [] for name in functions}
    start = time.perf_counter()
    for done in range(rounds[1]):
        if done >= rounds[0] and time.perf_counter() - start > budget:
            break
        for name, fn in functions.items():
            before = time.perf_counter()
            fn(*arguments)
            samples[name].append(time.perf_counter() - before)
    return {name: float(np.median(times)) for name, times in samples.items()}


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))
