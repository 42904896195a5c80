"""Tables and picture of the regret benchmark, from its rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from regret_problems import KINDS
from rivals import OURS, RULES
from tables import MarkdownTable
from timing import geometric_mean

Row = dict[str, Any]
RIGHT = 1.05
FLOOR = 0.01
TICKS = {0.01: "1 %", 0.05: "5 %", 0.25: "25 %", 1: "2 times", 4: "5 times", 24: "25 times", 99: "100 times"}
# Where curves coincide, the wider ones below show at the sides of the narrower ones above.
WIDTHS = (4.5, 3, 2, 2, 2, 2)
FLOOR = 0.01
TICKS = {1.01: "1.01", 1.05: "1.05", 1.25: "1.25", 2: "2", 5: "5", 25: "25", 100: "100"}
# Okabe & Ito (2008), readable with any colour vision; dashes tell the curves apart in grey, and where they
# coincide, the wider ones below show at the sides of the narrower ones above.
LINES = (
    ("#000000", "-", 4.5),
    ("#0072B2", "--", 3),
    ("#D55E00", "-.", 2),
    ("#009E73", (0, (1, 1)), 2),
    ("#CC79A7", (0, (5, 1, 1, 1, 1, 1)), 2),
    ("#E69F00", (0, (8, 3)), 2),
)


def best(row: Row) -> float:
    """Seconds of the fastest exact way that was timed, plain PyTensor included."""
    return min(row["times"][name] for name in row["exact"])


def regret(row: Row, rule: str = OURS) -> float | None:
    """Time of what a rule picks over the best; None without an answer. Below 1 only for inexact picks."""
    seconds = row["times"].get(row["picks"][rule])
    return None if seconds is None else seconds / best(row)


def against_plain(row: Row, rule: str = OURS) -> float | None:
    """Time of what a rule picks over that of plain PyTensor; None without an answer."""
    seconds = row["times"].get(row["picks"][rule])
    return None if seconds is None else seconds / row["times"]["plain"]


def figures(rows: Sequence[Row], rule: str = OURS) -> dict[str, Any]:
    """Regret and comparison with plain PyTensor over the problems for which the rule has an answer."""
    answered = [row for row in rows if regret(row, rule) is not None]
    if not answered:
        return {"answered": 0}
    regrets = [r for row in answered if (r := regret(row, rule)) is not None]
    ratios = [r for row in answered if (r := against_plain(row, rule)) is not None]
    return {
        "answered": len(answered),
        "regret_geometric_mean": geometric_mean(regrets),
        "regret_worst": max(regrets),
        "right_within_5_percent": sum(r <= RIGHT for r in regrets) / len(answered),
        "against_plain_geometric_mean": geometric_mean(ratios),
        "against_plain_worst": max(ratios),
        "ours_on_the_same": geometric_mean([r for row in answered if (r := regret(row)) is not None]),
        "cg_fell_back": sum(row["picks"][rule] == "cg" and row["cg_fell_back"] for row in answered),
    }


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures that decide: for each rule, and of ours by kind and by dtype."""
    dtypes = dict.fromkeys(row["case"]["dtype"] for row in rows)
    return {
        "problems": len(rows),
        "rules": {rule: figures(rows, rule) for rule in RULES},
        "kinds": {kind: figures(of(rows, "kind", kind)) for kind in KINDS},
        "dtypes": {dtype: figures(of(rows, "dtype", dtype)) for dtype in dtypes},
        "timed_again": sum(row["timed_again"] for row in rows),
        "largest_difference": {d: max(row["differs"] for row in of(rows, "dtype", d)) for d in dtypes},
    }


def of(rows: Sequence[Row], key: str, value: str) -> list[Row]:
    return [row for row in rows if row["case"][key] == value]


def print_report(data: dict[str, Any]) -> None:
    """The results as Markdown tables."""
    rows, summary = data["rows"], summarise(data["rows"])
    again, differs = summary["timed_again"], summary["largest_difference"]
    print(f"{len(rows)} problems, {again} of them timed again; settings: {data['settings']}.")
    print("Largest relative difference from plain PyTensor: ", end="")
    print(", ".join(f"{value:.1e} in {dtype}" for dtype, value in differs.items()) + ".")
    _print_rules(summary["rules"])
    _print_parts("kind", summary["kinds"])
    _print_parts("dtype", summary["dtypes"])
    _print_by_rule(rows)
    _print_worst(rows)


def _print_rules(rules: dict[str, Any]) -> None:
    columns = "rule", "answers", "regret", "worst", "right", "of plain", "worst", "ours there", "CG fell back"
    table = MarkdownTable(*columns)
    for rule, found in rules.items():
        table.add_row(rule, str(found["answered"]), *_cells(found))


def _cells(found: dict[str, Any]) -> list[str]:
    if not found["answered"]:
        return ["-"] * 7
    return [
        f"{found['regret_geometric_mean']:.3f}",
        f"{found['regret_worst']:.2f}",
        f"{100 * found['right_within_5_percent']:.0f} %",
        f"{found['against_plain_geometric_mean']:.3f}",
        f"{found['against_plain_worst']:.2f}",
        f"{found['ours_on_the_same']:.3f}",
        str(found["cg_fell_back"]),
    ]


def _print_parts(name: str, parts: dict[str, Any]) -> None:
    table = MarkdownTable(name, "problems", "regret", "worst", "right", "of plain", "worst")
    for part, found in parts.items():
        table.add_row(part, str(found["answered"]), *_cells(found)[:5])


def _print_by_rule(rows: Sequence[Row]) -> None:
    """Geometric-mean regret of every rule on every kind."""
    table = MarkdownTable("regret on", *RULES)
    for kind in KINDS:
        means = [figures(of(rows, "kind", kind), rule).get("regret_geometric_mean") for rule in RULES]
        table.add_row(kind, *("-" if mean is None else f"{mean:.2f}" for mean in means))


def _print_worst(rows: Sequence[Row], count: int = 10) -> None:
    """The problems with the largest regret, to look at."""
    table = MarkdownTable("problem", "chosen", "best", "regret", "of plain", "time (ms)", "predicted (ms)")
    for row in sorted(rows, key=lambda row: regret(row) or 0.0, reverse=True)[:count]:
        times = row["times"]
        fastest = min(row["exact"], key=times.__getitem__)
        milliseconds = [f"{1e3 * s:.3g}" for s in (times[row["picks"][OURS]], row["predicted"])]
        ratios = [f"{r:.2f}" for r in (regret(row), against_plain(row))]
        table.add_row(row["label"], row["chosen"], fastest, *ratios, *milliseconds)


def draw_picture(rows: Sequence[Row], path: Path) -> None:
    """Regret of every rule in rising order, on the logarithmic scale of ``regret - 1``.

    So drawn, the percents that separate good rules are seen as well as the factors of bad ones. What is
    within 1 % lies on the axis. Raises ImportError, with the remedy, without Matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("The picture needs Matplotlib: pip install 'pytensor-autotune[plots]'.") from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for rule, (colour, dashes, width) in zip(RULES, LINES, strict=True):
        excess = sorted(max(r - 1, FLOOR) for row in rows if (r := regret(row, rule)) is not None)
        share = np.linspace(0, 100, len(excess) + 1)
        name = f"{rule} ({len(excess)})"
        axes.stairs(excess, share, baseline=None, color=colour, linestyle=dashes, linewidth=width, label=name)
    axes.set(yscale="log", xlim=(0, 100.5), ylim=(FLOOR, None))
    axes.set_yticks([tick - 1 for tick in TICKS], list(TICKS.values()))
    axes.minorticks_off()
    for tick in TICKS:
        axes.axhline(tick - 1, color="0.9", linewidth=0.8, zorder=0)
    axes.set_xlabel("share of the problems, sorted for each rule (%)")
    axes.set_ylabel("regret: time / time of the best exact strategy")
    axes.legend(title="rule (problems it answers)", frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
