"""The single walk over a graph in which matrices and requests are read.

``meaning`` tells what an intermediate variable is worth (an inverse, a factor, the diagonal of a
factor ...). When a node completes an idiom, a replacement of its output is noted. In the end,
whatever of a root is still used by something that is not replaced becomes a request of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import ExtractDiag, atleast_Nd
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.linalg.decomposition.cholesky import Cholesky
from pytensor.tensor.linalg.inverse import MatrixInverse
from pytensor.tensor.linalg.solvers.general import Solve
from pytensor.tensor.linalg.solvers.psd import CholeskySolve
from pytensor.tensor.linalg.solvers.triangular import SolveTriangular
from pytensor.tensor.linalg.summary import Det, SLogDet
from pytensor.tensor.math import All, Dot, Sum

from autotune.facts import Facts
from autotune.reading.columns import outer_factors
from autotune.reading.naming import name_of
from autotune.reading.readings import Reading
from autotune.recognise import recognise, strip_view
from autotune.request_ops import RequestOp

ROOTS = (Solve, MatrixInverse, Det, SLogDet, Cholesky, RequestOp)
DTYPES = ("float32", "float64")


def core_of(op):
    return op.core_op if isinstance(op, Blockwise) else op


def is_root(node) -> bool:
    """Exactly PyTensor's classes: subclasses are what the pass itself writes.

    A request Op that was vectorised (wrapped in a ``Blockwise``) computes by its own inner graph.
    """
    core = core_of(node.op)
    return type(core) in ROOTS and (type(core) is not RequestOp or core is node.op)


def has_roots(fgraph) -> bool:
    return any(is_root(node) for node in fgraph.apply_nodes)


def read(fgraph) -> list[Reading]:
    """Every matrix that is solved, inverted, factorised or whose determinant is taken in ``fgraph``."""
    scan = Scan(fgraph)
    for node in fgraph.toposort():
        scan.visit(node)
    return scan.finish()


@dataclass(frozen=True, eq=False)
class Meaning:
    """``kind`` of thing that a variable is of the matrix of ``reading``; ``extra`` depends on the kind."""

    kind: str
    reading: Reading
    transposed: bool = False
    extra: Any = None


class Scan:
    def __init__(self, fgraph):
        self.fgraph = fgraph
        self.facts = Facts(fgraph)
        self.readings: dict[Any, Reading] = {}
        self.meaning: dict[Any, Meaning] = {}
        self.outer: dict[Any, tuple[Any, ...]] = {}
        self.roots: dict[Any, tuple[str, str, Reading]] = {}

    # -- matrices -----------------------------------------------------------------------------

    def reading_of(self, matrix) -> tuple[Reading, bool]:
        """The reading of ``matrix`` and whether it appears transposed; made when first met."""
        core, transposed = strip_view(matrix)
        if core not in self.readings:
            self.readings[core] = Reading(
                matrix=core, operator=recognise(core), name=matrix.name or name_of(self.fgraph, core)
            )
        reading = self.readings[core]
        for var in (matrix, core):
            reading.positive_definite = reading.positive_definite or self.facts.positive_definite(var)
            reading.symmetric = reading.symmetric or self.facts.symmetric(var)
        return reading, transposed

    def requested(self, node) -> Reading:
        """The reading of a request Op's operator: one for the same parts, facts and strategy."""
        system, _ = node.op.system(node.inputs)
        spec = node.op.spec
        key = (spec.signature, system.operator.parts, spec.positive_definite, spec.strategy)
        if key not in self.readings:
            self.readings[key] = Reading(
                matrix=None,
                operator=system.operator,
                positive_definite=spec.positive_definite,
                symmetric=spec.symmetric,
                carried=spec.strategy,
                decision=spec.decision,
                name=spec.decision.problem.name if spec.decision else None,
            )
        return self.readings[key]

    # -- the walk -----------------------------------------------------------------------------

    def visit(self, node) -> None:
        core = core_of(node.op)
        if is_root(node):
            if type(core) is RequestOp or node.inputs[0].type.dtype in DTYPES:
                getattr(self, f"_read_{type(core).__name__}")(node, core)
            return
        known = [i for i in node.inputs if i in self.meaning]
        if known:
            handler = self._handlers().get(type(core))
            if handler is not None:
                handler(node, core)

    def _handlers(self):
        return {
            DimShuffle: self._view,
            Dot: self._product,
            ExtractDiag: self._diagonal,
            Elemwise: self._elementwise,
            Sum: self._sum,
            All: self._all,
            SolveTriangular: self._triangular_solve,
            CholeskySolve: self._cholesky_solve,
        }

    def note(self, reading: Reading, old, new) -> None:
        """Replace ``old`` by ``new`` once the answers of ``reading`` are there."""
        if new.ndim < old.ndim:
            new = atleast_Nd(new, n=old.ndim)
        elif new.ndim > old.ndim:
            new = new.squeeze(axis=tuple(range(new.ndim - old.ndim)))
        new = new.astype(old.type.dtype)
        if old.type.shape != new.type.shape:
            new = pt.specify_shape(new, old.type.shape)
        reading.replacements[old] = new

    # -- roots --------------------------------------------------------------------------------

    def _read_Solve(self, node, op):
        A, b = node.inputs
        if op.assume_a not in ("gen", "sym", "her", "pos") or not _fits(b, A):
            return
        reading, transposed = self.reading_of(A)
        form = {"her": "sym"}.get(op.assume_a, op.assume_a)
        if form == "pos":
            reading.evidence = True
        elif form == "sym":
            reading.symmetric = True
        elif reading.positive_definite:
            form = "pos"
        elif reading.symmetric:
            form = "sym"
        self.note(reading, node.outputs[0], reading.solve(b, form, b_ndim=op.b_ndim, transposed=transposed))

    def _read_MatrixInverse(self, node, op):
        reading, transposed = self.reading_of(node.inputs[0])
        self.meaning[node.outputs[0]] = Meaning("inverse", reading, transposed)
        self.roots[node.outputs[0]] = ("inverse", "inverse", reading)

    def _read_Det(self, node, op):
        reading, _ = self.reading_of(node.inputs[0])
        self.meaning[node.outputs[0]] = Meaning("determinant", reading)
        self.roots[node.outputs[0]] = ("determinant", "lu", reading)

    def _read_SLogDet(self, node, op):
        reading, _ = self.reading_of(node.inputs[0])
        for old, new in zip(node.outputs, reading.demand("logdet", "lu"), strict=True):
            self.note(reading, old, new)

    def _read_Cholesky(self, node, op):
        if not op.lower:
            return
        reading, _ = self.reading_of(node.inputs[0])
        reading.evidence = True
        self.meaning[node.outputs[0]] = Meaning("factor", reading)
        self.roots[node.outputs[0]] = ("factor", "cholesky", reading)

    def _read_RequestOp(self, node, op):
        reading = self.requested(node)
        _, rhs = op.system(node.inputs)
        form = "cholesky" if op.spec.positive_definite else "lu" if rhs is None else "gen"
        answers = reading.demand(op.spec.kind, form, rhs=rhs, transposed=op.spec.transposed)
        for old, new in zip(node.outputs, answers, strict=True):
            self.note(reading, old, new)

    # -- what is made of them -----------------------------------------------------------------

    def _view(self, node, op):
        known = self.meaning[node.inputs[0]]
        out = node.outputs[0]
        if known.kind == "determinant":
            self.meaning[out] = known
        elif known.kind in ("inverse", "factor"):
            if op.is_left_expand_dims:
                self.meaning[out] = known
            elif op.is_left_expanded_matrix_transpose:
                self.meaning[out] = Meaning(known.kind, known.reading, not known.transposed)

    def _product(self, node, op):
        """``inv(A) @ b`` and ``b @ inv(A)``; with ``b`` an outer product the result is one again."""
        left, right = node.inputs
        inverse = self.meaning.get(left)
        if inverse is not None and inverse.kind == "inverse":
            return self._inverse_times(node, inverse, right)
        inverse = self.meaning.get(right)
        if inverse is not None and inverse.kind == "inverse":
            self._times_inverse(node, inverse, left)

    def _inverse_times(self, node, inverse, b):
        reading, out = inverse.reading, node.outputs[0]
        if not _fits(b, out):
            return
        factors = self._outer_of(b, reading)
        if factors is None:
            x = reading.solve(b, self._solve_form(reading), transposed=inverse.transposed)
        else:
            u, v, scale = factors
            u = reading.solve(u, self._solve_form(reading), transposed=inverse.transposed)
            x = self._note_outer(reading, out, u, v, scale)
        self.note(reading, out, x)

    def _times_inverse(self, node, inverse, b):
        """``b @ inv(A) = (inv(A).T @ b.T).T``"""
        reading, out = inverse.reading, node.outputs[0]
        if not _fits(b, out):
            return
        factors = self._outer_of(b, reading)
        if factors is None:
            x = reading.solve(b.mT, self._solve_form(reading), transposed=not inverse.transposed).mT
        else:
            u, v, scale = factors
            v = reading.solve(v.mT, self._solve_form(reading), transposed=not inverse.transposed).mT
            x = self._note_outer(reading, out, u, v, scale)
        self.note(reading, out, x)

    def _outer_of(self, b, reading):
        if b in self.outer:
            *factors, owner = self.outer[b]
            return factors if owner is reading else None
        return None if reading.batched else outer_factors(b)

    def _note_outer(self, reading, out, u, v, scale):
        self.outer[out] = (u, v, scale, reading)
        product = u * v
        return product if scale is None else product * scale

    def _solve_form(self, reading):
        if reading.positive_definite:
            return "pos"
        return "sym" if reading.symmetric else "gen"

    def _diagonal(self, node, op):
        known = self.meaning[node.inputs[0]]
        ndim = node.inputs[0].ndim
        if op.offset != 0 or (op.axis1 % ndim, op.axis2 % ndim) != (ndim - 2, ndim - 1):
            return
        if known.kind == "inverse":
            self.note(known.reading, node.outputs[0], known.reading.demand("inverse_diagonal", "inverse")[0])
        elif known.kind == "factor":
            self.meaning[node.outputs[0]] = Meaning("factor_diagonal", known.reading)

    def _elementwise(self, node, op):
        scalar_op, out = type(op.scalar_op), node.outputs[0]
        known = self.meaning.get(node.inputs[0])
        if known is None:
            return
        reading = known.reading
        match known.kind, scalar_op:
            case "determinant", ps.Abs:
                self.meaning[out] = Meaning("abs_determinant", reading)
            case "abs_determinant", ps.Log:
                self._replace_scalar(reading, out, reading.demand("logdet", "lu")[1])
            case "determinant", ps.Sign:
                self._replace_scalar(reading, out, reading.demand("logdet", "lu")[0])
            case "determinant", ps.Log:
                sign, logabsdet = reading.demand("logdet", "lu")
                self._replace_scalar(reading, out, pt.where(pt.eq(sign, -1), np.nan, logabsdet))
            case "factor_diagonal", ps.Log:
                self.meaning[out] = Meaning("log_diagonal", reading)
            case "factor_diagonal", ps.GT if _is_zero(node.inputs[1]):
                self.meaning[out] = Meaning("positive_diagonal", reading)
            case "whitened", ps.Sqr:
                self.meaning[out] = Meaning("whitened_squared", reading, extra=known.extra)
            case "whitened", ps.Pow if _is_two(node.inputs[1]):
                self.meaning[out] = Meaning("whitened_squared", reading, extra=known.extra)
            case "whitened", ps.Mul if len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]:
                self.meaning[out] = Meaning("whitened_squared", reading, extra=known.extra)

    def _replace_scalar(self, reading, old, new):
        """``old`` has the batch shape of the matrix, perhaps with further axes of length 1."""
        if not reading.batched or old.ndim == new.ndim:
            self.note(reading, old, new)
        else:
            self.note(reading, old, new.reshape(old.shape, ndim=old.ndim))

    def _sum(self, node, op):
        known = self.meaning[node.inputs[0]]
        ndim = node.inputs[0].ndim
        axes = set(range(ndim)) if op.axis is None else {a % ndim for a in op.axis}
        if known.kind == "log_diagonal" and ndim - 1 in axes:
            half_logdet = 0.5 * known.reading.demand("logdet", "cholesky")[1]
            self._reduce_rest(node, known.reading, half_logdet, axes - {ndim - 1})
        elif known.kind == "whitened_squared":
            b, b_ndim = known.extra
            vector_axis = ndim - b_ndim
            if vector_axis in axes:
                quad = known.reading.inv_quad(b, "cholesky", b_ndim=b_ndim)
                rest = {a - (a > vector_axis) for a in axes - {vector_axis}}
                self._reduce_rest(node, known.reading, quad, rest)

    def _reduce_rest(self, node, reading, value, axes):
        """Apply the axes of a Sum that the request itself does not reduce."""
        reduced_ndim = node.inputs[0].ndim - 1
        if value.ndim < reduced_ndim:
            value = atleast_Nd(value, n=reduced_ndim)
        self.note(reading, node.outputs[0], value.sum(axis=tuple(axes)) if axes else value)

    def _all(self, node, op):
        known = self.meaning[node.inputs[0]]
        ndim = node.inputs[0].ndim
        axes = set(range(ndim)) if op.axis is None else {a % ndim for a in op.axis}
        if known.kind != "positive_diagonal" or ndim - 1 not in axes:
            return
        [answer] = known.reading.demand("is_positive_definite", "cholesky")
        if answer.ndim < ndim - 1:
            answer = atleast_Nd(answer, n=ndim - 1)
        rest = tuple(axes - {ndim - 1})
        self.note(known.reading, node.outputs[0], answer.all(axis=rest) if rest else answer)

    def _triangular_solve(self, node, op):
        factor, b = self.meaning.get(node.inputs[0]), node.inputs[1]
        if factor is None or factor.kind != "factor" or op.unit_diagonal or not _fits(b, node.outputs[0]):
            return
        if op.lower and not factor.transposed:
            self.meaning[node.outputs[0]] = Meaning("whitened", factor.reading, extra=(b, op.b_ndim))
            return
        whitened = self.meaning.get(b)
        if op.lower or not factor.transposed or whitened is None or whitened.kind != "whitened":
            return
        if whitened.reading is factor.reading and whitened.extra[1] == op.b_ndim:
            solution = factor.reading.solve(whitened.extra[0], "cholesky", b_ndim=op.b_ndim)
            self.note(factor.reading, node.outputs[0], solution)

    def _cholesky_solve(self, node, op):
        factor, b = self.meaning.get(node.inputs[0]), node.inputs[1]
        if factor is None or factor.kind != "factor" or not _fits(b, node.outputs[0]):
            return
        if op.lower != factor.transposed:
            self.note(factor.reading, node.outputs[0], factor.reading.solve(b, "cholesky", b_ndim=op.b_ndim))

    # -- the end ------------------------------------------------------------------------------

    def finish(self) -> list[Reading]:
        """Demand the roots that are still needed as such, and tell which matrices are."""
        for root, (kind, form, reading) in self.roots.items():
            if not self._replaced(root):
                self._demand_root(root, kind, form, reading)
        for reading in self.readings.values():
            reading.positive_definite = reading.positive_definite or reading.evidence
            reading.symmetric = reading.symmetric or reading.positive_definite
            reading.shared = reading.matrix is not None and not self._replaced(reading.matrix)
        return [r for r in self.readings.values() if r.requests]

    def _demand_root(self, root, kind, form, reading):
        [answer] = reading.demand(kind, form)
        transposed = kind == "inverse" and self.meaning[root].transposed and not reading.symmetric
        self.note(reading, root, answer.mT if transposed else answer)

    def _replaced(self, var) -> bool:
        """Whether nothing needs ``var`` once all replacements are made."""
        memo: dict[Any, bool] = {}
        replaced = {old for reading in self.readings.values() for old in reading.replacements}

        def unneeded(v):
            if v in replaced:
                return True
            if v not in memo:
                memo[v] = all(
                    client.outputs and all(map(unneeded, client.outputs))
                    for client, _ in self.fgraph.clients[v]
                )
            return memo[v]

        return all(
            client.outputs and all(map(unneeded, client.outputs)) for client, _ in self.fgraph.clients[var]
        )


def _fits(b, reference) -> bool:
    """Right-hand sides in the matrix's own precision, or exact in it."""
    kind = b.type.numpy_dtype.kind
    return kind in "biu" or (kind == "f" and b.type.dtype in DTYPES and _at_most(b, reference))


def _at_most(b, reference) -> bool:
    return b.type.numpy_dtype.itemsize <= np.dtype(reference.type.dtype).itemsize


def _is_zero(var) -> bool:
    return isinstance(var, Constant) and not np.any(var.data)


def _is_two(var) -> bool:
    return isinstance(var, Constant) and bool(np.all(var.data == 2))
