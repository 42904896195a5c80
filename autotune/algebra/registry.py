"""The structures that are known: adding one is a file in this folder and an entry here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pytensor.tensor.variable import TensorVariable

from autotune.algebra.block_diagonal import BlockDiagonal
from autotune.algebra.dense import Dense
from autotune.algebra.diagonal import Diagonal
from autotune.algebra.kronecker import Kronecker
from autotune.algebra.low_rank import LowRank
from autotune.algebra.marked import Marked
from autotune.algebra.operator import KINDS, Operator, kind_of, rebuilt
from autotune.algebra.sum import Sum

STRUCTURES: tuple[type[Operator], ...] = (
    Dense,
    Diagonal,
    LowRank,
    Kronecker,
    BlockDiagonal,
)
COMBINED: tuple[type[Operator], ...] = (Sum, Marked)
"""What stands for several terms, or says something of one: no structure of its own."""

KINDS.update({cls.kind: cls for cls in (*STRUCTURES, *COMBINED)})


def letter_of(dim: str) -> str:
    """The short name of a dim."""
    *place, name = dim.split(".")
    found = next((cls.letters[name] for cls in STRUCTURES if name in cls.letters), name)
    return ".".join([*place, found])


def operator_from(signature: tuple[Any, ...], parts: Sequence[TensorVariable]) -> Any:
    """Inverse of ``(operator.signature, operator.parts)``."""
    left = list(parts)
    operator = rebuilt(signature, left)
    if left:
        raise ValueError(f"{len(left)} parts too many for an operator of signature {signature}.")
    return operator


def part_axes(signature: tuple[Any, ...], names: Iterator[int]) -> list[str]:
    """The axes of each part of an operator: ``n`` is the order, others are told apart by ``names``."""
    return kind_of(signature[0]).axes(signature, names)
