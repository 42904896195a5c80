"""Request Ops: the stable intermediate form of the pass.

Before automatic differentiation a decision cannot be written in PyTensor's own ``Solve`` and
``Det``: its rewrites lower those to Cholesky in the same step. A request Op is unknown to them. It
stands for one request on one operator, carries the decision, and its exact pullback is again made
of requests on the same operator, so that autodiff by itself produces the cheap joint graph.

Each is an ``OpFromGraph`` whose inner graph is the plain dense algorithm: a request that nothing
lowers (autotune switched off in between, another mode or linker, a pickled graph) still computes.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import Any

import pytensor.tensor as pt
from pytensor.compile.builders import OpFromGraph, SymbolicOp, construct_nominal_fgraph
from pytensor.gradient import DisconnectedType, disconnected_type, pullback
from pytensor.graph.fg import FrozenFunctionGraph
from pytensor.tensor.blockwise import vectorize_node_fallback

from autotune.algebra.batch import Batch, item_of
from autotune.algebra.dense import Dense
from autotune.algebra.host import vectorize_node
from autotune.algebra.operator import Operator, kind_of, rebuilt
from autotune.algebra.pencil import basis_of
from autotune.algebra.plain import PlainSolver
from autotune.algebra.registry import operator_from, part_axes
from autotune.algebra.solver import Solver
from autotune.ops import BandedOuter, SparseOuter


@dataclass(frozen=True)
class RequestSpec:
    """What a request Op stands for, without its variables.

    ``kind`` and ``transposed`` as in ``problem.Request``; ``signature`` rebuilds the operator from
    the Op's first inputs (a right-hand side comes last); ``checked`` as in ``problem.Request``; ``strategy``
    serves it, by ``decision``, or None when that is to be decided with sizes known, after automatic
    differentiation. ``part``: the place of the operator among the parts of the matrix that was decided.
    """

    kind: str
    signature: tuple[Any, ...]
    positive_definite: bool
    symmetric: bool
    transposed: bool = False
    strategy: str | None = "keep"
    decision: Any = None
    checked: bool = False
    part: tuple[int, ...] = ()


class RequestedSystem(Solver):
    """An operator with its facts, and the strategy decided on: answers requests with request Ops.

    ``checked``: those of a pullback are, as the request that it is of.
    """

    def __init__(
        self, operator: Operator, *, positive_definite, symmetric, strategy, decision, checked=False, part=()
    ):
        self.operator = operator
        self.positive_definite = positive_definite
        self.symmetric = symmetric
        self.strategy = strategy
        self.decision = decision
        self.checked = checked
        self.part = part

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        asked = copy(self)
        asked.checked = checked
        return super(RequestedSystem, asked).answer(kind, rhs, transposed)

    def request(self, kind, *rhs, transposed=False):
        spec = RequestSpec(
            kind=kind,
            signature=self.operator.signature,
            positive_definite=self.positive_definite,
            symmetric=self.symmetric,
            transposed=transposed and not (self.symmetric or self.checked),
            strategy=self.strategy,
            decision=self.decision,
            checked=self.checked,
            part=self.part,
        )
        return RequestOp(spec=spec)(*self.operator.parts, *rhs)

    def solve(self, rhs, transposed=False):
        return self.request("solve", rhs, transposed=transposed)

    def logdet(self):
        return self.request("logdet")

    def inverse(self):
        return self.request("inverse")

    def inverse_diagonal(self):
        return self.request("inverse_diagonal")

    def inv_quad(self, rhs):
        return self.request("inv_quad", rhs)

    def logdet_pullback(self):
        """The cotangents of the operator's parts, of its ``log|det|``."""
        found = self.request("logdet_pullback")
        return found if isinstance(found, list) else [found]

    def is_positive_definite(self):
        return self.request("is_positive_definite")


def replace_operator(system: RequestedSystem, operator: Operator) -> RequestedSystem:
    """The same of another operator."""
    new = copy(system)
    new.operator = operator
    return new


class RequestOp(SymbolicOp):
    """One request on an operator given by its parts. Inputs: the parts, then the right-hand side if any."""

    __props__ = ("spec",)

    def __init__(self, input_types=None, *, spec, **kwargs):
        self.spec = spec
        super().__init__(None, **kwargs)
        if input_types is not None:
            inner = plain_graph(replace(spec, strategy=None, decision=None, part=()), tuple(input_types))
            options = {"inline": self.inline, "strict": True, "fgraph": inner}
            OpFromGraph.__init__(self, list(inner.inputs), list(inner.outputs), **options, **kwargs)

    def __str__(self):
        s = self.spec
        flag = ".T" if s.transposed else ""
        return f"Request{{{s.kind}{flag}, {'+'.join(self.structure)}, {s.strategy or 'undecided'}}}"

    @property
    def structure(self):
        return _names(self.spec.signature)

    @property
    def gufunc_signature(self):
        """Names for the axes, so that under ``vectorize_graph`` a result keeps the lengths that are known."""
        results = RESULT_AXES.get(self.spec.kind) or part_axes(self.spec.signature, count())
        inputs, outputs = ([f"({axes})" for axes in side] for side in (self.input_axes, results))
        return f"{','.join(inputs)}->{','.join(outputs)}"

    @property
    def input_axes(self):
        """The axes of each input of a request on one matrix."""
        return [*part_axes(self.spec.signature, count()), *(["n,m"] if self.has_rhs else [])]

    @property
    def has_rhs(self):
        return self.spec.kind in ("solve", "inv_quad")

    def system(self, inputs) -> tuple[RequestedSystem, Any]:
        """The operator with its facts, and the right-hand side or None, of this Op's ``inputs``."""
        parts, rhs = (inputs[:-1], inputs[-1]) if self.has_rhs else (inputs, None)
        spec = self.spec
        system = RequestedSystem(
            operator_from(spec.signature, parts),
            positive_definite=spec.positive_definite,
            symmetric=spec.symmetric,
            strategy=spec.strategy,
            decision=spec.decision,
            checked=spec.checked,
            part=spec.part,
        )
        return system, rhs

    def connection_pattern(self, node):
        connected = self.spec.kind != "is_positive_definite"
        return [[connected] * len(node.outputs) for _ in node.inputs]

    def pullback(self, inputs, outputs, output_grads):
        system, rhs = self.system(inputs)
        if self.spec.kind == "is_positive_definite":
            return [disconnected_type() for _ in inputs]
        connected = [not _is_disconnected(g) for g in output_grads]
        if not (connected[-1] if self.spec.kind == "logdet" else any(connected)):
            return [i.zeros_like() for i in inputs]  # of the sign of a determinant alone
        of = _pullback_of_each if isinstance(system.operator, Batch) else PULLBACKS[self.spec.kind]
        bars = of(self.spec, system, rhs, outputs, output_grads)
        ndims = [len(axes.split(",")) for axes in self.input_axes]
        return [summed_to(i, bar, ndim) for i, bar, ndim in zip(inputs, bars, ndims, strict=True)]


@lru_cache(maxsize=256)
def plain_graph(spec: RequestSpec, input_types: tuple[Any, ...]) -> FrozenFunctionGraph:
    """The plain dense algorithm, whoever decided on whatever: made once for requests that are alike."""
    inputs = [input_type() for input_type in input_types]
    system, rhs = RequestOp(spec=spec).system(inputs)
    solver = PlainSolver(system.operator.to_dense(), system.positive_definite, system.symmetric)
    if spec.kind == "logdet_pullback":
        [inverse] = solver.answer("inverse", checked=spec.checked)
        answers = system.operator.pullback(Dense(inverse.mT))
    else:
        answers = solver.answer(spec.kind, rhs, spec.transposed, spec.checked)
    return construct_nominal_fgraph(inputs, answers).freeze()


@vectorize_node.register(RequestOp)
def vectorize_request(op, node, *inputs):
    """Of a request on one matrix one on a batch, if its structure is served in batches, else a ``Blockwise``;
    one on a batch of matrices is made for more of them."""
    ndims = [len(axes.split(",")) for axes in op.input_axes]
    batch = max(i.type.ndim - ndim for i, ndim in zip(node.inputs, ndims, strict=True))
    spec = op.spec
    if batch == 0:
        if not kind_of(spec.signature[0]).in_batches:
            return vectorize_node_fallback(op, node, *inputs)
        spec = replace(spec, signature=(Batch.kind, spec.signature))
    added = [new.type.ndim - old.type.ndim for new, old in zip(inputs, node.inputs, strict=True)]
    widened = []
    for new, old, ndim, more in zip(inputs, node.inputs, ndims, added, strict=True):
        own = old.type.ndim - ndim  # batch axes of the old input: ones stand for those that it lacks
        new = pt.expand_dims(new, tuple(range(more, more + batch - own)))
        widened.append(pt.expand_dims(new, tuple(range(max(added) - more))))
    return RequestOp(spec=spec)(*widened, return_list=True)


RESULT_AXES = {
    "solve": ("n,m",),
    "inv_quad": ("m",),
    "logdet": ("", ""),
    "inverse": ("n,n",),
    "inverse_diagonal": ("n",),
    "is_positive_definite": ("",),
}


def _names(signature):
    if signature[0] == "sum":
        return tuple(name for part in signature[1:] for name in _names(part))
    return (signature[0],)


# -- cotangents: matrices M of which only products, diagonals or, at worst, entries are asked ----------


@dataclass(frozen=True, eq=False)
class OuterCotangent:
    """``M = -left diag(g) right.T``, thin; no g stands for ones."""

    left: Any
    right: Any
    g: Any = None

    def _weighted(self, left):
        return left if self.g is None else left * self.g[..., None, :]

    def matmul(self, x):
        return -(self._weighted(self.left) @ (self.right.mT @ x))

    def rmatmul(self, x):
        return -(self.right @ (self._weighted(self.left).mT @ x))

    def diagonal(self):
        return -(self._weighted(self.left) * self.right).sum(axis=-1)

    def onto_factors(self, operator):
        """The cotangents of factors, of an operator that has them."""
        return operator.of_outer(-self._weighted(self.left), self.right)

    def onto_bands(self, operator):
        """The entries on the band of a banded operator."""
        return BandedOuter(**operator.band)(-self._weighted(self.left), self.right)

    def onto_sparse(self, operator):
        """The entries on the pattern of a sparse operator."""
        _, *places = operator.pattern.constants
        return SparseOuter()(-self._weighted(self.left), self.right, *places)

    def onto_parts(self, operator):
        """The cotangents of the parts of an operator that takes them from two thin sides."""
        return operator.of_outer(-self._weighted(self.left), self.right)

    def congruence_diagonal(self, M):
        left, right = (_coordinates(M, side) for side in (self.left, self.right))
        return -(self._weighted(left) * right).sum(axis=-1)

    def to_dense(self):
        return -(self._weighted(self.left) @ self.right.mT)


def _coordinates(M, x):
    """``M.T x``, without x where that is a solution with a matrix which M is the basis of."""
    if x.owner is not None and isinstance(x.owner.op, RequestOp) and x.owner.op.spec.kind == "solve":
        system, rhs = x.owner.op.system(x.owner.inputs)
        basis = basis_of(system.operator)
        if basis is not None and basis.M is M:
            return basis.dual.T @ rhs / basis.eigenvalues[:, None]
    return M.T @ x


@dataclass(frozen=True, eq=False)
class InverseCotangent:
    """``M = g A^-T``, asked of ``A`` by further requests."""

    system: RequestedSystem
    g: Any

    def matmul(self, x):
        return self.g[..., None, None] * self.system.solve(x, transposed=True)

    def rmatmul(self, x):
        return self.g[..., None, None] * self.system.solve(x)

    def diagonal(self):
        return self.g[..., None] * self.system.inverse_diagonal()

    def onto_factors(self, operator):
        return operator.of_inverse(self.g) if self.system.operator.unmarked is operator else None

    def congruence_diagonal(self, M):
        basis = basis_of(self.system.operator)
        if basis is not None and basis.M is M:
            return self.g / basis.eigenvalues
        return self.g * (M * self.system.solve(M)).sum(axis=-2)

    def to_dense(self):
        inverse = self.system.inverse()
        return self.g[..., None, None] * (inverse if self.system.symmetric else inverse.mT)


@dataclass(frozen=True, eq=False)
class SandwichCotangent:
    """``M = -A^-T diag(g) A^-T``: products are two solves, entries need the inverse."""

    system: RequestedSystem
    g: Any

    def matmul(self, x):
        inner = self.g[..., :, None] * self.system.solve(x, transposed=True)
        return -self.system.solve(inner, transposed=True)

    def rmatmul(self, x):
        return -self.system.solve(self.g[..., :, None] * self.system.solve(x))

    def diagonal(self):
        inverse = self.system.inverse()
        return -((inverse.mT * inverse) @ self.g[..., :, None])[..., 0]

    def congruence_diagonal(self, M):
        basis = basis_of(self.system.operator)
        if basis is not None and basis.M is M:
            return -(pt.sqr(basis.dual).T @ self.g) / pt.sqr(basis.eigenvalues)
        return (M * self.matmul(M)).sum(axis=-2)

    def to_dense(self):
        transposed = self.system.inverse().mT
        return -((transposed * self.g[..., None, :]) @ transposed)


# -- pullbacks (Giles 2008, "An extended collection of matrix derivative results") ---------------------


def summed_to(var, bar, ndim):
    """The cotangent of ``var``: ``bar`` summed over the batch axes, all but the last ``ndim``, that ``var``
    lacks, and over those along which it has length 1.

    PyTensor broadcasts no axis whose length 1 it learns when the function runs.
    """
    lacking = bar.type.ndim - var.type.ndim
    bar = bar.sum(axis=tuple(range(lacking))) if lacking else bar
    lengths = zip(var.type.shape[:-ndim], bar.type.shape[:-ndim], strict=True)
    axes = [axis for axis, (one, broadcast) in enumerate(lengths) if one == 1 and broadcast != 1]
    return bar.sum(axis=axes, keepdims=True) if axes else bar


def _pullback_of_each(spec, system, rhs, outputs, output_grads):
    """The pullback of a request on one matrix, for each of a batch."""
    operator = system.operator
    one, given = operator.one()
    inputs = list(one.parts) if rhs is None else [*one.parts, item_of(rhs, 2, given)]
    op = RequestOp(spec=replace(spec, signature=operator.of))
    answers = op(*inputs, return_list=True)
    given |= zip(answers, outputs, strict=True)
    bars = [
        g if _is_disconnected(g) else item_of(g, answer.type.ndim, given)
        for g, answer in zip(output_grads, answers, strict=True)
    ]
    of_one, b = op.system(inputs)
    return operator.for_each(PULLBACKS[spec.kind](op.spec, of_one, b, answers, bars), given, repeated=False)


def _solve_pullback(spec, system, rhs, outputs, output_grads):
    """``x = A^-1 b``: ``b_bar = A^-T x_bar``, ``A_bar = -b_bar x.T``."""
    [x], [x_bar] = outputs, output_grads
    b_bar = system.solve(x_bar, transposed=not spec.transposed)
    cotangent = OuterCotangent(x, b_bar) if spec.transposed else OuterCotangent(b_bar, x)
    return [*system.operator.pullback(cotangent), b_bar]


def _inv_quad_pullback(spec, system, rhs, outputs, output_grads):
    """``q_j = b_j' A^-1 b_j``, A symmetric: ``b_bar = 2 x diag(g)``, ``A_bar = -x diag(g) x.T``."""
    [g] = output_grads
    x = system.solve(rhs)
    return [*system.operator.pullback(OuterCotangent(x, x, g)), 2 * (x * g[..., None, :])]


def _logdet_pullback(spec, system, rhs, outputs, output_grads):
    """``A_bar = g A^-T``; NaN where there is no Cholesky factor that is asked for."""
    operator, g = system.operator.unmarked, output_grads[-1]
    if spec.checked:
        g = pt.switch(pt.isnan(outputs[-1]), outputs[-1], g)
    if operator.own_logdet_pullback:
        bars = [g * bar for bar in system.logdet_pullback()]
        return [*bars, *(part.zeros_like() for part in system.operator.parts[len(bars) :])]
    return system.operator.pullback(InverseCotangent(system, g))


def _inverse_pullback(spec, system, rhs, outputs, output_grads):
    """``Y = A^-1``: ``A_bar = -Y.T Y_bar Y.T``."""
    [Y], [Y_bar] = outputs, output_grads
    return system.operator.pullback(Dense(-(Y.mT @ Y_bar @ Y.mT)))


def _inverse_diagonal_pullback(spec, system, rhs, outputs, output_grads):
    """``w = diag(A^-1)``: ``A_bar = -Y.T diag(g) Y.T`` with ``Y = A^-1``."""
    return system.operator.pullback(SandwichCotangent(system, output_grads[0]))


def _second_pullback(spec, system, rhs, outputs, output_grads):
    """Of second derivatives: by the dense inverse."""
    parts = [part.copy() for part in system.operator.parts]
    whole = replace_operator(system, rebuilt(system.operator.signature, list(parts)))
    bars = whole.operator.pullback(Dense(whole.inverse().mT))
    asked = [(b, g) for b, g in zip(bars, output_grads, strict=True) if not _is_disconnected(g)]
    return pullback([b for b, _ in asked], parts, [g for _, g in asked], disconnected_inputs="ignore")


def _is_disconnected(cotangent) -> bool:
    return isinstance(cotangent.type, DisconnectedType)


PULLBACKS = {
    "solve": _solve_pullback,
    "inv_quad": _inv_quad_pullback,
    "logdet": _logdet_pullback,
    "inverse": _inverse_pullback,
    "inverse_diagonal": _inverse_diagonal_pullback,
    "logdet_pullback": _second_pullback,
}
