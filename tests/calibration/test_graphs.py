"""Each kernel has a timing graph; what it is given fits, and what it computes is right."""

import numpy as np
import pytest

from calibration.graphs import GRAPH_BY_KERNEL, GRAPHS
from calibration.timing_graph import TimingGraph, arguments, compile_graph
from calibration.worker import WrongResult, check, silence_numpy_threads
from cost_models import KERNEL_BY_NAME, KERNELS, fingerprint

by_graph = pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.kernel)
CHEAP = ("node", "stream", "reduce", "gemv")


def test_every_kernel_has_one_graph() -> None:
    assert sorted(graph.kernel for graph in GRAPHS) == sorted(kernel.name for kernel in KERNELS)


@by_graph
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_arguments_fit_the_inputs_and_repeat(graph: TimingGraph, dtype: str) -> None:
    dims = (7, 3, 5)[: len(KERNEL_BY_NAME[graph.kernel].dims)]
    given = arguments(graph, dims, dtype)
    assert len(given) == len(graph.inputs)
    for kind, value in zip(graph.inputs, given, strict=True):
        assert value.ndim == {"v": 1, "m": 2, "t": 3, "b": 0, "p": 1, "q": 2, "l": 1, "c": 1}[kind]
        assert value.dtype == {"b": "int8", "p": "int32", "q": "int32", "l": "int64", "c": "int64"}.get(
            kind, dtype
        )
    for first, second in zip(given, arguments(graph, dims, dtype), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("kernel", CHEAP)
def test_compiled_graph_agrees_with_numpy(kernel: str) -> None:
    graph = GRAPH_BY_KERNEL[kernel]
    dims = (12,) * len(KERNEL_BY_NAME[kernel].dims)
    assert check(graph, compile_graph(graph, "float64"), "float64", dims) < 1e-8


def test_wrong_result_is_noticed() -> None:
    graph = GRAPH_BY_KERNEL["gemv"]
    with pytest.raises(WrongResult, match="relative error"):
        check(graph, lambda a, x: a @ x + 1, "float64", (12, 12))
    with pytest.raises(WrongResult, match="relative error nan"):
        check(graph, lambda a, x: np.nan * x, "float64", (12, 12))


def test_numpys_blas_is_silenced_and_scipys_is_not() -> None:
    import threadpoolctl

    before = fingerprint().threads
    with threadpoolctl.threadpool_limits():  # restores what the test changes
        silence_numpy_threads()
        pools = threadpoolctl.threadpool_info()
    scipy_threads = [pool["num_threads"] for pool in pools if "scipy.libs" in pool["filepath"]]
    assert not scipy_threads or scipy_threads == [before]
