"""Whole compiled functions: predicted seconds against measured ones, on models and shapes never calibrated.

    python benchmarks/whole_functions.py --problems 48 --seed 0

Problems are drawn log-uniformly, n from 20 to 2000, in float64 and float32; every thirteenth is a PyMC model.
Each function has a process of its own, since what the allocator keeps from call to call depends on what ran
before. All are timed in turn, `--rounds` times, in alternation with a reference product of matrices, whose
drift shows how quiet the machine was; the least time counts, as it does in a calibration. `--calibrate`
measures the kernels first (quick): prices and times are then of the same quarter of an hour. Prints a table
and a summary, and the nodes of the `--nodes` worst functions; `benchmarks/results/whole_functions.json` holds
all rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from timing import alternate
from whole_nodes import print_nodes
from whole_problems import LARGEST, problem

import autotune
from autotune.pricing import ExampleSizes, Price, price
from autotune.report.inside import compiled_function
from calibration.run import calibrate
from calibration.worker import silence_numpy_threads
from cost_models import find_profile

RESULTS = Path(__file__).parent / "results" / "whole_functions.json"
PYMC_EVERY = 13
REFERENCE = np.random.default_rng(0).normal(size=(200, 200))


def measure(index: int, seed: int, largest: int, budget: float) -> dict[str, Any]:
    """One row: the predicted price of a function, and its measured seconds."""
    made = pymc_model(index, seed, largest) if index % PYMC_EVERY == PYMC_EVERY - 1 else None
    label, fn, call, arguments = made or compiled(index, seed, largest)
    fgraph = compiled_function(fn).maker.fgraph
    predicted = price(fgraph, ExampleSizes(fgraph, arguments), find_profile())
    functions = {"function": call, "reference": _reference}
    times = alternate(functions, arguments, budget=budget, statistic=min)
    return {
        "index": index,
        "problem": label,
        "chosen": [d.chosen for d in autotune.explain(fn).decisions],
        "predicted": predicted.seconds,
        "measured": times["function"],
        "reference": times["reference"],
        "peak_bytes": predicted.peak_bytes,
        "unknown": [f"{node.op}: {node.reason}" for node in predicted.unknown],
        "largest": largest_parts(predicted),
    }


def compiled(index: int, seed: int, largest: int) -> tuple[str, Any, Callable[..., Any], list[Any]]:
    """A problem's label, its function, how to call it, and with what."""
    drawn = problem(index, seed, largest)
    fn = drawn.compile()
    return drawn.label, fn, fn, drawn.values


def pymc_model(index: int, seed: int, largest: int) -> tuple[str, Any, Callable[..., Any], list[Any]] | None:
    """A PyMC model's log-density with its gradient; None where PyMC is not installed."""
    with suppress(ImportError):
        import pymc_models

        rng = np.random.default_rng([seed, index])
        n = int(np.exp(rng.uniform(np.log(20), np.log(max(largest, 21)))))
        makers = {**pymc_models.GAUSSIAN_PROCESSES, "factor_analysis": pymc_models.factor_analysis}
        name = list(makers)[index // PYMC_EVERY % len(makers)]
        model = makers[name](n)
        with autotune.enabled():
            fn = pymc_models.joint(model)
        raw = compiled_function(fn)
        raw.trust_input = True
        return f"PyMC {name}, n={n} + gradient", fn, raw, [pymc_models.point_of(model)]
    return None


def _reference(*_: Any) -> Any:
    return REFERENCE @ REFERENCE


def largest_parts(predicted: Price, count: int = 6) -> list[tuple[str, float]]:
    """The dearest nodes and their seconds."""
    return [(node.op[:60], node.seconds) for node in predicted.nodes[:count] if node.seconds is not None]


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Errors are relative to the measured time; the bias is the geometric mean of predicted over measured."""
    ratios = np.array([row["predicted"] / row["measured"] for row in rows])
    errors = np.abs(ratios - 1)
    references = np.array([row["reference"] for row in rows])
    return {
        "problems": len(rows),
        "median_error": float(np.median(errors)),
        "error_90th_percentile": float(np.quantile(errors, 0.9)),
        "bias": float(np.exp(np.log(ratios).mean())),
        "with_unknown_nodes": sum(bool(row["unknown"]) for row in rows),
        "reference_spread": float(references.max() / references.min()),
    }


def report(rows: list[dict[str, Any]], console: Console) -> None:
    """Print the table and the summary."""
    table = Table("problem", "chosen", "predicted (ms)", "measured (ms)", "ratio", "largest")
    for row in rows:
        name, seconds = row["largest"][0]
        cells = [f"{1e3 * row[key]:.3g}" for key in ("predicted", "measured")]
        ratio, share = row["predicted"] / row["measured"], seconds / row["predicted"]
        table.add_row(
            row["problem"], ", ".join(row["chosen"]), *cells, f"{ratio:.2f}", f"{name[:24]} {share:.0%}"
        )
    console.print(table)
    for key, value in summarise(rows).items():
        console.print(f"{key:32s} {value:.3g}", highlight=False)


def measure_apart(index: int, given: argparse.Namespace) -> dict[str, Any] | None:
    """The row of a problem from a fresh process; None, and what went wrong printed, if it has none."""
    flags = [text for name in ("seed", "largest", "budget") for text in (f"--{name}", str(vars(given)[name]))]
    command = [sys.executable, __file__, "--only", str(index), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{index + 1}: {(done.stderr.strip().splitlines() or ['crashed'])[-1]}"[:300])
        return None
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def least(before: dict[str, Any] | None, row: dict[str, Any]) -> dict[str, Any]:
    """A row with the least times of two rounds."""
    if before is None:
        return row
    return row | {key: min(row[key], before[key]) for key in ("measured", "reference")}


def run_all(given: argparse.Namespace) -> list[dict[str, Any]]:
    """All problems in turn, round after round; what has been measured is saved after each."""
    rows: dict[int, dict[str, Any]] = {}
    for turn in range(given.rounds):
        for index in range(given.problems):
            row = measure_apart(index, given)
            if row is None:  # one model that does not compile does not end the run
                continue
            rows[index] = least(rows.get(index), row)
            ratio = rows[index]["predicted"] / rows[index]["measured"]
            label = f"round {turn + 1}, {index + 1}/{given.problems} {row['problem']}"
            print(f"{label}: predicted / measured {ratio:.2f}", flush=True)
            save(list(rows.values()), given.seed, given.output)
    return list(rows.values())


def worst(rows: list[dict[str, Any]], count: int) -> list[int]:
    """The problems with the largest errors, those of PyMC apart: they are models, not drawn graphs."""
    drawn = [row for row in rows if row["index"] % PYMC_EVERY != PYMC_EVERY - 1]
    errors = {row["index"]: abs(np.log(row["predicted"] / row["measured"])) for row in drawn}
    return sorted(errors, key=lambda index: -errors[index])[:count]


def save(rows: list[dict[str, Any]], seed: int, path: Path) -> None:
    """Write what has been measured so far: an interrupted run is not lost."""
    path.parent.mkdir(exist_ok=True)
    data = {"profile": find_profile().source, "seed": seed, "summary": summarise(rows), "rows": rows}
    path.write_text(json.dumps(data, indent=1) + "\n")


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=LARGEST)
    parser.add_argument("--budget", type=float, default=0.5, help="seconds of timing of a problem in a round")
    parser.add_argument("--nodes", type=int, default=0, help="print so many of the worst functions by node")
    parser.add_argument("--calibrate", action="store_true", help="calibrate first (quick, both dtypes)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--only", type=int, help="measure this problem here and print its row as JSON")
    return parser


def main() -> None:
    given = options().parse_args()
    if given.only is not None:
        silence_numpy_threads()  # its threads would spin on the cores that the compiled functions use
        print(json.dumps(measure(given.only, given.seed, given.largest, given.budget)))
        return
    if given.calibrate:
        calibrate(quick=True, dtypes=("float64", "float32"))
    rows = run_all(given)
    if rows:
        report(rows, Console(width=130))
        print(f"written to {given.output}")
    for index in worst(rows, given.nodes):
        print_nodes(index, given.seed, given.largest)


if __name__ == "__main__":
    main()
