"""Timing in alternation: every function once a round, so that a drifting machine hurts all alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

SHORTEST_SAMPLE = 2e-4
"""Seconds: a faster function is called several times a sample, so that it is timed with warm caches."""
ROUNDS = (3, 30)
"""The least, whatever they take, and the most."""


def fastest_of(
    functions: Mapping[str, Callable[..., Any]], arguments: Sequence[Any], budget: float
) -> dict[str, float]:
    """Seconds a call of each function, the minimum over rounds that take about ``budget`` seconds together.

    Noise only ever adds, so the minimum is what compares (Chen & Revels 2016, "Robust benchmarking in noisy
    environments"). Each function must have been called before: the first call compiles.
    """
    start = time.perf_counter()
    loops = {name: _loops(fn, arguments) for name, fn in functions.items()}
    fastest = dict.fromkeys(functions, math.inf)
    with _undisturbed():
        for done in range(ROUNDS[1]):
            if done >= ROUNDS[0] and time.perf_counter() - start > budget:
                break
            for name, fn in functions.items():
                fastest[name] = min(fastest[name], _sample(fn, arguments, loops[name]))
    return fastest


def _sample(fn: Callable[..., Any], arguments: Sequence[Any], loops: int) -> float:
    """Mean seconds of ``loops`` calls."""
    before = time.perf_counter()
    for _ in range(loops):
        fn(*arguments)
    return (time.perf_counter() - before) / loops


def _loops(fn: Callable[..., Any], arguments: Sequence[Any]) -> int:
    """Calls that fill the shortest sample."""
    fastest = _sample(fn, arguments, 1)
    if fastest < SHORTEST_SAMPLE:
        fastest = min(fastest, _sample(fn, arguments, 5))
    return max(1, math.ceil(SHORTEST_SAMPLE / fastest))


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without garbage collection."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def numpy_in_one_thread() -> Iterator[None]:
    """One thread for NumPy's own BLAS, whose idle threads spin on the cores that SciPy's needs.

    Nothing where both share one library. Numba calls SciPy's; the inputs and comparisons here call NumPy's.
    """
    import scipy.linalg  # noqa: F401  loads SciPy's BLAS, so that it can be told apart
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController().select(user_api="blas")
    paths = [pool["filepath"] for pool in controller.info()]
    others = [path for path in paths if "scipy.libs" not in path]
    if not others or len(others) == len(paths):
        yield
        return
    with controller.select(filepath=others).limit(limits=1):
        yield
