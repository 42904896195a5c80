"""`autotune demo`: three models on data that scikit-learn ships, naive code against the tuned graph.

- `examples`: the models, each compiled by plain PyTensor and with autotune.
- `compare`: both timed in alternation, and how far their values and gradients differ.
- `run`: prints plan, times and agreement, and says whether all agree; it imports the models.
"""

from __future__ import annotations

import os
import time
from importlib.util import find_spec

from rich.console import Console
from rich.table import Table

from autotune.problem.formats import format_seconds, three_digits
from autotune.report.demo.compare import TOLERANCE, Comparison, compare
from cost_models.fingerprint import usable_cores

NO_PYMC = 'skipped: PyMC is not installed. Install it with: python -m pip install "pytensor-autotune[pymc]"'


NOTE = "The first run compiles with Numba for a minute or more; later runs find a part of that on disk.\n"
TITLE = "timed in alternation: median (minimum); largest relative difference of values and gradients"


def run(console: Console, seconds: float = 3.0) -> bool:
    """Run every example, each measured for about ``seconds``; whether all values and gradients agree."""
    start = time.perf_counter()
    console.print(NOTE)
    # These import PyTensor: seconds, before which something is to be seen.
    from autotune.plan.table import renderable
    from autotune.report.demo.examples import EXAMPLES

    load, cores = os.getloadavg()[0], usable_cores()
    if load > 0.5 * cores:
        console.print(f"The machine is busy (load {load:.1f} on {cores} cores): the times will be off.\n")
    comparisons = []
    for example in EXAMPLES:
        console.rule(example.title, align="left")
        console.print(example.about)
        if example.needs_pymc and find_spec("pymc") is None:
            console.print(NO_PYMC, markup=False)
            continue
        case = example.compile()
        console.print(renderable(case.plan))
        comparisons.append(compare(example.title, case, seconds, console.print))
        console.print(f"\n{_sentence(comparisons[-1])}\n")
    console.print(_table(comparisons))
    agree = all(c.agrees for c in comparisons)
    verdict = "All values and gradients agree" if agree else "Values or gradients DISAGREE"
    took = time.perf_counter() - start
    console.print(f"{verdict} (tolerance {TOLERANCE:g}). The demo took {took:.0f} s, compiling included.")
    return agree


def _sentence(c: Comparison) -> str:
    times = f"{format_seconds(c.tuned.median)} against {format_seconds(c.plain.median)} of plain PyTensor"
    return f"measured: {times}, {three_digits(c.ratio)} times as fast"


def _table(comparisons: list[Comparison]) -> Table:
    table = Table(title=TITLE, title_justify="left")
    table.add_column("example", no_wrap=True)
    for header in ("plain", "autotune", "times as fast", "values", "gradients"):
        table.add_column(header, justify="right")
    for c in comparisons:
        cells = [f"{format_seconds(t.median)} ({format_seconds(t.minimum)})" for t in (c.plain, c.tuned)]
        gradients = "-" if c.gradients_differ is None else f"{c.gradients_differ:.1e}"
        table.add_row(c.title, *cells, f"{three_digits(c.ratio)}", f"{c.values_differ:.1e}", gradients)
    return table
