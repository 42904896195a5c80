"""One small compiled graph per kernel, with inputs to time it on and NumPy's answer to check it.

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
NODES = 20
"""Small nodes in the graph of the kernel `node`."""


@dataclass(frozen=True)
class TimingGraph:
    """`outputs(*inputs)` builds the graph; `data(rng, *dims)` its arguments in float64.

    `answer(*arguments)` is what NumPy says the first output should be; None: nothing to check.
    `inputs` names the type of each argument: s(calar), v(ector), m(atrix) or p(ivots).
    """

    kernel: str
    inputs: str
    outputs: Callable[..., Any]
    data: Callable[..., tuple[Any, ...]]
    answer: Callable[..., Any] | None = None


def _normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape)


def _spd(rng: np.random.Generator, n: int) -> Array:
    """A well-conditioned positive definite matrix: `2 I` and symmetric noise of norm below 1."""
    noise = _normal(rng, n, n) / (4 * max(n, 1) ** 0.5)
    matrix: Array = 2 * np.eye(n) + noise + noise.T
    return matrix


def _factor(rng: np.random.Generator, n: int) -> Array:
    """A lower Cholesky factor in Fortran order."""
    return np.asfortranarray(np.linalg.cholesky(_spd(rng, n)))


def _general(rng: np.random.Generator, n: int) -> Array:
    matrix: Array = _normal(rng, n, n) + n**0.5 * np.eye(n)
    return matrix


def _lu(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """LAPACK's packed LU factors in Fortran order, and its pivots."""
    from scipy.linalg import lu_factor

    packed, pivots = lu_factor(_general(rng, n))
    return np.asfortranarray(packed), pivots.astype(np.int32)


def _from_lu(packed: Array, pivots: Array) -> Array:
    """The matrix that was factored."""
    matrix = (np.tril(packed, -1) + np.eye(len(packed))) @ np.triu(packed)
    for row, pivot in reversed(list(enumerate(pivots))):
        matrix[[row, pivot]] = matrix[[pivot, row]]
    return matrix


def _linalg() -> Any:
    import pytensor.tensor.linalg

    return pytensor.tensor.linalg


def _pt() -> Any:
    import pytensor.tensor

    return pytensor.tensor


def _ops() -> Any:
    """The Ops of `autotune`, imported when their kernels are measured."""
    import autotune.ops

    return autotune.ops


def _chain_of_nodes(x: Any) -> Any:
    """`NODES` small nodes that PyTensor cannot fuse: running sums and products in turn."""
    for _ in range(NODES // 2):
        x = 0.5 * _pt().cumsum(x)
    return x


def _chain_of_nodes_answer(x: Array) -> Array:
    for _ in range(NODES // 2):
        x = 0.5 * np.cumsum(x)
    return x


def _low_rank(rng: np.random.Generator, n: int, k: int) -> tuple[Array, Array]:
    """A positive diagonal, and U with columns of length about one."""
    return 0.5 + rng.random(n), _normal(rng, n, k) / max(n, 1) ** 0.5


GRAPHS: tuple[TimingGraph, ...] = (
    TimingGraph("call", "m", lambda a: a[0, 0] + 1, lambda g: (_normal(g, 1, 1),)),
    TimingGraph("node", "v", _chain_of_nodes, lambda g: (_normal(g, 3),), _chain_of_nodes_answer),
    TimingGraph(
        "potrf",
        "m",
        lambda a: _linalg().cholesky(a),
        lambda g, n: (_spd(g, n),),
        np.linalg.cholesky,
    ),
    TimingGraph(
        "potrs",
        "mm",
        lambda c, b: _linalg().cho_solve((c, True), b),
        lambda g, n, m: (_factor(g, n), _normal(g, n, m)),
        lambda c, b: np.linalg.solve(c @ c.T, b),
    ),
    TimingGraph(
        "potri",
        "m",
        lambda c: _ops().CholeskyInverse()(c),
        lambda g, n: (_factor(g, n),),
        lambda c: np.linalg.inv(c @ c.T),
    ),
    TimingGraph(
        "getrf",
        "m",
        lambda a: _linalg().lu_factor(a)[0],
        lambda g, n: (_general(g, n),),
        lambda a: _scipy_lu(a),
    ),
    TimingGraph(
        "getrs",
        "mpm",
        lambda lu, pivots, b: _linalg().lu_solve((lu, pivots), b),
        lambda g, n, m: (*_lu(g, n), _normal(g, n, m)),
        lambda lu, pivots, b: np.linalg.solve(_from_lu(lu, pivots), b),
    ),
    TimingGraph(
        "getri",
        "mp",
        lambda lu, pivots: _ops().LUInverse()(lu, pivots),
        lambda g, n: _lu(g, n),
        lambda lu, pivots: np.linalg.inv(_from_lu(lu, pivots)),
    ),
    TimingGraph(
        "inv",
        "m",
        lambda a: _linalg().inv(a),
        lambda g, n: (_general(g, n),),
        np.linalg.inv,
    ),
    TimingGraph(
        "slogdet",
        "m",
        lambda a: _linalg().slogdet(a)[1],
        lambda g, n: (_general(g, n),),
        lambda a: np.linalg.slogdet(a)[1],
    ),
    TimingGraph(
        "gesv",
        "mm",
        lambda a, b: _linalg().solve(a, b, assume_a="gen"),
        lambda g, n, m: (_general(g, n), _normal(g, n, m)),
        np.linalg.solve,
    ),
    TimingGraph(
        "sysv",
        "mm",
        lambda a, b: _linalg().solve(a, b, assume_a="sym"),
        lambda g, n, m: (_spd(g, n), _normal(g, n, m)),
        np.linalg.solve,
    ),
    TimingGraph(
        "trsm",
        "mm",
        lambda c, b: _linalg().solve_triangular(c, b, lower=True),
        lambda g, n, m: (_factor(g, n), _normal(g, n, m)),
        np.linalg.solve,
    ),
    TimingGraph(
        "gemm",
        "mm",
        lambda a, b: a @ b,
        lambda g, m, n, k: (_normal(g, m, k), _normal(g, k, n)),
        np.matmul,
    ),
    TimingGraph("gemv", "mv", lambda a, x: a @ x, lambda g, m, n: (_normal(g, m, n), _normal(g, n)), np.dot),
    TimingGraph("stream", "vv", lambda x, y: x + y, lambda g, n: (_normal(g, n), _normal(g, n)), np.add),
    TimingGraph("exp", "v", lambda x: _pt().exp(x), lambda g, n: (_normal(g, n),), np.exp),
    TimingGraph("reduce", "v", lambda x: x.sum(), lambda g, n: (_normal(g, n),), np.sum),
    TimingGraph("diagonal", "v", lambda x: _pt().diag(x), lambda g, n: (_normal(g, n),), np.diag),
)
"""Every kernel's timing graph, in the order of measuring."""

GRAPH_BY_KERNEL: dict[str, TimingGraph] = {graph.kernel: graph for graph in GRAPHS}


def _scipy_lu(matrix: Array) -> Array:
    from scipy.linalg import lu_factor

    packed: Array = lu_factor(matrix)[0]
    return packed


def compile_graph(graph: TimingGraph, dtype: str) -> Callable[..., Any]:
    """The compiled function of the graph, as the Numba linker runs it, without input checks."""
    import pytensor

    inputs = [_variable(kind, dtype) for kind in graph.inputs]
    function = pytensor.function(inputs, graph.outputs(*inputs), mode="NUMBA")
    function.trust_input = True
    compiled: Callable[..., Any] = function
    return compiled


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
    pt = _pt()
    if kind == "p":
        return pt.vector(dtype="int32")
    return {"s": pt.scalar, "v": pt.vector, "m": pt.matrix}[kind](dtype=dtype)


def arguments(graph: TimingGraph, dims: Sequence[int], dtype: str) -> tuple[Array, ...]:
    """The same inputs for the same sizes, every time."""
    values = graph.data(np.random.default_rng([len(graph.kernel), *dims]), *dims)
    return tuple(value if value.dtype.kind == "i" else value.astype(dtype, order="K") for value in values)
