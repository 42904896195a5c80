"""What the models of the catalogue are about, all simulated: groups, places, lattices, trees, pedigrees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm

Array = np.ndarray


def drawn(seed: int, scale: float, *sizes: int) -> tuple[Any, ...]:
    """A random generator, and the sizes times ``scale``."""
    return np.random.default_rng(seed), *(max(2, round(scale * size)) for size in sizes)


def scales(*names: str) -> list[Any]:
    """Half-normal standard deviations of these names, of the model in force."""
    return [pm.HalfNormal(name) for name in names]


def lkj(n: int, name: str = "chol") -> Any:
    """The Cholesky factor of a covariance of order n, its correlations under an LKJ prior."""
    return pm.LKJCholeskyCov(name, n=n, eta=2, sd_dist=pm.Exponential.dist(1.0, shape=n))[0]


def one_hot(labels: Array, groups: int) -> Array:
    """Row i has a one in the column of its group."""
    return np.eye(groups)[labels]


def members(rng: np.random.Generator, n: int, groups: int) -> Array:
    """The group of each of n units; no group is empty."""
    return np.sort(np.concatenate([np.arange(groups), rng.integers(groups, size=n - groups)]))


def places(rng: np.random.Generator, n: int, dims: int = 1) -> Array:
    """n points in [0, 10]^dims, those of a line in order."""
    points = rng.uniform(0, 10, size=(n, dims))
    return np.sort(points, axis=0) if dims == 1 else points


def distances(points: Array) -> Array:
    return np.sqrt(((points[:, None] - points[None, :]) ** 2).sum(-1))


def lags(n: int) -> Array:
    """|i - j|."""
    return np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


def shift(n: int, by: int = 1) -> Array:
    """Moves a series ``by`` steps on: ones below the diagonal."""
    return np.eye(n, k=-by)


def lattice(rows: int, columns: int) -> Array:
    """Adjacency of a grid of areas, neighbours sharing a side."""

    def path(n: int) -> Array:
        return np.eye(n, k=1) + np.eye(n, k=-1)

    return np.kron(path(rows), np.eye(columns)) + np.kron(np.eye(rows), path(columns))


def standardised(W: Array) -> Array:
    """Rows that sum to one."""
    return W / W.sum(1, keepdims=True)


def tree_covariance(rng: np.random.Generator, species: int) -> Array:
    """Time that each two species share on a random tree of depth 1 from the root to every tip."""
    clades, shared = [[i] for i in range(species)], np.eye(species)
    joins = np.sort(rng.uniform(0.1, 0.9, species - 1))[::-1]  # from the tips to the root
    for time in joins:
        a, b = sorted(rng.choice(len(clades), 2, replace=False))
        second, first = clades.pop(b), clades.pop(a)
        shared[np.ix_(first, second)] = time
        shared[np.ix_(second, first)] = time
        clades.append(first + second)
    return shared


def pedigree(rng: np.random.Generator, animals: int) -> Array:
    """Additive relationships of a population whose first quarter are founders (tabular method)."""
    A = np.eye(animals)
    for i in range(max(2, animals // 4), animals):
        sire, dam = rng.choice(i, 2, replace=False)
        A[i, :i] = A[:i, i] = 0.5 * (A[sire, :i] + A[dam, :i])
        A[i, i] = 1 + 0.5 * A[sire, dam]
    return A
