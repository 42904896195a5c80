"""Likelihoods and their gradients, in the styles in which users write and differentiate them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
from helpers import relative_error
from pytensor.tensor.linalg import cholesky, inv, slogdet, solve, solve_triangular

N, K = 40, 2
RNG = np.random.default_rng(12)
EXACT = {"margin": 0, "rules": [{"forbid": ["keep", "cg", "lanczos"]}]}
X_VALUE, Y_VALUE = RNG.normal(size=(N, 2)), RNG.normal(size=N)
# length, scale, noise; loadings, diagonal
DENSE_VALUES = [np.array(0.8), np.array(1.2), np.array(0.5)]
LOW_RANK_VALUES = [RNG.normal(size=(N, K)), RNG.uniform(1, 2, N)]


@dataclass
class Case:
    """A loss, what it is differentiated by, and the inputs with values."""

    inputs: list[Any]
    loss: Any
    wrt: list[Any]
    values: list[Any]

    def outputs(self, loss=None):
        loss = self.loss if loss is None else loss
        return [loss, *pt.grad(loss, self.wrt)]


def dense(X, length, scale, noise):
    squares = ((X[:, None, :] - X[None, :, :]) ** 2).sum(axis=-1)
    return scale**2 * pt.exp(-0.5 * squares / length**2) + noise**2 * pt.eye(X.shape[0])


def low_rank(X, U, d):
    return U @ U.T + pt.diag(d)


MATRICES = {"dense": (dense, DENSE_VALUES), "low_rank": (low_rank, LOW_RANK_VALUES)}


def by_inverse(A, y):
    return 0.5 * y @ inv(A) @ y + 0.5 * slogdet(A)[1]


def by_factor(A, y):
    L = cholesky(A)
    return 0.5 * pt.sqr(solve_triangular(L, y, lower=True)).sum() + pt.log(pt.diagonal(L)).sum()


def by_solve(A, y):
    return 0.5 * y @ solve(A, y, assume_a="pos") + 0.5 * slogdet(A)[1]


LOSSES = {"inverse": by_inverse, "factor": by_factor, "solve": by_solve}


def separate(values, known):
    inputs = [variable(f"p{i}", v, known) for i, v in enumerate(values)]
    return [inputs, inputs, inputs, values]


def logarithms(values, known):
    logs = [variable(f"log_p{i}", v, known) for i, v in enumerate(values)]
    return [logs, [pt.exp(v) for v in logs], logs, [np.log(np.abs(v)) for v in values]]


def flat(values, known):
    """One vector that is cut into pieces."""
    total = np.concatenate([v.ravel() for v in values])
    theta, pieces, start = variable("theta", total, known), [], 0
    for v in values:
        piece = theta[start : start + v.size]
        pieces.append(piece.reshape(v.shape) if v.ndim else piece[0])
        start += v.size
    return [[theta], pieces, [theta], [total]]


def pieces_of_flat(values, known):
    """The same, differentiated by its pieces."""
    inputs, pieces, _, given = flat(values, known)
    return [inputs, pieces, pieces, given]


STYLES = {f.__name__: f for f in (separate, logarithms, flat, pieces_of_flat)}


def variable(name, value, known=True):
    return pt.tensor(name, dtype="float64", shape=value.shape if known else (None,) * value.ndim)


def a_case(matrix="dense", loss="inverse", style="separate", known=True):
    form, values = MATRICES[matrix]
    inputs, parameters, wrt, given = STYLES[style](values, known)
    X, y = variable("X", X_VALUE, known), variable("y", Y_VALUE, known)
    value = LOSSES[loss](form(X, *parameters), y)
    return Case([X, y, *inputs], value, wrt, [X_VALUE, Y_VALUE, *given])


def assert_same(fn, plain, values, tolerance=1e-9):
    for ours, expected in zip(fn(*values), plain(*values), strict=True):
        assert (ours.shape, ours.dtype) == (expected.shape, expected.dtype)
        assert relative_error(ours, expected) < tolerance
