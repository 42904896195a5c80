"""Functions of ``K = diag(d) + U diag(c) U'`` that lose digits where d is small, with exact gradients.

The references are closed forms (Giles 2008) in 50-digit arithmetic: G is K's inverse, D its
determinant, a bar
marks a cotangent, and the answers of every request are weighted and summed before they are differentiated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache
from typing import Any

import numpy as np
import pytensor.tensor as pt
from gradient_helpers import DIGITS, inverse_and_determinant
from pytensor.assumptions import assume
from pytensor.tensor.linalg import inv, slogdet, solve

N, K, COLUMNS = 24, 5, 4
NAMES = ("U", "c", "d", "B", "Z")


@dataclass(frozen=True)
class Request:
    """``graph(K, U, c, B, Z)`` gives the answer; ``exact(G, D, U, c, B, Z, g)`` the same and the gradients of
    ``sum(g * answer)``, by K and by what the answer holds besides."""

    graph: Callable[..., Any]
    exact: Callable[..., tuple[Any, Any, dict[str, Any]]]


def _solve(G, D, U, c, B, Z, g):
    X, bar = G @ B, G @ g
    return X, -bar @ X.T, {"B": bar}


def _quadratic(G, D, U, c, B, Z, g):
    X = G @ B
    return (B * X).sum(axis=0), -(X * g) @ X.T, {"B": 2 * X * g}


def _logdet(G, D, U, c, B, Z, g):
    return abs(D).ln(), g * G, {}


def _inverse_diagonal(G, D, U, c, B, Z, g):
    return np.diag(G), -(G * g) @ G, {}


def _variance(G, D, U, c, B, Z, g):
    """``k** - k*' K^-1 k*`` of a linear kernel: what is left of a cancellation by ``|K| / d``."""
    S = (U * c) @ Z.T
    X = G @ S
    S_bar = -2 * X * g
    by_c = (U * (S_bar @ Z)).sum(axis=0) + (Z * Z * g[:, None]).sum(axis=0)
    by_Z = S_bar.T @ (U * c) + 2 * Z * c * g[:, None]
    answer = (Z * Z * c).sum(axis=1) - (S * X).sum(axis=0)
    return answer, (X * g) @ X.T, {"U": S_bar @ (Z * c), "c": by_c, "Z": by_Z}


def _thin(G, D, U, c, B, Z, g):
    X = G @ U
    return U.T @ X, -X @ g @ X.T, {"U": X @ (g + g.T)}


def _variance_graph(K, U, c, B, Z):
    S = (U * c) @ Z.T
    return (Z * Z * c).sum(axis=1) - (S * (inv(K) @ S)).sum(axis=0)


REQUESTS = {
    "solve": Request(lambda K, U, c, B, Z: solve(K, B), _solve),
    "quadratic": Request(lambda K, U, c, B, Z: (B * (inv(K) @ B)).sum(axis=0), _quadratic),
    "logdet": Request(lambda K, U, c, B, Z: slogdet(K)[1], _logdet),
    "inverse_diagonal": Request(lambda K, U, c, B, Z: pt.diagonal(inv(K)), _inverse_diagonal),
    "variance": Request(_variance_graph, _variance),
    "thin": Request(lambda K, U, c, B, Z: U.T @ (inv(K) @ U), _thin),
}


def graph(request: str, k: int, positive_definite: bool):
    """The inputs in the order of ``NAMES``; weights; the answer; its weighted sum."""
    shapes = {"U": (N, k), "c": (k,), "d": (N,), "B": (N, 2 + COLUMNS), "Z": (COLUMNS, k)}
    U, c, d, B, Z = (pt.tensor(name, shape=shapes[name]) for name in NAMES)
    K = (U * c) @ U.T + pt.diag(d)
    K = assume(K, symmetric=True, positive_definite=True) if positive_definite else assume(K, symmetric=True)
    answer = REQUESTS[request].graph(K, U, c, B, Z)
    g = answer.type("g")
    return [U, c, d, B, Z], g, answer, (g * answer).sum()


RANKS = {"one column": 1, "almost n columns": N - 2, "more columns than rows": N + 5}


def problem(kind: str, noise: float, seed: int) -> dict[str, np.ndarray]:
    """Values of ``NAMES``; ``noise`` is the size of d relative to the largest eigenvalue of the rest."""
    rng = np.random.default_rng(seed)
    k = RANKS.get(kind, K)
    U, c, d = rng.normal(size=(N, k)), rng.uniform(0.5, 2, k), np.ones(N)
    match kind:
        case "badly scaled columns":
            U *= np.geomspace(1e3, 1e-3, k)
        case "nearly collinear columns":
            Q, W = np.linalg.qr(U)[0], np.linalg.qr(rng.normal(size=(k, k)))[0]
            U = (Q * np.geomspace(1e2, 1e-4, k)) @ W
        case "groups":  # the first ones have one member each
            U = np.zeros((N, k))
            U[np.arange(N), np.minimum(np.arange(N), k - 1)] = 1
        case "different rows":
            d = 10 ** rng.uniform(0, 4, N)
    largest = np.linalg.eigvalsh((U * c) @ U.T)[-1]
    d = noise * largest * d
    match kind:
        case "several tiny entries":
            d[:3] *= 1e-5
        case "negative entries":
            d[::4] *= -1
        case "negative weights":
            c[0] *= -1
    B = np.concatenate([rng.normal(size=(N, 2)), U @ rng.normal(size=(k, COLUMNS))], axis=1)
    return {"U": U, "c": c, "d": d, "B": B, "Z": rng.normal(size=(COLUMNS, k))}


KINDS = (
    "random",
    "badly scaled columns",
    "nearly collinear columns",
    "groups",
    "different rows",
    "several tiny entries",
)
INDEFINITE = ("negative entries", "negative weights")


@cache
def exact(kind: str, noise: float, seed: int) -> dict[str, tuple[Any, Any, list[Any]]]:
    """Of every request the weights, the answer and the gradients by ``NAMES``."""
    with localcontext(prec=DIGITS):
        values = {name: _digits(value) for name, value in problem(kind, noise, seed).items()}
        U, c, d, B, Z = (values[name] for name in NAMES)
        G, D = inverse_and_determinant((U * c) @ U.T + np.diag(d))
        found = {}
        for name, request in REQUESTS.items():
            g = _weights(name, U, B, Z)
            answer, K_bar, others = request.exact(G, D, U, c, B, Z, _digits(g))
            M = K_bar + K_bar.T
            by_matrix = {"U": (M @ U) * c, "c": (U * (K_bar @ U)).sum(axis=0), "d": np.diag(K_bar)}
            gradients = [
                _floats(by_matrix.get(part, 0) + others.get(part, 0 * values[part])) for part in NAMES
            ]
            found[name] = g, _floats(answer), gradients
        return found


def _weights(request, U, B, Z):
    shape = {
        "solve": B.shape,
        "quadratic": B.shape[1:],
        "logdet": (),
        "inverse_diagonal": B.shape[:1],
        "variance": Z.shape[:1],
        "thin": (U.shape[1],) * 2,
    }[request]
    return np.random.default_rng(7).uniform(0.5, 2, shape)


def _digits(array):
    return np.vectorize(Decimal, otypes=[object])(np.asarray(array, dtype=float))


def _floats(array):
    return np.vectorize(float, otypes=[float])(array)
