"""Structured covariances as PyMC users spell them, value and gradient: against plain PyMC and code by hand.

    python benchmarks/forms.py [--forms one-hot linear] [--n 1000] [--no-plain]

Every form is a `pm.MvNormal` with two parameters, t and s, and one observed vector. The hand-written function
is NumPy and LAPACK on the structure that the form has (Woodbury, groups, closed forms), and returns the
log-density and its two derivatives. All are called in alternation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from scipy.linalg import cho_factor, cho_solve
from tables import COMPARED, MarkdownTable, compared
from timing import alternate

import autotune

GROUPS, COLUMNS, BATCH, SMALL = 50, 5, 30, 40
RNG = np.random.default_rng(0)


def low_rank_by_hand(U, t, s, y):
    """log N(y | 0, t² U U' + s² I), with derivatives by t and s. U: (n, k)."""
    n, k = U.shape
    w, v = t**2, s**2
    gram, uy = U.T @ U, U.T @ y
    C = w / v * gram
    C[np.diag_indices(k)] += 1
    factor = cho_factor(C, lower=True, overwrite_a=True, check_finite=False)
    solved = cho_solve(factor, uy, check_finite=False)
    alpha = (y - U @ (w / v * solved)) / v
    logdet = n * np.log(v) + 2 * np.log(np.diag(factor[0])).sum()
    value = -0.5 * (n * np.log(2 * np.pi) + logdet + y @ alpha)
    inner = np.trace(cho_solve(factor, gram, check_finite=False)) / v  # tr(U' K^-1 U)
    trace = n / v - w / v * inner  # tr(K^-1)
    by_w = -0.5 * (inner - (U.T @ alpha) @ (U.T @ alpha))
    by_v = -0.5 * (trace - alpha @ alpha)
    return value, 2 * t * by_w, 2 * s * by_v


def groups_by_hand(group, t, s, y):
    """log N(y | 0, t² Z Z' + s² I) for one-hot Z, by sums over groups. group: (n,) integers."""
    n = len(y)
    w, v = t**2, s**2
    sizes, sums = np.bincount(group), np.bincount(group, weights=y)
    c = v + w * sizes
    value_y = (y @ y - w * (sums**2 / c).sum()) / v
    logdet = (n - len(sizes)) * np.log(v) + np.log(c).sum()
    value = -0.5 * (n * np.log(2 * np.pi) + logdet + value_y)
    inner = (sizes / c).sum()
    trace = (n - w * inner) / v
    square = (y @ y - (w * sums**2 * (2 / c - w * sizes / c**2)).sum()) / v**2
    by_w = -0.5 * (inner - ((sums / c) ** 2).sum())
    return value, 2 * t * by_w, 2 * s * -0.5 * (trace - square)


def batch_by_hand(U, t, s, Y):
    """The sum of log N(y_j | 0, t² U_j U_j' + s² I) over a batch. U: (J, n, k), Y: (J, n)."""
    J, n, k = U.shape
    w, v = t**2, s**2
    gram, uy = U.transpose(0, 2, 1) @ U, np.einsum("jnk,jn->jk", U, Y)
    C = np.eye(k) + w / v * gram
    inverse = np.linalg.inv(C)
    solved = np.einsum("jkl,jl->jk", inverse, uy)
    alpha = (Y - w / v * np.einsum("jnk,jk->jn", U, solved)) / v
    logdet = J * n * np.log(v) + np.linalg.slogdet(C)[1].sum()
    value = -0.5 * (J * n * np.log(2 * np.pi) + logdet + (Y * alpha).sum())
    inner = np.einsum("jkl,jlk->", inverse, gram) / v
    by_w = -0.5 * (inner - (np.einsum("jnk,jn->jk", U, alpha) ** 2).sum())
    by_v = -0.5 * ((J * n - w * inner) / v - (alpha**2).sum())
    return value, 2 * t * by_w, 2 * s * by_v


def spectrum_by_hand(values, rotated, t, s):
    """log N(y | 0, t² A + s² I) from the eigenvalues of A and y in its eigenvectors, both found before."""
    w, v = t**2, s**2
    e, squares = w * values + v, rotated**2
    value = -0.5 * (len(e) * np.log(2 * np.pi) + np.log(e).sum() + (squares / e).sum())
    bar = -0.5 * (1 / e - squares / e**2)
    return value, 2 * t * (bar * values).sum(), 2 * s * bar.sum()


def kronecker_by_hand(space, times, t, s, y):
    """log N(y | 0, exp(-space / t) kron times + s² I), by two eigenproblems at every call."""
    A = np.exp(-space / t)
    (a, P), (b, Q) = np.linalg.eigh(A), np.linalg.eigh(times)
    e = np.outer(a, b) + s**2
    Y = y.reshape(e.shape)
    z = P.T @ Y @ Q / e
    value = -0.5 * (e.size * np.log(2 * np.pi) + np.log(e).sum() + (z * z * e).sum())
    X = P @ z @ Q.T
    A_bar = -0.5 * ((P * (b / e).sum(axis=1)) @ P.T - X @ times @ X.T)
    return value, (A_bar * A * space).sum() / t**2, -s * ((1 / e).sum() - (z * z).sum())


def dense_by_hand(form):
    """log N(y | 0, K) by one Cholesky factor. ``form(t, s)``: K, dK/dt and dK/ds."""

    def by_hand(t, s, y):
        K, by_t, by_s = form(t, s)
        n = len(y)
        factor = cho_factor(K, lower=True, check_finite=False)
        alpha = cho_solve(factor, y, check_finite=False)
        inverse = cho_solve(factor, np.eye(n), check_finite=False)
        logdet = 2 * np.log(np.diag(factor[0])).sum()
        value = -0.5 * (n * np.log(2 * np.pi) + logdet + y @ alpha)
        bar = 0.5 * (np.outer(alpha, alpha) - inverse)
        return value, (bar * by_t).sum(), (bar * by_s).sum()

    return by_hand


class Form:
    """``cov``: the covariance as a user writes it; ``by_hand``: the same density from (t, s, y)."""

    def __init__(self, cov: Callable[..., Any], by_hand: Callable[..., Any], shape: tuple[int, ...]):
        self.cov, self.by_hand, self.y = cov, by_hand, RNG.normal(size=shape)

    def functions(self, *, plain: bool) -> tuple[dict[str, Any], np.ndarray]:
        def compiled(mode: Any) -> Any:
            with pm.Model() as model:
                t, s = pm.HalfNormal("t"), pm.HalfNormal("s")
                # The priors' part is not in the code by hand, and a few scalars.
                pm.MvNormal("y", 0, cov=self.cov(t, s), observed=self.y)
            fn = model.logp_dlogp_function(ravel_inputs=True, mode=mode)
            fn.set_extra_values({})
            fn._pytensor_function.trust_input = True
            return fn

        with autotune.enabled():
            functions = {"autotune": compiled(None)}
        if plain:
            functions["plain"] = compiled(None)
        functions["by hand"] = lambda z: self.by_hand(np.exp(z[0]), np.exp(z[1]), self.y)
        return functions, np.array([0.2, -0.1])


def forms(n: int) -> dict[str, Form]:
    group = RNG.integers(GROUPS, size=n)
    group[:GROUPS] = np.arange(GROUPS)
    Z, X = np.eye(GROUPS)[group], RNG.normal(size=(n, COLUMNS))
    many = RNG.normal(size=(n, 20))
    each = RNG.normal(size=(BATCH, SMALL, 3))
    one = np.ones((n, 1))
    A = np.corrcoef(RNG.normal(size=(n, 2 * n)))
    values, Q = np.linalg.eigh(A)
    here, then = np.arange(25.0), np.arange(n // 25)
    space, times = abs(here[:, None] - here), np.exp(-abs(then[:, None] - then) / 5)
    x = X[:, :1]
    squares = (x - x.T) ** 2

    def low_rank(U):
        return lambda t, s, y: low_rank_by_hand(U, t, s, y)

    def grouped(t, s, y):
        return groups_by_hand(group, t, s, y)

    def kernel(t, s):
        K = np.exp(-0.5 * squares / t**2)
        by_t = K * squares / t**3
        K[np.diag_indices(n)] += s**2
        return K, by_t, 2 * s * np.eye(n)

    rotated: list[np.ndarray] = []  # once: the data do not change

    def in_eigenvectors(t, s, y):
        if not rotated:
            rotated.append(Q.T @ y)
        return spectrum_by_hand(values, rotated[0], t, s)

    noise = lambda s: s**2 * pt.eye(n)  # noqa: E731
    return {
        "one-hot: Z @ (t² I) @ Z'": Form(
            lambda t, s: Z @ (t**2 * pt.eye(GROUPS)) @ Z.T + noise(s), grouped, (n,)
        ),
        "one-hot: t² dot(Z, Z')": Form(lambda t, s: t**2 * pt.dot(Z, Z.T) + noise(s), grouped, (n,)),
        "one-hot: eq(g, g')": Form(
            lambda t, s: t**2 * pt.eq(group[:, None], group[None, :]) + noise(s), grouped, (n,)
        ),
        "linear: t² X X', constant X": Form(lambda t, s: t**2 * pt.dot(X, X.T) + noise(s), low_rank(X), (n,)),
        "linear: gp.cov.Linear": Form(
            lambda t, s: t**2 * pm.gp.cov.Linear(COLUMNS, c=0)(X) + noise(s), low_rank(X), (n,)
        ),
        "linear: X[:, :5] of a wider X": Form(
            lambda t, s: t**2 * pt.dot(pt.constant(many)[:, :5], pt.constant(many)[:, :5].T) + noise(s),
            low_rank(many[:, :5]),
            (n,),
        ),
        "linear: folded in NumPy": Form(lambda t, s: t**2 * (X @ X.T) + noise(s), low_rank(X), (n,)),
        "linear: X @ diag(w) @ X'": Form(
            lambda t, s: X @ pt.diag(t**2 * pt.ones(COLUMNS)) @ X.T + noise(s), low_rank(X), (n,)
        ),
        "scalar added: s² I + t²": Form(lambda t, s: noise(s) + t**2, low_rank(one), (n,)),
        "batch of U U' + s² I": Form(
            lambda t, s: t**2 * (each @ each.transpose(0, 2, 1)) + s**2 * pt.eye(SMALL),
            lambda t, s, y: batch_by_hand(each, t, s, y),
            (BATCH, SMALL),
        ),
        "constant: t² A + s² I": Form(
            lambda t, s: t**2 * A + noise(s),
            in_eigenvectors,
            (n,),
        ),
        "Kronecker product plus noise": Form(
            lambda t, s: pt.linalg.kron(pt.exp(-space / t), times) + s**2 * pt.eye(25 * (n // 25)),
            lambda t, s, y: kronecker_by_hand(space, times, t, s, y),
            (25 * (n // 25),),
        ),
        "dense: squared exponential": Form(
            lambda t, s: pt.exp(-0.5 * squares / t**2) + noise(s), dense_by_hand(kernel), (n,)
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--forms", nargs="+", default=[""], help="what the names of the forms begin with")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--no-plain", action="store_true", help="leave out plain PyMC, which is slow")
    parser.add_argument("--budget", type=float, default=3.0, help="seconds of calls for each form")
    arguments = parser.parse_args()
    table = MarkdownTable("form", *COMPARED)
    for name, form in forms(arguments.n).items():
        if not name.startswith(tuple(arguments.forms)):
            continue
        functions, z = form.functions(plain=not arguments.no_plain)
        gradients = {key: np.ravel(fn(z)[1:][-2:])[-2:] for key, fn in functions.items()}
        hand = np.array(functions["by hand"](z)[1:]) * np.exp(z)  # by log t and log s, as PyMC's
        prior = 1 - np.exp(2 * z)
        error = np.abs(gradients["autotune"] - prior - hand).max() / np.abs(hand).max()
        seconds = alternate(functions, (z,), budget=arguments.budget)
        table.add_row(
            name,
            *compared(seconds, error),
        )


if __name__ == "__main__":
    main()
