"""The operators of all structures, found by their names in `autotune.problem.STRUCTURES`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from pytensor.tensor.variable import TensorVariable

from autotune.algebra.batch import Batch
from autotune.algebra.marked import Marked
from autotune.algebra.operator import KINDS, Operator, kind_of, rebuilt
from autotune.algebra.sum import Sum
from autotune.problem import STRUCTURES as NAMES


def _operator_named(name: str) -> type[Operator]:
    """The operator of a structure: the class of that kind in the file of that name."""
    found = vars(import_module(f"autotune.algebra.{name}")).values()
    [operator] = [c for c in found if isinstance(c, type) and vars(c).get("kind") == name]
    return operator


STRUCTURES: tuple[type[Operator], ...] = tuple(map(_operator_named, NAMES))
COMBINED: tuple[type[Operator], ...] = (Sum, Marked, Batch)
"""What stands for several, or says something of one: no structure of its own."""

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
