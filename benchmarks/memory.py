"""Peak memory: what each candidate is predicted to hold against what one call of the function holds.

    python benchmarks/memory.py --sizes 1000 1500 --cases dense general

For every case and size, each strategy that applies is forced and its function called in a process of its own.
Two predictions are compared with the measured peak: the candidate's, by which the choice keeps to
``memory_limit``, and that of the whole compiled function. The matrix is made inside the function everywhere,
so that all count it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from footprint import in_child, peak_of_call
from pytensor.assumptions import assume
from tables import MarkdownTable

import autotune

MIB = 2**20
COLUMNS = (
    *("case", "n", "algorithm", "measured (MiB)", "candidate (MiB)", "whole function (MiB)"),
    *("candidate / measured", "whole / measured"),
)


@dataclass
class Case:
    """``outputs`` of ``inputs`` at ``values``; with ``wrt`` the first output is tuned and differentiated."""

    inputs: list[Any]
    outputs: list[Any]
    values: list[np.ndarray]
    wrt: tuple[Any, ...] = ()

    def compile(self, policy: dict[str, Any]) -> Any:
        outputs = self.outputs
        if self.wrt:
            loss = autotune.tune(outputs[0], policy)
            outputs = [loss, *pt.grad(loss, list(self.wrt))]
        fn = pytensor.function(self.inputs, outputs, mode=autotune.mode(policy))
        fn.trust_input = True
        return fn


def dense(n: int, *, gradient: bool) -> Case:
    """The likelihood of a Gaussian process by its matrix of squared distances."""
    D, y, scale = pt.matrix("D", shape=(n, n)), pt.vector("y", shape=(n,)), pt.scalar("scale")
    K = assume(pt.exp(-D * scale) + pt.eye(n), positive_definite=True)
    loss = y @ pt.linalg.solve(K, y) + pt.linalg.slogdet(K)[1]
    x = np.random.default_rng(0).normal(size=n)
    values = [np.subtract.outer(x, x) ** 2, x, np.array(1.0)]
    return Case([D, y, scale], [loss], values, (scale,) if gradient else ())


def low_rank(n: int, *, gradient: bool) -> Case:
    """``U U' + diag(d)`` of rank n / 4."""
    k = n // 4
    U, d, y = pt.matrix("U", shape=(n, k)), pt.vector("d", shape=(n,)), pt.vector("y", shape=(n,))
    K = assume(U @ U.T + pt.diag(d), positive_definite=True)
    loss = y @ pt.linalg.solve(K, y) + pt.linalg.slogdet(K)[1]
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(n, k)), rng.uniform(1, 2, n), rng.normal(size=n)]
    return Case([U, d, y], [loss], values, (U, d) if gradient else ())


def general(n: int, *, gradient: bool) -> Case:
    """Solve and determinant of a general matrix."""
    A, b, scale = pt.matrix("A", shape=(n, n)), pt.vector("b", shape=(n,)), pt.scalar("scale")
    M = pt.exp(A * scale) + n * pt.eye(n)
    loss = b @ pt.linalg.solve(M, b) + pt.linalg.slogdet(M)[1]
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(n, n)), rng.normal(size=n), np.array(0.5)]
    return Case([A, b, scale], [loss], values, (scale,) if gradient else ())


def many_rhs(n: int, *, gradient: bool) -> Case:
    """Half as many right-hand sides as rows, a positive definite matrix."""
    D, B, scale = pt.matrix("D", shape=(n, n)), pt.matrix("B", shape=(n, n // 2)), pt.scalar("scale")
    K = assume(pt.exp(-D * scale) + pt.eye(n), positive_definite=True)
    solved = pt.linalg.solve(K, B)
    outputs = [pt.sqr(solved).sum() + pt.linalg.slogdet(K)[1]] if gradient else [solved]
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    values = [np.subtract.outer(x, x) ** 2, rng.normal(size=(n, n // 2)), np.array(1.0)]
    return Case([D, B, scale], outputs, values, (scale,) if gradient else ())


def inverse(n: int, *, gradient: bool) -> Case:
    """The inverse of a positive definite matrix itself."""
    D, scale = pt.matrix("D", shape=(n, n)), pt.scalar("scale")
    K = assume(pt.exp(-D * scale) + pt.eye(n), positive_definite=True)
    solved = pt.linalg.inv(K)
    outputs = [pt.exp(-solved).sum()] if gradient else [solved]
    x = np.random.default_rng(0).normal(size=n)
    return Case(
        [D, scale], outputs, [np.subtract.outer(x, x) ** 2, np.array(1.0)], (scale,) if gradient else ()
    )


CASES: dict[str, Callable[..., Case]] = {
    "dense": dense,
    "low_rank": low_rank,
    "general": general,
    "many_rhs": many_rhs,
    "inverse": inverse,
}


def policy_of(algorithm: str) -> dict[str, Any]:
    return {"rules": [{"force": algorithm}]}


def footprint(case: str, n: int, gradient: bool, algorithm: str) -> dict[str, float]:
    """Measured and predicted bytes. Run it in a process of its own."""
    made = CASES[case](n, gradient=gradient)
    fn = made.compile(policy_of(algorithm))
    [free] = autotune.explain(made.compile({})).decisions  # priced before autodiff, if there is a gradient
    return {
        "measured": peak_of_call(lambda: fn(*made.values)),
        "candidate": free.candidate(algorithm).peak_bytes or 0.0,
        "whole": autotune.explain(fn).peak_bytes or 0.0,
    }


def algorithms(case: str, gradient: bool) -> list[str]:
    """The strategies that apply, by the plan of a small problem; CG is left to its own benchmark."""
    made = CASES[case](40, gradient=gradient)
    [decision] = autotune.explain(made.compile({})).decisions
    return [c.name for c in decision.candidates if c.seconds is not None and c.name != "cg"]


def rows(case: str, n: int, gradient: bool) -> list[list[str]]:
    """A row for each algorithm."""
    found = []
    for algorithm in algorithms(case, gradient):
        try:
            sizes = in_child(__file__, "--peak", case, n, int(gradient), algorithm)
        except RuntimeError as error:  # an algorithm that cannot be compiled here is a row that says so
            found.append([case, str(n), algorithm, str(error).splitlines()[-1][:60], *["-"] * 4])
            continue
        bytes_ = [sizes[name] for name in ("measured", "candidate", "whole")]
        ratios = [sizes[name] / sizes["measured"] for name in ("candidate", "whole")]
        label = case + (" + gradient" if gradient else "")
        cells = [f"{b / MIB:.1f}" for b in bytes_] + [f"{r:.2f}" for r in ratios]
        found.append([label, str(n), algorithm, *cells])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        case, n, gradient, algorithm = arguments.peak
        print(json.dumps(footprint(case, int(n), bool(int(gradient)), algorithm)))
        return
    table = MarkdownTable(*COLUMNS)
    for case in arguments.cases:
        for n in arguments.sizes:
            for gradient in (False, True):
                for row in rows(case, n, gradient):
                    table.add_row(*row)


if __name__ == "__main__":
    main()
