"""`calibrate()`: measure every kernel on this machine, fit the prices, save the profile."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from calibration.client import START_SECONDS, Worker, WorkerLost
from calibration.fitting import fitted
from calibration.graphs import OPS
from calibration.grids import grid
from calibration.session import Pass, Session, open_session, waiting
from cost_models import (
    KERNEL_BY_NAME,
    REFERENCE_KERNELS,
    Fingerprint,
    KernelModel,
    Profile,
    ProfileError,
    load_profile,
    profile_path,
    save_profile,
)
from cost_models.find import installed_version
from cost_models.fingerprint import usable_cores
from cost_models.model import ITEMSIZE

QUICK_SECONDS = 52.0
FULL_SECONDS = 480.0
QUICK_PASSES = 2
FULL_PASSES = 4
LIBRARIES = ("pytensor", "numba", "numpy", "scipy", "pytensor-autotune")
UNSTABLE = 0.25
"""The middle sample of a size is so much longer than the least only if something disturbs."""
DRIFT = 1.15
SLOWEST_TO_COMPILE = "gemm"
"""PyTensor's product takes 20 s, for all memory orders: first, while other processes compile the rest."""
MOST_COMPILERS = 4  # a process each, of some hundred megabytes
_COMPILE_SECONDS = 300.0  # a cold compile of one kernel, at the very most
_LEAST_SECONDS = 0.2  # a kernel is measured for so long even if the budget is spent
_LEAST_SHARE = 0.25  # of the budget is for measuring, however long compiling takes
_log = logging.getLogger("autotune")

Task = tuple[str, str]  # kernel and dtype
Progress = Callable[[str, int, int], None]


def calibrate(
    quick: bool = False,
    dtypes: Sequence[str] = ("float64",),
    output: str | os.PathLike[str] | None = None,
    budget: float | None = None,
    progress: Progress | None = None,
    kernels: Sequence[str] | None = None,
    threads: int | None = None,
    fresh: bool = False,
) -> Profile:
    """Measure, fit and save; the saved profile is the one that `find_profile` finds from now on.

    `dtypes` are measured; the others are derived from a few kernels and marked so. `budget` bounds
    the seconds in all, compiling included, but a quarter of it is kept for measuring. `output` is the
    file to write instead of this machine's. `progress(label, done, total)` is called before each
    step. `kernels` restricts what is measured; the others keep the generic prices. `threads` of the
    BLAS; None: as in force.

    An interruption leaves the old profile as it is, and the next call goes on where it stopped,
    unless it is `fresh`.
    """
    tasks = _tasks(_checked(kernels, dtypes), dtypes)
    _warn_if_busy()
    seconds = budget if budget is not None else (QUICK_SECONDS if quick else FULL_SECONDS)
    with Worker(threads) as worker:
        started = time.monotonic()
        reply = worker.ask({"kernel": "fingerprint"}, START_SECONDS)
        machine = Fingerprint(**reply["fingerprint"])
        path = Path(output) if output is not None else profile_path(machine)
        versions = {name: installed_version(name) for name in LIBRARIES}
        identity = {"machine": machine.key(), "quick": quick, **versions}
        session = open_session(path, identity, fresh)
        passes = QUICK_PASSES if quick else FULL_PASSES
        missing = waiting(session, tasks, passes)
        ops = [(OPS, dtype) for dtype in dtypes] if kernels is None else []
        steps = Steps(progress, len(tasks) * (passes + 1) + len(ops), len(tasks) * passes - len(missing))
        failed = _compile_all(worker, threads, [*ops, *dict.fromkeys(missing)], steps)
        deadline = max(started + seconds, time.monotonic() + _LEAST_SHARE * seconds)
        _measure_all(worker, session, missing, quick, deadline, steps, failed)
    _advise(session)
    models = fitted(session, tuple(dtypes), machine.cache_bytes)
    profile = Profile(
        fingerprint=machine,
        models=models | _measured_before(path, machine, versions, dtypes),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        library_versions=versions,
    )
    save_profile(profile, path)
    session.finish()
    return profile


def _measured_before(
    path: Path, machine: Fingerprint, versions: dict[str, str], dtypes: Sequence[str]
) -> dict[str, Mapping[str, KernelModel]]:
    """The prices of other dtypes that an earlier calibration measured: better than derived ones."""
    try:
        old = load_profile(path)
    except (ProfileError, OSError):
        return {}
    if old.fingerprint != machine or old.library_versions != versions:
        return {}
    return {
        dtype: models
        for dtype, models in old.models.items()
        if dtype not in dtypes and not any(model.derived for model in models.values())
    }


@dataclass
class Steps:
    """Counts the steps and tells `progress`; `done` were taken before."""

    progress: Progress | None
    total: int
    done: int
    _next: count[int] = field(init=False)

    def __post_init__(self) -> None:
        self._next = count(self.done)

    def begin(self, label: str) -> None:
        """One more step begins. Threads may call it."""
        step = min(next(self._next), self.total)
        if self.progress is not None:
            self.progress(label, step, self.total)

    def finish(self) -> None:
        if self.progress is not None:
            self.progress("done", self.total, self.total)


def _warn_if_busy() -> None:
    """Other work on the cores makes every price too high, and not by the same factor."""
    load, cores = os.getloadavg()[0], usable_cores()
    if load > 0.5 * cores:
        _log.warning(
            "The machine is busy (load %.1f on %d cores). Calibrate again when it is idle.",
            load,
            cores,
        )


def _advise(session: Session) -> None:
    """Say what the times themselves show of a machine that is not at rest."""
    spread = session.spread()
    noisy = {key: value for key, value in spread.items() if value > UNSTABLE}
    if len(noisy) > len(spread) / 4:
        worst = max(noisy, key=noisy.__getitem__)
        _log.warning(
            "The times are unstable: in %d of %d kernels the middle run took over %.0f %% longer than the "
            "best (%s: %.0f %%). Close other programs and calibrate again; until then the prices are rough.",
            *(len(noisy), len(spread), 100 * UNSTABLE, worst, 100 * spread[worst]),
        )
    if (drift := session.drift()) > DRIFT:
        _log.warning(
            "The machine became %.0f %% slower while it was measured: it heats up, runs on battery or shares "
            "its cores. Calibrate again when it is cool, on mains and idle.",
            100 * (drift - 1),
        )


def _checked(kernels: Sequence[str] | None, dtypes: Sequence[str]) -> tuple[str, ...]:
    """The kernels to measure; unknown names are an error before anything is measured."""
    names = tuple(kernels) if kernels is not None else tuple(KERNEL_BY_NAME)
    if unknown := set(names).difference(KERNEL_BY_NAME):
        raise ValueError(f"There is no kernel {', '.join(sorted(unknown))}. See cost_models.KERNELS.")
    if unknown := set(dtypes).difference(ITEMSIZE):
        raise ValueError(
            f"Calibration does not know dtype {', '.join(sorted(unknown))}. "
            f"It measures {', '.join(ITEMSIZE)}."
        )
    return names


def _tasks(names: Sequence[str], dtypes: Sequence[str]) -> list[Task]:
    """(kernel, dtype) to measure: all in the given dtypes, the reference kernels in the others."""
    chosen = [(name, dtype) for dtype in dtypes for name in names]
    derived = [dtype for dtype in ITEMSIZE if dtype not in dtypes]
    return chosen + [(n, dtype) for dtype in derived for n in REFERENCE_KERNELS if n in names]


# -- compiling -------------------------------------------------------------------------------------


def _compile_all(worker: Worker, threads: int | None, tasks: Sequence[Task], steps: Steps) -> set[Task]:
    """Compile every kernel into Numba's cache, on all cores at once; the tasks that failed.

    Nothing is timed meanwhile, so the processes may disturb each other.
    """
    waiting_tasks: SimpleQueue[Task] = SimpleQueue()
    for task in sorted(tasks, key=lambda task: task[0] != SLOWEST_TO_COMPILE):
        waiting_tasks.put(task)
    others = max(0, min(usable_cores(), MOST_COMPILERS, len(tasks)) - 1)
    failed: set[Task] = set()
    with ThreadPoolExecutor(max_workers=others + 1) as pool:
        futures = [pool.submit(_compile_some, worker, waiting_tasks, steps)]
        futures += [pool.submit(_compile_apart, threads, waiting_tasks, steps) for _ in range(others)]
        for future in futures:
            failed |= future.result()
    return failed


def _compile_apart(threads: int | None, tasks: SimpleQueue[Task], steps: Steps) -> set[Task]:
    with Worker(threads) as worker:
        return _compile_some(worker, tasks, steps)


def _compile_some(worker: Worker, tasks: SimpleQueue[Task], steps: Steps) -> set[Task]:
    """Compile until nothing is left to do; the tasks that failed."""
    failed: set[Task] = set()
    while True:
        try:
            kernel, dtype = tasks.get_nowait()
        except Empty:
            return failed
        steps.begin(f"compiling {kernel} {dtype}")
        if _asked(worker, kernel, dtype, {}, _COMPILE_SECONDS) is None:
            failed.add((kernel, dtype))


# -- measuring -------------------------------------------------------------------------------------


def _measure_all(
    worker: Worker,
    session: Session,
    missing: Sequence[Task],
    quick: bool,
    deadline: float,
    steps: Steps,
    failed: set[Task],
) -> None:
    """Measure what the session lacks, giving each kernel its share of the time that is left."""
    for turn, (kernel, dtype) in enumerate(missing):
        steps.begin(f"{kernel} {dtype}")
        if (kernel, dtype) in failed:
            continue
        share = max((deadline - time.monotonic()) * _share(missing[turn:], quick), _LEAST_SECONDS)
        request = {"sizes": grid(kernel, quick), "budget": share}
        reply = _asked(worker, kernel, dtype, request, _COMPILE_SECONDS + 5 * share)
        if reply is None:
            failed.add((kernel, dtype))
        else:
            session.record(kernel, dtype, Pass.read(reply))
    steps.finish()


def _share(missing: Sequence[Task], quick: bool) -> float:
    """What the first task gets of the time for all: more for more sizes, but not in proportion.

    A kernel of three dimensions has the sizes to learn from, and some are large; one of a single
    dimension needs its rounds too.
    """
    weights = [math.sqrt(len(grid(kernel, quick))) for kernel, _ in missing]
    return weights[0] / sum(weights)


def _asked(
    worker: Worker, kernel: str, dtype: str, request: dict[str, Any], timeout: float
) -> dict[str, Any] | None:
    """The worker's reply; a kernel that fails is reported and left to the generic prices: None."""
    try:
        reply = worker.ask({"kernel": kernel, "dtype": dtype, **request}, timeout)
    except WorkerLost as lost:
        reply = {"failed": str(lost)}
    if "failed" not in reply:
        return reply
    _log.warning(
        "Kernel %s (%s) %s. It keeps the generic price; please report it.", kernel, dtype, reply["failed"]
    )
    return None
