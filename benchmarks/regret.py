"""Regret of the choice: time of what autotune chose over time of the best strategy that could be forced.

    python benchmarks/regret.py [--problems 24] [--seed 0] [--largest 2000]

Shapes are drawn log-uniformly, apart from the calibration's grid. For every problem the free choice,
plain PyTensor and each strategy that applies are compiled and timed in alternation in one process.
Prints a table and writes ``benchmarks/results/regret.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.assumptions import assume
from rich.console import Console
from rich.table import Table
from timing import alternate, geometric_mean

import autotune
from cost_models import find_profile

RESULTS = Path(__file__).parent / "results" / "regret.json"


@dataclass
class Problem:
    """A graph with values: ``outputs`` of ``inputs`` at ``values``."""

    label: str
    inputs: list[Any]
    outputs: list[Any]
    values: list[np.ndarray]


def dense_spd(rng, n, *, differentiated):
    """Gaussian process marginal likelihood with three hyperparameters, kernel tagged positive definite."""
    X, y = pt.matrix("X", shape=(n, 2)), pt.vector("y", shape=(n,))
    scale, noise, height = pt.scalars("scale", "noise", "height")
    distance = ((X[:, None, :] - X[None, :, :]) ** 2).sum(axis=-1)
    kernel = height**2 * pt.exp(-0.5 * distance / scale**2) + noise**2 * pt.eye(n)
    kernel = assume(kernel, positive_definite=True)
    loss = -0.5 * y @ pt.linalg.inv(kernel) @ y - 0.5 * pt.linalg.slogdet(kernel)[1]
    outputs = [loss, *pt.grad(loss, [scale, noise, height])] if differentiated else [loss]
    values = [rng.normal(size=(n, 2)), rng.normal(size=n), np.array(1.0), np.array(0.5), np.array(1.2)]
    return Problem(
        f"GP n={n}" + (" +grad" if differentiated else ""), [X, y, scale, noise, height], outputs, values
    )


def low_rank(rng, n, k, *, differentiated):
    """Gaussian log-likelihood with covariance ``U U' + diag(d)``, tuned before its gradient is taken."""
    U, d, y = pt.matrix("U", shape=(n, k)), pt.vector("d", shape=(n,)), pt.vector("y", shape=(n,))
    K = assume(U @ U.T + pt.diag(d), positive_definite=True)
    loss = -0.5 * y @ pt.linalg.solve(K, y) - 0.5 * pt.linalg.slogdet(K)[1]
    values = [rng.normal(size=(n, k)), rng.uniform(0.5, 2, n), rng.normal(size=n)]
    label = f"low rank n={n} k={k}" + (" +grad" if differentiated else "")
    return Problem(label, [U, d, y], [loss, "grad", U, d] if differentiated else [loss], values)


def general(rng, n, m):
    """Solves with m right-hand sides and the log-determinant of a general matrix."""
    A, B = pt.matrix("A", shape=(n, n)), pt.matrix("B", shape=(n, m))
    outputs = [pt.linalg.solve(A, B), *pt.linalg.slogdet(A), pt.linalg.solve(A.T, B)]
    return Problem(
        f"general n={n} rhs={m}", [A, B], outputs, [rng.normal(size=(n, n)), rng.normal(size=(n, m))]
    )


def many_rhs(rng, n, m):
    """Solves with many right-hand sides, quadratic forms and log-determinant of an SPD matrix."""
    A, B = pt.matrix("A", shape=(n, n)), pt.matrix("B", shape=(n, m))
    P = assume(A, positive_definite=True)
    solved = pt.linalg.solve(P, B)
    G = rng.normal(size=(n, n))
    outputs = [solved, (B * solved).sum(axis=0), pt.linalg.slogdet(P)[1]]
    return Problem(f"SPD n={n} rhs={m}", [A, B], outputs, [G @ G.T / n + np.eye(n), rng.normal(size=(n, m))])


def batched(rng, n, batch):
    """Inverses, solves and log-determinants of a batch of small SPD matrices."""
    A, B = pt.tensor("A", shape=(batch, n, n)), pt.tensor("B", shape=(batch, n, 2))
    P = assume(A, positive_definite=True)
    G = rng.normal(size=(batch, n, n))
    outputs = [pt.linalg.inv(P), pt.linalg.solve(P, B), pt.linalg.slogdet(P)[1]]
    values = [G @ G.transpose(0, 2, 1) / n + np.eye(n), rng.normal(size=(batch, n, 2))]
    return Problem(f"batch {batch} x n={n}", [A, B], outputs, values)


def draw(rng, largest) -> Problem:
    """A problem of a random kind and shape."""

    def size(low, high):
        return int(np.exp(rng.uniform(np.log(low), np.log(high))))

    makers: list[Callable[[], Problem]] = [
        lambda: dense_spd(rng, size(50, largest), differentiated=False),
        lambda: dense_spd(rng, size(50, largest), differentiated=True),
        lambda: low_rank(rng, n := size(100, largest), size(1, n), differentiated=False),
        lambda: low_rank(rng, n := size(100, largest), size(1, n), differentiated=True),
        lambda: general(rng, size(30, largest), size(1, 50)),
        lambda: many_rhs(rng, size(30, largest), size(1, 1000)),
        lambda: batched(rng, size(3, 60), size(2, 60)),
    ]
    return makers[rng.integers(len(makers))]()


def compile_with(problem: Problem, policy) -> Any:
    """The problem under a policy; None stands for plain PyTensor."""
    outputs = problem.outputs
    if "grad" in [o for o in outputs if isinstance(o, str)]:
        loss, _, *wrt = outputs
        loss = loss if policy is None else autotune.tune(loss, policy)
        outputs = [loss, *pt.grad(loss, wrt)]
    mode = None if policy is None else autotune.mode(policy)
    fn = pytensor.function(problem.inputs, outputs, mode=mode)
    fn.trust_input = True
    return fn


def measure(problem: Problem) -> dict[str, Any]:
    """Times of the free choice, of plain PyTensor and of every strategy that can be forced."""
    free = compile_with(problem, {})
    [decision] = autotune.explain(free).decisions
    functions = {"free": free, "plain": compile_with(problem, None)}
    for candidate in decision.candidates:
        if candidate.seconds is not None and candidate.name != decision.chosen:
            functions[candidate.name] = compile_with(problem, {"rules": [{"force": candidate.name}]})
    times = alternate(functions, problem.values)
    best = min(seconds for name, seconds in times.items() if name != "plain")
    return {
        "problem": problem.label,
        "chosen": decision.chosen,
        "best": min((n for n in times if n != "plain"), key=times.__getitem__).replace(
            "free", decision.chosen
        ),
        "regret": times["free"] / best,
        "against_plain": times["free"] / times["plain"],
        "predicted": decision.winner.seconds,
        "times": times,
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The figures that decide."""
    regrets = [row["regret"] for row in rows]
    ratios = [row["against_plain"] for row in rows]
    return {
        "problems": len(rows),
        "regret_geometric_mean": geometric_mean(regrets),
        "regret_worst": max(regrets),
        "share_best_within_5_percent": sum(r <= 1.05 for r in regrets) / len(rows),
        "against_plain_geometric_mean": geometric_mean(ratios),
        "against_plain_worst": max(ratios),
    }


def report(rows: list[dict[str, Any]], console: Console) -> None:
    """Print the table and the summary."""
    table = Table("problem", "chosen", "best", "time (ms)", "predicted", "regret", "of plain")
    for row in rows:
        milliseconds = f"{1e3 * row['times']['free']:.3g}"
        cells = [
            milliseconds,
            f"{1e3 * row['predicted']:.3g}",
            f"{row['regret']:.2f}",
            f"{row['against_plain']:.3f}",
        ]
        table.add_row(row["problem"], row["chosen"], row["best"], *cells)
    console.print(table)
    for key, value in summarise(rows).items():
        console.print(f"{key:32s} {value:.3g}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=2000)
    arguments = parser.parse_args()
    console = Console(width=110)
    rng = np.random.default_rng(arguments.seed)
    rows = []
    for index in range(arguments.problems):
        rows.append(measure(draw(rng, arguments.largest)))
        console.print(
            f"{index + 1}/{arguments.problems} {rows[-1]['problem']}: {rows[-1]['chosen']}", highlight=False
        )
        save(rows, arguments.seed)
    report(rows, console)
    console.print(f"written to {RESULTS}")


def save(rows: list[dict[str, Any]], seed: int) -> None:
    """Write what has been measured so far: an interrupted run is not lost."""
    RESULTS.parent.mkdir(exist_ok=True)
    data = {"profile": find_profile().source, "seed": seed, "summary": summarise(rows), "rows": rows}
    RESULTS.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
