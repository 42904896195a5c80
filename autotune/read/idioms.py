"""What is made of an inverse, a determinant or a Cholesky factor: the idioms that are read.

Handlers are called for nodes with an input of known meaning. They give their output a meaning, or
note a replacement for it; a node that they do not understand is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import ExtractDiag, atleast_Nd
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.linalg.solvers.psd import CholeskySolve
from pytensor.tensor.linalg.solvers.triangular import SolveTriangular
from pytensor.tensor.math import All, Dot, Sum

from autotune.read.contracted import Contracted
from autotune.read.readings import Reading

DTYPES = ("float32", "float64")


@dataclass(frozen=True, eq=False)
class Meaning:
    """``kind`` of thing that a variable is of the matrix of ``reading``; ``extra`` depends on the kind.

    Of a determinant: the views taken of it; of a whitened right-hand side: that side and its ``b_ndim``.
    """

    kind: str
    reading: Reading
    transposed: bool = False
    extra: Any = None


class Idioms:
    """The handlers, by class of Op. ``meaning``: of variables.

    ``contracted`` follows inverses and solutions of structured matrices through gradient graphs.
    ``of_whitened``: what is read as one request though written in two steps, with what the first one gives.
    """

    def __init__(self) -> None:
        self.meaning: dict[Any, Meaning] = {}
        self.contracted = Contracted(self.note_contracted)
        self.of_whitened: list[tuple[Any, Any, Reading]] = []
        self.handlers = {
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
        self.contracted.add_answer(old, reading)

    def note_contracted(self, readings, old, new) -> None:
        """Replace ``old`` where the answers of all of ``readings`` are there."""
        first, *others = readings
        self.note(first, old, new)
        if others:
            first.needs[old] = tuple(others)

    def _view(self, node, op):
        known = self.meaning[node.inputs[0]]
        out = node.outputs[0]
        if known.kind == "determinant":
            self.meaning[out] = replace(known, extra=(*(known.extra or ()), op))
        elif known.kind in ("inverse", "factor"):
            if op.is_left_expand_dims:
                self.meaning[out] = known
            elif op.is_left_expanded_matrix_transpose:
                self.meaning[out] = Meaning(known.kind, known.reading, not known.transposed)

    def _product(self, node, op):
        """``inv(A) @ b`` and ``b @ inv(A)``, unless it is followed as a sum of thin terms."""
        left, right = node.inputs
        if node.outputs[0] in self.contracted.touched:
            return
        inverse = self.meaning.get(left)
        if inverse is not None and inverse.kind == "inverse":
            return self._inverse_times(node, inverse, right)
        inverse = self.meaning.get(right)
        if inverse is not None and inverse.kind == "inverse":
            self._times_inverse(node, inverse, left)

    def _inverse_times(self, node, inverse, b):
        reading, out = inverse.reading, node.outputs[0]
        if not fits(b, out) or not same_batch(reading, out, 2):
            return
        self.note(reading, out, reading.solve(b, self._solve_form(reading), transposed=inverse.transposed))

    def _times_inverse(self, node, inverse, b):
        """``b @ inv(A) = (inv(A).T @ b.T).T``"""
        reading, out = inverse.reading, node.outputs[0]
        if not fits(b, out) or not same_batch(reading, out, 2):
            return
        x = reading.solve(b.mT, self._solve_form(reading), transposed=not inverse.transposed)
        self.note(reading, out, x.mT)

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
                self.meaning[out] = Meaning("abs_determinant", reading, extra=known.extra)
            case "abs_determinant", ps.Log:
                self._replace_scalar(known, out, reading.demand("logdet", "lu")[1])
            case "determinant", ps.Sign:
                self._replace_scalar(known, out, reading.demand("logdet", "lu")[0])
            case "determinant", ps.Log:
                self._replace_scalar(known, out, log_of_determinant(*reading.demand("logdet", "lu")))
            case "factor_diagonal", ps.Log:
                self.meaning[out] = Meaning("log_diagonal", reading)
            case "factor_diagonal", ps.GT if _is_zero(node.inputs[1]):
                self.meaning[out] = Meaning("positive_diagonal", reading)
            case "whitened", ps.Sqr:
                self._squared(node, known)
            case "whitened", ps.Pow if _is_two(node.inputs[1]):
                self._squared(node, known)
            case "whitened", ps.Mul if len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]:
                self._squared(node, known)

    def _squared(self, node, known):
        of = (node.inputs[0], *known.extra)
        self.meaning[node.outputs[0]] = Meaning("whitened_squared", known.reading, extra=of)

    def _replace_scalar(self, known, old, new):
        """``old`` is made of views of the determinant: of ``new``, the same."""
        for view in known.extra or ():
            new = view(atleast_Nd(new, n=view.input_ndim))
        self.note(known.reading, old, new)

    def _sum(self, node, op):
        known = self.meaning[node.inputs[0]]
        ndim = node.inputs[0].ndim
        axes = set(range(ndim)) if op.axis is None else {a % ndim for a in op.axis}
        if known.kind == "log_diagonal" and ndim - 1 in axes:
            half_logdet = 0.5 * known.reading.demand("logdet", "cholesky")[1]
            self._reduce_rest(node, known.reading, half_logdet, axes - {ndim - 1})
        elif known.kind == "whitened_squared":
            whitened, b, b_ndim = known.extra
            vector_axis = ndim - b_ndim
            if vector_axis in axes:
                self.of_whitened.append((node.outputs[0], whitened, known.reading))
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
        if factor is None or factor.kind != "factor" or op.unit_diagonal or not fits(b, node.outputs[0]):
            return
        if not same_batch(factor.reading, node.outputs[0], op.b_ndim):
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
            self.of_whitened.append((node.outputs[0], b, factor.reading))

    def _cholesky_solve(self, node, op):
        factor, b = self.meaning.get(node.inputs[0]), node.inputs[1]
        if factor is None or factor.kind != "factor" or not fits(b, node.outputs[0]):
            return
        if not same_batch(factor.reading, node.outputs[0], op.b_ndim):
            return
        if op.lower != factor.transposed:
            self.note(factor.reading, node.outputs[0], factor.reading.solve(b, "cholesky", b_ndim=op.b_ndim))


def log_of_determinant(sign, logabsdet):
    """``log(det(A))``: NaN where the determinant is negative, with the gradient ``A^-T`` there as elsewhere.

    NaN is added, not chosen instead, for a constant that is chosen has no gradient.
    """
    return logabsdet + pt.switch(pt.eq(sign, -1), np.nan, 0.0).astype(logabsdet.type.dtype)


def fits(b, reference) -> bool:
    """Right-hand sides in the matrix's own precision, or exact in it."""
    kind = b.type.numpy_dtype.kind
    return kind in "biu" or (kind == "f" and b.type.dtype in DTYPES and _at_most(b, reference))


def _at_most(b, reference) -> bool:
    return b.type.numpy_dtype.itemsize <= np.dtype(reference.type.dtype).itemsize


def _is_zero(var) -> bool:
    return isinstance(var, Constant) and not np.any(var.data)


def _is_two(var) -> bool:
    return isinstance(var, Constant) and bool(np.all(var.data == 2))


def same_batch(reading, out, b_ndim) -> bool:
    """A batch of matrices is read where the solution ``out`` has that batch, not one that broadcasts it."""
    if not reading.batched:
        return True
    batch = tuple(length == 1 for length in reading.operator.batch)
    return out.type.broadcastable[: out.ndim - b_ndim] == batch
