"""When a candidate is really cheaper: by more than the margin and than the error of its price.

    gain = 1 - (kernels that only ours runs) / (kernels that only theirs runs)

Kernels that both run have the same error, so only the rest tells which is faster.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from autotune.choose.candidates import parts, work_of
from cost_models import KernelCall

# Standard error of a gain in batches: kernels are timed alone, not in a loop over the items.
BATCH_ERROR = 0.1


def distinct_work(problem, names, others, options) -> tuple[list[KernelCall], list[KernelCall]]:
    """What an assignment runs beyond what ``others`` run as well, and what those run beyond it."""
    ours, theirs = _calls(problem, names, options), _calls(problem, others, options)
    return _beyond(ours, theirs), _beyond(theirs, ours)


def _beyond(mine, others) -> list[KernelCall]:
    """Without the kernels that both run: they cost nothing more and err together."""
    more = {key: count - min(count, others.get(key, 0.0)) for key, count in mine.items()}
    return [KernelCall(kernel, dims, count) for (kernel, dims), count in more.items() if count]


def _calls(problem, names, options) -> dict[Any, float]:
    calls: dict[Any, float] = defaultdict(float)
    for served_by, part in parts(problem, names):
        for c in work_of(served_by, part, options).calls:
            calls[c.kernel, c.dims] += c.count
    return calls


def predicted_gain(problem, names, others, options, profile) -> tuple[float, float]:
    """The share of the time of ``others`` that ``names`` saves, of what differs, and its standard error.

    The error is that of prices which err apart. They err by a factor: far beyond what was calibrated by a
    large one, which a gain of many times still exceeds. Sizes must be known.
    """
    ours, theirs = distinct_work(problem, names, others, options)
    mine, other = (sum(profile.seconds(c, problem.dtype) for c in calls) for calls in (ours, theirs))
    if not other:
        return 0.0, 0.0
    factors = [_log_error(calls, problem.dtype, profile) for calls in (ours, theirs)]
    error = -math.expm1(-math.hypot(*factors))
    return 1 - mine / other, error if problem.batch == 1 else math.hypot(error, BATCH_ERROR)


def _log_error(calls: list[KernelCall], dtype: str, profile) -> float:
    """The logarithm of the factor by which the price of some kernels may be wrong."""
    seconds = sum(profile.seconds(c, dtype) for c in calls)
    return (
        math.log1p(math.hypot(*(profile.uncertainty(c, dtype) for c in calls)) / seconds) if seconds else 0.0
    )
