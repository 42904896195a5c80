"""Held-out shapes: drawn off the calibration's grid, and timed as calibration times.

The rounds go over all kernels in turn, so that a noisy minute hurts one round of every kernel and not
one kernel in every round.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.client import Worker, WorkerLost
from calibration.grids import grid
from calibration.session import Measured, Pass
from cost_models import KERNEL_BY_NAME
from cost_models.kernels import Dims

ROUNDS = 4
_COMPILE_SECONDS = 300.0
_LEAST_SECONDS = 0.05  # a kernel is timed for so long even if the budget is spent
_DRAWS = 10_000

Task = tuple[str, str]
"""(kernel, dtype)."""

Progress = Callable[[str, int, int], None]


def held_out_shapes(kernel: str, count: int, seed: int = 0) -> list[Dims]:
    """`count` different shapes drawn log-uniformly within the kernel's grid, none of it, least work first.

    An integer i has the chance log((i + 1) / i). A shape lies within the grid if for each pair of
    dimensions the grid goes as high in one at as low a value of the other, and as high in all at
    once: where ranks stay below half the size there, they do here. Fewer shapes are returned only
    if there are no more.
    """
    found = KERNEL_BY_NAME[kernel]
    timed = {dims for quick in (True, False) for dims in grid(kernel, quick)}
    points: np.ndarray = np.array(grid(kernel, quick=False))
    low, high = np.log(points.min(axis=0)), np.log(points.max(axis=0) + 1)
    rng = np.random.default_rng([seed, zlib.crc32(kernel.encode())])
    drawn: set[Dims] = set()
    for _ in range(_DRAWS):
        if len(drawn) == count:
            break
        dims = tuple(int(n) for n in np.exp(rng.uniform(low, high)))
        if dims not in timed and _within(dims, points):
            drawn.add(dims)
    return sorted(drawn, key=lambda dims: (found.flops(dims) + found.bytes(dims, 8), dims))


def _within(dims: Dims, points: NDArray[np.int64]) -> bool:
    """Whether the grid surrounds the shape: pairwise from below and above, and all sizes from above."""
    pairs = permutations(range(len(dims)), 2)
    return bool((points >= dims).all(axis=1).any()) and all(
        bool(((points[:, i] <= dims[i]) & (points[:, j] >= dims[j])).any()) for i, j in pairs
    )


def _ask(worker: Worker, task: Task, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """The worker's answer; a kernel that kills it has failed like one that raises."""
    try:
        return worker.ask({"kernel": task[0], "dtype": task[1], **request}, timeout)
    except WorkerLost as lost:
        return {"failed": str(lost)}


def compile_all(worker: Worker, tasks: Sequence[Task], progress: Progress) -> dict[Task, str]:
    """Have every kernel compiled before the clock starts; the ones that fail, with the reason."""
    failed = {}
    for done, task in enumerate(tasks):
        progress(f"compiling {task[0]} {task[1]}", done, (1 + ROUNDS) * len(tasks))
        reply = _ask(worker, task, {}, _COMPILE_SECONDS)
        if "failed" in reply:
            failed[task] = str(reply["failed"])
    return failed


def time_rounds(
    worker: Worker, sizes: Mapping[Task, Sequence[Dims]], budget: float, progress: Progress
) -> tuple[dict[Task, Measured], dict[Task, str]]:
    """All rounds of each kernel, and the kernels that failed on the way; each has its share of the budget."""
    rounds: dict[Task, list[Pass]] = {task: [] for task in sizes}
    failed: dict[Task, str] = {}
    turns = list(sizes) * ROUNDS
    deadline = time.monotonic() + budget
    for done, task in enumerate(turns):
        if task in failed:
            continue
        progress(f"{task[0]} {task[1]}", len(sizes) + done, len(sizes) + len(turns))
        share = max((deadline - time.monotonic()) / (len(turns) - done), _LEAST_SECONDS)
        request = {"sizes": sizes[task], "budget": share}
        reply = _ask(worker, task, request, _COMPILE_SECONDS + 5 * share)
        if "failed" in reply:
            failed[task] = str(reply["failed"])
        else:
            rounds[task].append(Pass.read(reply))
    progress("done", len(sizes) + len(turns), len(sizes) + len(turns))
    return {task: Measured(tuple(found)) for task, found in rounds.items() if task not in failed}, failed
