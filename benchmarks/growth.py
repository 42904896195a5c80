"""What value and gradient take as n grows, of matrices that are never formed; a picture of it.

    python benchmarks/growth.py [--n 500 5000 50000] [--picture docs/growth.png]

Each case is a Gaussian log-density of one vector. Against plain PyTensor as far as it is worth waiting for,
and against the fastest code by hand: of a tridiagonal precision LAPACK's pttrf from both ends (the diagonal
of the inverse in NumPy); of a band and of a lattice SciPy's, value alone; of a covariance of times celerite2,
where it is installed; of a Toeplitz matrix SciPy's Levinson recursion, without the log-determinant, and its
transforms.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytensor.sparse
import pytensor.tensor as pt
import scipy.sparse
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import cho_solve_banded, cholesky_banded, solve_toeplitz
from scipy.linalg.lapack import dpttrf
from scipy.sparse.linalg import splu
from structures import Case, density, density_of_precision
from tables import MarkdownTable
from timing import alternate

import autotune

PLAIN_UP_TO = 2000


def tridiagonal(n: int, rng) -> Case:
    """``diag(d) + diag(e, 1) + diag(e, -1)``, a precision."""
    d, e, y = pt.vector("d", shape=(n,)), pt.vector("e", shape=(n - 1,)), pt.vector("y", shape=(n,))
    Q = pt.diag(d) + pt.diag(e, 1) + pt.diag(e, -1)

    def by_hand(d, e, y):
        forward, ratio, _ = dpttrf(d, e)
        backward, _, _ = dpttrf(d[::-1], e[::-1])
        inverse = 1 / (forward + backward[::-1] - d)
        beside = -ratio * inverse[1:]
        Qy = d * y
        Qy[:-1] += e * y[1:]
        Qy[1:] += e * y[:-1]
        value = 0.5 * (np.log(forward).sum() - y @ Qy)
        return value, 0.5 * (inverse - y * y), beside - y[:-1] * y[1:], -Qy

    values = {d: rng.uniform(2, 3, n), e: rng.uniform(-1, 1, n - 1), y: rng.normal(size=n)}
    return Case(values, density_of_precision(Q, y), by_hand)


def second_differences(n: int, rng) -> Case:
    """``diag(w) + t D'D`` of second differences D, as of a P-spline or a random walk of order two."""
    w, t, y = pt.vector("w", shape=(n,)), pt.scalar("t"), pt.vector("y", shape=(n,))
    i = np.arange(n)
    inner = (i > 1) & (i < n - 2)
    main = np.where(inner, 6.0, np.where((i == 0) | (i == n - 1), 1.0, 5.0))
    first = np.where((i[:-1] == 0) | (i[:-1] == n - 2), -2.0, -4.0)
    penalty = pt.diag(main) + pt.diag(first, 1) + pt.diag(first, -1) + pt.eye(n, k=2) + pt.eye(n, k=-2)
    Q = t * penalty + pt.diag(w)

    def by_hand(w, t, y):
        bands = np.zeros((3, n))
        bands[0], bands[1, :-1], bands[2, :-2] = t * main + w, t * first, t
        L = cholesky_banded(bands, lower=True, check_finite=False)
        x = cho_solve_banded((L, True), y, check_finite=False)
        return (-0.5 * (2 * np.log(L[0]).sum() + y @ x),)

    values = {w: rng.uniform(1, 2, n), t: np.array(3.0), y: rng.normal(size=n)}
    return Case(values, density(Q, y), by_hand)


def times(n: int, rng) -> np.ndarray:
    return np.cumsum(rng.exponential(size=n)) / 10


def exponential(n: int, rng) -> Case:
    """``a^2 exp(-|t - t'| / b) + s^2 I`` at sorted times (Ornstein & Uhlenbeck)."""
    t = times(n, rng)
    a, b, s = pt.scalars("a", "b", "s")
    y = pt.vector("y", shape=(n,))
    K = a**2 * pt.exp(-pt.abs(pt.constant(t)[:, None] - t) / b) + s**2 * pt.eye(n)
    return Case(
        {a: np.array(1.2), b: np.array(1.5), s: np.array(0.4), y: rng.normal(size=n)},
        density(K, y),
        by_celerite(t, lambda a, b: (np.array([1 / b]), np.full((n, 1), a**2), np.ones((n, 1)))),
    )


def matern32(n: int, rng) -> Case:
    """``a^2 (1 + r) exp(-r) + s^2 I``, ``r = 3^1/2 |t - t'| / b``; celerite2's is an approximation."""
    t = times(n, rng)
    a, b, s = pt.scalars("a", "b", "s")
    y = pt.vector("y", shape=(n,))
    r = np.sqrt(3) * pt.abs(pt.constant(t)[:, None] - t) / b
    K = a**2 * (1 + r) * pt.exp(-r) + s**2 * pt.eye(n)

    def matrices(a, b):
        from celerite2 import terms

        c, _, U, V = terms.Matern32Term(sigma=float(a), rho=float(b)).get_celerite_matrices(t, np.zeros(n))
        return c, U, V

    values = {a: np.array(1.2), b: np.array(1.5), s: np.array(0.4), y: rng.normal(size=n)}
    return Case(values, density(K, y), by_celerite(t, matrices))


def squared_exponential(n: int, rng) -> Case:
    """``a^2 exp(-r^2 / 2) + s^2 I`` at evenly spaced times, ``r = |t - t'| / b``: a Toeplitz matrix."""
    t = np.arange(n) / 10
    a, b, s = pt.scalars("a", "b", "s")
    y = pt.vector("y", shape=(n,))
    K = a**2 * pt.exp(-0.5 * pt.sqr((pt.constant(t)[:, None] - t) / b)) + s**2 * pt.eye(n)

    def by_hand(a, b, s, y):
        k = a**2 * np.exp(-0.5 * (t / b) ** 2)
        first = np.eye(1, n)[0]
        c = k + s**2 * first
        x, z = solve_toeplitz(c, np.stack([first, y], axis=1), check_finite=False).T

        def sums(left, right):
            """Of the diagonals of ``left right'``, both sides of the main one together."""
            length = next_fast_len(2 * n, real=True)
            both = 2 * irfft((rfft(left, length) * np.conj(rfft(right, length))).real, length)[:n]
            both[0] /= 2
            return both

        c_bar = 0.5 * (sums(z, z) - sums((n - 2 * np.arange(n)) / x[0] * x, x))
        k_bar = c_bar @ k
        # the quadratic form, whose log-determinant Levinson's recursion knows and SciPy does not give
        return -0.5 * y @ z, 2 * k_bar / a, c_bar @ (k * t**2) / b**3, 2 * s * c_bar[0], -z

    values = {a: np.array(1.2), b: np.array(1.5), s: np.array(0.4), y: rng.normal(size=n)}
    return Case(values, density(K, y), by_hand)


def by_celerite(t: np.ndarray, matrices: Callable[..., Any]) -> Any:
    """Value, and the derivatives by what the covariance is made of, as celerite2 has them."""
    if find_spec("celerite2") is None:
        return None
    from celerite2 import backprop

    n = len(t)

    def by_hand(a, b, s, y):
        c, U, V = matrices(a, b)
        J = len(c)
        d, W, S = np.empty(n), np.empty((n, J)), np.empty((n, J, J))
        diagonal, Y = np.full(n, a**2 + s**2), y[:, None]
        d, W, S = backprop.factor_fwd(t, c, diagonal, U, V, d, W, S)
        Z, F = backprop.solve_lower_fwd(t, c, U, W, Y, np.empty((n, 1)), np.empty((n, J, 1)))
        z = Z[:, 0]
        value = -0.5 * (np.log(d).sum() + (z * z / d).sum())
        d_bar, Z_bar = -0.5 / d + 0.5 * z * z / d**2, -(z / d)[:, None]
        empty = [np.empty_like(x) for x in (t, c, U, W, Y)]
        _, c_bar, U_bar, W_bar, y_bar = backprop.solve_lower_rev(t, c, U, W, Y, Z, F, Z_bar, *empty)
        empty = [np.empty_like(x) for x in (t, c, diagonal, U, V)]
        _, c2, a_bar, U2, V_bar = backprop.factor_rev(t, c, diagonal, U, V, d, W, S, d_bar, W_bar, *empty)
        return value, c_bar + c2, a_bar, U_bar + U2, V_bar, y_bar

    return by_hand


def lattice(n: int, rng) -> Case:
    """``t L + diag(w)``, a precision, of the Laplacian L of a square lattice of about n nodes."""
    side = round(n**0.5)
    n = side * side
    path = scipy.sparse.diags(
        [-np.ones(side - 1), np.r_[1, np.full(side - 2, 2), 1], -np.ones(side - 1)], [-1, 0, 1]
    )
    L = scipy.sparse.csc_matrix(scipy.sparse.kronsum(path, path))
    w, t, y = pt.vector("w", shape=(n,)), pt.scalar("t"), pt.vector("y", shape=(n,))
    Q = pytensor.sparse.dense_from_sparse(pytensor.sparse.as_sparse(L) * t) + pt.diag(w)

    def by_hand(w, t, y):
        A = (t * L + scipy.sparse.diags(w)).tocsc()
        lu = splu(A, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        return (0.5 * (np.log(lu.U.diagonal()).sum() - y @ (A @ y)),)

    values = {w: rng.uniform(1, 2, n), t: np.array(3.0), y: rng.normal(size=n)}
    return Case(values, density_of_precision(Q, y), by_hand)


CASES: dict[str, Callable[..., Case]] = {
    "tridiagonal": tridiagonal,
    "second differences": second_differences,
    "exponential": exponential,
    "Matern 3/2": matern32,
    "Toeplitz": squared_exponential,
    "lattice": lattice,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="what the names of the cases begin with")
    parser.add_argument("--n", type=int, nargs="+", default=[500, 2000, 5000, 50_000, 500_000])
    parser.add_argument("--budget", type=float, default=2.0, help="seconds of calls for each case")
    parser.add_argument("--picture", type=Path, help="a file to draw the times into")
    arguments = parser.parse_args()
    header = ("matrix", "n", "autotune [ms]", "plain / autotune", "autotune / by hand")
    table, found = MarkdownTable(*header), {}
    for name in CASES:
        for n in arguments.n if name.startswith(tuple(arguments.only)) else ():
            seconds = measure(CASES[name](n, np.random.default_rng(0)), n, arguments.budget)
            found[name, n] = seconds
            table.add_row(name, str(n), f"{1e3 * seconds['autotune']:.3g}", *ratios(seconds))
    if arguments.picture:
        draw(found, arguments.picture)


def ratios(seconds: dict[str, float]) -> Iterator[str]:
    ours = seconds["autotune"]
    yield f"{seconds['plain'] / ours:.3g}" if "plain" in seconds else ""
    yield f"{ours / seconds['by hand']:.2f}" if "by hand" in seconds else ""


def measure(case: Case, n: int, budget: float) -> dict[str, float]:
    """Seconds a call; where code by hand knows no gradient, "by hand" is scaled to the value alone."""
    inputs, arguments = list(case.inputs), tuple(case.inputs.values())
    outputs = [case.loss, *pt.grad(case.loss, inputs)]
    functions: dict[str, Any] = {
        "autotune": pytensor.function(inputs, outputs, mode=autotune.mode(), trust_input=True)
    }
    if case.by_hand is not None:
        functions["by hand"] = case.by_hand
        value_alone = len(case.by_hand(*arguments)) == 1
        if value_alone:
            functions["value"] = pytensor.function(inputs, case.loss, mode=autotune.mode(), trust_input=True)
    if n <= PLAIN_UP_TO:
        functions["plain"] = pytensor.function(inputs, outputs, trust_input=True)
    seconds = alternate(functions, arguments, budget=budget)
    if "value" in seconds:
        seconds["by hand"] *= seconds["autotune"] / seconds["value"]
    return seconds


def draw(found: dict[tuple[str, int], dict[str, float]], path: Path) -> None:
    import matplotlib  # the times need none

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for i, name in enumerate(dict.fromkeys(name for name, _ in found)):
        for key, style in (("autotune", "o-"), ("by hand", "x:"), ("plain", "s--")):
            points = [
                (n, seconds[key]) for (case, n), seconds in found.items() if case == name and key in seconds
            ]
            if points:
                label = f"{name}, {key}" if key != "by hand" else None
                axes.loglog(*zip(*points, strict=True), style, color=f"C{i}", label=label, markersize=4)
    axes.set_xlabel("n")
    axes.set_ylabel("seconds for value and gradient (dotted: by hand)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    main()
