"""Read what a matrix variable is from the graph that computes it.

This is the only module that reads graph patterns of matrices. It looks for
``diag(d) + U diag(c) V.T`` in the forms in which people and PyTensor's canonicalisation write it,
such terms beside a dense matrix, and, in graphs that were differentiated, sums of these with inverses of
such matrices; anything else is ``Dense``. Nothing is built in the graph that is read: new variables (a
scaled diagonal, joined columns) hang off it and appear only if a rewrite uses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.assumptions import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import Alloc, AllocDiag, ARange, Eye
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.extra_ops import FillDiagonal
from pytensor.tensor.math import Dot
from pytensor.tensor.shape import SpecifyShape
from pytensor.tensor.subtensor import AdvancedIncSubtensor, AdvancedSubtensor

from autotune.algebra import STRUCTURES
from autotune.algebra.composite import Composite, Part
from autotune.algebra.dense import Dense
from autotune.algebra.diagonal import Diagonal
from autotune.algebra.kronecker import Kronecker
from autotune.algebra.kronecker_noise import KroneckerNoise
from autotune.algebra.low_rank import LowRank, equal_weights
from autotune.algebra.marked import Marked
from autotune.algebra.marks import Mark, SpecifyConditionNumber, SpecifyPreconditioner
from autotune.algebra.operator import Operator, length, of_each, of_one_batch, of_one_length, value_of
from autotune.algebra.sum import Sum, sum_of
from autotune.read.congruence import are_transposed, half
from autotune.read.constants import as_exact, cast_constants, constant_terms, factors_of, symmetric_term
from autotune.read.contractions import (
    InverseTerm,
    Lazy,
    diagonal_of,
    is_supported,
    is_thin,
    product_of,
    readings_of,
)
from autotune.read.factors import row_or_column, same, scalar_of, scalars_of, split_factors, split_weights
from autotune.read.groups import comparison_term, group_weights, indexed_alike, rows_of_identity
from autotune.read.pencils import pencil_of, with_orthonormal_columns
from autotune.read.views import drop_leading_ones, marks_of, strip_view


class Recogniser:
    """Reads terms of matrices; ``inverses`` says which variables are inverses of matrices being read.

    ``compile_budget``: seconds that finding out what one constant is made of may take.
    """

    def __init__(
        self,
        inverses: Mapping[Any, InverseTerm] | None = None,
        facts: Any = None,
        compile_budget: float = 1.0,
    ):
        self.inverses = {} if inverses is None else inverses
        self.facts = facts
        self.compile_budget = compile_budget
        self._read: dict[Any, list | None] = {}
        self._of_root = False  # whether what is read is a term of a matrix with requests
        self._composites: dict[Any, Any] = {}

    def operator(self, matrix) -> Operator:
        """The operator of ``matrix``: a ``Sum`` of ``Dense``, ``Diagonal``, ``LowRank`` when it is read so.

        Else ``Dense``.

        Leading dimensions of static length 1 are dropped. A matrix with neither a diagonal base nor a
        low-rank term stays ``Dense``: PyTensor handles pure diagonals, and a pure Gram product has no
        base to apply Woodbury to.
        """
        outer, self._of_root = self._of_root, True
        try:
            return self._operator(matrix)
        finally:
            self._of_root = outer

    def _operator(self, matrix) -> Operator:
        dense = Dense(drop_leading_ones(matrix))
        if dense.matrix.ndim != 2:
            return self._batch(dense.matrix) or dense
        composite = self.composite(matrix)
        if composite is not None:
            return composite
        terms = self.terms(matrix) or self._updated(dense.matrix)
        noisy = None if terms else self._kronecker_noise(dense.matrix)
        if noisy is not None:
            return noisy
        if not terms:
            found = pencil_of(dense.matrix, self.terms, self.compile_budget)
            if found is not None:
                return found
            terms = self._beside_dense(dense.matrix)
        if not terms or not all(isinstance(term, Dense | Diagonal | LowRank | Composite) for term in terms):
            return dense
        operator = sum_of(terms)
        if not isinstance(operator, Sum) or any(p.dtype != matrix.dtype for p in operator.parts):
            return dense
        return with_orthonormal_columns(operator, self.compile_budget)

    def _batch(self, matrices) -> Operator | None:
        """A batch of diagonal matrices plus low rank, else None."""
        terms = self.terms(matrices)
        if not terms or {type(term) for term in terms} != {Diagonal, LowRank}:
            return None
        operator = of_one_batch(sum_of(terms), matrices.type.ndim - 2)
        if any(part.dtype != matrices.dtype for part in operator.parts):
            return None
        lengths = zip(operator.batch, matrices.type.shape[:-2], strict=True)
        return operator if all(own in (n, None) for own, n in lengths) else None

    def composite(self, var) -> Composite | None:
        """The operator of a matrix that is put together from others, or of a multiple of one; else None."""
        if var not in self._composites:
            found = self._composite(var)
            alike = found is not None and all(p.type.dtype == var.type.dtype for p in found.parts)
            self._composites[var] = found if alike else None
        return self._composites[var]

    def _composite(self, var) -> Any:
        match var.owner_op_and_inputs:
            case (SpecifyAssumptions() | Mark(), inner, *_):
                return self.composite(inner)
            case (DimShuffle(is_left_expand_dims=True), inner):
                return self.composite(inner)
            case (DimShuffle(is_left_expanded_matrix_transpose=True), inner):
                read = self.composite(inner)
                return read and read.transpose()
            case (Elemwise(scalar_op=ps.Neg()), inner):
                return _scaled_operator(self.composite(inner), _minus_one(var))
            case (Elemwise(scalar_op=ps.Mul()), *factors):
                scalar, vectors, matrices = split_factors(factors)
                if scalar is None or vectors or len(matrices) != 1:
                    return None
                return _scaled_operator(self.composite(matrices[0]), scalar)
            case (Elemwise(scalar_op=ps.TrueDiv()), inner, divisor) if scalar_of(divisor) is not None:
                return _scaled_operator(self.composite(inner), 1.0 / scalar_of(divisor).astype(var.dtype))
        found = (cls.read(var, self.part) for cls in STRUCTURES if issubclass(cls, Composite))
        return next((operator for operator in found if operator is not None), None)

    def part(self, var) -> Part | None:
        """A matrix as a part of another; None where it is not proven to be square."""
        core, transposed = strip_view(var)
        terms = self.terms(core)
        if terms and all(isinstance(term, Diagonal) for term in terms):
            operator: Any = sum_of(terms)
        else:
            operator = self.operator(core)
        definite = self._holds("positive_definite", var, core)
        symmetric = definite or operator.symmetric or self._holds("symmetric", var, core)
        rows, columns = core.type.shape[-2:]
        square = symmetric or (rows is not None and rows == columns) or "diagonal" in operator.structure
        if core.type.ndim != 2 or not (square or isinstance(operator, Composite)):
            return None
        return Part(
            operator.transpose() if transposed else operator, definite, symmetric, var.name or core.name
        )

    def _holds(self, fact: str, *variables) -> bool:
        return self.facts is not None and any(getattr(self.facts, fact)(var) for var in variables)

    def _updated(self, matrix) -> list | None:
        """A composite and low-rank terms of known, small rank, if ``matrix`` is the sum of just these."""
        addends = self._addends(matrix)
        if len(addends) < 2:
            return None
        read = [self._addend(addend, matrix) or [self.composite(addend)] for addend in addends]
        terms = [term for found in read for term in found]
        composites = [term for term in terms if isinstance(term, Composite)]
        others = [term for term in terms if not isinstance(term, Composite)]
        thin = all(isinstance(t, LowRank) and _is_thin_column(t) for t in others)
        return terms if len(composites) == 1 and others and thin else None

    def _kronecker_noise(self, matrix) -> KroneckerNoise | None:
        """A Kronecker product of symmetric matrices plus a multiple of the identity, else None."""
        composites, diagonals = [], []
        for addend in self._addends(matrix):
            terms = self._addend(addend, matrix)
            if terms and all(isinstance(term, Diagonal) for term in terms):
                diagonals += terms
            else:
                composites.append(self.composite(addend))
        if len(composites) != 1 or not isinstance(composites[0], Kronecker) or not diagonals:
            return None
        children, d = composites[0].children, diagonal_of(diagonals)
        if value_of(d) is None or not all(child.symmetric for child in children):
            return None
        factors = tuple(child.operator.to_dense() for child in children)
        found = KroneckerNoise(factors, d)
        return found if all(part.type.dtype == matrix.type.dtype for part in found.parts) else None

    def _addends(self, var) -> list:
        """The matrices that ``var`` is the sum of; those that are subtracted are multiplied by -1."""
        match var.owner_op_and_inputs:
            case (SpecifyAssumptions() | Mark(), inner, *_):
                return self._addends(inner)
            case (Elemwise(scalar_op=ps.Add()), *addends):
                return [term for addend in addends for term in self._addends(addend)]
            case (Elemwise(scalar_op=ps.Sub()), left, right):
                return [*self._addends(left), *(_minus_one(var) * term for term in self._addends(right))]
        return [var]

    def _beside_dense(self, matrix) -> list | None:
        """Terms of a sum that is dense but for symmetric low-rank terms of known, small rank; else None."""
        terms = self._terms_or_dense(matrix)
        low_ranks = [term for term in terms if isinstance(term, LowRank)]
        full = any(isinstance(t, Dense) and not any(t.matrix.type.broadcastable) for t in terms)
        return terms if full and low_ranks and all(map(_is_small, low_ranks)) else None

    def _terms_or_dense(self, var) -> list:
        match var.owner_op_and_inputs:
            case (Mark(), inner, *_):
                return self._terms_or_dense(inner)
            case (Elemwise(scalar_op=ps.Add()), *addends) if self.terms(var) is None:
                return [term for a in addends for term in self._terms_or_dense(a)]
            case (Elemwise(scalar_op=ps.Mul()), *factors) if self.terms(var) is None:
                scalar, vectors, matrices = split_factors(factors)
                if scalar is not None and len(matrices) == 1 and not vectors:
                    return _scaled(self._terms_or_dense(matrices[0]), scalar)
        return self.terms(var) or [Dense(var)]

    def marked(self, operator, matrix) -> Any:
        """``operator`` with what the user says of ``matrix``, or of what it is a view or a multiple of."""
        for node in marks_of(matrix):
            known = operator if isinstance(operator, Marked) else Marked(operator)
            match node.op:
                case SpecifyPreconditioner() if known.inverse is None:
                    operator = replace(known, inverse=self._inverse(node.inputs[1]))
                case SpecifyConditionNumber(condition_number=number):
                    operator = replace(known, condition_number=min(number, known.condition_number or number))
        return operator

    def _inverse(self, matrix) -> Operator:
        """A preconditioner: in its parts where all of them are thin."""
        terms = self.terms(matrix) or [Dense(matrix)]
        thin = all(isinstance(term, Diagonal | LowRank) for term in terms)
        return sum_of(terms) if thin else Dense(matrix)

    def terms(self, var) -> list | None:
        """Terms whose sum is ``var``, or None when some part of it is not thin.

        Integers wrap around and a bool absorbs: a sum of such is one diagonal in its own dtype, a product of
        constants in which neither happens, or is not read.
        """
        key = (var, self._of_root)
        if key not in self._read:
            terms = self._terms(var)
            if terms and var.type.numpy_dtype.kind in "biu":
                terms = _of_whole_numbers(terms, var.type.numpy_dtype)
            self._read[key] = terms and [_cast(term, var.dtype) for term in terms]
        return self._read[key]

    def _terms(self, var) -> list | None:
        if var in self.inverses:
            return [self.inverses[var]]
        if var.type.ndim < 2 or any(var.type.broadcastable[-2:]):
            return None
        if isinstance(var, Constant):
            return constant_terms(var, self.compile_budget)
        match var.owner_op_and_inputs:
            case (DimShuffle(is_left_expand_dims=True), inner):
                return self.terms(inner)
            case (DimShuffle(is_left_expanded_matrix_transpose=True), inner):
                terms = self.terms(inner)
                return terms and [term.transpose() for term in terms]
            case (SpecifyAssumptions() | Mark(), inner, *_):
                return self.terms(inner)
            case (SpecifyShape(), inner, *lengths) if var.type.ndim == 2 and all(
                isinstance(n, Constant) for n in lengths
            ):
                return _of_shape(self.terms(inner), *var.type.shape[-2:])
            case (Elemwise(scalar_op=ps.Add()), *addends):
                return _concatenated([self._addend(a, var) for a in addends])
            case (Elemwise(scalar_op=ps.Sub()), left, right):
                taken_off = _scaled(self._addend(right, var), _minus_one(var))
                return _concatenated([self._addend(left, var), taken_off])
            case (Elemwise(scalar_op=ps.Cast()), inner) if inner.type.numpy_dtype.kind in "biu":
                return self.terms(inner)
            case (Elemwise(scalar_op=ps.EQ()), left, right):
                term = comparison_term(left, right)
                return None if term is None else [term]
            case (Elemwise(scalar_op=ps.Neg()), inner):
                return _scaled(self.terms(inner), _minus_one(var))
            case (Elemwise(scalar_op=ps.Mul()), *factors):
                return self._product_terms(factors)
            case (Elemwise(scalar_op=ps.TrueDiv()), numerator, denominator):
                return self._quotient_terms(numerator, denominator, var.dtype)
            case (Dot() | Blockwise(core_op=Dot()), left, right):
                return self._dot_terms(left, right)
            case (AllocDiag(offset=0, axis1=rows, axis2=columns), d) if (rows, columns) == (
                d.type.ndim - 1,
                d.type.ndim,
            ):
                return [Diagonal(d)]
            case (Blockwise(core_op=AllocDiag(offset=0)), d) if d.type.ndim == var.type.ndim - 1:
                return [Diagonal(d)]
            case (Eye(), rows, columns, Constant() as offset) if (
                same(rows, columns) and not offset.data.any()
            ):
                return [Diagonal(pt.ones((rows,), dtype=var.dtype))]
            case (Alloc(), value, *shape) if all(value.type.broadcastable) and same(*shape[-2:]):
                return [_filled(scalar_of(value), var)]
            case (FillDiagonal(), base, value) if _is_zero(base) and _is_square(base):
                return [Diagonal(pt.full((length(base, -1),), value, dtype=var.dtype))]
            case (AdvancedIncSubtensor() as op, base, value, *index):
                return self._indexed_diagonal(op, base, value, index)
            case (AdvancedSubtensor(), *_):
                return self._indexed_terms(var)
        return None

    # -- elementwise products -----------------------------------------------------------------------

    def _product_terms(self, factors):
        scalar, vectors, matrices = split_factors(factors)
        terms = self._masked_terms(matrices, vectors) if matrices else _outer_terms(vectors)
        return terms if scalar is None or not terms else _scaled(terms, scalar)

    def _masked_terms(self, matrices, vectors):
        """``diag(a) A diag(b)`` for one structured ``A``; a diagonal one masks every other factor."""
        read = [self.terms(m) for m in matrices]
        masks = [i for i, t in enumerate(read) if t and all(isinstance(term, Diagonal) for term in t)]
        if masks:
            factors = [(m, t) for i, (m, t) in enumerate(zip(matrices, read, strict=True)) if i != masks[0]]
            return _masked_diagonal(diagonal_of(read[masks[0]]), factors, vectors)
        if len(matrices) != 1 or read[0] is None:
            return None
        return [scale_sides(term, vectors) for term in read[0]]

    def _quotient_terms(self, numerator, denominator, dtype):
        terms, s, vector = self.terms(numerator), scalars_of(denominator), row_or_column(denominator)
        if not terms or (s is None and vector is None):
            return None
        if all(isinstance(term, Diagonal) for term in terms):
            d = diagonal_of(terms)
            d, divisor = of_one_length([d, vector[1]]) if s is None else (d, of_each(s))
            # cast first: PyTensor makes 1 / s of an integer s a reciprocal in less than double precision
            return [Diagonal(d / divisor.astype(dtype))]
        return None if s is None else _scaled(terms, 1.0 / s.astype(dtype))

    # -- matrix products ----------------------------------------------------------------------------

    def _dot_terms(self, left, right):
        """``U diag(c) V.T`` from a matrix product, scalars and column weights moved into ``c``.

        With an inverse among the terms of a factor, the product of the terms.
        """
        left, right = drop_leading_ones(left), drop_leading_ones(right)
        if min(left.ndim, right.ndim) < 2:
            return None
        found = self.facts and half(left, right, self.facts, self._is_diagonal, small=not self._of_root)
        if found:
            c, W = found
            return [LowRank(W, None if c is None else equal_weights(W, c), W)]
        if self.has_inverse(left) or self.has_inverse(right):
            a, b = self.terms(left), self.terms(right)
            return product_of(a, b) if a and b and all(map(is_thin, [*a, *b])) else None
        congruent = self._congruent_terms(left, right)
        if congruent:
            return congruent
        return [symmetric_term(self.weighted_product(left, right))]

    def weighted_product(self, left, right) -> LowRank:
        """``left @ right`` as ``U diag(c) V.T``, and whether V is U."""
        U, c_left = split_weights(left, axis="row")
        Vt, c_right = split_weights(right, axis="column")
        U, c_middle = self._split_middle(U)
        alike = self.facts is not None and are_transposed(U, Vt, self.facts)
        U, V = factors_of(U, Vt)
        V = U if alike else V
        weights = [_as_weights(c, U) for c in (c_left, c_middle, c_right) if c is not None]
        return LowRank(U, prod(weights[1:], start=weights[0]) if weights else None, V)

    def _congruent_terms(self, left, right):
        """``B A B'`` for symmetric terms of A, not all of them diagonal."""
        match left.owner_op_and_inputs, right.owner_op_and_inputs:
            case ((Dot() | Blockwise(core_op=Dot()), base, middle), _):
                B, V = factors_of(base, right)
            case (_, (Dot() | Blockwise(core_op=Dot()), middle, base)):
                B, V = factors_of(left, base)
            case _:
                return None
        terms = (self.terms(middle) if B is V else None) or []
        kinds = {type(term) if getattr(term, "symmetric", False) else None for term in terms}
        return [_congruent(term, B) for term in terms] if LowRank in kinds <= {Diagonal, LowRank} else None

    def _is_diagonal(self, var) -> bool:
        terms = self.terms(var) or []
        return bool(terms) and all(isinstance(term, Diagonal) for term in terms)

    def has_inverse(self, var) -> bool:
        """Whether ``var`` is read as a sum in which an inverse occurs."""
        if not self.inverses:
            return False
        terms = self.terms(var) or []
        return any(not isinstance(term, Diagonal | LowRank) for term in terms)

    def _split_middle(self, U):
        """``U @ diag(c)`` written as a product with a diagonal matrix."""
        match U.owner_op_and_inputs:
            case (Dot() | Blockwise(core_op=Dot()), base, middle):
                if self._is_diagonal(middle):
                    return base, diagonal_of(self.terms(middle))
        return U, None

    # -- matrices and diagonals written through an index --------------------------------------------

    def _indexed_diagonal(self, op, base, value, index):
        """``zeros[arange, arange].set(d)`` and ``base[arange, arange].inc(d)``."""
        if base.ndim != 2 or len(index) != 2 or value.ndim > 1:
            return None
        if not all(_is_full_range(i, base) for i in index):
            return None
        d = pt.broadcast_to(value, (length(base, -1),)).astype(base.dtype)
        if _is_zero(base):
            return [Diagonal(d)]
        if op.set_instead_of_inc:
            return None
        return _concatenated([self.terms(base), [Diagonal(d)]])

    def _indexed_terms(self, var):
        """``B[g][:, g]``: of fewer groups than rows it is ``Z B Z'``."""
        B, g = indexed_alike(var) or (None, None)
        count = None if B is None else B.type.shape[0]
        if B is None or count is None or B.type.shape[1] != count or _out_of_range(g, count):
            return None
        Z = rows_of_identity(g, count, B.type.dtype)
        terms = self.terms(B)
        if terms and all(isinstance(t, Diagonal | LowRank) and t.symmetric for t in terms):
            return [LowRank(Z, t.d, Z) if isinstance(t, Diagonal) else _rows(t, g) for t in terms]
        fewer = var.type.shape[0] is not None and 2 * count <= var.type.shape[0]
        return [LowRank(B[g], None, Z)] if fewer else None

    def _addend(self, addend, whole):
        """The terms of an addend of ``whole``, a scalar included, which is added to all entries."""
        s = scalars_of(addend)
        return self.terms(addend) if s is None else [_filled(s, whole)]


def recognise(matrix) -> Operator:
    """The operator of one ``matrix``, see ``Recogniser.operator``."""
    return Recogniser().operator(matrix)


def _is_small(term) -> bool:
    """Whether products with a symmetric term are known to be cheaper than with an n x n matrix."""
    rows, columns = term.U.type.shape
    return term.symmetric and None not in (rows, columns) and 2 * columns < rows


def _is_thin_column(term) -> bool:
    """Whether its columns are known to be few: of an unknown order any known number."""
    rows, columns = term.U.type.shape
    return columns is not None and (rows is None or 2 * columns < rows)


def _concatenated(groups):
    if any(group is None for group in groups):
        return None
    return [term for group in groups for term in group]


def _filled(value, matrix) -> LowRank:
    """The matrix like another, square one that is a scalar everywhere, each one of a batch its own."""
    ones = pt.ones((length(matrix, -1), 1), dtype=matrix.dtype)
    return LowRank(ones, equal_weights(ones, value), ones)


def _congruent(term, B) -> LowRank:
    """``B diag(d) B'`` or ``B U diag(c) U' B'``"""
    if isinstance(term, Diagonal):
        return LowRank(B, term.d, B)
    U = B @ term.U
    return LowRank(U, term.c, U)


def _rows(term, index) -> LowRank:
    """Rows and columns of a symmetric term."""
    U = term.U[index]
    return LowRank(U, term.c, U)


def _out_of_range(index, count: int) -> bool:
    """Whether an index is known to be an error."""
    return isinstance(index, Constant) and not np.all((index.data >= -count) & (index.data < count))


def _of_whole_numbers(terms, dtype):
    if all(isinstance(term, Diagonal) for term in terms):
        return [Diagonal(diagonal_of(terms))]
    exact = as_exact(terms[0], dtype) if len(terms) == 1 and isinstance(terms[0], LowRank) else None
    return exact and [exact]


def _scaled_operator(operator, s):
    return None if operator is None else operator.scale(s)


def _scaled(terms, s):
    return terms and [term.scale(s) for term in terms]


def _cast(term, dtype):
    """A diagonal, or what is constant, in the dtype of the sum that it is part of."""
    if isinstance(term, LowRank):
        return cast_constants(term, dtype)
    return Diagonal(term.d.astype(dtype)) if isinstance(term, Diagonal) else term


def _of_shape(terms, rows, columns):
    """Thin terms of a square matrix whose shape is specified, which still refuse another; else None."""
    n = columns if rows is None else rows
    if not terms or columns not in (None, n):
        return None
    thin = all(isinstance(term, Diagonal | LowRank) for term in terms)
    return [_of_order(term, n) for term in terms] if thin else None


def _of_order(term, n):
    if isinstance(term, Diagonal):
        return Diagonal(pt.specify_shape(term.d, (n,)))
    U = pt.specify_shape(term.U, (n, None))
    return LowRank(U, term.c, U if term.symmetric else pt.specify_shape(term.V, (n, None)), term.tied)


def _minus_one(var):
    """-1 in the dtype of ``var``, where it wraps around as subtraction does."""
    return pt.constant(np.array(-1).astype(var.dtype))


def _is_square(var) -> bool:
    """Whether a matrix is seen to be square: by its static shape, or by being filled into ``(n, n)``."""
    rows, columns = var.type.shape[-2:]
    match var.owner_op_and_inputs:
        case (Alloc(), _, *shape) if len(shape) > 1 and same(*shape[-2:]):
            return True
    return rows is not None and rows == columns


def _is_zero(var) -> bool:
    match var.owner_op_and_inputs:
        case (Alloc(), value, *_):
            return _is_zero(value)
        case (DimShuffle(), inner):
            return _is_zero(inner)
    return isinstance(var, Constant) and not np.any(var.data)


def _outer_terms(vectors):
    """``u[:, None] * v[None, :]``, u and v products of vectors, is ``LowRank`` of rank one."""
    columns = [v for side, v in vectors if side == "column"]
    rows = [v for side, v in vectors if side == "row"]
    if not columns or not rows:
        return None
    dtype = ps.upcast(*(v.type.dtype for _, v in vectors))
    U = _multiplied(columns, dtype)[..., :, None]
    return [LowRank(U, None, U if _same_vectors(columns, rows) else _multiplied(rows, dtype)[..., :, None])]


def _multiplied(vectors, dtype):
    """The product of some vectors, more than one of them in the dtype of all that they are factors of."""
    if len(vectors) == 1:
        return vectors[0]
    first, *others = of_one_length([v.astype(dtype) for v in vectors])
    return prod(others, start=first)


def _same_vectors(some, others) -> bool:
    """Whether ``some`` are ``others`` in any order."""
    left = list(others)
    for v in some:
        at = next((i for i, other in enumerate(left) if same(v, other)), None)
        if at is None:
            return False
        del left[at]
    return not left


def _masked_diagonal(d, factors, vectors):
    """The one term of ``diag(d) * A * B ...``; ``factors`` pair each matrix with its terms, if it is read."""
    read = [terms for _, terms in factors if terms]
    if not all(is_supported(terms) for terms in read):
        return None

    def make():
        own = [
            diagonal_of(terms) if terms else pt.diagonal(drop_leading_ones(matrix), axis1=-2, axis2=-1)
            for matrix, terms in factors
        ]
        first, *others = of_one_length([d, *own, *(v for _, v in vectors)])
        return Diagonal(prod(others, start=first))

    readings = readings_of(term for terms in read for term in terms)
    return [Lazy(Diagonal, readings, make)] if readings else [make()]


def scale_sides(term, vectors):
    """``diag(a) A diag(b)``; a symmetric term stays so when ``a`` is ``b``."""
    sides = dict(vectors)
    if vectors and isinstance(term, LowRank) and term.symmetric:
        c = group_weights(term.U, [v for _, v in vectors])
        if c is not None:
            return LowRank(term.U, c if term.c is None else c * term.c, term.U)
    both = len(vectors) == len(sides) == 2 and same(sides["row"], sides["column"])
    if both and isinstance(term, LowRank) and term.symmetric:
        U = term.U * sides["row"][..., :, None]
        return LowRank(U, term.c, U)
    for side, v in vectors:
        term = term.scale_rows(v) if side == "column" else term.transpose().scale_rows(v).transpose()
    return term


def _as_weights(c, U):
    """Weights of columns, which may have come as one for all of them."""
    if c.ndim == 0:
        return equal_weights(U, c)
    return c if not c.type.broadcastable[-1] else equal_weights(U, c[..., 0])


def _is_full_range(index, base) -> bool:
    """Whether ``index`` is ``arange(n)`` for an n x n ``base`` of static size."""
    n = base.type.shape[0]
    if n is None or base.type.shape[1] != n:
        return False
    if isinstance(index, Constant):
        return np.array_equal(index.data, np.arange(n))
    match index.owner_op_and_inputs:
        case (ARange(), Constant() as start, Constant() as stop, Constant() as step):
            return (int(start.data), int(stop.data), int(step.data)) == (0, n, 1)
    return False
