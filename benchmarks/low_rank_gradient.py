"""Low rank plus diagonal, differentiated by the user: ``y' inv(K) y + log det K`` and its gradient.

    python benchmarks/low_rank_gradient.py --n 3000 --large 100000 --k 50

K is ``U U' + diag(d)``, differentiated by U and d, or ``U U' + s^2 I``, by U and s; ``pt.grad`` comes before
anything is compiled. At n plain PyTensor and autotune are timed in alternation, with Woodbury's identity by
hand. At the large size autotune runs alone, in a process of its own: seconds a call and to compile, and the
peak memory of that whole process.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import by_hand
import numpy as np
import pytensor
import pytensor.tensor as pt
from footprint import highest_resident, in_child, square_arrays
from tables import MarkdownTable
from timing import alternate

import autotune


@dataclass
class Case:
    """``outputs``, value and gradients, of ``inputs`` at ``values``; ``hand`` computes the same."""

    inputs: list[Any]
    outputs: list[Any]
    values: list[np.ndarray]
    hand: Any

    def compile(self, mode=None):
        fn = pytensor.function(self.inputs, self.outputs, mode=mode)
        fn.trust_input = True
        return fn


def diagonal(n: int, k: int) -> Case:
    """``K = U U' + diag(d)``."""
    U, y = factors(n, k)
    d = pt.vector("d", shape=(n,))
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(n, k)), rng.uniform(0.5, 2, n), rng.normal(size=n)]
    return Case([U, d, y], outputs(U @ U.T + pt.diag(d), y, [U, d]), values, by_hand.low_rank_loss)


def identity(n: int, k: int) -> Case:
    """``K = U U' + s^2 I``."""
    U, y = factors(n, k)
    s = pt.scalar("s")
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(n, k)), np.array(0.8), rng.normal(size=n)]
    return Case([U, s, y], outputs(U @ U.T + s**2 * pt.eye(n), y, [U, s]), values, identity_by_hand)


def identity_by_hand(U, s, y):
    """The chain rule through ``d = s^2 1``."""
    value, by_U, by_d = by_hand.low_rank_loss(U, np.full(len(y), s**2), y)
    return value, by_U, 2 * s * by_d.sum()


def factors(n, k):
    return pt.matrix("U", shape=(n, k)), pt.vector("y", shape=(n,))


def outputs(K, y, wrt):
    loss = y @ pt.linalg.inv(K) @ y + pt.linalg.slogdet(K)[1]
    return [loss, *pt.grad(loss, wrt)]


CASES = {"U U' + diag(d)": diagonal, "U U' + s^2 I": identity}


def difference(found, expected) -> float:
    """Largest error of value and gradients, each relative to its largest entry."""
    return max(float(np.max(np.abs(f - e)) / np.max(np.abs(e))) for f, e in zip(found, expected, strict=True))


def beside_plain(title: str, n: int, k: int, rounds: int) -> list[str]:
    """One row of the first table."""
    case = CASES[title](n, k)
    tuned = case.compile(autotune.mode())
    functions = {"plain": case.compile(), "autotune": tuned, "hand": case.hand}
    results = {name: fn(*case.values) for name, fn in functions.items()}
    times = alternate(functions, case.values, rounds=(rounds, rounds))
    return [
        title,
        str(n),
        str(k),
        ", ".join(d.chosen for d in autotune.explain(tuned).decisions),
        *(f"{1e3 * times[name]:.3g}" for name in functions),
        f"{times['plain'] / times['autotune']:.3g}",
        f"{times['autotune'] / times['hand']:.2f}",
        *(f"{difference(results[name], results['hand']):.0e}" for name in ("plain", "autotune")),
        "+".join(map(str, square_arrays(tuned, n))),
    ]


def alone(title: str, n: int, k: int, rounds: int) -> dict[str, Any]:
    """Figures of autotune alone. A graph with an n x n array left is not run: that could fill the memory."""
    case = CASES[title](n, k)
    start = time.perf_counter()
    fn = case.compile(autotune.mode())
    arrays = sum(square_arrays(fn, n))
    if arrays:
        return {"n x n arrays": arrays}
    result = fn(*case.values)  # Numba compiles in the first call
    compile_seconds = time.perf_counter() - start
    call_seconds = alternate({"autotune": fn}, case.values, rounds=(rounds, rounds))["autotune"]
    peak = highest_resident()  # before the code by hand adds its own
    return {
        "n x n arrays": 0,
        "s a call": call_seconds,
        "s to compile, first call included": compile_seconds,
        "peak (GiB)": peak / 2**30,
        "differs from hand": difference(result, case.hand(*case.values)),
    }


TIMES = ("plain (ms)", "autotune (ms)", "hand (ms)", "plain / autotune", "autotune / hand")
BESIDE_PLAIN = (
    "K",
    "n",
    "k",
    "chosen",
    *TIMES,
    "plain differs",
    "autotune differs",
    "n x n arrays + constants",
)
ALONE = ("n x n arrays", "s a call", "s to compile, first call included", "peak (GiB)", "differs from hand")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    n, large, k, rounds = arguments.n, arguments.large, arguments.k, arguments.rounds
    if arguments.alone:
        print(json.dumps(alone(arguments.alone, large, k, rounds)))
        return
    child = partial(in_child, __file__, "--large", large, "--k", k, "--rounds", rounds, "--alone")
    table = MarkdownTable(*BESIDE_PLAIN)
    for title in CASES:
        table.add_row(*beside_plain(title, n, k, rounds))
    table = MarkdownTable("K", "n", "k", *ALONE)
    for title in CASES:
        figures = child(title)
        table.add_row(
            title, str(large), str(k), *(f"{figures[c]:.3g}" if c in figures else "-" for c in ALONE)
        )


if __name__ == "__main__":
    main()
