"""Iterative solvers against Cholesky: what is chosen, iterations predicted and needed, and the guard.

    python benchmarks/iterative.py [--largest 8000] [--rounds 3] [--resume]
    python benchmarks/iterative.py --report

Four tables. Solves over order, condition number, right-hand sides, tolerance and spectrum: the free choice
with the condition number declared and the one that probes, the iterations that their prices count and those
needed (negative: given up), times, and regret: the time of a choice over the best of all ways timed. Cases
whose answer is known, declared and probed: they must go direct, or must iterate. The guard: solves that
iterate in vain, over adversarial spectra, and what they cost beside Cholesky. Log-determinants: how often the
error reported is kept, and times. Written to ``benchmarks/results/iterative.json`` after each row.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from iterative_logdets import logdet_rows
from iterative_report import print_report
from iterative_solves import Row, Rows, guard_rows, named_rows, solve_rows
from rich.console import Console

RESULTS = Path(__file__).parent / "results" / "iterative.json"
# Of the rows' columns: results of another version are refused.
VERSION = 2
TABLES: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "solves": solve_rows,
    "named": named_rows,
    "guard": guard_rows,
    "logdets": logdet_rows,
}


def measure(arguments, tables: dict[str, dict[str, Row]]) -> None:
    """Every row that ``tables`` does not hold yet; saved after each."""
    work = [
        (table, key, row)
        for table, rows in TABLES.items()
        for key, row in rows(arguments)
        if key not in tables.setdefault(table, {})
    ]
    console = Console(stderr=True)
    for done, (table, key, row) in enumerate(work, 1):
        console.print(f"[{done}/{len(work)}] {table}: {key}", markup=False, highlight=False)
        tables[table][key] = row()
        save(arguments, tables)


def save(arguments, tables) -> None:
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    data = {"version": VERSION, "settings": settings(arguments), "tables": tables}
    partial_file = arguments.results.with_suffix(".tmp")
    partial_file.write_text(json.dumps(data, indent=1) + "\n")
    partial_file.replace(arguments.results)


def settings(arguments) -> Row:
    return {name: getattr(arguments, name) for name in ("largest", "rounds", "named")}


def load(arguments) -> dict[str, dict[str, Row]]:
    """The tables of the results file; SystemExit where there are none, or of another run."""
    try:
        data = json.loads(arguments.results.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise SystemExit(f"{arguments.results} cannot be read ({error}). Measure first.") from error
    if data.get("version") != VERSION:
        raise SystemExit(f"{arguments.results} is not of version {VERSION}. Measure anew, without --resume.")
    if not arguments.report and data["settings"] != settings(arguments):
        raise SystemExit(
            f"{arguments.results} was measured with {data['settings']}, this run has {settings(arguments)}. "
            "Leave out --resume to measure anew."
        )
    return data["tables"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--largest", type=int, default=8000, help="order of the largest matrix")
    parser.add_argument("--named", type=int, help="run the known cases, too, at this order at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--report", action="store_true", help="print the tables of the last run")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    given = arguments.report or (arguments.resume and arguments.results.exists())
    tables = load(arguments) if given else {}
    if not arguments.report:
        measure(arguments, tables)
    print_report(tables)


if __name__ == "__main__":
    main()
