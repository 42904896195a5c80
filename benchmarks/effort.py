"""Regret of ``effort: measure``: is what a timed compile takes the best of what the regret benchmark timed?

    python benchmarks/effort.py [--effort measure] [--results benchmarks/results/regret.json] [--limit 20]
    python benchmarks/effort.py --anew [--repeats 1] [--seed 0] [--largest 2000]

For every problem of a run of ``regret.py`` on this machine: the candidates for it are timed as
``effort: measure`` does when a function is compiled, and the choice is judged by the seconds that the run has
stored, beside the choice by prices. With ``--anew`` the problems are timed here as ``regret.py`` times them,
and nothing is stored. What an earlier compile has measured is remembered: ``autotune measured clear`` forgets
it.

The times to judge by are of whole functions with the values of the problem; those that decide are of
stand-ins with synthetic values.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pytensor.compile.mode import get_default_mode
from regret import RESULTS, compile_graph, fill_cache, load, measure
from regret_problems import Case, build, draw
from regret_report import regret
from rich.console import Console
from tables import MarkdownTable
from timing import geometric_mean

import autotune
from autotune.evidence.measured import measured
from autotune.policy import Policy
from autotune.problem import Decision
from autotune.rewrite.passes import modes_to_time
from calibration.worker import silence_numpy_threads
from cost_models import find_profile, fingerprint

Row = dict[str, Any]


def choose_measured(decision: Decision, policy: Policy) -> Decision:
    """The decision that a compile under ``policy`` takes where prices took ``decision``."""
    [found] = measured([decision], policy, find_profile(), modes_to_time(get_default_mode()))
    return found


def judged(row: Row, policy: Policy) -> Row:
    """The row with the choice by times as another rule's pick, and how much it cost."""
    case = Case(**row["case"])
    [decision] = autotune.explain(compile_graph(build(case), {})).decisions
    found = choose_measured(decision, policy)
    timed = [c.name for c in found.candidates if c.measured is not None]
    return {
        **row,
        "picks": {**row["picks"], "measured": found.chosen, "now": decision.chosen},
        "timed": timed,
    }


def rows_of(arguments: argparse.Namespace) -> Iterator[Row]:
    """Timed problems: those of an earlier run on this machine, or timed here and now."""
    if arguments.anew:
        cases = list(draw(arguments.repeats, arguments.seed, arguments.largest))[: arguments.limit]
        fill_cache(cases)
        yield from map(measure, cases)
        return
    data = load(arguments.results)
    if data["settings"]["machine"] != fingerprint().key():
        raise SystemExit(
            f"{arguments.results} is of {data['settings']['machine']}, this is {fingerprint().key()}. "
            "Run benchmarks/regret.py here, or give --anew."
        )
    yield from data["rows"][: arguments.limit]


def print_report(rows: Sequence[Row], effort: str) -> None:
    """Geometric mean and worst regret by prices and by times, and the problems that measuring got wrong."""
    table = MarkdownTable("choice by", "problems", "regret", "worst", "right")
    for name, rule in (("prices", "now"), (f"times ({effort})", "measured")):
        regrets = [r for row in rows if (r := regret(row, rule)) is not None]
        right = 100 * sum(r <= 1.05 for r in regrets) / len(regrets)
        figures = f"{geometric_mean(regrets):.3f}", f"{max(regrets):.2f}", f"{right:.0f} %"
        table.add_row(name, str(len(regrets)), *figures)
    worst = MarkdownTable("problem", "by prices", "by times", "timed", "regret")
    for row in sorted(rows, key=lambda row: regret(row, "measured") or 0.0, reverse=True)[:10]:
        picks = row["picks"]
        found = f"{regret(row, 'measured') or 0.0:.2f}"
        worst.add_row(row["label"], picks["now"], picks["measured"], ", ".join(row["timed"]), found)


def main() -> None:
    silence_numpy_threads()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--effort", choices=("measure", "exhaustive"), default="measure")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the JSON file of regret.py")
    parser.add_argument("--limit", type=int, help="only so many problems")
    parser.add_argument("--anew", action="store_true", help="time the problems here and now")
    parser.add_argument("--repeats", type=int, default=1, help="with --anew: of each kind and dtype")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=2000, help="largest order of a matrix")
    arguments = parser.parse_args()
    policy = Policy(effort=arguments.effort)
    console = Console(soft_wrap=True, highlight=False)
    rows = []
    for row in rows_of(arguments):
        rows.append(judged(row, policy))
        picks = rows[-1]["picks"]
        found = f"{regret(rows[-1], 'measured') or 0.0:.2f}"
        console.print(f"{len(rows)} {row['label']}: {picks['now']} -> {picks['measured']}, regret {found}")
    print_report(rows, arguments.effort)


if __name__ == "__main__":
    main()
