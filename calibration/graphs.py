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
BATCH = 200
"""Matrices in the graphs of kernels on batches."""
OPS = "ops"
"""Asked of a worker in place of a kernel: to compile what autotune's Ops run."""
EIGENVALUES = 8
"""Distinct eigenvalues of the matrix for `cg_iteration`: CG needs one iteration for each."""


@dataclass(frozen=True)
class TimingGraph:
    """`outputs(*inputs)` builds the graph; `data(rng, *dims)` its arguments in float64.

    `answer(*arguments)` is what NumPy says the first output should be; None: nothing to check.
    `inputs` names the type of each argument: v(ector), m(atrix) or t(hree axes) of the timed dtype, and of
    integers b (scalar, 8 bits), p (vector, 32 bits), q (matrix, 32 bits), l (vector, 64 bits).
    """

    kernel: str
    inputs: str
    outputs: Callable[..., Any]
    data: Callable[..., tuple[Any, ...]]
    answer: Callable[..., Any] | None = None
    repeats: int = 1
    """How many times the graph runs the kernel."""


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


def compile_ops(dtype: str) -> None:
    """Leave all that autotune's Ops run in Numba's cache, what no kernel runs too: users find it there."""
    _ops().compile_all(dtype)


def _chain_of_nodes(x: Any) -> Any:
    """`NODES` small nodes that PyTensor cannot fuse: running sums and products in turn."""
    for _ in range(NODES // 2):
        x = 0.5 * _pt().cumsum(x)
    return x


def _chain_of_nodes_answer(x: Array) -> Array:
    for _ in range(NODES // 2):
        x = 0.5 * np.cumsum(x)
    return x


def _batched(op: Any) -> Any:
    from pytensor.tensor.blockwise import Blockwise

    return Blockwise(op)


def _batch(make: Callable[..., Any], rng: np.random.Generator, n: int) -> Array:
    """`BATCH` matrices; every eighth is made anew."""
    made = np.stack([make(rng, n) for _ in range(BATCH // 8)])
    found: Array = np.concatenate([made] * 8)
    return found


def _batch_of_lu(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Packed LU factors as `SharedLU` leaves them, and pivots."""
    packed, pivots = zip(*(_lu(rng, n) for _ in range(BATCH // 8)), strict=True)
    by_columns = np.concatenate([np.stack([factor.T for factor in packed])] * 8)
    return by_columns.swapaxes(1, 2), np.concatenate([np.stack(pivots)] * 8)


def _matrices_of_lu(packed: Array, pivots: Array) -> Array:
    found: Array = np.stack([_from_lu(*one) for one in zip(packed, pivots, strict=True)])
    return found


def _filled(x: Any) -> Any:
    """A new vector as long as ``x``, whose numbers are not read."""
    return _pt().alloc(_pt().as_tensor(0.5, dtype=x.type.dtype), x.shape[0])


def _few_eigenvalues(rng: np.random.Generator, n: int) -> Array:
    """A dense symmetric matrix with the eigenvalues 1 to `EIGENVALUES`: `H D H` with a reflection H."""
    eigenvalues = 1.0 + np.arange(n) % EIGENVALUES
    v = _normal(rng, n)
    v /= np.linalg.norm(v)
    w = eigenvalues * v
    reflected = np.diag(eigenvalues) - 2 * np.outer(v, w) - 2 * np.outer(w, v)
    matrix: Array = reflected + 4 * (v @ w) * np.outer(v, v)
    return matrix


def _conjugate_gradients(a: Any, b: Any) -> Any:
    return _ops().BlockCG()(a, b, 1e-8 if a.type.dtype == "float64" else 1e-4, 100)[0]


def _low_rank(rng: np.random.Generator, n: int, k: int) -> tuple[Array, Array, Array]:
    """A positive diagonal, U with columns of length about one, and their weights, all one."""
    return 0.5 + rng.random(n), _normal(rng, n, k) / max(n, 1) ** 0.5, np.ones(k)


def _low_rank_dense(d: Array, u: Array, c: Array) -> Array:
    """The matrix `diag(d) + U diag(c) U'`."""
    matrix: Array = np.diag(d) + (u * c) @ u.T
    return matrix


def _low_rank_factored(rng: np.random.Generator, n: int, k: int) -> tuple[Array, ...]:
    """The parts of the matrix and the factor that `LowRankFactor` makes of them."""
    parts = _low_rank(rng, n, k)
    op = _low_rank_factor_op()
    node = op.make_node(*parts)
    storage: list[list[Any]] = [[None] for _ in node.outputs]
    op.perform(node, list(parts), storage)
    return (*parts, *(cell[0] for cell in storage[: len(_ops().FACTOR_FIELDS)]))


def _low_rank_factor_op() -> Any:
    return _ops().LowRankFactor(symmetric=True, positive_definite=True)


GRAPHS: tuple[TimingGraph, ...] = (
    TimingGraph("call", "m", lambda a: a[0, 0] + 1, lambda g: (_normal(g, 1, 1),)),
    TimingGraph("node", "v", _chain_of_nodes, lambda g: (_normal(g, 3),), _chain_of_nodes_answer, NODES),
    TimingGraph(
        "potrf",
        "m",
        lambda a: _ops().SharedCholesky()(a),
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
        "syevr",
        "m",
        lambda a: _linalg().eigh(a)[1][:, -1] ** 2,
        lambda g, n: (_spd(g, n),),
        lambda a: np.linalg.eigh(a)[1][:, -1] ** 2,
    ),
    TimingGraph(
        "batch_cholesky",
        "t",
        lambda a: _batched(_ops().SharedCholesky())(a),
        lambda g, n: (_batch(_spd, g, n),),
        np.linalg.cholesky,
        BATCH,
    ),
    TimingGraph(
        "batch_lu",
        "t",
        lambda a: _batched(_ops().SharedLU())(a)[0],
        lambda g, n: (_batch(_general, g, n),),
        lambda a: np.stack([_scipy_lu(one) for one in a]),
        BATCH,
    ),
    TimingGraph(
        "batch_inverse",
        "tq",
        lambda lu, pivots: _batched(_ops().LUInverse())(lu, pivots),
        _batch_of_lu,
        lambda lu, pivots: np.linalg.inv(_matrices_of_lu(lu, pivots)),
        BATCH,
    ),
    TimingGraph(
        "batch_solve",
        "tqbt",
        lambda *inputs: _batched(_ops().CholeskyOrLUSolve())(*inputs),
        lambda g, n, m: (*_batch_of_lu(g, n), np.int8(0), _normal(g, BATCH, n, m)),
        lambda lu, pivots, _, b: np.linalg.solve(_matrices_of_lu(lu, pivots), b),
        BATCH,
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
    TimingGraph("fill", "v", _filled, lambda g, n: (np.broadcast_to(0.5, (n,)),), lambda x: x),
    TimingGraph("exp", "v", lambda x: _pt().exp(x), lambda g, n: (_normal(g, n),), np.exp),
    TimingGraph("log", "v", lambda x: _pt().log(x), lambda g, n: (0.1 + g.random(n),), np.log),
    TimingGraph("tanh", "v", lambda x: _pt().tanh(x), lambda g, n: (_normal(g, n),), np.tanh),
    TimingGraph("reduce", "v", lambda x: x.sum(), lambda g, n: (_normal(g, n),), np.sum),
    TimingGraph(
        "transpose",
        "m",
        lambda a: 1.5 * a.T,
        lambda g, m, n: (_normal(g, n, m),),
        lambda a: 1.5 * a.T,
    ),
    TimingGraph(
        "join",
        "mm",
        lambda a, b: _pt().join(0, a, b),
        lambda g, m, n: (_normal(g, m // 2, n), _normal(g, m - m // 2, n)),
        lambda a, b: np.concatenate([a, b]),
    ),
    TimingGraph("diagonal", "v", lambda x: _pt().diag(x), lambda g, n: (_normal(g, n),), np.diag),
    TimingGraph(
        "cg_iteration",
        "mm",
        _conjugate_gradients,
        lambda g, n, m: (_few_eigenvalues(g, n), _normal(g, n, m)),
        np.linalg.solve,
        repeats=EIGENVALUES + 1,
    ),
    TimingGraph(
        "low_rank_factor",
        "vmv",
        lambda *parts: _low_rank_factor_op()(*parts)[-1],
        _low_rank,
        lambda *parts: np.linalg.slogdet(_low_rank_dense(*parts))[1],
    ),
    TimingGraph(
        "low_rank_solve",
        "vmvbvmplmm",
        lambda *inputs: _ops().LowRankSolve(symmetric=True)(*inputs),
        lambda g, n, k, m: (*_low_rank_factored(g, n, k), _normal(g, n, m)),
        lambda d, u, c, *rest: np.linalg.solve(_low_rank_dense(d, u, c), rest[-1]),
    ),
    TimingGraph(
        "low_rank_diagonal",
        "vmvbvmplm",
        lambda *inputs: _ops().LowRankInverseDiagonal(symmetric=True)(*inputs),
        _low_rank_factored,
        lambda d, u, c, *rest: np.diag(np.linalg.inv(_low_rank_dense(d, u, c))),
    ),
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
    makers = {
        "v": functools.partial(pt.vector, dtype=dtype),
        "m": functools.partial(pt.matrix, dtype=dtype),
        "t": functools.partial(pt.tensor3, dtype=dtype),
        "b": functools.partial(pt.scalar, dtype="int8"),
        "p": functools.partial(pt.vector, dtype="int32"),
        "q": functools.partial(pt.matrix, dtype="int32"),
        "l": functools.partial(pt.vector, dtype="int64"),
    }
    return makers[kind]()


def arguments(graph: TimingGraph, dims: Sequence[int], dtype: str) -> tuple[Array, ...]:
    """The same inputs for the same sizes, every time."""
    values = graph.data(np.random.default_rng([len(graph.kernel), *dims]), *dims)
    return tuple(value if value.dtype.kind == "i" else value.astype(dtype, order="K") for value in values)
