"""Inputs with values for examples of matrices: well conditioned, and the same in every process."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytensor.tensor as pt

CONDITION = 10.0
# Geometric mean of eigenvalues: no log-determinant is nearly 0, and no determinant soon too large.
MIDDLE = 1.05


@dataclass(eq=False)
class Draft:
    """Makes inputs of one dtype together with their values, each of a ``batch`` of matrices.

    Lengths other than 1 are not static, so that Numba's code for any size serves every size. ``general``:
    dense matrices are not symmetric; others are positive definite, with this condition number.
    ``equal_entries``: those of diagonals are.
    """

    dtype: str
    batch: tuple[int, ...] = ()
    general: bool = False
    condition_number: float = CONDITION
    equal_entries: bool = False
    inputs: list[Any] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def input(self, name: str, value: np.ndarray) -> Any:
        shape = tuple(1 if length == 1 else None for length in value.shape)
        self.values.append(np.array(value, dtype=self.dtype, order="C"))
        self.inputs.append(pt.tensor(name, shape=shape, dtype=self.dtype))
        return self.inputs[-1]

    def part(self, name: str, value: np.ndarray) -> Any:
        """An input for one part of every matrix."""
        return self.input(name, np.broadcast_to(value, (*self.batch, *value.shape)))

    def constant(self, value: np.ndarray) -> Any:
        """What no gradient is taken by."""
        return pt.constant(np.array(value, dtype=self.dtype, order="C"))

    def matrix(self, n: int) -> np.ndarray:
        """Values of a dense matrix (n, n)."""
        return _general(self.rng, n) if self.general else _definite(self.rng, n, self.condition_number)

    def positive(self, n: int) -> np.ndarray:
        """``MIDDLE`` times log-uniform numbers (n,) between 1/2 and 2."""
        found: np.ndarray = MIDDLE * np.exp(self.rng.uniform(-math.log(2), math.log(2), n))
        return np.full(n, MIDDLE) if self.equal_entries else found

    def columns(self, n: int, k: int) -> np.ndarray:
        """Columns (n, k) of about length one."""
        return self.rng.standard_normal((n, k)) / math.sqrt(n)


def _definite(rng: np.random.Generator, n: int, condition: float) -> np.ndarray:
    """``Q diag(e) Q`` with e geometric about ``MIDDLE``, and Q a reflection."""
    v = rng.standard_normal(n)
    v *= math.sqrt(2) / np.linalg.norm(v)
    e = MIDDLE * np.geomspace(condition**-0.5, condition**0.5, n)
    Qe = np.diag(e) - np.outer(v, v * e)
    found: np.ndarray = Qe - np.outer(Qe @ v, v)
    return (found + found.T) / 2


def _general(rng: np.random.Generator, n: int) -> np.ndarray:
    """A permutation and noise of norm about 1/2: well conditioned, and no row stays where it is."""
    noise = rng.standard_normal((n, n)) / (4 * math.sqrt(n))
    found: np.ndarray = MIDDLE * (np.eye(n)[rng.permutation(n)] + noise)
    return found
