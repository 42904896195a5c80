"""Gaussian densities that are written in eigenvectors, as PyMC's ``KroneckerNormal`` is.

With ``A_i = Q_i diag(w_i) Q_i'`` the covariance ``K = A_1 kron ... kron A_k + c I`` has the eigenvalues
``e = w_1 kron ... kron w_k + c``: the sum of their logarithms is its log-determinant, and
``sum(((Q_1 kron ...)' y)^2 / e)`` is ``y' K^-1 y``. PyTensor's gradient of eigenvectors divides by the
differences of eigenvalues, and is wrong where two are equal. Here both are written with K, from which its
structure is read.

How ``y`` is rotated, in reshapes and transposes, PyTensor's rewrites change: whether a number is the
quadratic form is found out by computing it for random matrices and vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import permutations, product
from math import prod
from typing import Any

import numpy as np
import pytensor
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import explicit_graph_inputs, toposort
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import CAReduce, Elemwise
from pytensor.tensor.linalg.decomposition.eigen import Eigh
from pytensor.tensor.linalg.products import kron
from pytensor.tensor.math import Sum

# Entries of the random vectors for which a form is computed, at most; how close it must come, by precision.
MOST, CLOSE = 10**6, {"float64": 1e-8, "float32": 1e-3}
MOST_FACTORS = 4


@dataclass(frozen=True, eq=False)
class Eigenproblem:
    matrix: Any
    w: Any
    Q: Any

    @property
    def order(self) -> int:
        return int(self.matrix.type.shape[0])


@dataclass(frozen=True, eq=False)
class Sample:
    """Values of eigenvalues and eigenvectors, and the latter in the order of the factors."""

    values: dict[Any, np.ndarray]
    bases: list[np.ndarray]


def with_covariances(fgraph: Any, symmetric: Any) -> list[tuple[Any, Any]]:
    """Log-determinants and quadratic forms in ``fgraph`` that are written in eigenvectors, each with the same
    one of a matrix. ``symmetric`` says whether a matrix is known to be."""
    problems = {p.w: p for p in _eigenproblems(fgraph) if symmetric(p.matrix)}
    if not problems:
        return []
    above = _made_of(fgraph, problems)
    pairs: list[tuple[Any, Any]] = []
    for logdet, e in _sums_of_logarithms(fgraph, above):
        used = [problems[w] for w in problems if w in above[e]]
        known = _factors(e, used, above)
        if known is None:
            continue
        factors, c, sample = known
        forms = list(_quadratic_forms(fgraph, e, factors, sample, above))
        if forms:
            L = pt.linalg.cholesky(_covariance(factors, c))
            found = [(logdet, 2 * pt.log(pt.diagonal(L)).sum())]
            for form, y in forms:
                white = pt.linalg.solve_triangular(L, y, lower=True, b_ndim=2)
                found.append((form, pt.sqr(white).sum(axis=0)))
            pairs += [
                (old, old.type.filter_variable(_like(new, old), allow_convert=True)) for old, new in found
            ]
    return pairs


def _eigenproblems(fgraph) -> Iterator[Eigenproblem]:
    for node in fgraph.toposort():
        op = node.op.core_op if isinstance(node.op, Blockwise) else node.op
        if type(op) is Eigh and len(node.inputs) == 1:
            matrix, (w, Q) = node.inputs[0], node.outputs
            square = (
                matrix.type.ndim == 2 and None not in matrix.type.shape and len(set(matrix.type.shape)) == 1
            )
            if square and matrix.type.numpy_dtype.kind == "f":
                yield Eigenproblem(matrix, w, Q)


def _made_of(fgraph, problems: dict[Any, Eigenproblem]) -> dict[Any, frozenset[Any]]:
    """The eigenvalues and eigenvectors that each variable is made of."""
    found: dict[Any, frozenset[Any]] = dict.fromkeys(fgraph.variables, frozenset())
    for p in problems.values():
        found |= {p.w: frozenset([p.w]), p.Q: frozenset([p.Q])}
    for node in fgraph.toposort():
        together = frozenset().union(*(found[i] for i in node.inputs))
        found |= {out: together for out in node.outputs if not found[out]}
    return found


def _sums_of_logarithms(fgraph, above) -> Iterator[tuple[Any, Any]]:
    """Sums of the logarithms of all entries of a vector of eigenvalues, and that vector."""
    for node in fgraph.toposort():
        match node.op, node.inputs[0].owner_op_and_inputs if node.inputs else None:
            case Sum(), (Elemwise(scalar_op=ps.Log()), e) if node.outputs[0].type.ndim == 0 and above.get(e):
                if sum(length != 1 for length in e.type.shape) == 1:
                    yield node.outputs[0], e


def _factors(e, used: Sequence[Eigenproblem], above) -> tuple[list[Eigenproblem], Any, Sample] | None:
    """The eigenproblems in the order of the factors, and c or None, with which ``e`` is made; a sample."""
    products, c = _without_added(e, above)
    n = _size(e)
    if n is None or n > MOST:
        return None
    rng = np.random.default_rng(0)
    values: dict[Any, np.ndarray] = {}
    bases = {}
    for p in used:
        half = rng.normal(size=(p.order, p.order))
        w, Q = np.linalg.eigh(half @ half.T / p.order + 0.1 * np.eye(p.order))
        values |= {p.w: w, p.Q: Q}
        bases[p] = w, Q
    computed = _computed([products], values)
    if computed is None:
        return None
    for order in _arrangements(used, n):
        w = _outer([bases[p][0] for p in order])
        if _is_close(computed[0], w):
            return list(order), c, Sample(values, [bases[p][1] for p in order])
    return None


def _arrangements(used: Sequence[Eigenproblem], n: int) -> Iterator[tuple[Eigenproblem, ...]]:
    """The orders in which they may be factors of a matrix of order n, some of them more than once."""
    for count in range(len(used), MOST_FACTORS + 1):
        for order in product(used, repeat=count):
            if {*order} == {*used} and prod(p.order for p in order) == n:
                yield order


def _is_close(found: np.ndarray, expected: np.ndarray) -> bool:
    tolerance = CLOSE.get(str(found.dtype), 0.0)
    return bool(np.allclose(found.ravel(), expected, rtol=tolerance, atol=0))


def _outer(vectors: Sequence[np.ndarray]) -> np.ndarray:
    found = vectors[0]
    for v in vectors[1:]:
        found = np.outer(found, v).ravel()
    return found


def _without_added(e, above) -> tuple[Any, Any]:
    """``e`` without the numbers that are added to all of its entries, and their sum or None."""
    match e.owner_op_and_inputs:
        case (Elemwise(scalar_op=ps.Add()), *terms):
            numbers = [t for t in terms if all(t.type.broadcastable) and not above.get(t)]
            rest = [t for t in terms if t not in numbers]
            if len(rest) == 1 and numbers:
                return rest[0], sum((t.squeeze() for t in numbers[1:]), numbers[0].squeeze())
    return e, None


def _covariance(factors: Sequence[Eigenproblem], c):
    K = reduce(kron, (p.matrix for p in factors))
    return K if c is None else K + c.astype(K.dtype) * pt.eye(K.type.shape[0], dtype=K.dtype)


def _quadratic_forms(fgraph, e, factors, sample, above) -> Iterator[tuple[Any, Any]]:
    """Quadratic forms with the inverse of the covariance, and their vectors as columns."""
    needed = {p.Q for p in factors}
    n = prod(p.order for p in factors)
    found: set[Any] = set()
    for node in fgraph.toposort():
        [out, *_] = node.outputs
        reduces = isinstance(node.op, CAReduce) or not isinstance(node.op, Elemwise)
        if not (reduces and needed <= above[out] and None not in getattr(out.type, "shape", [None])):
            continue
        if any(above[i] and i in found for i in node.inputs) or prod(out.type.shape) * n > MOST:
            continue
        y = _vectors_of(out, sample, above, n)
        columns = None if y is None else _as_columns(out, e, y, sample, n)
        if columns is not None:
            found.add(out)
            yield out, columns


def _vectors_of(form, sample, above, n: int):
    """The one array that a form is computed from beside eigenproblems and numbers; None if there are more."""
    leaves = [var for var in _leaves(form, above) if var not in sample.values]
    size = n * prod(form.type.shape)
    arrays = [v for v in leaves if v.type.numpy_dtype.kind == "f" and _size(v) == size and size > 1]
    others = [
        v for v in leaves if v not in arrays and not isinstance(v, Constant) and not all(v.type.broadcastable)
    ]
    return arrays[0] if len(arrays) == 1 and not others else None


def _size(var) -> int | None:
    shape = var.type.shape
    return None if None in shape else prod(shape)


def _leaves(var, above) -> Iterator[Any]:
    """What a variable is computed from that is made of no eigenproblem, and constants."""
    walked: set[Any] = set()
    queue = [var]
    while queue:
        one = queue.pop()
        if one in walked:
            continue
        walked.add(one)
        if one.owner is None or not above.get(one) or one in above[one]:
            yield one
        else:
            queue += one.owner.inputs


def _as_columns(form, e, y, sample, n: int):
    """``y`` as vectors (n, m), by which the form is ``v' K^-1 v`` of each; None if it is another."""
    data = np.random.default_rng(1).normal(size=y.type.shape)
    computed = _computed([form, e], {**sample.values, y: data})
    if computed is None:
        return None
    [found, eigenvalues], m = computed, prod(form.type.shape)
    lengths = [*(len(Q) for Q in sample.bases), m]
    for axes in permutations(range(len(lengths))):
        rotated = _rotated(sample.bases, _arranged(data, lengths, axes))
        expected = (rotated**2 / eigenvalues.reshape((n, 1))).sum(axis=0)
        if _is_close(found, expected):
            return _arranged(y, lengths, axes)
    return None


def _arranged(y, lengths: Sequence[int], axes: Sequence[int]):
    """Vectors as columns, of an array whose entries have one axis for each factor and one for each vector, in
    the order ``axes``."""
    tensor = y.reshape([lengths[axis] for axis in axes])
    back = [axes.index(axis) for axis in range(len(axes))]
    return tensor.transpose(*back).reshape((prod(lengths[:-1]), lengths[-1]))


def _rotated(bases: Sequence[np.ndarray], columns: np.ndarray) -> np.ndarray:
    tensor = columns.reshape((*(len(Q) for Q in bases), -1))
    for axis, Q in enumerate(bases):
        tensor = np.moveaxis(np.tensordot(Q.T, tensor, axes=(1, axis)), 0, axis)
    return tensor.reshape(columns.shape)


def _computed(outputs: Sequence[Any], values: dict[Any, np.ndarray]) -> list[np.ndarray] | None:
    """The values of ``outputs`` for those of some variables, and for random ones of all inputs; None if it
    cannot be computed."""
    given = {var: var.type() for var in values}
    new: dict[Any, Any] = dict(given)
    for node in toposort(outputs, blockers=list(values)):
        if any(i in new for i in node.inputs):
            made = node.clone_with_new_inputs([new.get(i, i) for i in node.inputs])
            new.update(zip(node.outputs, made.outputs, strict=True))
    outputs = [new.get(out, out) for out in outputs]
    free = [v for v in explicit_graph_inputs(outputs) if v not in given.values()]
    if any(not hasattr(v.type, "shape") or _size(v) is None for v in free):
        return None
    rng = np.random.default_rng(2)
    arrays = [np.asarray(x, var.type.dtype) for var, x in values.items()]
    arrays += [np.asarray(rng.uniform(0.5, 1.5, v.type.shape), v.type.dtype) for v in free]
    mode = Mode(linker="py", optimizer=None)
    compute = pytensor.function([*given.values(), *free], outputs, mode=mode, on_unused_input="ignore")
    found: list[np.ndarray] = compute(*arrays)
    return found


def _like(new, old):
    """``new`` in the shape and dtype of ``old``, which has as many entries."""
    shaped = new if new.type.ndim == old.type.ndim else new.reshape(old.type.shape)
    return shaped.astype(old.type.dtype)
