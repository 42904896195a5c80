"""Examples of a function's inputs, by which a compile may learn of sizes and spectra."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pytensor.graph.basic import Variable

# What may be given as examples: arrays by variable or by name.
ExampleInputs = Mapping[Any, Any] | None


class Examples(Mapping[str, np.ndarray]):
    """Arrays by the name of an input. A value: copied, read-only, equal where all arrays are.

    PyTensor clones a function's inputs before it rewrites the graph, and their names are what stays; so an
    example is given by name, or by a variable that has one.
    """

    def __init__(self, given: Mapping[Any, Any]):
        self._arrays = dict(_example(key, value) for key, value in given.items())
        self._digest = _digest(self._arrays)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Examples) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}: {a.dtype}{list(a.shape)}" for name, a in self._arrays.items())
        return f"Examples({shown})"

    def of(self, var: Variable) -> np.ndarray | None:
        """The example of an input as its type holds it; None where there is none.

        ``TypeError`` where it does not fit.
        """
        found = self._arrays.get(var.name or "")
        return None if found is None else var.type.filter(found, allow_downcast=True)


def examples_from(given: ExampleInputs) -> Examples | None:
    """``given`` as examples; None for None, which is to say that nothing is to be probed.

    Raises ``TypeError`` for what is no mapping, or a value that does not fit its variable, ``ValueError``
    for a variable without a name.
    """
    if given is None or isinstance(given, Examples):
        return given
    if not isinstance(given, Mapping):
        found = type(given).__name__
        raise TypeError(f"example_inputs: found {found}; give a mapping of variables or names to arrays.")
    return Examples(given)


def joined(*layers: Examples | None) -> Examples | None:
    """All examples in force; of one name the last."""
    given = [layer for layer in layers if layer is not None]
    return (
        given[-1]
        if len(given) == 1
        else Examples({k: a for e in given for k, a in e.items()})
        if given
        else None
    )


def _digest(arrays: Mapping[str, np.ndarray]) -> bytes:
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(repr((name, array.shape, array.dtype.str)).encode())
        found.update(np.ascontiguousarray(array))
    return found.digest()


def _example(key: Any, value: Any) -> tuple[str, np.ndarray]:
    name = key.name if isinstance(key, Variable) else key
    if not isinstance(name, str) or not name:
        raise ValueError(f"example_inputs: found {key!r} without a name; name the variable.")
    if isinstance(key, Variable):
        try:
            value = key.type.filter(np.asarray(value), allow_downcast=True)
        except TypeError as error:
            raise TypeError(
                f"example_inputs: the value of {name!r} does not fit its type: {error}"
            ) from error
    array = np.array(value)
    array.flags.writeable = False
    return name, array
