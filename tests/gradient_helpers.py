"""Gradients and Hessian-vector products of functions of a matrix, to 20 digits and without PyTensor.

    df/dp_i     = (f(p + h e_i) - f(p - h e_i)) / 2h                        error O(h^2), h = 1e-15
    (H q)_i     = d/dp_i (f(p + h q) - f(p - h q)) / 2h                     error O(h^2), h = 1e-12

in 50-digit arithmetic (mpmath), so that truncation and rounding both stay below 1e-23. p are the
parts of the matrix (U, d, w ...), never its entries, and the right-hand sides b and B.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import mpmath
import numpy as np
import pytensor.tensor as pt
from pytensor.assumptions import assume
from pytensor.tensor.linalg import cholesky, det, inv, slogdet, solve, solve_triangular

N, K, COLUMNS = 5, 2, 3
DIGITS = 50
FIRST_STEP, SECOND_STEP = "1e-15", "1e-12"

_rng = np.random.default_rng(20)
VALUES = {
    "M": 2 * np.eye(N) + 0.5 * _rng.normal(size=(N, N)),
    "U": _rng.normal(size=(N, K)),
    "V": 0.5 * _rng.normal(size=(N, K)),
    "d": _rng.uniform(0.5, 2, N),
    "w": np.array([1.5, 0.7]),
    "v": np.array([0.8, -0.3]),
    "b": _rng.normal(size=N),
    "B": _rng.normal(size=(N, COLUMNS)),
}
DIRECTION = {name: _rng.normal(size=value.shape) for name, value in VALUES.items()}
WEIGHTS = {
    "vector": _rng.normal(size=N),
    "columns": _rng.normal(size=(N, COLUMNS)),
    "matrix": _rng.normal(size=(N, N)),
}


@dataclass(frozen=True)
class MatrixOf:
    """A matrix as a function of ``(xp, *parts)``, xp being NumPy or PyTensor."""

    parts: tuple[str, ...]
    form: Callable[..., Any]
    positive_definite: bool = False

    def symbolic(self, inputs):
        A = self.form(pt, *(inputs[name] for name in self.parts))
        return assume(A, positive_definite=True) if self.positive_definite else A


OPERATORS = {
    "dense_spd": MatrixOf(("M",), lambda xp, M: (M + M.T) / 2, True),
    "dense_general": MatrixOf(("M",), lambda xp, M: M),
    "low_rank": MatrixOf(("U", "d"), lambda xp, U, d: U @ U.T + xp.diag(d), True),
    "low_rank_weighted": MatrixOf(("U", "w", "d"), lambda xp, U, w, d: (U * w) @ U.T + xp.diag(d), True),
    "low_rank_indefinite": MatrixOf(("U", "v", "d"), lambda xp, U, v, d: (U * v) @ U.T + xp.diag(d)),
    "low_rank_general": MatrixOf(("U", "V", "d"), lambda xp, U, V, d: U @ V.T + xp.diag(d)),
}
SPD = {name for name, operator in OPERATORS.items() if operator.positive_definite}
CHOLESKY_IDIOMS = {"whitened_square", "half_logdet"}

# A linear functional of each answer: as a graph, and by the inverse G and determinant D.
REQUESTS = {
    "solve_vector": lambda A, b, B: (solve(A, b) * WEIGHTS["vector"]).sum(),
    "solve_matrix": lambda A, b, B: (solve(A, B) * WEIGHTS["columns"]).sum(),
    "slogdet": lambda A, b, B: slogdet(A)[1],
    "log_abs_det": lambda A, b, B: pt.log(pt.abs(det(A))),
    "determinant": lambda A, b, B: det(A),
    "inverse": lambda A, b, B: (inv(A) * WEIGHTS["matrix"]).sum(),
    "inverse_diagonal": lambda A, b, B: (pt.diagonal(inv(A)) * WEIGHTS["vector"]).sum(),
    "quadratic_form": lambda A, b, B: b @ inv(A) @ b,
    "whitened_square": lambda A, b, B: pt.sqr(solve_triangular(cholesky(A), b, lower=True)).sum(),
    "half_logdet": lambda A, b, B: pt.log(pt.diagonal(cholesky(A))).sum(),
}
EXACT = {
    "solve_vector": lambda G, D, b, B: WEIGHTS["vector"] @ G @ b,
    "solve_matrix": lambda G, D, b, B: (WEIGHTS["columns"] * (G @ B)).sum(),
    "slogdet": lambda G, D, b, B: mpmath.log(abs(D)),
    "log_abs_det": lambda G, D, b, B: mpmath.log(abs(D)),
    "determinant": lambda G, D, b, B: D,
    "inverse": lambda G, D, b, B: (WEIGHTS["matrix"] * G).sum(),
    "inverse_diagonal": lambda G, D, b, B: WEIGHTS["vector"] @ np.diag(G),
    "quadratic_form": lambda G, D, b, B: b @ G @ b,
    "whitened_square": lambda G, D, b, B: b @ G @ b,
    "half_logdet": lambda G, D, b, B: mpmath.log(abs(D)) / 2,
}


def wrt(operator: str) -> tuple[str, ...]:
    """What is differentiated by: the parts of the matrix, then the right-hand sides."""
    return (*OPERATORS[operator].parts, "b", "B")


def inputs_for(operator: str) -> dict[str, Any]:
    return {name: pt.tensor(name, shape=VALUES[name].shape) for name in wrt(operator)}


@cache
def reference(operator: str) -> dict[str, tuple[float, list, list]]:
    """For each request its value, its gradient and Hessian times ``DIRECTION``, by parts."""
    names = wrt(operator)
    shapes = [VALUES[name].shape for name in names]
    with mpmath.workdps(DIGITS):
        point = _flat(VALUES, names)
        f = _evaluate(operator, names, shapes, point)
        first, second = mpmath.mpf(FIRST_STEP), mpmath.mpf(SECOND_STEP)
        q = second * _flat(DIRECTION, names)

        def along(p, step):
            return _evaluate(operator, names, shapes, p + step) - _evaluate(operator, names, shapes, p - step)

        gradient, product = [], []
        for i in range(point.size):
            e = np.array([mpmath.mpf(i == j) for j in range(point.size)])
            gradient.append(along(point, first * e) / (2 * first))
            mixed = along(point + q, second * e) - along(point - q, second * e)
            product.append(mixed / (4 * second**2))
    return {
        request: (float(f[r]), *(_by_parts([row[r] for row in rows], shapes) for rows in (gradient, product)))
        for r, request in enumerate(EXACT)
    }


def _flat(values, names):
    return np.array([mpmath.mpf(float(x)) for name in names for x in values[name].ravel()])


def _split(flat, shapes):
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]


def _by_parts(entries, shapes):
    return _split(np.array([float(x) for x in entries]), shapes)


def _evaluate(operator, names, shapes, flat):
    """All functionals of ``EXACT`` at once, as an array of 50-digit numbers."""
    *parts, b, B = _split(flat, shapes)
    G, D = inverse_and_determinant(OPERATORS[operator].form(np, *parts))
    return np.array([f(G, D, b, B) for f in EXACT.values()])


def inverse_and_determinant(A):
    """Gauss-Jordan elimination with row pivoting on an array of arbitrary-precision numbers."""
    n, one = len(A), type(A[0, 0])(1)
    rows = np.concatenate([A, np.eye(n, dtype=int)], axis=1) * one
    determinant = one
    for j in range(n):
        pivot = max(range(j, n), key=lambda i: abs(rows[i, j]))
        if pivot != j:
            rows[[j, pivot]] = rows[[pivot, j]]
            determinant = -determinant
        determinant *= rows[j, j]
        rows[j] = rows[j] / rows[j, j]
        for i in range(n):
            if i != j:
                rows[i] = rows[i] - rows[i, j] * rows[j]
    return rows[:, n:], determinant
