"""Batches of general matrices: plain PyTensor, autotune, and NumPy in two threads, written by hand.

    python benchmarks/batched.py [--case solve] [--sizes 1000x8 200x64] [--force lu cholesky_or_lu]
    python benchmarks/batched.py --scan --sizes 1000x3 1000x8      # one matrix in each step of a Scan

The gradient is taken by the user, or of the tuned value (`autotune.tune`). All functions are called in
alternation in one process. A ratio above 1 says that autotune is slower; the least of some rounds is compared
as well as the median, since other programs only ever add time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.assumptions import assume
from tables import MarkdownTable
from timing import alternate

import autotune
from calibration.worker import silence_numpy_threads

SIZES = ("1000x8", "20000x8", "200x64")
CASES: dict[str, Callable[[Any, Any], Any]] = {
    "solve": lambda A, b: pt.linalg.solve(A, b, b_ndim=2).sum(),
    "two solves": lambda A, b: (
        pt.linalg.solve(A, b, b_ndim=2) * pt.linalg.solve(A, pt.sin(b), b_ndim=2)
    ).sum(),
    "logdet": lambda A, b: pt.linalg.slogdet(A)[1].sum(),
    "solve and logdet": lambda A, b: pt.linalg.solve(A, b, b_ndim=2).sum() + pt.linalg.slogdet(A)[1].sum(),
    "definite": lambda A, b: CASES["solve and logdet"](assume(A, positive_definite=True), b),
}
FORMS = ("value", "gradient", "tuned gradient")
THREADS = ThreadPoolExecutor(2)


def by_hand(case: str, form: str) -> Callable[[Any, Any], Any]:
    """Half of the batch in each of two threads: LAPACK and NumPy's loops let others run meanwhile."""

    def half(A, b):
        rhs = [] if case == "logdet" else [b, np.sin(b)] if case == "two solves" else [b]
        solutions = [np.linalg.solve(A, one) for one in rhs]
        value = (
            sum(x.sum() for x in solutions) if case != "two solves" else (solutions[0] * solutions[1]).sum()
        )
        if case not in ("solve", "two solves"):
            value = value + np.linalg.slogdet(A)[1].sum()
        if form == "value":
            return value, None
        gradient = 0.0 if case in ("solve", "two solves") else np.linalg.inv(A).mT
        cotangents = solutions[::-1] if case == "two solves" else [np.ones_like(b)] * len(rhs)
        for x, cotangent in zip(solutions, cotangents, strict=True):
            gradient = gradient - np.linalg.solve(A.mT, cotangent) * x.mT
        return value, gradient

    def whole(A, b):
        values, gradients = zip(*THREADS.map(half, np.array_split(A, 2), np.array_split(b, 2)), strict=True)
        return [sum(values), *([] if form == "value" else [np.concatenate(gradients)])]

    return whole


def outputs(value: Any, wrt: Any, form: str) -> list[Any]:
    if form == "value":
        return [value]
    tuned = autotune.tune(value) if form == "tuned gradient" else value
    return [tuned, pt.grad(tuned, wrt)]


def in_scan(case: str, A: Any, b: Any) -> Any:
    """The value summed step by step."""
    terms = pytensor.scan(CASES[case], sequences=[A, b], return_updates=False)
    return terms.sum()


def compiled(batch: int, n: int, case: str, form: str, policy: Any, scan: bool) -> tuple[Any, Any]:
    """The function of plain PyTensor and that of autotune."""
    A, b = pt.tensor("A", shape=(batch, n, n)), pt.tensor("b", shape=(batch, n, 1))
    value = in_scan(case, A, b) if scan else CASES[case](A, b)
    plain = "value" if form == "value" else "gradient"
    pair = (
        pytensor.function([A, b], outputs(value, A, plain), mode="NUMBA", on_unused_input="ignore"),
        pytensor.function(
            [A, b], outputs(value, A, form), mode=autotune.mode(policy), on_unused_input="ignore"
        ),
    )
    for fn in pair:
        fn.trust_input = True
    return pair


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--form", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--force", nargs="+", default=[""], help="strategies, each in a row of its own")
    parser.add_argument("--scan", action="store_true", help="one matrix in each step of a Scan")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row of the table")
    given = parser.parse_args()
    silence_numpy_threads()
    table = MarkdownTable(
        *("case", "batch", "form", "chosen", "autotune (ms)", "plain / autotune", "by hand / autotune"),
        *("of the least: plain", "by hand", "differs"),
    )
    rng = np.random.default_rng(0)
    for size in given.sizes:
        batch, n = map(int, size.split("x"))
        A, b = rng.normal(size=(batch, n, n)), rng.normal(size=(batch, n, 1))
        for case in given.case:
            matrices = A @ A.mT + n * np.eye(n) if case == "definite" else A
            for form in given.form:
                for force in given.force:
                    policy = {"rules": [{"force": force}]} if force else None
                    row = _row(batch, n, case, form, policy, (matrices, b), given)
                    table.add_row(case, size, *row)


def _row(batch, n, case, form, policy, arguments, given) -> list[str]:
    plain, ours = compiled(batch, n, case, form, policy, given.scan)
    functions = {"autotune": ours, "plain": plain, "by hand": by_hand(case, form)}
    plans = [plan := autotune.explain(ours), *plan.inner]
    chosen = "+".join(decision.chosen for plan in plans for decision in plan.decisions)
    ratios = []
    for statistic in (np.median, min):
        times = alternate(functions, arguments, statistic=statistic, budget=given.seconds)
        ratios += [f"{times[name] / times['autotune']:.2f}" for name in ("plain", "by hand")]
        ratios = ratios if statistic is min else [f"{1e3 * times['autotune']:.3g}", *ratios]
    expected = plain(*arguments)
    differs = max(
        float(np.abs(a - e).max() / np.abs(e).max()) for a, e in zip(ours(*arguments), expected, strict=True)
    )
    return [form, chosen, *ratios, f"{differs:.0e}"]


if __name__ == "__main__":
    main()
