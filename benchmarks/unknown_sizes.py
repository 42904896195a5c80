"""Functions compiled without their sizes: is the right branch run, and what does looking cost?

    python benchmarks/unknown_sizes.py [--n 1000] [--budget 2] [--cold]

For sizes on both sides of the predicted crossover: the time of the function that looks at its sizes over that
of the better of its two branches, each forced. Then the time to compile it, its first call included, over
that of the dearer branch alone, the same way; `--cold` does that in fresh caches of compiled code.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from rich.console import Console
from rich.table import Table
from timing import alternate

import autotune

FACTORS = (0.05, 0.3, 0.8, 1.25, 3.0, 20.0)


def low_rank(n: int, rank: int, rng: np.random.Generator) -> tuple[list[Any], list[Any], list[Any]]:
    """A solve and a log-determinant of diagonal plus low rank; the order and the rank are unknown."""
    U, d, b = pt.matrix("U"), pt.vector("d"), pt.vector("b")
    K = U @ U.T + pt.diag(d)
    outputs = [pt.linalg.solve(K, b, assume_a="pos"), pt.linalg.slogdet(K)[1]]
    return [U, d, b], outputs, [rng.normal(size=(n, rank)), rng.uniform(1, 2, n), rng.normal(size=n)]


def low_rank_gradient(n: int, rank: int, rng: np.random.Generator) -> tuple[list[Any], list[Any], list[Any]]:
    """The same in a log-density with its gradient."""
    (U, d, b), (x, logdet), values = low_rank(n, rank, rng)
    loss = autotune.tune(x @ b + logdet)
    return [U, d, b], [loss, *pt.grad(loss, [U, d])], values


CASES: dict[str, Callable[[int, int, np.random.Generator], tuple[list[Any], list[Any], list[Any]]]] = {
    case.__name__: case for case in (low_rank, low_rank_gradient)
}


def compiled(case: str, policy: Any, n: int = 3, size: int = 2) -> tuple[Any, float]:
    """The function, and the seconds to compile it and to call it once."""
    inputs, outputs, values = CASES[case](n, size, np.random.default_rng(0))
    start = time.perf_counter()
    fn = pytensor.function(inputs, outputs, mode=autotune.mode(policy), on_unused_input="ignore")
    fn(*values)
    return fn, time.perf_counter() - start


def forced(name: str) -> dict[str, Any]:
    return {"rules": [{"force": name}]}


def crossing(fn: Any, n: int) -> float:
    """The smallest size at which the second branch runs at this order."""
    found = autotune.explain(fn).decisions[0].crossover
    if found is None:
        raise ValueError("This function has no branches. Calibrate, or choose another case.")
    sizes = 2.0 ** np.linspace(0, 17, 1000)
    below = [bool(found.is_below({"n": n, "columns": 1, found.size: size})) for size in sizes]
    return float(sizes[below.index(False)]) if False in below else float(sizes[-1])


def measured(case: str, n: int, budget: float, table: Table) -> None:
    """A row of the table for each size."""
    fn, _ = compiled(case, None)
    found = autotune.explain(fn).decisions[0].crossover
    turn = crossing(fn, n)
    branches = {name: compiled(case, forced(name))[0] for name in (found.below, found.above)}
    for size in dict.fromkeys(max(1, round(turn * factor)) for factor in FACTORS):
        _, _, values = CASES[case](n, size, np.random.default_rng(1))
        able = {k: f for k, f in branches.items() if k != "woodbury" or size < n}
        times = alternate({"function": fn, **able}, values, budget=budget, rounds=(5, 100))
        better = min(able, key=times.__getitem__)
        ratio = times["function"] / times[better]
        table.add_row(case, str(n), str(size), better, f"{1e3 * times['function']:.3g}", f"{ratio:.3f}")


def compile_seconds(case: str, policy: str, cold: bool) -> float:
    """Seconds in a process of its own, with a cache of its own if ``cold``."""
    with tempfile.TemporaryDirectory() as folder:
        flags = os.environ.get("PYTENSOR_FLAGS", "")
        own = f"{flags},base_compiledir={folder}".lstrip(",") if cold else flags
        command = [sys.executable, __file__, "--time-compile", case, policy]
        environment = os.environ | {"PYTENSOR_FLAGS": own}
        return float(
            subprocess.run(command, env=environment, capture_output=True, check=True).stdout.split()[-1]
        )


def compiling(case: str, cold: bool, table: Table) -> None:
    fn, _ = compiled(case, None)
    found = autotune.explain(fn).decisions[0].crossover
    seconds = {name: compile_seconds(case, name, cold) for name in ("", found.below, found.above)}
    alone = max(seconds[found.below], seconds[found.above])
    cells = (f"{seconds[name]:.3g}" for name in ("", found.below, found.above))
    table.add_row(case, found.name, *cells, f"{seconds[''] / alone:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for each size")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--cold", action="store_true", help="compile in fresh caches")
    parser.add_argument("--time-compile", nargs=2, metavar=("CASE", "STRATEGY"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.time_compile:
        case, name = given.time_compile
        print(compiled(case, forced(name) if name else None)[1])
        return
    speed = Table(
        "case", "n", "size", "better branch", "ms", "ratio", title="looking at sizes / better branch"
    )
    compiles = Table("case", "branches", "both (s)", "first (s)", "second (s)", "ratio", title="compiling")
    for case in given.cases:
        measured(case, given.n, given.budget, speed)
        compiling(case, given.cold, compiles)
    console = Console(width=100)
    console.print(speed)
    console.print(compiles)


if __name__ == "__main__":
    main()
