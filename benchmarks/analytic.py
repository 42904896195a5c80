"""Gaussian process likelihood with its gradient: plain PyTensor, autotune, and the analytic gradient by hand.

    python benchmarks/analytic.py --sizes 1000 2000 --kernels rbf matern52 --rounds 15

The graph is naive: ``inv`` and ``slogdet`` of a kernel tagged positive definite, differentiated by
``pt.grad``. The code by hand (``by_hand.py``) is NumPy with LAPACK in place, once in panels and triangles,
once as a textbook has it, in whole arrays. All take X (n, 2), y and the parameters. Times are medians of
calls in alternation; peaks are those of one call in a process of its own, in units of an n x n array.
``linear`` is compared with dense LAPACK, ``linear-woodbury`` is the same graph against Woodbury's identity
by hand.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import by_hand
import numpy as np
import pytensor
import pytensor.tensor as pt
from footprint import in_child, peak_of_call, square_arrays
from pytensor.assumptions import assume
from tables import MarkdownTable
from timing import alternate

import autotune

WAYS = ("hand", "textbook", "plain", "autotune")


@dataclass
class Case:
    """``outputs``, the value and its gradient by the parameters, of ``inputs`` at ``values``."""

    inputs: list[Any]
    outputs: list[Any]
    values: list[np.ndarray]
    hand: Callable[..., Any]
    textbook: Callable[..., Any] | None = None

    def compile(self, way: str) -> Callable[..., Any]:
        if way in ("hand", "textbook"):
            return getattr(self, way)
        fn = pytensor.function(self.inputs, self.outputs, mode=autotune.mode() if way == "autotune" else None)
        fn.trust_input = True
        return fn


def rbf(D, lengthscale):
    return pt.exp(-0.5 * D / lengthscale**2)


def matern32(D, lengthscale):
    a = np.sqrt(3.0) * pt.sqrt(D) / lengthscale
    return (1 + a) * pt.exp(-a)


def matern52(D, lengthscale):
    a = np.sqrt(5.0) * pt.sqrt(D) / lengthscale
    return (1 + a + a**2 / 3) * pt.exp(-a)


def stationary(name, correlation, n) -> Case:
    """``K = s^2 correlation(|x - x'|^2) + noise^2 I``."""
    X, y = data(n)
    parameters = lengthscale, s, noise = pt.scalars("lengthscale", "s", "noise")
    norms = (X**2).sum(axis=1)
    D = pt.maximum(norms[:, None] + norms[None, :] - 2 * (X @ X.T), 0)
    K = s**2 * correlation(D, lengthscale) + noise**2 * pt.eye(n)
    hand, textbook = partial(by_hand.stationary, name), partial(by_hand.textbook, name)
    return Case([X, y, *parameters], likelihood(K, y, parameters), values(n, 0.7, 1.2, 0.5), hand, textbook)


def linear(hand, n) -> Case:
    """``K = s^2 (X - offset) (X - offset)' + noise^2 I``."""
    X, y = data(n)
    parameters = s, offset, noise = pt.scalars("s", "offset", "noise")
    Z = X - offset
    K = s**2 * (Z @ Z.T) + noise**2 * pt.eye(n)
    return Case([X, y, *parameters], likelihood(K, y, parameters), values(n, 1.2, 0.3, 0.5), hand)


def data(n):
    return pt.matrix("X", shape=(n, 2)), pt.vector("y", shape=(n,))


def values(n, *parameters):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 2)), rng.normal(size=n), *map(np.array, parameters)]


def likelihood(K, y, parameters):
    """The log-density of ``y`` under N(0, K), naively, and its gradient."""
    K = assume(K, positive_definite=True)
    fit, (_, logdet) = y @ pt.linalg.inv(K) @ y, pt.linalg.slogdet(K)
    loss = -0.5 * (fit + logdet + K.type.shape[0] * np.log(2 * np.pi))
    return [loss, *pt.grad(loss, list(parameters))]


KERNELS: dict[str, Callable[[int], Case]] = {
    "rbf": partial(stationary, "rbf", rbf),
    "matern32": partial(stationary, "matern32", matern32),
    "matern52": partial(stationary, "matern52", matern52),
    "linear": partial(linear, by_hand.linear),
    "linear-woodbury": partial(linear, by_hand.linear_low_rank),
}


def difference(found, expected) -> float:
    """Largest relative difference of the value, and of the gradient relative to its largest entry."""
    found, expected = np.array(found, dtype=float), np.array(expected, dtype=float)
    return max(
        float(np.abs(found[part] - expected[part]).max() / np.abs(expected[part]).max())
        for part in (slice(0, 1), slice(1, None))
    )


def peak(kernel: str, n: int, way: str) -> float:
    """Peak of one call in units of an n x n float64 array. Run it in a process of its own."""
    case = KERNELS[kernel](n)
    fn = case.compile(way)
    return peak_of_call(lambda: fn(*case.values)) / (8 * n * n)


def measure(kernel: str, n: int, rounds: int) -> list[str]:
    """One row of the table."""
    case = KERNELS[kernel](n)
    functions = {way: fn for way in WAYS if (fn := case.compile(way)) is not None}
    results = {way: fn(*case.values) for way, fn in functions.items()}
    times = alternate(functions, case.values, rounds=(rounds, rounds))
    peaks = {way: in_child(__file__, "--peak", kernel, n, way) for way in functions}
    arrays = {way: "+".join(map(str, square_arrays(functions[way], n))) for way in ("plain", "autotune")}
    return [
        kernel,
        str(n),
        ", ".join(d.chosen for d in autotune.explain(functions["autotune"]).decisions),
        *(f"{1e3 * times[way]:.3g}" if way in times else "" for way in WAYS),
        *(f"{times['autotune'] / times[way]:.2f}" if way in times else "" for way in WAYS[:-1]),
        *(f"{difference(results[way], results['hand']):.0e}" for way in ("plain", "autotune")),
        " / ".join(arrays.values()),
        " / ".join(f"{peak:.1f}" for peak in peaks.values()),
    ]


COLUMNS = (
    *("kernel", "n", "chosen", "hand (ms)", "textbook (ms)", "plain (ms)", "autotune (ms)"),
    *("autotune / hand", "autotune / textbook", "autotune / plain", "plain differs", "autotune differs"),
    "n x n arrays + constants: plain / autotune",
    "peak: hand / textbook / plain / autotune",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 4000])
    parser.add_argument("--kernels", nargs="+", choices=list(KERNELS), default=list(KERNELS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        kernel, n, way = arguments.peak
        print(json.dumps(peak(kernel, int(n), way)))
        return
    table = MarkdownTable(*COLUMNS)
    for kernel in arguments.kernels:
        for n in arguments.sizes:
            table.add_row(*measure(kernel, n, arguments.rounds))


if __name__ == "__main__":
    main()
