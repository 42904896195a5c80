"""Batches of general matrices: plain PyTensor against autotune, value alone and with its gradient.

    python benchmarks/batched.py [--case solve] [--sizes 1000x8 200x64] [--force lu cholesky_or_lu]

The gradient is taken by the user, or of the tuned value (`autotune.tune`). Both functions are called in
alternation in one process. A ratio above 1 says that autotune is slower; the least of some rounds is compared
as well as the median, since other programs only ever add time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
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
}
FORMS = ("value", "gradient", "tuned gradient")


def outputs(value: Any, wrt: Any, form: str) -> list[Any]:
    if form == "value":
        return [value]
    tuned = autotune.tune(value) if form == "tuned gradient" else value
    return [tuned, pt.grad(tuned, wrt)]


def compiled(batch: int, n: int, case: str, form: str, policy: Any) -> tuple[Any, Any]:
    """The function of plain PyTensor and that of autotune."""
    A, b = pt.tensor("A", shape=(batch, n, n)), pt.tensor("b", shape=(batch, n, 1))
    value = CASES[case](A, b)
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
    given = parser.parse_args()
    silence_numpy_threads()
    table = MarkdownTable(
        "case", "batch", "form", "chosen", "plain (ms)", "autotune / plain", "least / least", "differs"
    )
    rng = np.random.default_rng(0)
    for size in given.sizes:
        batch, n = map(int, size.split("x"))
        arguments = rng.normal(size=(batch, n, n)), rng.normal(size=(batch, n, 1))
        for case in given.case:
            for form in given.form:
                for force in given.force:
                    policy = {"rules": [{"force": force}]} if force else None
                    table.add_row(case, size, *_row(batch, n, case, form, policy, arguments))


def _row(batch, n, case, form, policy, arguments) -> list[str]:
    plain, ours = compiled(batch, n, case, form, policy)
    pair = {"plain": plain, "autotune": ours}
    chosen = "+".join(decision.chosen for decision in autotune.explain(ours).decisions)
    median, least = (alternate(pair, arguments, statistic=s, budget=3.0) for s in (np.median, min))
    ratios = (f"{times['autotune'] / times['plain']:.2f}" for times in (median, least))
    differs = max(
        float(np.abs(a - e).max() / np.abs(e).max())
        for a, e in zip(ours(*arguments), plain(*arguments), strict=True)
    )
    return [form, chosen, f"{1e3 * median['plain']:.3g}", *ratios, f"{differs:.0e}"]


if __name__ == "__main__":
    main()
