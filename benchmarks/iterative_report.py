"""The tables of `iterative.py` as Markdown, and what they come to."""

from __future__ import annotations

from typing import Any

import numpy as np
from iterative_solves import FREE
from tables import MarkdownTable
from timing import geometric_mean


def print_report(tables: dict[str, dict[str, Any]]) -> None:
    """Every table that has rows, a condensed one where there is one, and what it comes to."""
    for name, rows in tables.items():
        if rows:
            print(f"\n## {name.capitalize()}")
            print_table(list(rows.values()))
            if name in CONDENSED:
                print_table(CONDENSED[name](list(rows.values())))
            print(f"\n{SUMMARIES[name](list(rows.values()))}")


def print_table(rows: list[dict[str, Any]]) -> None:
    """One column for every name that occurs; a row that lacks it has a dash."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = MarkdownTable(*columns)
    for row in rows:
        table.add_row(*(cell(row.get(name)) for name in columns))


def cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def by_size(rows) -> list[dict[str, Any]]:
    """The table of solves with one row for each order, condition number and number of right-hand sides."""
    groups: dict[tuple, list] = {}
    for row in rows:
        groups.setdefault((row["n"], row["condition"], row["rhs"]), []).append(row)
    return [dict(zip(("n", "condition", "rhs"), key, strict=True)) | figures(g) for key, g in groups.items()]


def figures(rows) -> dict[str, Any]:
    """What rows of `by_size` say of both free choices."""
    found: dict[str, Any] = {}
    for way in FREE:
        regrets, off = [r[f"{way} regret"] for r in rows], factors(rows, way)
        found[f"{way}: cg chosen"] = f"{sum(r[way] == 'cg' for r in rows)} of {len(rows)}"
        found[f"{way} regret"], found[f"{way} worst"] = geometric_mean(regrets), max(regrets)
        if off:
            found[f"{way} factor"], found[f"{way} worst factor"] = float(np.median(off)), max(off)
    return found


def factors(rows, way) -> list[float]:
    """By how much the iterations expected are off, either way, where conjugate gradients end."""
    expected, needed = ("expected", "needed") if way == "declared" else ("probed expected", "probed needed")
    ended = [(r[expected], r[needed]) for r in rows if r[needed] > 0 and r[expected] is not None]
    return [max(e / n, n / e) for e, n in ended]


def summary_of_solves(rows) -> str:
    return "\n".join(summary_of(rows, way) for way in FREE) + "\nFactors where conjugate gradients end."


def summary_of(rows, way) -> str:
    off = factors(rows, way)
    found = f"{way.capitalize()}: {regret_of(rows, way)}"
    if off:
        found += f" Expected against needed: median factor {np.median(off):.2f}, worst {max(off):.1f}."
    return found


def regret_of(rows, way) -> str:
    regrets = [r[f"{way} regret"] for r in rows]
    return f"regret {geometric_mean(regrets):.3f} in the geometric mean, worst {max(regrets):.2f}."


def summary_of_named(rows) -> str:
    wrong = [r["case"] for r in rows if not r["right"]]
    found = "".join(f"{way.capitalize()}: {regret_of(rows, way)} " for way in FREE)
    return found + (f"Chosen otherwise: {'; '.join(wrong)}." if wrong else "All are chosen as they must be.")


def summary_of_guard(rows) -> str:
    worst = max(rows, key=lambda r: r["guarded / direct"])
    ratio = worst["guarded / direct"]
    return (
        f"Guarded over direct, worst: {ratio:.2f} ({worst['spectrum']}, n={worst['n']}, {worst['rhs']} rhs)."
    )


def summary_of_logdets(rows) -> str:
    given = [r for r in rows if r["estimates"]]
    drawn, inside, kept = (
        sum(r[key] for r in given) for key in ("estimates", "within error reported", "within rtol")
    )
    if drawn == 0:
        return "All were refused."
    worst = min(given, key=lambda r: r["within error reported"] / r["estimates"])
    fewest = f"{worst['within error reported']} of {worst['estimates']} of a row"
    case = f"{worst['matrix']}, n={worst['n']}, rank {worst['rank']}, rtol {worst['rtol']:g}"
    return (
        f"Within the error reported: {inside} of {drawn} ({100 * inside / drawn:.1f} %, expected 95 %), "
        f"fewest {fewest} ({case}). Within rtol: {kept} of {drawn}. Others were refused."
    )


CONDENSED = {"solves": by_size}
SUMMARIES = {
    "solves": summary_of_solves,
    "named": summary_of_named,
    "guard": summary_of_guard,
    "logdets": summary_of_logdets,
}
