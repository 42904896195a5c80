"""The child process that compiles and times: `python -m calibration.worker`.

One request per line of standard input, one answer per line of standard output, both JSON. A
kernel that crashes or hangs kills this process and nothing else; see `client`. A request without
sizes only compiles the kernel, so that the next process finds it in Numba's cache on disk.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np

from calibration.graphs import GRAPH_BY_KERNEL, OPS, compile_ops
from calibration.grids import grid
from calibration.measure import Case, measure
from calibration.timing_graph import (
    TimingGraph,
    arguments,
    compile_graph,
    compile_idle,
    constants,
    varying,
)
from cost_models import fingerprint

TOLERANCE = {"float64": 1e-8, "float32": 1e-2}
_CHECKED_AT = 12
_functions: dict[tuple[str, str, tuple[tuple[int, ...], ...]], Callable[..., Any]] = {}


class WrongResult(ArithmeticError):
    """A kernel computes something else than NumPy: its speed is of no interest."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Time one kernel at the requested sizes, in turn with an idle call to be subtracted."""
    if request["kernel"] == "fingerprint":
        return {"fingerprint": asdict(fingerprint())}
    if request["kernel"] == OPS:
        compile_ops(request["dtype"])
        return {}
    graph, dtype = GRAPH_BY_KERNEL[request["kernel"]], request["dtype"]
    if "sizes" not in request:
        for dims in {_small(graph, dims) for dims in grid(graph.kernel, quick=False)}:
            function_for(graph, dims, arguments(graph, dims, dtype), dtype)
        return {}
    cases = _cases(graph, request["sizes"], dtype)
    idle, *timed = measure(chain([_idle_case(graph, dtype)], cases), request["budget"])
    times = [(case.dims, case.seconds, case.spread) for case in timed]
    return {"idle": idle.seconds, "times": times}


def function_for(
    graph: TimingGraph, dims: Sequence[int], given: Sequence[Any], dtype: str
) -> Callable[..., Any]:
    """The compiled graph for arguments, after its result at a small size has been compared to NumPy's."""
    known = (graph.kernel, dtype, constants(graph, given))
    if known not in _functions:
        function = compile_graph(graph, dtype, given)
        check(graph, function, dtype, _small(graph, dims))
        _functions[known] = function
    return _functions[known]


def _small(graph: TimingGraph, dims: Sequence[int]) -> tuple[int, ...]:
    """Small sizes that stand for others of the same compiled function."""
    return tuple(min(size, _CHECKED_AT) if "c" in graph.inputs else _CHECKED_AT for size in dims)


def check(graph: TimingGraph, function: Callable[..., Any], dtype: str, dims: Sequence[int]) -> float:
    """The largest relative error against NumPy at a small size; too large is `WrongResult`."""
    if graph.answer is None:
        return 0.0
    given = arguments(graph, dims, dtype)
    expected = np.asarray(graph.answer(*(np.array(value, dtype=_wide(value)) for value in given)))
    error = np.max(np.abs(function(*varying(graph, given)) - expected))
    error /= 1e-300 + np.max(np.abs(expected))
    if not error < TOLERANCE[dtype]:
        raise WrongResult(f"relative error {error:.1e} against NumPy at sizes {tuple(dims)}")
    return float(error)


def _wide(value: Any) -> Any:
    return value.dtype if value.dtype.kind == "i" else np.float64


def _cases(graph: TimingGraph, sizes: Sequence[Sequence[int]], dtype: str) -> Iterator[Case]:
    """The sizes one by one, compiled for their memory layout before they are timed."""
    run: set[Callable[..., Any]] = set()
    for dims in sizes:
        given = arguments(graph, dims, dtype)
        case = Case(function_for(graph, dims, given, dtype), tuple(dims), varying(graph, given))
        if case.function not in run:
            case.function(*case.arguments)
        run.add(case.function)
        yield case


def _idle_case(graph: TimingGraph, dtype: str) -> Case:
    """A call with as many inputs that does nothing."""
    inputs = len(graph.inputs) - graph.inputs.count("c")
    function = compile_idle(inputs, dtype)
    case = Case(function, (), (np.ones((1, 1), dtype=dtype),) * inputs)
    function(*case.arguments)
    return case


def silence_numpy_threads() -> None:
    """Give NumPy's own BLAS one thread.

    NumPy's and SciPy's wheels carry separate thread pools. NumPy prepares the inputs here, and its
    idle threads spin on the cores that the measured pool, SciPy's, needs.
    """
    import scipy.linalg  # noqa: F401  loads SciPy's BLAS, so that it can be told apart
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController()
    others = [
        pool["filepath"]
        for pool in controller.info()
        if pool["user_api"] == "blas" and "scipy.libs" not in pool["filepath"]
    ]
    if len(others) < len(controller.select(user_api="blas").info()):
        controller.select(filepath=others).limit(limits=1)


def main() -> None:
    """Answer requests until the input ends. What kernels print goes to standard error."""
    silence_numpy_threads()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except WrongResult as error:
            reply = {"failed": f"gives wrong results: {error}"}
        except Exception as error:  # whatever a kernel does, the next one is measured
            reply = {"failed": f"raises {type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(reply), file=answers)


if __name__ == "__main__":
    main()
