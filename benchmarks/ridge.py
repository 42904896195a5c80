"""Ridge regression as users write it, value and gradient: against plain PyTensor and code by hand.

    python benchmarks/ridge.py [--sizes 100x3000 500x4000 5000x1000] [--forms inv solve] [--no-plain]

The value is the squared error on held-out rows of ``b = (X'X + lam I)^-1 X'y``; the gradient is by lam,
or by lam and X. The hand-written function is NumPy and LAPACK: the Gram product of the smaller side by syrk,
its Cholesky factor, and for gradients one more solve.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk
from tables import COMPARED, MarkdownTable, compared
from timing import alternate

import autotune

HELD_OUT = 50


def inverse(X: Any, y: Any, lam: Any) -> Any:
    return pt.linalg.inv(X.T @ X + lam * pt.eye(X.shape[1])) @ X.T @ y


def solution(X: Any, y: Any, lam: Any) -> Any:
    return pt.linalg.solve(X.T @ X + lam * pt.eye(X.shape[1]), X.T @ y, assume_a="pos")


FORMS = {"inv": inverse, "solve": solution}
GRADIENTS = {"value": (), "by lam": (2,), "by lam, X": (2, 0)}


def by_hand(by: tuple[int, ...]) -> Callable[..., list[Any]]:
    """The error on held-out rows and its gradient. X: (n, p)."""

    def function(X, y, lam, Xv, yv):
        n, p = X.shape
        wide = p > n
        # X.T is in Fortran's order, so that nothing is copied; the lower triangle of X'X, or of X X'
        G = dsyrk(1.0, X.T, trans=int(wide), lower=True)
        G[np.diag_indices(len(G))] += lam
        factor = cho_factor(G, lower=True, overwrite_a=True, check_finite=False)
        solved = lambda r: cho_solve(factor, r, check_finite=False)  # noqa: E731
        b = X.T @ solved(y) if wide else solved(X.T @ y)
        residual = Xv @ b - yv
        value = residual @ residual
        if not by:
            return [value]
        bar = 2 * (Xv.T @ residual)
        v = (bar - X.T @ solved(X @ bar)) / lam if wide else solved(bar)
        gradient = [value, -(v @ b)]
        if 0 in by:
            gradient.append(np.outer(y - X @ b, v) - np.outer(X @ v, b))
        return gradient

    return function


def compiled(form: str, by: tuple[int, ...], n: int, p: int) -> Any:
    X, y = pt.matrix("X", shape=(n, p)), pt.vector("y", shape=(n,))
    Xv, yv = pt.matrix("Xv", shape=(HELD_OUT, p)), pt.vector("yv", shape=(HELD_OUT,))
    lam = pt.scalar("lam")
    value = pt.sqr(Xv @ FORMS[form](X, y, lam) - yv).sum()
    wrt = [(X, y, lam)[i] for i in by]
    outputs = [value, *(pt.grad(value, wrt) if wrt else [])]
    fn = pytensor.function([X, y, lam, Xv, yv], outputs)
    fn.trust_input = True
    return fn


def data(n: int, p: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    X, Xv = rng.normal(size=(n, p)), rng.normal(size=(HELD_OUT, p))
    b = rng.normal(size=p) / np.sqrt(p)
    return X, X @ b + rng.normal(size=n), np.array(10.0), Xv, Xv @ b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["100x3000", "500x4000", "5000x1000"], help="n x p")
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS))
    parser.add_argument("--gradients", nargs="+", choices=list(GRADIENTS), default=list(GRADIENTS))
    parser.add_argument("--no-plain", action="store_true", help="leave out plain PyTensor, which is slow")
    parser.add_argument("--budget", type=float, default=3.0, help="seconds of calls for each function")
    arguments = parser.parse_args()
    table = MarkdownTable("n, p", "form", "gradient", *COMPARED)
    for size in arguments.sizes:
        n, p = map(int, size.split("x"))
        given = data(n, p)
        for form in arguments.forms:
            for name in arguments.gradients:
                by = GRADIENTS[name]
                with autotune.enabled():
                    functions = {"autotune": compiled(form, by, n, p)}
                if not arguments.no_plain:
                    functions["plain"] = compiled(form, by, n, p)
                functions["by hand"] = by_hand(by)
                found, hand = (functions[key](*given) for key in ("autotune", "by hand"))
                errors = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, hand, strict=True)]
                seconds = alternate(functions, given, budget=arguments.budget)
                table.add_row(
                    f"{n}, {p}",
                    form,
                    name,
                    *compared(seconds, max(errors)),
                )


if __name__ == "__main__":
    main()
