"""How conjugate gradients that were cut short would have gone on.

The scalars of the recurrence are the Lanczos process's tridiagonal matrix. Its eigenvalues, the Ritz values,
and their weights are a Gauss quadrature of the spectrum that b sees (Golub & Meurant 2010, chapters 3 and 4).
From it n eigenvalues are made up, and the iteration goes on with their diagonal matrix: those that are found
speed it up there, and rounding delays it, as with the matrix itself (Greenbaum 1989).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh_tridiagonal, eigvalsh_tridiagonal

# Fewer iterations tell too little of a spectrum.
FEWEST = 4
# A forecast's iterations, as a multiple of n, and times n: it takes some hundredths of a second.
MOST_ORDERS, MOST_WORK = 4, 4e6
# Shorter runs, as shares of all iterations: a Ritz value that differs from theirs has not settled.
SHORTER = (0.85, 0.9, 1.0)
# Fewer eigenvalues than these a quadrature counts too roughly to tell their density.
ROUGH = 3
# Of the largest eigenvalue: what is smaller is rounding.
NEGLIGIBLE = 1e-16


def residuals_to_come(diagonal, offdiagonal, n: int, reached: float, goal: float) -> np.ndarray:
    """Relative residuals after each further iteration, until one is below ``goal`` or the cost is spent.

    ``diagonal`` (m,), ``offdiagonal`` (m - 1,): of the tridiagonal matrix after m iterations on a matrix of
    order n. ``reached``: the smallest relative residual among them. Empty where nothing can be told.
    """
    if len(diagonal) < FEWEST or not 0 < reached < np.inf:
        return np.zeros(0)
    steps = int(min(MOST_ORDERS * n, MOST_WORK / n))
    found = _residuals(spectrum(diagonal, offdiagonal, n), steps, goal)
    ahead = found[np.argmax(found <= reached) :] if (found <= reached).any() else found[:0]
    return ahead[1:]


def spectrum(diagonal, offdiagonal, n: int) -> np.ndarray:
    """n eigenvalues, rising to 1, that would have led to about this tridiagonal matrix.

    A Ritz value of weight w stands for ``n w`` eigenvalues, one at least. They lie around it, evenly in their
    logarithms, as far as it still moves and at most half the way to the next one: one that has settled is an
    eigenvalue or a tight cluster. Below the lowest ones nothing was seen; the density of logarithms goes on.
    """
    values, vectors = eigh_tridiagonal(diagonal, offdiagonal)
    values = np.maximum(values, NEGLIGIBLE * values[-1])
    counts = np.maximum(vectors[0] ** 2, 1 / n)
    edges = np.cumsum(np.r_[0, counts]) / counts.sum()
    middles = (edges[:-1] + edges[1:]) / 2
    logs = np.log(values / values[-1])
    lower, upper = _ranges(logs, np.log1p(_movement(values, diagonal, offdiagonal) / values))
    first, density = _lower_end(logs, middles, n)
    shares = np.c_[edges[:-1], middles, edges[1:]].ravel()[3 * first + 1 :]
    places = np.c_[lower, logs, upper].ravel()[3 * first + 1 :]
    bottom = logs[first] - middles[first] / density
    quantiles = (np.arange(n) + 0.5) / n
    return np.exp(np.interp(quantiles, np.r_[0, shares], np.r_[max(bottom, np.log(NEGLIGIBLE)), places]))


def _movement(values, diagonal, offdiagonal) -> np.ndarray:
    """How far each Ritz value is from the nearest one of shorter runs, at most."""
    m = len(values)
    moved = np.zeros(m)
    for k in {min(m - 1, int(share * m)) for share in SHORTER} | {m - 2, m - 3}:
        earlier = eigvalsh_tridiagonal(diagonal[:k], offdiagonal[: k - 1])
        moved = np.maximum(moved, np.abs(values[:, None] - earlier).min(axis=1))
    return moved


def _ranges(logs, movement) -> tuple[np.ndarray, np.ndarray]:
    """Where the eigenvalues lie for which each Ritz value stands."""
    halfway = (logs[:-1] + logs[1:]) / 2
    return (
        np.maximum(logs - movement, np.r_[logs[0], halfway]),
        np.minimum(logs + movement, np.r_[halfway, logs[-1]]),
    )


def _lower_end(logs, middles, n: int) -> tuple[int, float]:
    """The lowest Ritz value that is not rough, and how many eigenvalues, as a share, there are per logarithm.

    The density is read from there to where twice as many lie below, and the eigenvalues have grown by e.
    """
    first = min(int(np.searchsorted(n * middles, ROUGH)), len(logs) - 2)
    doubled = (middles >= 2 * middles[first]) & (logs >= logs[first] + 1)
    last = int(np.argmax(doubled)) if doubled.any() else len(logs) - 1
    stretch = max(logs[last] - logs[first], float(np.finfo(float).eps))
    return first, (middles[last] - middles[first]) / stretch


def _residuals(eigenvalues, steps: int, goal: float) -> np.ndarray:
    """Relative residuals of conjugate gradients on ``diag(eigenvalues)`` with a right-hand side of ones."""
    r = np.ones_like(eigenvalues)
    p, rho, found = r.copy(), float(r @ r), []
    for _ in range(steps):
        q = eigenvalues * p
        r -= rho / float(p @ q) * q
        before, rho = rho, float(r @ r)
        found.append(np.sqrt(rho / len(r)))
        if found[-1] <= goal:
            break
        p *= rho / before
        p += r
    return np.array(found)
