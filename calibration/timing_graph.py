"""A small compiled graph of one kernel, with inputs to time it on and NumPy's answer to check it.

The graphs have unknown sizes, so that each kernel is compiled once and timed at every size. The
inputs are laid out as they reach the kernel in a real graph: factors in Fortran order, as LAPACK
leaves them, everything else in C order; positive definite where the kernel assumes it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class TimingGraph:
    """`outputs(*inputs)` builds the graph; `data(rng, *dims)` its arguments in float64.

    `answer(*arguments)` is what NumPy says the first output should be; None: nothing to check.
    `inputs` names the type of each argument: v(ector), m(atrix) or t(hree axes) of the timed dtype, and of
    integers b (scalar, 8 bits), p (vector, 32 bits), q (matrix, 32 bits), l (vector, 64 bits), and
    c, an l that is a constant of the graph: one function is compiled for each.
    """

    kernel: str
    inputs: str
    outputs: Callable[..., Any]
    data: Callable[..., tuple[Any, ...]]
    answer: Callable[..., Any] | None = None
    repeats: int = 1
    """How many times the graph runs the kernel."""


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape)


def linalg() -> Any:
    import pytensor.tensor.linalg

    return pytensor.tensor.linalg


def pt() -> Any:
    import pytensor.tensor

    return pytensor.tensor


def ops() -> Any:
    """The Ops of `autotune`, imported when their kernels are measured."""
    import autotune.ops

    return autotune.ops


def compile_graph(graph: TimingGraph, dtype: str, given: Sequence[Array] = ()) -> Callable[..., Any]:
    """The compiled function of the graph, as the Numba linker runs it, without input checks.

    Its constants are those of ``given``, arguments of the graph, and it takes the others.
    """
    import pytensor

    inputs = [_variable(kind, dtype) for kind in graph.inputs]
    for place in _places(graph, constant=True):
        inputs[place] = pt().constant(given[place])
    varying = [inputs[place] for place in _places(graph, constant=False)]
    function = pytensor.function(varying, graph.outputs(*inputs), mode="NUMBA")
    function.trust_input = True
    compiled: Callable[..., Any] = function
    return compiled


def constants(graph: TimingGraph, given: Sequence[Array]) -> tuple[tuple[int, ...], ...]:
    """Those among the arguments of the graph."""
    return tuple(tuple(given[place].tolist()) for place in _places(graph, constant=True))


def varying(graph: TimingGraph, given: Sequence[Array]) -> tuple[Array, ...]:
    """What the compiled function takes of the arguments of the graph."""
    return tuple(given[place] for place in _places(graph, constant=False))


def _places(graph: TimingGraph, constant: bool) -> list[int]:
    return [place for place, kind in enumerate(graph.inputs) if (kind == "c") is constant]


@functools.cache
def compile_idle(inputs: int, dtype: str) -> Callable[..., Any]:
    """A function that takes so many matrices and does next to nothing: the cost of a call."""
    import pytensor

    variables = [_variable("m", dtype) for _ in range(inputs)]
    total = sum((variable[0, 0] for variable in variables[1:]), start=variables[0][0, 0] + 1)
    function = pytensor.function(variables, total, mode="NUMBA")
    function.trust_input = True
    idle: Callable[..., Any] = function
    return idle


def _variable(kind: str, dtype: str) -> Any:
    of = pt()
    makers = {
        "v": functools.partial(of.vector, dtype=dtype),
        "m": functools.partial(of.matrix, dtype=dtype),
        "t": functools.partial(of.tensor3, dtype=dtype),
        "b": functools.partial(of.scalar, dtype="int8"),
        "p": functools.partial(of.vector, dtype="int32"),
        "q": functools.partial(of.matrix, dtype="int32"),
        "l": functools.partial(of.vector, dtype="int64"),
        "c": functools.partial(of.vector, dtype="int64"),
    }
    return makers[kind]()


def arguments(graph: TimingGraph, dims: Sequence[int], dtype: str) -> tuple[Array, ...]:
    """The same inputs for the same sizes, every time."""
    values = graph.data(np.random.default_rng([len(graph.kernel), *dims]), *dims)
    return tuple(value if value.dtype.kind == "i" else value.astype(dtype, order="K") for value in values)
