"""What the rules see of a node: the sizes and the memory order of what it reads and writes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cost_models import KernelCall


class Unknown(Exception):
    """The cost of a node cannot be told, and why."""


@dataclass(frozen=True)
class Array:
    """An input or output of a node. ``shape``: None for an unknown length.

    ``fortran``: the first index runs fastest in memory. ``value``: that of an integer scalar, if known.
    """

    shape: tuple[int | None, ...]
    dtype: str = "float64"
    fortran: bool = False
    value: int | None = None
    name: str = ""

    @property
    def size(self) -> int:
        """How many numbers; ``Unknown`` if a length is."""
        return math.prod(self.length(axis) for axis in range(len(self.shape)))

    @property
    def bytes(self) -> int:
        """``Unknown`` if a length is; 0 for what is no array."""
        return self.size * (np.dtype(self.dtype).itemsize if self.dtype else 0)

    def length(self, axis: int) -> int:
        """The length of an axis; 1 where there is no such axis."""
        if not -len(self.shape) <= axis < len(self.shape):
            return 1
        found = self.shape[axis]
        if found is None:
            raise Unknown(f"length {axis % len(self.shape)} of {self.name or 'an array'} is unknown")
        return found

    @property
    def crosswise(self) -> bool:
        """Whether a loop over the rows jumps from number to number."""
        return self.fortran and sum(length != 1 for length in self.shape) > 1


@dataclass(frozen=True)
class SizedNode:
    """A node as its rule sees it; ``graph`` is the sized graph it is in, ``node`` the node itself."""

    op: Any
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    node: Any = None
    graph: Any = None

    @property
    def dtype(self) -> str:
        """The dtype whose prices hold: float32 where no number is longer than that."""
        arrays = [a for a in (*self.outputs, *self.inputs) if a.dtype]
        floats = [a for a in arrays if np.dtype(a.dtype).kind in "fc"] or arrays
        widest = max((np.dtype(a.dtype).itemsize for a in floats), default=8)
        return "float32" if widest <= 4 else "float64"


@dataclass(frozen=True)
class Cost:
    """Kernels that a node runs, and the bytes it holds only while it runs."""

    calls: tuple[KernelCall, ...] = ()
    workspace: float = 0.0


def cost(*calls: KernelCall, workspace: float = 0.0) -> Cost:
    return Cost(calls, workspace)
