"""Kronecker products by their factors: ``y' inv(K) y + log det K`` and its gradient, K = A kron B.

    python benchmarks/parts.py --sizes 50x60 80x100

A (p, p) and B (q, q) are said to be positive definite, and what is differentiated is tuned first. Timed
in alternation with LAPACK on the factors, written by hand: the value alone, and value and gradient.
Plain PyTensor, which makes matrices of order p q, only with ``--plain``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from low_rank_gradient import difference
from pytensor.assumptions import assume
from scipy.linalg import blas, lapack
from tables import MarkdownTable
from timing import alternate

import autotune


@dataclass
class Case:
    """``loss`` of ``inputs`` at ``values``; ``hand`` computes the same, with the gradient or without."""

    inputs: list[Any]
    loss: Any
    values: list[np.ndarray]
    gradient: bool

    def outputs(self, loss):
        return [loss, *(pt.grad(loss, self.inputs) if self.gradient else ())]

    def compile(self, mode=None):
        fn = pytensor.function(self.inputs, self.outputs(self.loss), mode=mode)
        fn.trust_input = True
        return fn

    def compile_tuned(self, mode=None):
        outputs = self.outputs(autotune.tune(self.loss))
        fn = pytensor.function(self.inputs, outputs, mode=mode or autotune.mode())
        fn.trust_input = True
        return fn

    def hand(self, A, B, y):
        return kronecker_loss(A, B, y, self.gradient)


def kronecker(p: int, q: int, gradient: bool) -> Case:
    A, B, y = pt.matrix("A", shape=(p, p)), pt.matrix("B", shape=(q, q)), pt.vector("y", shape=(p * q,))
    K = pt.linalg.kron(*(assume(X, positive_definite=True) for X in (A, B)))
    rng = np.random.default_rng(0)
    values = [_definite(p, rng), _definite(q, rng), rng.normal(size=p * q)]
    return Case([A, B, y], y @ pt.linalg.inv(K) @ y + pt.linalg.slogdet(K)[1], values, gradient)


def _definite(n: int, rng) -> np.ndarray:
    G = rng.normal(size=(n, n))
    return G @ G.T / n + np.eye(n)


def kronecker_loss(A, B, y, gradient: bool) -> list[Any]:
    """With Y the rows of y, X = A^-1 Y B^-1: the value is ``sum(Y X) + q log det A + p log det B``, its
    gradients ``q A^-1 - A^-1 Y X'``, ``p B^-1 - X' Y B^-1`` and ``2 X``."""
    p, q = len(A), len(B)
    Y = y.reshape(p, q)
    factors = [_factor(M) for M in (A, B)]
    left, _ = lapack.dpotrs(factors[0], Y, lower=1)
    solution = lapack.dpotrs(factors[1], left.T, lower=1)[0].T
    logdets = [2 * np.log(np.diagonal(L)).sum() for L in factors]
    value = np.asarray((Y * solution).sum() + q * logdets[0] + p * logdets[1])
    if not gradient:
        return [value]
    right = lapack.dpotrs(factors[1], Y.T, lower=1)[0].T
    inverses = [_inverse(L) for L in factors]
    by_A = q * inverses[0] - blas.dgemm(1.0, left, solution, trans_b=1)
    by_B = p * inverses[1] - blas.dgemm(1.0, solution, right, trans_a=1)
    return [value, by_A, by_B, 2 * solution.ravel()]


def _factor(M):
    factor, info = lapack.dpotrf(M, lower=1, clean=0)
    if info:
        raise np.linalg.LinAlgError(f"A factor has a leading minor ({info}) that is not positive.")
    return factor


def _inverse(factor):
    lower, _ = lapack.dpotri(factor, lower=1)
    return np.tril(lower) + np.tril(lower, -1).T


def row(p: int, q: int, gradient: bool, plain: bool, rounds: int) -> list[str]:
    case = kronecker(p, q, gradient)
    tuned = case.compile_tuned()
    functions = {"autotune": tuned, "hand": case.hand} | ({"plain": case.compile()} if plain else {})
    expected = case.hand(*case.values)
    times = alternate(functions, case.values, rounds=(rounds, rounds))
    return [
        f"{p} x {q}",
        "value and gradient" if gradient else "value",
        ", ".join(d.chosen for d in autotune.explain(tuned).decisions),
        *(f"{1e3 * times[name]:.3g}" if name in times else "-" for name in ("plain", "autotune", "hand")),
        f"{times['plain'] / times['autotune']:.3g}" if plain else "-",
        f"{times['autotune'] / times['hand']:.2f}",
        f"{difference(tuned(*case.values), expected):.0e}",
    ]


COLUMNS = ("K", "outputs", "chosen", "plain (ms)", "autotune (ms)", "hand (ms)")
COLUMNS += ("plain / autotune", "autotune / hand", "differs")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["50x60", "80x100"], metavar="PxQ")
    parser.add_argument("--rounds", type=int, default=51)
    parser.add_argument("--plain", action="store_true", help="plain PyTensor too: minutes at 80x100")
    arguments = parser.parse_args()
    table = MarkdownTable(*COLUMNS)
    for size in arguments.sizes:
        p, q = map(int, size.split("x"))
        for gradient in (False, True):
            table.add_row(*row(p, q, gradient, arguments.plain, arguments.rounds))


if __name__ == "__main__":
    main()
