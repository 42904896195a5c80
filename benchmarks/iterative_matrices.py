"""Matrices for the iterative solvers: prescribed spectra, and kernels and stiffness matrices as in practice.

Every maker gives ``(n, rng)`` the arrays of a problem; `build` makes the symbolic matrix of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
from scipy.fft import dct


def with_spectrum(eigenvalues, rng):
    """A dense symmetric matrix with these eigenvalues and no other structure that a preconditioner could use.

    Its eigenvectors are two cosine transforms, each of random signs: O(n^2 log n), and as good as random
    ones (Ailon & Chazelle 2006).
    """
    A = np.diag(eigenvalues).astype(float)
    for _ in range(2):
        signs = rng.choice((-1.0, 1.0), size=len(A))
        A = dct(A * np.outer(signs, signs), axis=0, norm="ortho", overwrite_x=True)
        A = dct(A, axis=1, norm="ortho", overwrite_x=True)
    return (A + A.T) / 2


def clustered(n, condition):
    """Ten eigenvalues, each with a cluster around it."""
    centres = np.geomspace(1, condition, 10)
    return np.sort(np.resize(centres, n) * np.linspace(1, 1.01, n))


SPECTRA: dict[str, Callable[[int, float], np.ndarray]] = {
    "geometric": lambda n, condition: np.geomspace(1, condition, n),
    "uniform": lambda n, condition: np.linspace(1, condition, n),
    "clustered": clustered,
}
# Against a declared condition number of 10.
ADVERSARIAL: dict[str, Callable[[int], np.ndarray]] = {
    "as declared": lambda n: np.geomspace(1, 10, n),
    "clustered": lambda n: clustered(n, 1e6),
    "uniform": lambda n: np.linspace(1, 1e4, n),
    "geometric": lambda n: np.geomspace(1, 1e6, n),
    "one tiny eigenvalue": lambda n: np.r_[1e-8, np.geomspace(1, 10, n - 1)],
    "two clusters": lambda n: np.r_[np.linspace(1, 2, n // 2), np.linspace(1e5, 2e5, n - n // 2)],
    "stiff": lambda n: np.r_[np.geomspace(1e-9, 1e-2, n // 4), np.ones(n - n // 4)],
    "slowly worse": lambda n: np.r_[np.geomspace(1e-6, 1, 20), np.geomspace(1, 10, n - 20)],
}


def kernel(n, rng, lengthscale, noise):
    """A squared exponential on the unit square, and noise."""
    X = rng.uniform(size=(n, 2))
    squares = (X**2).sum(axis=1)
    K = np.maximum(squares[:, None] + squares - 2 * X @ X.T, 0)
    np.exp(K / (-2 * lengthscale**2), out=K)
    K[np.diag_indices(n)] += noise
    return K


def stiffness(n, rng, condition=1e7):
    """Linear finite elements on an interval with materials that differ: about this condition number."""
    elements = np.geomspace(1, max(10 * condition * (np.pi / (2 * n)) ** 2, 1), n + 1)
    A = np.diag(elements[:-1] + elements[1:])
    A[np.arange(n - 1), np.arange(1, n)] = A[np.arange(1, n), np.arange(n - 1)] = -elements[1:-1]
    return A


def whole(make):
    """One dense array."""
    return lambda n, rng: {"A": make(n, rng)}


def columns(n, k, rng):
    return rng.normal(size=(n, k)) / np.sqrt(n)


@dataclass(frozen=True)
class Named:
    """A case whose answer is known: it must go ``direct``, or be solved by ``cg`` at size n.

    ``arrays(n, rng)`` are its inputs, ``condition`` what is declared of it.
    """

    n: int
    must: str
    condition: float
    arrays: Callable[[int, Any], dict[str, np.ndarray]]
    rtol: float = 1e-8


NAMED: dict[str, Named] = {
    "kernel, lengthscale 0.3, noise 1e-3": Named(
        2000, "direct", 1e6, whole(lambda n, rng: kernel(n, rng, 0.3, 1e-3))
    ),
    "finite elements, condition 1e7": Named(2000, "direct", 1e7, whole(stiffness)),
    "geometric, condition 1e8": Named(
        2000, "direct", 1e8, whole(lambda n, rng: with_spectrum(np.geomspace(1, 1e8, n), rng))
    ),
    "geometric, condition 10": Named(
        4000, "cg", 10, whole(lambda n, rng: with_spectrum(np.geomspace(1, 10, n), rng))
    ),
    "kernel, lengthscale 0.1, strong noise": Named(
        8000, "cg", 30, whole(lambda n, rng: kernel(n, rng, 0.1, 0.0625 * n / 30)), rtol=1e-6
    ),
    "dense + diagonal + low rank": Named(
        4000,
        "cg",
        20,
        lambda n, rng: {
            "A": with_spectrum(np.geomspace(1, 10, n), rng),
            "d": rng.uniform(0.5, 1, n),
            "U": columns(n, n // 10, rng),
        },
    ),
    "diagonal + low rank, k = n / 2": Named(
        6000, "cg", 5, lambda n, rng: {"d": rng.uniform(1, 2, n), "U": columns(n, n // 2, rng)}
    ),
}


def build(arrays):
    """``(inputs, matrix)``: the sum of the parts that there are, of static shapes."""
    inputs = {name: pt.tensor(name, shape=value.shape) for name, value in arrays.items()}
    terms = []
    if "A" in inputs:
        terms.append(inputs["A"])
    if "U" in inputs:
        terms.append(inputs["U"] @ inputs["U"].T)
    if "d" in inputs:
        terms.append(pt.diag(inputs["d"]))
    return list(inputs.values()), sum(terms[1:], terms[0])
