"""The matrices of ``peers.py``: dense in any array library, and derivatives pulled back to their parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Matrix:
    """``dense(xp, constants, *parameters)``, n x n; ``pull(K_bar, constants, *parameters)``, derivatives.

    The parameters are the inputs of the case without y; K_bar is symmetric.
    """

    dense: Callable[..., Any]
    pull: Callable[..., tuple[Any, ...]]


def packed(xp, constants, v):
    L = unpacked(xp, v)
    return L @ L.T


def unpacked(xp, v):
    """L (n, n) of the rows of its lower triangle."""
    n = round((np.sqrt(8 * len(v) + 1) - 1) / 2)
    where = np.tril_indices(n)
    if hasattr(xp, "put_along_axis") and xp is not np:  # JAX changes no array in place
        return xp.zeros((n, n), v.dtype).at[where].set(v)
    L = xp.zeros((n, n), dtype=v.dtype)
    L[where] = v
    return L


def pull_packed(K_bar, constants, v):
    L_bar = 2 * K_bar @ unpacked(np, v)
    return (L_bar[np.tril_indices(len(L_bar))],)


def animal(xp, constants, a, b):
    (A,) = constants
    return a * A + b * xp.eye(len(A))


def pull_animal(K_bar, constants, a, b):
    return (K_bar * constants[0]).sum(), np.trace(K_bar)


def exchangeable(xp, constants, v, r):
    (ones,) = constants
    return v * ((1 - r) * xp.eye(len(ones)) + r * xp.outer(ones, ones))


def pull_exchangeable(K_bar, constants, v, r):
    total, trace = K_bar.sum(), np.trace(K_bar)
    return (1 - r) * trace + r * total, v * (total - trace)


def kronecker_noise(xp, constants, t, s):
    space, B = constants
    return xp.kron(xp.exp(-space / t), B) + s * xp.eye(len(space) * len(B))


def pull_kronecker_noise(K_bar, constants, t, s):
    space, B = constants
    A_bar = factor_bars(K_bar, B, space)[0]
    return (A_bar * np.exp(-space / t) * space).sum() / t**2, np.trace(K_bar)


def factor_bars(K_bar, B, A):
    """Derivatives by the factors of ``kron(A, B)``."""
    p, q = len(A), len(B)
    parts = K_bar.reshape(p, q, p, q)
    return np.einsum("iajb,ab->ij", parts, B), np.einsum("iajb,ij->ab", parts, A)


def kronecker_low_rank(xp, constants, A, B, X):
    return xp.kron(A, B) + X @ X.T


def pull_kronecker_low_rank(K_bar, constants, A, B, X):
    return *factor_bars(K_bar, B, A), 2 * K_bar @ X


def blocks_low_rank(xp, constants, *parameters):
    *blocks, X = parameters
    zeros = blocks[0] * 0
    rows = [[A if i == j else zeros for j in range(len(blocks))] for i, A in enumerate(blocks)]
    return xp.concatenate([xp.concatenate(row, 1) for row in rows]) + X @ X.T


def pull_blocks_low_rank(K_bar, constants, *parameters):
    *blocks, X = parameters
    m = len(blocks[0])
    own = [slice(i * m, (i + 1) * m) for i in range(len(blocks))]
    return *(K_bar[i, i] for i in own), 2 * K_bar @ X


def low_rank(xp, constants, U, d):
    return U @ U.T + xp.diag(d)


def pull_low_rank(K_bar, constants, U, d):
    return 2 * K_bar @ U, np.diag(K_bar)


MATRICES = {
    "packed L L'": Matrix(packed, pull_packed),
    "a A + b I": Matrix(animal, pull_animal),
    "exchangeable": Matrix(exchangeable, pull_exchangeable),
    "Kronecker + noise": Matrix(kronecker_noise, pull_kronecker_noise),
    "kron(A, B) + X X'": Matrix(kronecker_low_rank, pull_kronecker_low_rank),
    "blocks + X X'": Matrix(blocks_low_rank, pull_blocks_low_rank),
    "U U' + diag(d)": Matrix(low_rank, pull_low_rank),
}
"""By the names of ``structures.CASES``."""
