"""Groups that share few factors: a block-diagonal matrix of kernels plus ``U U'``, value and gradient.

    python benchmarks/low_rank_update.py --sizes 4x300 8x100

G groups of m points each have a squared-exponential kernel of one length and noise. U has ``--rank`` columns.
The user differentiates by the length and by U. Timed in alternation with plain PyTensor, which makes and
factorises a matrix of order G m.
"""

from __future__ import annotations

import argparse

import numpy as np
import pytensor
import pytensor.tensor as pt
from low_rank_gradient import difference
from tables import MarkdownTable
from timing import alternate

import autotune

COLUMNS = ("groups", "chosen", "plain (ms)", "autotune (ms)", "plain / autotune", "differs")


def functions(groups: int, points: int, rank: int):
    """The tuned and the plain function, and values."""
    places = [pt.vector(f"x{i}", shape=(points,)) for i in range(groups)]
    length, U = pt.scalar("length"), pt.matrix("U", shape=(groups * points, rank))
    y = pt.vector("y", shape=(groups * points,))
    kernels = [pt.exp(-0.5 * (x[:, None] - x[None, :]) ** 2 / length**2) for x in places]
    K = pt.linalg.block_diag(*(kernel + 1e-2 * pt.eye(points) for kernel in kernels)) + U @ U.T
    loss = 0.5 * y @ pt.linalg.solve(K, y, assume_a="pos") + 0.5 * pt.linalg.slogdet(K)[1]
    inputs, outputs = [*places, length, U, y], [loss, *pt.grad(loss, [length, U])]
    rng = np.random.default_rng(0)
    values = [np.sort(rng.uniform(0, points / 10, points)) for _ in places]
    values += [np.array(1.0), rng.normal(size=(groups * points, rank)), rng.normal(size=groups * points)]
    return [pytensor.function(inputs, outputs, mode=mode) for mode in (autotune.mode(), None)], values


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["4x300", "8x100"], metavar="GxM")
    parser.add_argument("--rank", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    table = MarkdownTable(*COLUMNS)
    for size in arguments.sizes:
        (tuned, plain), values = functions(*map(int, size.split("x")), arguments.rank)
        rounds = (arguments.rounds, arguments.rounds)
        times = alternate({"autotune": tuned, "plain": plain}, values, rounds=rounds)
        table.add_row(
            size.replace("x", " x "),
            autotune.explain(tuned).decisions[0].chosen,
            *(f"{1e3 * times[name]:.3g}" for name in ("plain", "autotune")),
            f"{times['plain'] / times['autotune']:.3g}",
            f"{difference(tuned(*values), plain(*values)):.0e}",
        )


if __name__ == "__main__":
    main()
