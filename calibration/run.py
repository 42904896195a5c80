"""`calibrate()`: measure every kernel on this machine, fit the prices, save the profile."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from calibration.client import START_SECONDS, Worker, WorkerLost
from calibration.fitting import REFERENCE_KERNELS, fitted
from calibration.grids import grid
from calibration.session import Measured, Session, open_session, waiting
from cost_models import KERNEL_BY_NAME, Fingerprint, Profile, profile_path, save_profile
from cost_models.find import installed_version
from cost_models.fingerprint import usable_cores
from cost_models.model import ITEMSIZE

QUICK_SECONDS = 40.0
FULL_SECONDS = 480.0
QUICK_PASSES = 2
FULL_PASSES = 4
LIBRARIES = ("pytensor", "numba", "numpy", "scipy", "pytensor-autotune")
_COMPILE_SECONDS = 300.0  # a cold compile of one kernel, at the very most
_LEAST_SECONDS = 0.2  # a kernel is measured for so long even if the budget is spent
_log = logging.getLogger("autotune")

Progress = Callable[[str, int, int], None]


def calibrate(
    quick: bool = False,
    dtypes: Sequence[str] = ("float64",),
    output: str | os.PathLike[str] | None = None,
    budget: float | None = None,
    progress: Progress | None = None,
    kernels: Sequence[str] | None = None,
) -> Profile:
    """Measure, fit and save; the saved profile is the one that `find_profile` finds from now on.

    `dtypes` are measured; the others are derived from a few kernels and marked so. `budget` bounds
    the seconds of measuring (compiling a kernel for the first time comes on top). `output` is the
    file to write instead of this machine's. `progress(label, done, total)` is called before each
    kernel. `kernels` restricts what is measured; the others keep the generic prices.

    An interruption leaves the old profile as it is, and the next call goes on where it stopped.
    """
    names = _checked(kernels, dtypes)
    tasks = _tasks(names, dtypes)
    _warn_if_busy()
    with Worker() as worker:
        reply = worker.ask({"kernel": "fingerprint"}, START_SECONDS)
        machine = Fingerprint(**reply["fingerprint"])
        path = Path(output) if output is not None else profile_path(machine)
        versions = {name: installed_version(name) for name in LIBRARIES}
        session = open_session(path, {"machine": machine.key(), "quick": quick, **versions})
        seconds = budget if budget is not None else (QUICK_SECONDS if quick else FULL_SECONDS)
        _measure_all(worker, session, tasks, quick, seconds, progress)
    profile = Profile(
        fingerprint=machine,
        models=fitted(session, tuple(dtypes), machine.cache_bytes),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        library_versions=versions,
    )
    save_profile(profile, path)
    session.finish()
    return profile


def _warn_if_busy() -> None:
    """Other work on the cores makes every price too high, and not by the same factor."""
    load, cores = os.getloadavg()[0], usable_cores()
    if load > 0.5 * cores:
        _log.warning(
            "The machine is busy (load %.1f on %d cores). Calibrate again when it is idle.",
            load,
            cores,
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


def _tasks(names: Sequence[str], dtypes: Sequence[str]) -> list[tuple[str, str]]:
    """(kernel, dtype) to measure: all in the given dtypes, the reference kernels in the others."""
    chosen = [(name, dtype) for dtype in dtypes for name in names]
    derived = [dtype for dtype in ITEMSIZE if dtype not in dtypes]
    return chosen + [(n, dtype) for dtype in derived for n in REFERENCE_KERNELS if n in names]


def _measure_all(
    worker: Worker,
    session: Session,
    tasks: Sequence[tuple[str, str]],
    quick: bool,
    budget: float,
    progress: Progress | None,
) -> None:
    """Measure what the session lacks, giving each kernel its share of the time that is left."""
    total = len(tasks) * (QUICK_PASSES if quick else FULL_PASSES)
    missing = waiting(session, tasks, total // len(tasks))
    deadline = time.monotonic() + budget
    failed: set[tuple[str, str]] = set()
    for turn, (kernel, dtype) in enumerate(missing):
        if (kernel, dtype) in failed:
            continue
        if progress is not None:
            progress(f"{kernel} {dtype}", total - len(missing) + turn, total)
        share = max((deadline - time.monotonic()) / (len(missing) - turn), _LEAST_SECONDS)
        if not _measure_one(worker, session, kernel, dtype, quick, share):
            failed.add((kernel, dtype))
    if progress is not None:
        progress("done", total, total)


def _measure_one(
    worker: Worker, session: Session, kernel: str, dtype: str, quick: bool, seconds: float
) -> bool:
    """Measure and record one kernel; one that fails is reported and left to the generic prices."""
    request = {
        "kernel": kernel,
        "dtype": dtype,
        "sizes": grid(kernel, quick),
        "budget": seconds,
    }
    try:
        reply = worker.ask(request, _COMPILE_SECONDS + 5 * seconds)
    except WorkerLost as lost:
        reply = {"failed": str(lost)}
    if "failed" in reply:
        _log.warning(
            "Kernel %s (%s) %s. It keeps the generic price; please report it.",
            kernel,
            dtype,
            reply["failed"],
        )
        return False
    session.record(kernel, dtype, Measured.read(reply))
    return True
