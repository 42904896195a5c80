"""Regressions compared on the same measurements: which one predicts seconds best?

    python benchmarks/regressions.py [--profile PATH] [--save FILE | --load FILE] [--shapes 12] [--budget 120]

Every regression learns from the calibration's raw points, kept next to the profile, and is scored at
held-out shapes (`calibration.validation`, which measures for `--budget` seconds), and in extrapolation:
it learns from the two thirds of the points with the least work and is scored on the others. Prints
Markdown tables and writes ``benchmarks/results/regressions.json``. `--save` keeps the measurements,
`--load` reads them in place of measuring.
"""

from __future__ import annotations

import argparse
import json
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from regression_models import REGRESSIONS, Points, Predictor, relative_errors, work
from tables import MarkdownTable
from threadpoolctl import threadpool_limits

from calibration.fitting import GEMM_FLOPS, LEAST_SHARE
from calibration.session import stored_session
from calibration.validation import validate
from cost_models import KERNEL_BY_NAME, load_profile, profile_path
from cost_models.kernels import Dims

LEAST_POINTS = 8  # so that two thirds of them are enough for a fit
RESULTS = Path(__file__).parent / "results" / "regressions.json"
LINE = 60
CALLS = 20
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Measurements:
    """What was measured on one machine, by "dtype/kernel": what the fits may see, and what they may not."""

    machine: str
    calibration: Mapping[str, Points]
    held_out: Mapping[str, Points]

    @classmethod
    def take(cls, path: Path, shapes: int, budget: float, progress: Progress | None = None) -> Self:
        """The points kept next to a profile, and held-out shapes measured now."""
        profile, session = load_profile(path), stored_session(path)
        if session is None:
            raise SystemExit(f"No raw measurements lie next to {path}. Run `autotune calibrate` first.")
        unseen: dict[tuple[str, str], list[tuple[Dims, float]]] = {}
        for row in validate(profile, shapes=shapes, budget=budget, progress=progress).rows:
            unseen.setdefault((row.kernel, row.dtype), []).append((row.dims, row.measured))
        seen = {task: times for task in unseen if len(times := session.net(*task)) >= LEAST_POINTS}
        cache = profile.fingerprint.cache_bytes
        parts = (
            {
                f"{dtype}/{kernel}": _points(kernel, dtype, times[kernel, dtype], cache)
                for kernel, dtype in seen
            }
            for times in (seen, unseen)
        )
        return cls(profile.fingerprint.key(), *parts)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Self:
        plain = json.loads(path.read_text())
        points = [{k: Points.read(p) for k, p in plain[part].items()} for part in ("calibration", "held_out")]
        return cls(plain["machine"], *points)


def _points(kernel: str, dtype: str, times: Sequence[tuple[Dims, float]], cache_bytes: int) -> Points:
    sizes, seconds = zip(*times, strict=True)
    return Points(kernel, dtype, sizes, seconds, cache_bytes)


def with_floors(points: Mapping[str, Points]) -> dict[str, Points]:
    """The points with the least seconds of a flop that calibration derives from these of gemm."""
    flops = KERNEL_BY_NAME["gemm"].flops
    floors = {}
    for found in points.values():
        if found.kernel == "gemm":
            done = ((flops(d), s) for d, s in zip(found.sizes, found.seconds, strict=True))
            floors[found.dtype] = LEAST_SHARE * min((s / n for n, s in done if n >= GEMM_FLOPS), default=0.0)
    return {key: replace(found, flops_floor=floors.get(found.dtype, 0.0)) for key, found in points.items()}


def split_by_work(points: Points) -> tuple[Points, Points]:
    """The two thirds with the least work, and the third with the most."""
    order = sorted(range(len(points.sizes)), key=lambda i: work(points.kernel, points.sizes[i]))
    cut = 2 * len(order) // 3
    small, large = (
        points.at([points.sizes[i] for i in part], [points.seconds[i] for i in part])
        for part in (order[:cut], order[cut:])
    )
    return small, large


def is_monotone(predictor: Predictor, sizes: Sequence[Dims]) -> bool:
    """Whether seconds never fall along fine lines through the range of the sizes, in each dimension."""
    predicted = (predictor(line) for line in _lines(sizes))
    return all(bool((np.diff(values) >= -1e-9 * values.max()).all()) for values in predicted)


def _lines(sizes: Sequence[Dims]) -> Iterator[list[Dims]]:
    """One dimension rises from its least to its largest value, the others stay low, middling or high."""
    low, high = np.min(sizes, axis=0), np.max(sizes, axis=0)
    for axis in range(len(low)):
        values = np.unique(np.geomspace(low[axis], high[axis], LINE).astype(int))
        for share in (0.0, 0.5, 1.0):
            fixed = np.round(low ** (1 - share) * high**share).astype(int)
            yield [(*map(int, fixed[:axis]), int(v), *map(int, fixed[axis + 1 :])) for v in values]
            if len(low) == 1:
                break


# -- scoring -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """One regression on one kernel: its errors, and what it costs to have and to ask."""

    regression: str
    kernel: str
    held_out: tuple[float, ...]
    extrapolated: tuple[float, ...]
    monotone: bool
    fit_seconds: float
    predict_seconds: float
    size: int


def scores(measurements: Measurements) -> Iterator[Score]:
    """Every regression on every kernel."""
    whole = with_floors(measurements.calibration)
    parts = {key: split_by_work(points) for key, points in whole.items()}
    small = with_floors({key: part[0] for key, part in parts.items()})
    for name, regression in REGRESSIONS.items():
        for key, points in whole.items():
            start = time.perf_counter()
            predictor = regression(points)
            fit_seconds = time.perf_counter() - start
            unseen, large = measurements.held_out[key], parts[key][1]
            yield Score(
                regression=name,
                kernel=key,
                held_out=_errors(predictor, unseen),
                extrapolated=_errors(regression(small[key]), large),
                monotone=is_monotone(predictor, points.sizes),
                fit_seconds=fit_seconds,
                predict_seconds=_seconds_to_predict(predictor, unseen.sizes[0]),
                size=len(pickle.dumps(predictor)),
            )


def _errors(predictor: Predictor, points: Points) -> tuple[float, ...]:
    return tuple(map(float, relative_errors(points, predictor(points.sizes))))


def _seconds_to_predict(predictor: Predictor, dims: Dims) -> float:
    """The least seconds of one prediction for one shape, as a choice asks for it."""
    marks = [time.perf_counter()]
    for _ in range(CALLS):
        predictor([dims])
        marks.append(time.perf_counter())
    return min(after - before for before, after in pairwise(marks))


# -- results -----------------------------------------------------------------------------------------


def summary(found: Sequence[Score]) -> list[dict[str, Any]]:
    """One row for each regression, over all kernels."""
    rows = []
    for name in REGRESSIONS:
        own = [score for score in found if score.regression == name]
        rows.append(
            {
                "regression": name,
                **_quantiles("held_out", [e for score in own for e in score.held_out]),
                **_quantiles("extrapolated", [e for score in own for e in score.extrapolated]),
                "monotone": sum(score.monotone for score in own),
                "kernels": len(own),
                "fit_seconds": sum(score.fit_seconds for score in own),
                "predict_seconds": float(np.median([score.predict_seconds for score in own])),
                "size": sum(score.size for score in own),
            }
        )
    return rows


def _quantiles(name: str, errors: Sequence[float]) -> dict[str, float]:
    middle, high = np.quantile(errors, [0.5, 0.9])
    return {f"{name}_median": float(middle), f"{name}_p90": float(high), f"{name}_worst": max(errors)}


def print_summary(rows: Sequence[Mapping[str, Any]]) -> None:
    table = MarkdownTable(
        "regression",
        *(f"{part} {of}" for part in ("held out:", "extrapolated:") for of in ("median", "90 %", "worst")),
        *("monotone", "fit", "one prediction", "size"),
    )
    for row in rows:
        errors = [row[f"{p}_{q}"] for p in ("held_out", "extrapolated") for q in ("median", "p90", "worst")]
        table.add_row(
            row["regression"],
            *(_percent(error) for error in errors),
            f"{row['monotone']} of {row['kernels']}",
            f"{row['fit_seconds']:.2g} s",
            f"{1e6 * row['predict_seconds']:.3g} us",
            f"{row['size'] / 1024:.3g} KiB",
        )


def print_kernels(found: Sequence[Score], part: str) -> None:
    """Median and 90th percentile of each kernel's errors, by regression."""
    print(f"\n{part.replace('_', ' ')}: median / 90th percentile of the error")
    table = MarkdownTable("kernel", *REGRESSIONS)
    for kernel in dict.fromkeys(score.kernel for score in found):
        own = {score.regression: getattr(score, part) for score in found if score.kernel == kernel}
        cells = [np.quantile(own[name], [0.5, 0.9]) for name in REGRESSIONS]
        table.add_row(kernel, *(" / ".join(map(_percent, cell)) for cell in cells))


def _percent(error: float) -> str:
    return f"{error:.0%}" if error < 100 else f"{error:.0e}"


def results(machine: str, rows: Sequence[Mapping[str, Any]], found: Sequence[Score]) -> str:
    """What the tables show, as JSON with three digits: a line for each regression and kernel."""
    shortened = [
        {"regression": score.regression, "kernel": score.kernel, "monotone": score.monotone}
        | _quantiles("held_out", score.held_out)
        | _quantiles("extrapolated", score.extrapolated)
        for score in found
    ]
    lines = {
        name: [_line_of(row) for row in part] for name, part in (("summary", rows), ("scores", shortened))
    }
    parts = [f' "{name}": [\n  ' + ",\n  ".join(part) + "\n ]" for name, part in lines.items()]
    return "{\n" + ",\n".join([f' "machine": {json.dumps(machine)}', *parts]) + "\n}\n"


def _line_of(row: Mapping[str, Any]) -> str:
    rounded = {name: float(f"{v:.3g}") if isinstance(v, float) else v for name, v in row.items()}
    return json.dumps(rounded)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", type=Path, help="with its raw points beside; default: this machine's")
    parser.add_argument("--save", type=Path, help="write the measurements here")
    parser.add_argument("--load", type=Path, help="read the measurements from here, measure nothing")
    parser.add_argument("--shapes", type=int, default=12, help="held-out shapes of each kernel")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds for the held-out shapes")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results go")
    given = parser.parse_args()
    if given.load:
        measurements = Measurements.load(given.load)
    else:
        measurements = Measurements.take(given.profile or profile_path(), given.shapes, given.budget)
    if given.save:
        measurements.save(given.save)
    with threadpool_limits(1):  # a prediction of one shape pays for waking threads, and gains nothing
        found = list(scores(measurements))
    rows = summary(found)
    print_summary(rows)
    for part in ("held_out", "extrapolated"):
        print_kernels(found, part)
    given.output.write_text(results(measurements.machine, rows, found))


if __name__ == "__main__":
    main()
