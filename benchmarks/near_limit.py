"""Dense cases in which plain PyTensor is near the limit already: autotune must not make them slower.

    python benchmarks/near_limit.py [--n 1500]

Times plain PyTensor and autotune in alternation and prints the ratio of medians (1 is equal).
"""

from __future__ import annotations

import argparse

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.assumptions import assume
from rich.console import Console
from rich.table import Table
from timing import alternate

import autotune


def kernel(X, Z, scale):
    distance = ((X[:, None, :] - Z[None, :, :]) ** 2).sum(axis=-1)
    return pt.exp(-0.5 * distance / scale**2)


def gp_value(n, rng):
    """Marginal likelihood of a Gaussian process, kernel tagged positive definite, value only."""
    X, y, scale = pt.matrix("X", shape=(n, 2)), pt.vector("y", shape=(n,)), pt.scalar("scale")
    K = assume(kernel(X, X, scale) + 0.1 * pt.eye(n), positive_definite=True)
    loss = -0.5 * y @ pt.linalg.solve(K, y) - 0.5 * pt.linalg.slogdet(K)[1]
    return [X, y, scale], [loss], [rng.normal(size=(n, 2)), rng.normal(size=n), np.array(1.0)]


def many_right_hand_sides(n, rng):
    """One solve of a positive-definite matrix with n right-hand sides."""
    A, B = pt.matrix("A", shape=(n, n)), pt.matrix("B", shape=(n, n))
    return [A, B], [pt.linalg.solve(A, B, assume_a="pos")], [spd(n, rng), rng.normal(size=(n, n))]


def six_solves(n, rng):
    """Six vectors solved with one general matrix."""
    A, vectors = pt.matrix("A", shape=(n, n)), [pt.vector(f"b{i}", shape=(n,)) for i in range(6)]
    values = [rng.normal(size=(n, n)), *(rng.normal(size=n) for _ in range(6))]
    return [A, *vectors], [pt.linalg.solve(A, b) for b in vectors], values


def vfe_bound(n, rng, inducing=100):
    """Titsias' bound of a sparse Gaussian process, value and gradient, by Cholesky factors."""
    X, Z = pt.matrix("X", shape=(n, 2)), pt.matrix("Z", shape=(inducing, 2))
    y, scale, noise = pt.vector("y", shape=(n,)), pt.scalar("scale"), pt.scalar("noise")
    Kuu = assume(kernel(Z, Z, scale) + 1e-6 * pt.eye(inducing), positive_definite=True)
    L = pt.linalg.cholesky(Kuu)
    A = pt.linalg.solve_triangular(L, kernel(Z, X, scale), lower=True) / noise
    B = assume(A @ A.T + pt.eye(inducing), positive_definite=True)
    LB = pt.linalg.cholesky(B)
    c = pt.linalg.solve_triangular(LB, A @ y, lower=True) / noise
    bound = -n * pt.log(noise) - pt.log(pt.diagonal(LB)).sum() - 0.5 * (y @ y) / noise**2 + 0.5 * (c @ c)
    bound -= 0.5 * n / noise**2 - 0.5 * (A**2).sum()
    outputs = [bound, *pt.grad(bound, [Z, scale, noise])]
    values = [rng.normal(size=(n, 2)), rng.normal(size=(inducing, 2)), rng.normal(size=n)]
    return [X, Z, y, scale, noise], outputs, [*values, np.array(1.0), np.array(0.3)]


def spd(n, rng):
    G = rng.normal(size=(n, n))
    return G @ G.T / n + np.eye(n)


CASES = (gp_value, many_right_hand_sides, six_solves, vfe_bound)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1500)
    n = parser.parse_args().n
    table = Table("case", "chosen", "plain (ms)", "autotune (ms)", "ratio", title=f"n = {n}")
    for case in CASES:
        inputs, outputs, values = case(n, np.random.default_rng(0))
        tuned = pytensor.function(inputs, outputs, mode=autotune.mode())
        functions = {"plain": pytensor.function(inputs, outputs), "tuned": tuned}
        for fn in functions.values():
            fn.trust_input = True
        times = alternate(functions, values, budget=6.0, rounds=(15, 300))
        chosen = ", ".join(d.chosen for d in autotune.explain(tuned).decisions)
        ratio = times["tuned"] / times["plain"]
        table.add_row(
            case.__name__,
            chosen,
            f"{1e3 * times['plain']:.3g}",
            f"{1e3 * times['tuned']:.3g}",
            f"{ratio:.3f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
