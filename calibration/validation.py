"""Validation: are the predicted times right at sizes that were never timed?

Every kernel is timed at shapes drawn log-uniformly inside the range of the calibration's grid, never on
it (`held_out`). The least time over interleaved rounds, less an idle call, is the shape's; how far a
typical round lies above it is kept as its spread.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from calibration.client import START_SECONDS, Worker
from calibration.graphs import GRAPH_BY_KERNEL
from calibration.held_out import Progress, Task, compile_all, held_out_shapes, time_rounds
from calibration.session import LEAST_SECONDS, Measured
from cost_models import KERNEL_BY_NAME, Fingerprint, KernelCall, Profile
from cost_models.kernels import Dims
from cost_models.model import ITEMSIZE, RESOLUTION

TARGETS = {"full": (0.10, 0.30), "quick": (0.20, 0.50)}
"""Median and 90th percentile of the error that a full and a quick calibration aim at, strictest first."""

UNSTABLE = 0.1
"""A spread above this is more than calibration tolerates: the machine is not quiet."""

_UNITS = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1.0}
_log = logging.getLogger("autotune")


@dataclass(frozen=True)
class Row:
    """One held-out shape: seconds measured and predicted.

    `spread` is the median over the rounds above their least, as a share of it.
    """

    kernel: str
    dtype: str
    dims: Dims
    measured: float
    predicted: float
    spread: float = 0.0

    @property
    def error(self) -> float:
        """`|predicted / measured - 1|`, with both raised by the resolution of the clock as in the fit."""
        return abs(self.predicted - self.measured) / (self.measured + RESOLUTION)


@dataclass(frozen=True)
class Accuracy:
    """Median, 90th percentile and largest error of some rows; `worst` is the row of the latter."""

    median: float
    p90: float
    worst: Row

    def meets(self, target: str) -> bool:
        """Whether this is as accurate as `TARGETS[target]` asks."""
        return all(got <= most for got, most in zip((self.median, self.p90), TARGETS[target], strict=True))

    @property
    def target(self) -> str | None:
        """The strictest target that holds, or None."""
        return next(filter(self.meets, TARGETS), None)


@dataclass(frozen=True)
class Validation:
    """Held-out shapes of every kernel; `failed` maps (kernel, dtype) to why there is none.

    `left_out` counts the shapes, the largest of their kernels, that did not fit into the budget.
    """

    rows: tuple[Row, ...]
    failed: Mapping[Task, str] = field(default_factory=dict)
    left_out: int = 0

    @property
    def median(self) -> float:
        """The median error over all rows."""
        return accuracy(self.rows).median

    @property
    def p90(self) -> float:
        """The 90th percentile of the error over all rows."""
        return accuracy(self.rows).p90

    def by_kernel(self) -> dict[Task, Accuracy]:
        """(kernel, dtype) -> accuracy, the largest median error first."""
        groups: dict[Task, list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.kernel, row.dtype), []).append(row)
        found = {task: accuracy(rows) for task, rows in groups.items()}
        return dict(sorted(found.items(), key=lambda item: (-item[1].median, -item[1].p90, item[0])))

    def unstable(self) -> tuple[Row, ...]:
        """The rows whose own time is uncertain by more than `UNSTABLE`."""
        return tuple(row for row in self.rows if row.spread > UNSTABLE)


def accuracy(rows: Sequence[Row]) -> Accuracy:
    """The errors of some rows; ValueError if there are none."""
    if not rows:
        raise ValueError("No shape was measured, so there is no error to report. Raise the budget.")
    errors = [row.error for row in rows]
    worst = max(rows, key=lambda row: row.error)
    return Accuracy(float(np.median(errors)), float(np.quantile(errors, 0.9)), worst)


def validate(
    profile: Profile,
    *,
    shapes: int = 12,
    dtypes: Sequence[str] | None = None,
    seed: int = 0,
    budget: float = 120.0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Validation:
    """Time `shapes` held-out shapes of every kernel that has dimensions; compare with `profile`.

    `dtypes`: all kernels in these; by default, every price that is not derived from another dtype.
    `budget` bounds the seconds of timing; compiling comes on top. `threads` of the BLAS: by default
    those that the profile was calibrated with. The same `seed` draws the same shapes.
    """
    sizes = {task: held_out_shapes(task[0], shapes, seed) for task in _tasks(profile, dtypes)}
    if threads is None and profile.source == "calibrated":
        threads = profile.fingerprint.threads
    tell = progress or _silent
    with Worker(threads) as worker:
        _warn_of_another_machine(worker, profile)
        failed = compile_all(worker, list(sizes), tell)
        working = {task: drawn for task, drawn in sizes.items() if task not in failed}
        times, lost = time_rounds(worker, working, budget, tell)
    rows = tuple(_rows(profile, times))
    failed |= lost
    asked = sum(len(s) for task, s in sizes.items() if task not in failed)
    return Validation(rows, failed, left_out=asked - len(rows))


def _tasks(profile: Profile, dtypes: Sequence[str] | None) -> list[Task]:
    """(kernel, dtype) to validate: whatever has dimensions, and in `dtypes` or not derived."""
    if unknown := set(dtypes or ()).difference(ITEMSIZE):
        known = ", ".join(ITEMSIZE)
        raise ValueError(f"There are no prices for dtype {', '.join(sorted(unknown))}. Known are: {known}.")
    return [
        (name, dtype)
        for dtype, models in profile.models.items()
        for name, model in models.items()
        if KERNEL_BY_NAME[name].dims and (not model.derived if dtypes is None else dtype in dtypes)
    ]


def _warn_of_another_machine(worker: Worker, profile: Profile) -> None:
    """A calibrated profile answers for its own machine only; the generic one for any."""
    machine = Fingerprint(**worker.ask({"kernel": "fingerprint"}, START_SECONDS)["fingerprint"])
    if profile.source == "calibrated" and machine != profile.fingerprint:
        _log.warning(
            "The profile is of %s, the times of %s. Validate where and as it was calibrated.",
            profile.fingerprint.key(),
            machine.key(),
        )


def _silent(label: str, done: int, total: int) -> None:
    """The progress that nobody watches."""


def _rows(profile: Profile, times: Mapping[Task, Measured]) -> Iterator[Row]:
    """Each shape's least time over the rounds, without the call; nothing is dropped as implausible."""
    for (kernel, dtype), found in times.items():
        repeats = GRAPH_BY_KERNEL[kernel].repeats
        for dims, seconds in found.times.items():
            seen = [one.times[dims] for one in found.passes if dims in one.times]
            least = max(seconds - found.idle, LEAST_SECONDS)
            yield Row(
                kernel,
                dtype,
                dims,
                measured=least / repeats,
                predicted=profile.seconds(KernelCall(kernel, dims), dtype),
                spread=(median(seen) - seconds) / (least + RESOLUTION),
            )


def print_validation(validation: Validation, console: Console | None = None) -> None:
    """Print a line for each kernel, the least accurate first, the line over all last, then what is amiss."""
    console = console if console is not None else Console()
    if validation.rows:
        console.print(_table(validation))
    for line in _remarks(validation):
        console.print(line)


def _table(validation: Validation) -> Table:
    table = Table(title="error is |predicted/measured - 1| at shapes drawn off the calibration's grid")
    table.add_column("kernel")
    table.add_column("dtype")
    for name in ("shapes", "median error", "90 %"):
        table.add_column(name, justify="right")
    table.add_column("target")
    table.add_column("worst shape")
    table.add_column("unstable", justify="right")
    counts = Counter((row.kernel, row.dtype) for row in validation.rows)
    unstable = Counter((row.kernel, row.dtype) for row in validation.unstable())
    for task, found in validation.by_kernel().items():
        table.add_row(*task, str(counts[task]), *_cells(found), str(unstable[task] or ""))
    table.add_section()
    total = accuracy(validation.rows)
    *numbers, worst = _cells(total)
    worst = f"{total.worst.kernel} {worst}"
    table.add_row("all", "", str(counts.total()), *numbers, worst, str(unstable.total() or ""))
    return table


def _cells(found: Accuracy) -> tuple[str, str, str, str]:
    return f"{found.median:.0%}", f"{found.p90:.0%}", found.target or "missed", _worst(found.worst)


def _worst(row: Row) -> str:
    dims = " ".join(f"{d}={n}" for d, n in zip(KERNEL_BY_NAME[row.kernel].dims, row.dims, strict=True))
    return f"{dims}: {_time(row.measured)}, predicted {_time(row.predicted)}"


def _time(seconds: float) -> str:
    unit, scale = next((u, s) for u, s in _UNITS.items() if seconds * s < 1000 or u == "s")
    value = seconds * scale
    return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.3g} {unit}"


def _remarks(validation: Validation) -> Iterator[str]:
    """Which targets hold, and what else the reader must know to trust the table."""
    yield from _verdicts(validation) if validation.rows else ("No shape was measured.",)
    if unstable := len(validation.unstable()):
        yield (
            f"{unstable} of {len(validation.rows)} shapes took over {UNSTABLE:.0%} more in the median round "
            "than in the best. Stop other work, and mind throttling, before trusting their errors."
        )
    if validation.left_out:
        yield f"{validation.left_out} of the largest shapes did not fit into the time. Raise the budget."
    for (kernel, dtype), reason in validation.failed.items():
        yield f"Kernel {kernel} ({dtype}) {reason}. It was not validated; please report it."


def _verdicts(validation: Validation) -> Iterator[str]:
    """One sentence for each target."""
    kernels, total = validation.by_kernel().values(), accuracy(validation.rows)
    for name, (middle, high) in TARGETS.items():
        yield (
            f"Target of a {name} calibration (median {middle:.0%}, 90th percentile {high:.0%}): "
            f"{'holds' if total.meets(name) else 'missed'} over all, "
            f"holds for {sum(found.meets(name) for found in kernels)} of {len(kernels)} kernels."
        )
