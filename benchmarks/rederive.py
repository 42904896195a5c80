"""What it takes to recognise gradients that were taken before the compile, over graphs of rising size.

    python benchmarks/rederive.py --sums 1 2 4 --repeats 5

A graph is a sum of so many log-likelihoods, each of a matrix of its own, with its gradient; autotune decides
all of them before autodiff. Times are CPU milliseconds of one compile, medians: of plain PyTensor, of
autotune where gradients are only read as they stand, of autotune; and those of its steps: differentiating
again and comparing, deciding, differentiating what was decided. The linker is Python's, which adds little.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from contextlib import ExitStack
from statistics import median
from unittest.mock import patch

import pytensor
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from pytensor.graph.traversal import applys_between
from pytensor.tensor.linalg import inv, slogdet
from tables import MarkdownTable

import autotune
from autotune.rewrite import rederive

STEPS = ("taken_gradients", "decided", "_gradients_of")
COLUMNS = ("graph", "nodes", "plain", "read", "autotune", "recognise", "decide", "differentiate")
N = 500


def exact(i: int):
    """The loss of an exact GP, data, and what it is differentiated by."""
    X, y = pt.matrix(f"X{i}", shape=(N, 2)), pt.vector(f"y{i}", shape=(N,))
    length, scale, noise = (pt.scalar(f"{name}{i}") for name in ("length", "scale", "noise"))
    squares = ((X[:, None, :] - X[None, :, :]) ** 2).sum(axis=-1)
    K = scale**2 * pt.exp(-0.5 * squares / length**2) + noise**2 * pt.eye(N)
    return likelihood(K, y), [X, y], [length, scale, noise]


def low_rank(i: int):
    U, d, y = pt.matrix(f"U{i}", shape=(N, 5)), pt.vector(f"d{i}", shape=(N,)), pt.vector(f"y{i}", shape=(N,))
    return likelihood(U @ U.T + pt.diag(d), y), [y], [U, d]


def likelihood(K, y):
    return -0.5 * (y @ inv(K) @ y + slogdet(K)[1])


KINDS = {"exact GP": exact, "low rank": low_rank}


def graph(kind, sums: int):
    """Inputs and outputs of the sum of ``sums`` losses with its gradient."""
    parts = [kind(i) for i in range(sums)]
    loss = sum(part[0] for part in parts)
    wrt = [v for part in parts for v in part[2]]
    return [v for part in parts for v in (*part[1], *part[2])], [loss, *pt.grad(loss, wrt)]


def seconds_to_compile(inputs, outputs, mode) -> float:
    begin = time.process_time()
    pytensor.function(inputs, outputs, mode=mode)
    return time.process_time() - begin


def steps_of(inputs, outputs, mode) -> dict[str, float]:
    """CPU seconds of a compile with autotune, and of the steps of recognising."""
    found: dict[str, float] = defaultdict(float)

    def timed(name):
        step = getattr(rederive, name)

        def run(*args, **kwargs):
            begin = time.process_time()
            result = step(*args, **kwargs)
            found[name] += time.process_time() - begin
            return result

        return run

    with ExitStack() as patches:
        for name in STEPS:
            patches.enter_context(patch.object(rederive, name, timed(name)))
        found["autotune"] = seconds_to_compile(inputs, outputs, mode)
    return found


def row(name: str, sums: int, repeats: int) -> list[str]:
    inputs, outputs = graph(KINDS[name], sums)
    plain = Mode(linker="py", optimizer="fast_run")
    ours = autotune.mode(base=plain)
    rounds = []
    for _ in range(repeats + 1):
        steps = steps_of(inputs, outputs, ours) | {"plain": seconds_to_compile(inputs, outputs, plain)}
        with patch.object(rederive.DecideTakenGradients, "attempt", lambda self, fgraph: None):
            rounds.append(steps | {"read": seconds_to_compile(inputs, outputs, ours)})
    nodes = len(list(applys_between(inputs, outputs)))
    timed = rounds[1:]  # the first one fills caches
    times = [1e3 * median(r[key] for r in timed) for key in ("plain", "read", "autotune", *STEPS)]
    return [f"{name}, {sums}", str(nodes), *(f"{t:.3g}" for t in times)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sums", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    table = MarkdownTable(*COLUMNS)
    for name in KINDS:
        for sums in args.sums:
            table.add_row(*row(name, sums, args.repeats))


if __name__ == "__main__":
    main()
