"""Models and shapes that no calibration has seen, to compare predicted with measured whole functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.assumptions import assume

import autotune

SMALLEST, LARGEST = 20, 2000


@dataclass
class Problem:
    """``loss`` of ``inputs`` at ``values``, with its gradient with respect to ``wrt`` if that is not empty.

    The algorithms of a gradient are chosen before it is taken.
    """

    label: str
    inputs: list[Any]
    loss: list[Any]
    wrt: list[Any]
    values: list[np.ndarray]
    dtype: str = "float64"
    policy: dict[str, Any] = field(default_factory=dict)

    def compile(self, policy: dict[str, Any] | None = None) -> Any:
        """The compiled function under ``policy``; its inputs are not checked at every call."""
        policy = self.policy if policy is None else policy
        outputs = self.loss
        if self.wrt:
            loss = autotune.tune(self.loss[0], policy)
            outputs = [loss, *pt.grad(loss, self.wrt)]
        fn = pytensor.function(self.inputs, outputs, mode=autotune.mode(policy))
        fn.trust_input = True
        return fn


class Draw:
    """Shapes, dtype and values of one problem."""

    def __init__(self, rng: np.random.Generator, largest: int = LARGEST):
        self.rng, self.largest = rng, largest
        self.dtype = "float32" if rng.random() < 0.25 else "float64"
        self.inputs: list[Any] = []
        self.values: list[np.ndarray] = []

    def size(self, low: int = SMALLEST, high: int | None = None) -> int:
        """Log-uniform."""
        high = max(self.largest if high is None else high, low + 1)
        return int(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def input(self, name: str, value: Any) -> Any:
        value = np.asarray(value, dtype=self.dtype)
        variable = pt.tensor(name, shape=value.shape, dtype=self.dtype)
        self.inputs.append(variable)
        self.values.append(value)
        return variable

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=shape)

    def eye(self, n: int) -> Any:
        return pt.eye(n, dtype=self.dtype)

    def problem(self, label: str, loss: list[Any], wrt: list[Any]) -> Problem:
        label += (" + gradient" if wrt else "") + (", float32" if self.dtype == "float32" else "")
        return Problem(label, self.inputs, loss, wrt, self.values, self.dtype)

    def likelihood(self, label: str, K: Any, y: Any, wrt: list[Any]) -> Problem:
        """The log-density of y under N(0, K), with its gradient half of the time."""
        K = assume(K, positive_definite=True)
        loss = -0.5 * (y @ pt.linalg.solve(K, y)) - 0.5 * pt.linalg.slogdet(K)[1]
        return self.problem(label, [loss], wrt if self.rng.random() < 0.5 else [])


# Each is positive definite in three dimensions; the damped cosine since 2 > sqrt(3) (Yaglom 1987).
CORRELATIONS: dict[str, Callable[[Any], Any]] = {
    "squared exponential": lambda D: pt.exp(-0.5 * D),
    "Matern 3/2": lambda D: (1 + pt.sqrt(3 * D)) * pt.exp(-pt.sqrt(3 * D)),
    "Matern 5/2": lambda D: (1 + pt.sqrt(5 * D) + 5 * D / 3) * pt.exp(-pt.sqrt(5 * D)),
    "rational quadratic": lambda D: 1 / (1 + 0.5 * D),
    "damped cosine": lambda D: pt.exp(-2 * pt.sqrt(D)) * pt.cos(pt.sqrt(D)),
}


def gaussian_process(draw: Draw) -> Problem:
    """Marginal likelihood with length scale, height and noise."""
    name = list(CORRELATIONS)[draw.rng.integers(len(CORRELATIONS))]
    n = draw.size()
    X, y = draw.input("X", draw.normal(n, 3)), draw.input("y", draw.normal(n))
    scale, height, noise = (draw.input(*item) for item in (("scale", 0.7), ("height", 1.2), ("noise", 0.5)))
    norms = pt.sqr(X).sum(axis=1)
    D = pt.maximum(norms[:, None] + norms[None, :] - 2 * (X @ X.T), 1e-6) / scale**2
    K = height**2 * CORRELATIONS[name](D) + noise**2 * draw.eye(n)
    return draw.likelihood(f"GP, {name}, n={n}", K, y, [scale, height, noise])


def low_rank(draw: Draw) -> Problem:
    """Factor analysis of one vector: covariance ``U U' + diag(d)``."""
    n = draw.size()
    k = draw.size(1, max(2, n // 4))
    U, d = draw.input("U", draw.normal(n, k) / n**0.5), draw.input("d", draw.rng.uniform(0.5, 2, n))
    y = draw.input("y", draw.normal(n))
    return draw.likelihood(f"low rank, n={n}, k={k}", U @ U.T + pt.diag(d), y, [U, d])


def regression(draw: Draw) -> Problem:
    """Bayesian linear regression: the evidence of slopes with a normal prior, from n rows and p columns."""
    n, p = draw.size(50, 20 * draw.largest), draw.size(2, 200)
    X, y = draw.input("X", draw.normal(n, p) / n**0.5), draw.input("y", draw.normal(n))
    noise = draw.input("noise", 0.5)
    A = assume(X.T @ X / noise + draw.eye(p), positive_definite=True)
    b = X.T @ y / noise
    loss = 0.5 * (b @ pt.linalg.solve(A, b)) - 0.5 * pt.linalg.slogdet(A)[1] - 0.5 * (y @ y) / noise
    return draw.problem(
        f"linear regression, n={n}, p={p}", [loss], [noise] if draw.rng.random() < 0.5 else []
    )


def general(draw: Draw) -> Problem:
    """Solves with a general matrix and its transpose, and the determinant."""
    n, m = draw.size(), draw.size(1, 50)
    A, B = draw.input("A", draw.normal(n, n)), draw.input("B", draw.normal(n, m))
    return draw.problem(
        f"general, n={n}, rhs={m}",
        [pt.linalg.solve(A, B), *pt.linalg.slogdet(A), pt.linalg.solve(A.T, B)],
        [],
    )


def many_right_hand_sides(draw: Draw) -> Problem:
    """Solves, quadratic forms and the log-determinant of a positive definite matrix."""
    n, m = draw.size(), draw.size(1, 1000)
    G = draw.normal(n, n)
    A, B = draw.input("A", G @ G.T / n + np.eye(n)), draw.input("B", draw.normal(n, m))
    P = assume(A, positive_definite=True)
    solved = pt.linalg.solve(P, B)
    return draw.problem(
        f"positive definite, n={n}, rhs={m}",
        [solved, (B * solved).sum(axis=0), pt.linalg.slogdet(P)[1]],
        [],
    )


def batch(draw: Draw) -> Problem:
    """Inverses, solves and log-determinants of a batch of small positive definite matrices."""
    count, n = draw.size(3, 200), draw.size(2, 60)
    G = draw.normal(count, n, n)
    A = draw.input("A", G @ G.transpose(0, 2, 1) / n + np.eye(n))
    B = draw.input("B", draw.normal(count, n, 2))
    P = assume(A, positive_definite=True)
    return draw.problem(
        f"batch of {count}, n={n}", [pt.linalg.inv(P), pt.linalg.solve(P, B), pt.linalg.slogdet(P)[1]], []
    )


def inverse(draw: Draw) -> Problem:
    """An inverse that is an output, with its trace and elementwise work around it."""
    n = draw.size()
    G = draw.normal(n, n)
    A = draw.input("A", G @ G.T / n + np.eye(n))
    inverse = pt.linalg.inv(assume(A, positive_definite=True))
    outputs = [inverse, pt.trace(inverse), pt.exp(-pt.sqr(inverse)).sum(), inverse * A]
    return draw.problem(f"inverse, n={n}", outputs, [])


KINDS: tuple[Callable[[Draw], Problem], ...] = (
    gaussian_process,
    gaussian_process,
    low_rank,
    regression,
    general,
    many_right_hand_sides,
    batch,
    inverse,
)
"""Taken in turn, so that any number of problems holds every kind."""


def problem(index: int, seed: int, largest: int = LARGEST) -> Problem:
    """The problem of this number, the same whatever came before it."""
    return KINDS[index % len(KINDS)](Draw(np.random.default_rng([seed, index]), largest))
