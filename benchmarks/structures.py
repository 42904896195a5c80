"""Matrices with a structure, value and gradient: against plain PyTensor and code by hand.

    python benchmarks/structures.py [--only packed CAR] [--n 300 1000] [--no-plain]

Every case is a Gaussian log-density of one vector y in its most usual spelling. The hand-written function is
NumPy, SciPy and LAPACK on the structure, with all that is constant computed before, and returns the value
and the derivatives. All are called in alternation; errors are those of the derivatives.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.assumptions import assume
from scipy.linalg import cho_factor, cho_solve, cho_solve_banded, cholesky_banded
from scipy.linalg.lapack import dtrtrs
from tables import COMPARED, MarkdownTable, compared
from timing import alternate

import autotune


@dataclass
class Case:
    """``inputs`` with their values; ``loss`` of them; ``by_hand``: value and gradients by all of them.

    ``constants``: the arrays that the matrix is made of beside them.
    """

    inputs: dict[Any, np.ndarray]
    loss: Any
    by_hand: Callable[..., tuple[Any, ...]]
    constants: tuple[np.ndarray, ...] = field(default=())


def density(K, y):
    """log N(y | 0, K) without its constant, as users of ``pt.linalg`` write it."""
    return -0.5 * (pt.linalg.slogdet(K)[1] + y @ pt.linalg.solve(K, y))


def density_of_precision(K, y):
    return 0.5 * (pt.linalg.slogdet(K)[1] - y @ K @ y)


def scalars(*names: str) -> list[Any]:
    return [pt.scalar(name) for name in names]


def packed(n: int, rng) -> Case:
    """``L L'`` of an L that is filled in from a vector."""
    rows, columns = np.tril_indices(n)
    v, y = pt.vector("v", shape=(len(rows),)), pt.vector("y", shape=(n,))
    L = pt.zeros((n, n))[rows, columns].set(v)
    filled = np.tril(rng.normal(size=(n, n)) / np.sqrt(n)) + np.eye(n)

    def by_hand(v, y):
        L = np.zeros((n, n), order="F")
        L[rows, columns] = v
        z = dtrtrs(L, y, lower=1)[0]
        alpha = dtrtrs(L, z, lower=1, trans=1)[0]
        d = np.diagonal(L)
        L_bar = alpha[rows] * z[columns]
        L_bar[rows == columns] -= 1 / d
        return -np.log(np.abs(d)).sum() - 0.5 * z @ z, L_bar, -alpha

    return Case({v: filled[rows, columns], y: rng.normal(size=n)}, density(L @ L.T, y), by_hand)


def scaled(n: int, rng) -> Case:
    """``diag(s) R diag(s)`` with a constant R."""
    R = np.corrcoef(rng.normal(size=(n, 2 * n)))
    s, y = pt.vector("s", shape=(n,)), pt.vector("y", shape=(n,))
    inverse, logdet = np.linalg.inv(R), np.linalg.slogdet(R)[1]

    def by_hand(s, y):
        z = y / s
        alpha = inverse @ z
        value = -np.log(np.abs(s)).sum() - 0.5 * (logdet + z @ alpha)
        return value, (alpha * z - 1) / s, -alpha / s

    loss = density(pt.diag(s) @ pt.constant(R) @ pt.diag(s), y)
    return Case({s: rng.uniform(0.5, 2, n), y: rng.normal(size=n)}, loss, by_hand)


def animal(n: int, rng) -> Case:
    """``a A + b I``, A constant."""
    A = np.corrcoef(rng.normal(size=(n, 2 * n)))
    (a, b), y = scalars("a", "b"), pt.vector("y", shape=(n,))
    w, Q = np.linalg.eigh(A)

    def by_hand(a, b, y):
        e, z = a * w + b, Q.T @ y
        bar = -0.5 * (1 / e - (z / e) ** 2)
        value = -0.5 * (np.log(e).sum() + (z * z / e).sum())
        return value, (bar * w).sum(), bar.sum(), -(Q @ (z / e))

    loss = density(a * pt.constant(A) + b * pt.eye(n), y)
    return Case({a: np.array(0.8), b: np.array(0.3), y: rng.normal(size=n)}, loss, by_hand, (A,))


def grid(n: int) -> np.ndarray:
    """Which of about n points of a square grid are neighbours."""
    m = round(np.sqrt(n))
    line = np.eye(m, k=1) + np.eye(m, k=-1)
    return np.kron(line, np.eye(m)) + np.kron(np.eye(m), line)


def car(n: int, rng) -> Case:
    """The precision ``t (D - a W)`` of a conditional autoregression, W constant."""
    W = grid(n)
    n = len(W)
    d = W.sum(axis=1)
    (t, a), y = scalars("t", "a"), pt.vector("y", shape=(n,))
    w = np.linalg.eigvalsh(W / np.sqrt(np.outer(d, d)))
    logdet = np.log(d).sum()

    def by_hand(t, a, y):
        e, Wy, Dy = 1 - a * w, W @ y, d * y
        quad = y @ Dy - a * (y @ Wy)
        value = 0.5 * (n * np.log(t) + logdet + np.log(e).sum() - t * quad)
        by_a = 0.5 * (-(w / e).sum() + t * (y @ Wy))
        return value, 0.5 * (n / t - quad), by_a, -t * (Dy - a * Wy)

    K = t * (pt.constant(np.diag(d)) - a * pt.constant(W))
    loss = density_of_precision(K, y)
    return Case({t: np.array(1.3), a: np.array(0.6), y: rng.normal(size=n)}, loss, by_hand)


def sar(n: int, rng) -> Case:
    """The precision ``(I - r W)' (I - r W) / v`` of a simultaneous autoregression, W scaled by rows."""
    W0 = grid(n)
    n = len(W0)
    d = W0.sum(axis=1)
    W = W0 / d[:, None]
    (r, v), y = scalars("r", "v"), pt.vector("y", shape=(n,))
    w = np.linalg.eigvalsh(W0 / np.sqrt(np.outer(d, d)))

    def by_hand(r, v, y):
        Wy = W @ y
        z, e = y - r * Wy, 1 - r * w
        value = np.log(e).sum() - 0.5 * n * np.log(v) - 0.5 * z @ z / v
        by_y = -(z - r * (W.T @ z)) / v
        return value, -(w / e).sum() + z @ Wy / v, -0.5 * n / v + 0.5 * z @ z / v**2, by_y

    B = pt.eye(n) - r * pt.constant(W)
    loss = density_of_precision(B.T @ B / v, y)
    return Case({r: np.array(0.4), v: np.array(1.3), y: rng.normal(size=n)}, loss, by_hand)


def exchangeable(n: int, rng) -> Case:
    """``v ((1 - r) I + r 1 1')``."""
    (v, r), y = scalars("v", "r"), pt.vector("y", shape=(n,))

    def by_hand(v, r, y):
        first, others = 1 + (n - 1) * r, 1 - r
        total, squares = y.sum(), y @ y
        inside = total**2 / n
        quad = inside / first + (squares - inside) / others
        value = -0.5 * (n * np.log(v) + np.log(first) + (n - 1) * np.log(others) + quad / v)
        by_r = -0.5 * ((n - 1) / first - (n - 1) / others)
        by_r -= 0.5 / v * (-(n - 1) * inside / first**2 + (squares - inside) / others**2)
        by_y = -(total / n * (1 / first - 1 / others) + y / others) / v
        return value, -0.5 * (n / v - quad / v**2), by_r, by_y

    loss = density(v * ((1 - r) * pt.eye(n) + r * pt.ones((n, n))), y)
    values = {v: np.array(1.3), r: np.array(0.4), y: rng.normal(size=n)}
    return Case(values, loss, by_hand, (np.ones(n),))


def kronecker_noise(n: int, rng) -> Case:
    """``kron(exp(-|x - x'| / t), B) + s I`` of about n points."""
    p = max(2, round(np.sqrt(n * 5 / 6)))
    q = max(2, n // p)
    here, there = np.arange(float(p)), np.arange(float(q))
    space, B = abs(here[:, None] - here), np.exp(-abs(there[:, None] - there) / 5)
    (t, s), y = scalars("t", "s"), pt.vector("y", shape=(p * q,))
    b, Q = np.linalg.eigh(B)

    def by_hand(t, s, y):
        A = np.exp(-space / t)
        a, P = np.linalg.eigh(A)
        e = np.outer(a, b) + s
        z = P.T @ y.reshape(e.shape) @ Q / e
        value = -0.5 * (np.log(e).sum() + (z * z * e).sum())
        X = P @ z @ Q.T
        A_bar = -0.5 * ((P * (b / e).sum(axis=1)) @ P.T - X @ B @ X.T)
        by_t = (A_bar * A * space).sum() / t**2
        return value, by_t, -0.5 * ((1 / e).sum() - (z * z).sum()), -X.ravel()

    K = pt.linalg.kron(pt.exp(-pt.constant(space) / t), pt.constant(B)) + s * pt.eye(p * q)
    loss = density(K, y)
    return Case({t: np.array(4.0), s: np.array(0.3), y: rng.normal(size=p * q)}, loss, by_hand, (space, B))


def fixed_effects(n: int, rng) -> Case:
    """``a A + b I + X diag(c) X'``, A and X constant: a mixed model with its covariates integrated out."""
    A, X = np.corrcoef(rng.normal(size=(n, 2 * n))), rng.normal(size=(n, 4))
    (a, b), c, y = scalars("a", "b"), pt.vector("c", shape=(4,)), pt.vector("y", shape=(n,))
    w, Q = np.linalg.eigh(A)
    QX = Q.T @ X

    def by_hand(a, b, c, y):
        e, z = a * w + b, Q.T @ y
        scaled_X, scaled_z = QX / e[:, None], z / e
        S = np.diag(1 / c) + QX.T @ scaled_X
        factor = cho_factor(S, lower=True)
        small = QX.T @ scaled_z
        solved = cho_solve(factor, small)
        alpha = scaled_z - scaled_X @ solved
        logdet = np.log(e).sum() + 2 * np.log(np.diag(factor[0])).sum() + np.log(c).sum()
        value = -0.5 * (logdet + z @ alpha)
        inner = cho_solve(factor, scaled_X.T)
        bar = -0.5 * (1 / e - (scaled_X.T * inner).sum(axis=0) - alpha**2)
        Xa = QX.T @ alpha
        XKX = QX.T @ (scaled_X - scaled_X @ cho_solve(factor, QX.T @ scaled_X))
        by_c = -0.5 * (np.diag(XKX) - Xa**2)
        return value, (bar * w).sum(), bar.sum(), by_c, -(Q @ alpha)

    K = a * pt.constant(A) + b * pt.eye(n) + pt.constant(X) @ pt.diag(c) @ pt.constant(X).T
    values = {a: np.array(0.8), b: np.array(0.3), c: rng.uniform(0.5, 2, 4), y: rng.normal(size=n)}
    return Case(values, density(K, y), by_hand)


def symmetric_solver(A):
    """What solves with a positive definite A, and its log-determinant, by hand."""
    factor = cho_factor(A, lower=True, check_finite=False)
    return (lambda b: cho_solve(factor, b, check_finite=False)), 2 * np.log(np.diag(factor[0])).sum()


def kronecker_low_rank(n: int, rng) -> Case:
    """``kron(A, B) + X X'``, A and B given, X of three columns."""
    p = max(2, round(np.sqrt(n)))
    q, k = max(2, n // p), 3
    A, B = pt.matrix("A", shape=(p, p)), pt.matrix("B", shape=(q, q))
    X, y = pt.matrix("X", shape=(p * q, k)), pt.vector("y", shape=(p * q,))

    def by_hand(A, B, X, y):
        solve_A, log_A = symmetric_solver(A)
        solve_B, log_B = symmetric_solver(B)

        def base(b):  # (A kron B)^-1 b
            m = b.shape[1]
            half = solve_A(b.reshape(p, q * m)).reshape(p, q, m).transpose(1, 0, 2).reshape(q, p * m)
            return solve_B(half).reshape(q, p, m).transpose(1, 0, 2).reshape(p * q, m)

        columns = base(np.column_stack([X, y]))
        Z, z = columns[:, :k], columns[:, k]
        solve_S, log_S = symmetric_solver(np.eye(k) + X.T @ Z)
        alpha = z - Z @ solve_S(X.T @ z)
        value = -0.5 * (q * log_A + p * log_B + log_S + y @ alpha)
        ZS = solve_S(Z.T).T
        a = alpha.reshape(p, q)
        inverse_A, inverse_B = solve_A(np.eye(p)), solve_B(np.eye(q))
        Zt, ZSt = Z.reshape(p, q, k), ZS.reshape(p, q, k)
        left = np.einsum("ijk,jl->ilk", ZSt, B).reshape(p, q * k)
        A_bar = -0.5 * (q * inverse_A - left @ Zt.reshape(p, q * k).T - a @ B @ a.T)
        right = np.einsum("ijk,il->ljk", ZSt, A).transpose(1, 0, 2).reshape(q, p * k)
        B_bar = -0.5 * (p * inverse_B - right @ Zt.transpose(1, 0, 2).reshape(q, p * k).T - a.T @ A @ a)
        return value, A_bar, B_bar, -ZS + np.outer(alpha, X.T @ alpha), -alpha

    K = pt.linalg.kron(assume(A, positive_definite=True), assume(B, positive_definite=True)) + X @ X.T
    given = [np.corrcoef(rng.normal(size=(m, 2 * m))) for m in (p, q)]
    values = {A: given[0], B: given[1], X: rng.normal(size=(p * q, k)), y: rng.normal(size=p * q)}
    return Case(values, density(K, y), by_hand)


def blocks_low_rank(n: int, rng) -> Case:
    """Four blocks plus ``X X'``, X of three columns."""
    m, k = n // 4, 3
    blocks = [pt.matrix(f"A{i}", shape=(m, m)) for i in range(4)]
    X, y = pt.matrix("X", shape=(4 * m, k)), pt.vector("y", shape=(4 * m,))

    def by_hand(*arguments):
        *given, X, y = arguments
        solvers = [symmetric_solver(A) for A in given]
        right = np.column_stack([X, y])
        columns = np.vstack([solve(right[i * m : (i + 1) * m]) for i, (solve, _) in enumerate(solvers)])
        Z, z = columns[:, :k], columns[:, k]
        solve_S, log_S = symmetric_solver(np.eye(k) + X.T @ Z)
        alpha = z - Z @ solve_S(X.T @ z)
        value = -0.5 * (sum(log for _, log in solvers) + log_S + y @ alpha)
        ZS, bars = solve_S(Z.T).T, []
        for i, (solve, _) in enumerate(solvers):
            own = slice(i * m, (i + 1) * m)
            bars.append(-0.5 * (solve(np.eye(m)) - ZS[own] @ Z[own].T - np.outer(alpha[own], alpha[own])))
        return value, *bars, -ZS + np.outer(alpha, X.T @ alpha), -alpha

    K = pt.linalg.block_diag(*(assume(A, positive_definite=True) for A in blocks)) + X @ X.T
    values = {A: np.corrcoef(rng.normal(size=(m, 2 * m))) for A in blocks}
    values |= {X: rng.normal(size=(4 * m, k)), y: rng.normal(size=4 * m)}
    return Case(values, density(K, y), by_hand)


def low_rank(n: int, rng) -> Case:
    """``U U' + diag(d)``, U of ten columns."""
    k = 10
    U, d, y = pt.matrix("U", shape=(n, k)), pt.vector("d", shape=(n,)), pt.vector("y", shape=(n,))

    def by_hand(U, d, y):
        Z, z = U / d[:, None], y / d
        solve_S, log_S = symmetric_solver(np.eye(k) + U.T @ Z)
        alpha = z - Z @ solve_S(Z.T @ y)
        ZS = solve_S(Z.T).T
        value = -0.5 * (np.log(d).sum() + log_S + y @ alpha)
        by_d = -0.5 * (1 / d - (ZS * Z).sum(axis=1) - alpha**2)
        return value, -ZS + np.outer(alpha, U.T @ alpha), by_d, -alpha

    K = U @ U.T + pt.diag(d)
    values = {U: rng.normal(size=(n, k)), d: rng.uniform(0.5, 2, n), y: rng.normal(size=n)}
    return Case(values, density(K, y), by_hand)


@numba.njit
def inverse_on_band(factor):
    """Entries of the inverse, ``(i + k, i)`` at [k, i], from the lower Cholesky factor of a band."""
    rows, n = factor.shape
    Z = np.zeros((rows, n))
    for i in range(n - 1, -1, -1):
        last = min(rows, n - i)
        for k in range(1, last):
            for m in range(1, last):
                Z[k, i] -= factor[m, i] / factor[0, i] * Z[abs(m - k), i + min(m, k)]
        Z[0, i] = 1 / factor[0, i] ** 2
        for m in range(1, last):
            Z[0, i] -= factor[m, i] / factor[0, i] * Z[m, i]
    return Z


def band_by_hand(ab, y):
    """Value, the entries on the band of the cotangent of K, those beside the diagonal once, and that of y."""
    n = len(y)
    factor = cholesky_banded(ab, lower=True, check_finite=False)
    alpha = cho_solve_banded((factor, True), y, check_finite=False)
    bars = -0.5 * inverse_on_band(factor)
    for k in range(len(ab)):
        bars[k, : n - k] += 0.5 * alpha[k:] * alpha[: n - k]
    return -np.log(factor[0]).sum() - 0.5 * y @ alpha, bars, -alpha


def tridiagonal(n: int, rng) -> Case:
    """Three diagonals, all free."""
    d, y = (pt.vector(name, shape=(n,)) for name in "dy")
    e = pt.vector("e", shape=(n - 1,))

    def by_hand(d, e, y):
        value, bars, by_y = band_by_hand(np.stack([d, np.append(e, 0)]), y)
        return value, bars[0], 2 * bars[1, :-1], by_y

    K = pt.diag(d) + pt.diag(e, 1) + pt.diag(e, -1)
    return Case(
        {d: rng.uniform(3, 4, n), e: rng.normal(size=n - 1) / 2, y: rng.normal(size=n)},
        density(K, y),
        by_hand,
    )


def random_walk(n: int, rng) -> Case:
    """``t Q + diag(d)``, Q that of second differences."""
    D = np.diff(np.eye(n), 2, axis=0)
    Q = D.T @ D
    band = np.stack([np.append(np.diagonal(Q, k), np.zeros(k)) for k in range(3)])
    counts = band * np.array([[1], [2], [2]])
    t, d, y = pt.scalar("t"), pt.vector("d", shape=(n,)), pt.vector("y", shape=(n,))

    def by_hand(t, d, y):
        ab = t * band
        ab[0] += d
        value, bars, by_y = band_by_hand(ab, y)
        return value, (bars * counts).sum(), bars[0], by_y

    values = {t: np.array(1.3), d: rng.uniform(0.5, 2, n), y: rng.normal(size=n)}
    return Case(values, density(t * pt.constant(Q) + pt.diag(d), y), by_hand, (Q,))


def ten_diagonals(n: int, rng) -> Case:
    """A constant band of ten diagonals on each side, multiplied, and a free diagonal."""
    b = 10
    band = rng.normal(size=(b + 1, n)) / b
    for k in range(1, b + 1):
        band[k, n - k :] = 0
    band[0] = 4
    B = sum(np.diag(band[k, : n - k], -k) + (np.diag(band[k, : n - k], k) if k else 0) for k in range(b + 1))
    counts = band * np.array([[1]] + [[2]] * b)
    t, d, y = pt.scalar("t"), pt.vector("d", shape=(n,)), pt.vector("y", shape=(n,))

    def by_hand(t, d, y):
        ab = t * band
        ab[0] += d
        value, bars, by_y = band_by_hand(ab, y)
        return value, (bars * counts).sum(), bars[0], by_y

    values = {t: np.array(0.7), d: rng.uniform(1, 2, n), y: rng.normal(size=n)}
    return Case(values, density(t * pt.constant(B) + pt.diag(d), y), by_hand, (B,))


CASES = {
    "packed L L'": packed,
    "diag(s) R diag(s)": scaled,
    "a A + b I": animal,
    "CAR: t (D - a W)": car,
    "SAR: (I - r W)' (I - r W) / v": sar,
    "exchangeable": exchangeable,
    "Kronecker + noise": kronecker_noise,
    "a A + b I + X diag(c) X'": fixed_effects,
    "kron(A, B) + X X'": kronecker_low_rank,
    "blocks + X X'": blocks_low_rank,
    "U U' + diag(d)": low_rank,
    "tridiagonal": tridiagonal,
    "RW2 + diagonal": random_walk,
    "banded b=10": ten_diagonals,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="what the names of the cases begin with")
    parser.add_argument("--n", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--no-plain", action="store_true", help="leave out plain PyTensor, which is slow")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds of calls for each case")
    arguments = parser.parse_args()
    table = MarkdownTable("matrix", "n", *COMPARED, "plan")
    for name, make in CASES.items():
        for n in arguments.n if name.startswith(tuple(arguments.only)) else ():
            case = make(n, np.random.default_rng(0))
            add_row(table, name, n, case, plain=not arguments.no_plain, budget=arguments.budget)


def add_row(table: MarkdownTable, name: str, n: int, case: Case, *, plain: bool, budget: float) -> None:
    inputs, values = list(case.inputs), tuple(case.inputs.values())
    outputs = [case.loss, *pt.grad(case.loss, inputs)]
    functions = {"autotune": pytensor.function(inputs, outputs, mode=autotune.mode(), trust_input=True)}
    if plain:
        functions["plain"] = pytensor.function(inputs, outputs, trust_input=True)
    functions["by hand"] = case.by_hand
    found = {key: [np.asarray(x) for x in fn(*values)] for key, fn in functions.items()}
    error = max(
        np.abs(mine - hand).max() / np.abs(hand).max()
        for mine, hand in zip(found["autotune"], found["by hand"], strict=True)
    )
    seconds = alternate(functions, values, budget=budget)
    plan = " ".join(d.chosen for d in autotune.explain(functions["autotune"]).decisions)
    table.add_row(
        name,
        str(n),
        *compared(seconds, error),
        plan,
    )


if __name__ == "__main__":
    main()
