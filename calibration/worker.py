"""The child process that compiles and times: `python -m calibration.worker`.

One request per line of standard input, one answer per line of standard output, both JSON. A
kernel that crashes or hangs kills this process and nothing else; see `client`. A request without
sizes only compiles the kernel, so that the next process finds it in Numba's cache on disk.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np

from calibration.graphs import GRAPH_BY_KERNEL, OPS, compile_ops
from calibration.measure import Case, measure
from calibration.timing_graph import TimingGraph, arguments, compile_graph, compile_idle
from cost_models import fingerprint

TOLERANCE = {"float64": 1e-8, "float32": 1e-2}
_CHECKED_AT = 12


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
    function = checked_function(graph, dtype)
    if "sizes" not in request:
        return {}
    cases = _cases(graph, function, request["sizes"], dtype)
    idle, *timed = measure(chain([_idle_case(graph, dtype)], cases), request["budget"])
    times = [(case.dims, case.seconds, case.spread) for case in timed]
    return {"idle": idle.seconds, "times": times}


@functools.cache
def checked_function(graph: TimingGraph, dtype: str) -> Callable[..., Any]:
    """The compiled graph, after its result has been compared to NumPy's."""
    function = compile_graph(graph, dtype)
    check(graph, function, dtype)
    return function


def check(graph: TimingGraph, function: Callable[..., Any], dtype: str) -> float:
    """The largest relative error against NumPy at a small size; too large is `WrongResult`."""
    if graph.answer is None:
        return 0.0
    given = arguments(graph, [_CHECKED_AT] * _dimensions(graph.kernel), dtype)
    expected = np.asarray(graph.answer(*(np.array(value, dtype=_wide(value)) for value in given)))
    error = np.max(np.abs(function(*given) - expected)) / (1e-300 + np.max(np.abs(expected)))
    if not error < TOLERANCE[dtype]:
        raise WrongResult(f"relative error {error:.1e} against NumPy at size {_CHECKED_AT}")
    return float(error)


def _dimensions(kernel: str) -> int:
    from cost_models import KERNEL_BY_NAME

    return len(KERNEL_BY_NAME[kernel].dims)


def _wide(value: Any) -> Any:
    return value.dtype if value.dtype.kind == "i" else np.float64


def _cases(
    graph: TimingGraph, function: Callable[..., Any], sizes: Sequence[Sequence[int]], dtype: str
) -> Iterator[Case]:
    """The sizes one by one, compiled for their memory layout before they are timed."""
    for turn, dims in enumerate(sizes):
        case = Case(function, tuple(dims), arguments(graph, dims, dtype))
        if turn == 0:
            function(*case.arguments)
        yield case


def _idle_case(graph: TimingGraph, dtype: str) -> Case:
    """A call with as many inputs that does nothing."""
    inputs = len(graph.inputs)
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
