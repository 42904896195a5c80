"""The candidates for one problem side by side: do they agree, and how long does each take?"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from autotune.choose.candidates import strategy
from autotune.evidence.stand_ins import Modes, StandIn, stand_in
from autotune.evidence.store import Entry
from autotune.evidence.timing import fastest_of, numpy_in_one_thread
from autotune.problem import Decision

# Relative to the largest entry of an answer, for matrices whose condition number is about 10.
AGREEMENT = {"float64": 1e-7, "float32": 1e-2}


def try_out(candidates: Mapping[str, Decision], budget: float, modes: Modes) -> Entry:
    """Times of ``candidates``, named with what each would be built with, all for one problem.

    Timed in about ``budget`` seconds, compiling apart. Raises ``RuntimeError`` if none of them runs.
    """
    decision = next(iter(candidates.values()))
    inputs = stand_in(decision.problem, decision.condition_number)
    quiet = numpy_in_one_thread() if decision.problem.linker == "numba" else nullcontext()
    with quiet:
        functions, ruled_out = _agreeing(inputs, candidates, modes)
        if not functions:
            raise RuntimeError(f"none of its candidates runs: {ruled_out}")
        start = time.perf_counter()
        seconds = fastest_of(functions, inputs.values, budget)
        return Entry(seconds, ruled_out, time.perf_counter() - start)


def _agreeing(
    inputs: StandIn, candidates: Mapping[str, Decision], modes: Modes
) -> tuple[dict[str, Any], dict[str, str]]:
    """The functions that give the answers of keep, or of the first if it is not there; why others do not."""
    functions: dict[str, Any] = {}
    ruled_out: dict[str, str] = {}
    expected = None
    for name in sorted(candidates, key=lambda name: name != "keep"):
        try:
            fn = inputs.function(candidates[name], name, modes)
            answers = inputs.comparable(fn(*inputs.values))
        except Exception as error:
            ruled_out[name] = f"{type(error).__name__} when it was tried: {error}".splitlines()[0]
            continue
        expected = answers if expected is None else expected
        differ = differences(answers, expected)
        if differ <= _tolerance(candidates[name], name):
            functions[name] = fn
        else:
            ruled_out[name] = f"its answers differed by {differ:.1e} when it was tried"
    return functions, ruled_out


def differences(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """Largest difference of any answer relative to its largest entry; infinite unless finite alike."""
    worst = 0.0
    for f, e in zip(found, expected, strict=True):
        f, e = np.asarray(f, dtype="float64"), np.asarray(e, dtype="float64")
        finite = np.isfinite(e)
        alike = f.shape == e.shape and np.array_equal(f[~finite], e[~finite], equal_nan=True)
        if not alike or not np.isfinite(f[finite]).all():
            return math.inf
        apart = float(np.abs(f[finite] - e[finite]).max(initial=0.0))
        worst = max(worst, apart and apart / max(float(np.abs(e[finite]).max()), 1e-300))
    return worst


def _tolerance(decision: Decision, name: str) -> float:
    """What rounding may do, or ten times what the user allows an inexact strategy."""
    allowed = 0.0 if strategy(name).exact else max(decision.solve_rtol, decision.logdet_rtol or 0.0)
    return max(AGREEMENT[decision.problem.dtype], 10 * allowed)
