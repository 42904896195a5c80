"""The tables of `iterative.py` as Markdown, and what they come to."""

from __future__ import annotations

from typing import Any

import numpy as np
from tables import MarkdownTable
from timing import geometric_mean


def print_report(tables: dict[str, dict[str, Any]]) -> None:
    """Every table that has rows, with a sentence below it."""
    for name, rows in tables.items():
        if rows:
            print(f"\n## {name.capitalize()}")
            print_table(list(rows.values()))
            print(f"\n{SUMMARIES[name](list(rows.values()))}")


def print_table(rows: list[dict[str, Any]]) -> None:
    """One column for every name that occurs; a row that lacks it has a dash."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = MarkdownTable(*columns)
    for row in rows:
        table.add_row(*(cell(row.get(name)) for name in columns))


def cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def summary_of_solves(rows) -> str:
    factors = [max(r["expected"] / r["needed"], r["needed"] / r["expected"]) for r in rows if r["needed"] > 0]
    regrets = [r["regret"] for r in rows]
    found = f"Regret: geometric mean {geometric_mean(regrets):.3f}, worst {max(regrets):.2f}."
    if factors:
        found += f" Expected against needed: median factor {np.median(factors):.2f}, worst {max(factors):.1f}"
    return found + ", where conjugate gradients end."


def summary_of_named(rows) -> str:
    wrong = [r["case"] for r in rows if not r["right"]]
    regrets = [r["regret"] for r in rows]
    found = f"Regret: geometric mean {geometric_mean(regrets):.3f}, worst {max(regrets):.2f}. "
    return found + (f"Chosen otherwise: {'; '.join(wrong)}." if wrong else "All are chosen as they must be.")


def summary_of_guard(rows) -> str:
    worst = max(rows, key=lambda r: r["guarded / direct"])
    ratio = worst["guarded / direct"]
    return (
        f"Guarded over direct, worst: {ratio:.2f} ({worst['spectrum']}, n={worst['n']}, {worst['rhs']} rhs)."
    )


def summary_of_logdets(rows) -> str:
    inside = [r for r in rows if r["error"] <= max(r["error reported"], 1e-12)]
    return f"Within the error reported: {len(inside)} of {len(rows)}. No probes: refused, and Cholesky's."


SUMMARIES = {
    "solves": summary_of_solves,
    "named": summary_of_named,
    "guard": summary_of_guard,
    "logdets": summary_of_logdets,
}
