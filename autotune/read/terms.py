"""Read a matrix variable as a sum of thin terms: diagonals, ``U diag(c) V.T``, inverses of such sums.

Here the patterns of graphs stand in which people and PyTensor's canonicalisation write them. Nothing is built
in the graph that is read: new variables (a scaled diagonal, joined columns) hang off it and appear only if a
rewrite uses them.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from pytensor.tensor.linalg.decomposition.cholesky import Cholesky
from pytensor.tensor.math import Dot
from pytensor.tensor.shape import SpecifyShape
from pytensor.tensor.subtensor import AdvancedIncSubtensor, AdvancedSubtensor

from autotune.algebra.diagonal import Diagonal
from autotune.algebra.low_rank import LowRank, equal_weights
from autotune.algebra.marks import Mark
from autotune.algebra.operator import length, of_each, of_one_length
from autotune.read.congruence import are_transposed, half
from autotune.read.constants import as_exact, cast_constants, constant_terms, factors_of, symmetric_term
from autotune.read.contractions import (
    InverseTerm,
    diagonal_of,
    is_thin,
    product_of,
)
from autotune.read.elementwise import masked_diagonal, outer_terms, scale_sides
from autotune.read.factors import (
    is_zero,
    row_or_column,
    same,
    scalar_of,
    scalars_of,
    split_factors,
    split_weights,
)
from autotune.read.groups import comparison_term, indexed_alike, rows_of_identity
from autotune.read.views import as_constant, drop_leading_ones


class Terms:
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
                taken_off = scaled(self._addend(right, var), minus_one(var))
                return _concatenated([self._addend(left, var), taken_off])
            case (Elemwise(scalar_op=ps.Cast()), inner) if inner.type.numpy_dtype.kind in "biu":
                return self.terms(inner)
            case (Elemwise(scalar_op=ps.EQ()), left, right):
                term = comparison_term(left, right)
                return None if term is None else [term]
            case (Elemwise(scalar_op=ps.Neg()), inner):
                return scaled(self.terms(inner), minus_one(var))
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
                return [Diagonal(as_constant(d))]
            case (Blockwise(core_op=AllocDiag(offset=0)), d) if d.type.ndim == var.type.ndim - 1:
                return [Diagonal(d)]
            case (Eye(), rows, columns, Constant() as offset) if (
                same(rows, columns) and not offset.data.any()
            ):
                return [Diagonal(pt.ones((rows,), dtype=var.dtype))]
            case (Alloc(), value, *shape) if all(value.type.broadcastable) and same(*shape[-2:]):
                return [_filled(scalar_of(value), var)]
            case (FillDiagonal(), base, value) if is_zero(base) and is_square(base):
                return [Diagonal(pt.full((length(base, -1),), value, dtype=var.dtype))]
            case (AdvancedIncSubtensor() as op, base, value, *index):
                return self._indexed_diagonal(op, base, value, index)
            case (AdvancedSubtensor(), *_):
                return self._indexed_terms(var)
        return None

    # -- elementwise products -----------------------------------------------------------------------

    def _product_terms(self, factors):
        scalar, vectors, matrices = split_factors(factors)
        terms = self._masked_terms(matrices, vectors) if matrices else outer_terms(vectors)
        return terms if scalar is None or not terms else scaled(terms, scalar)

    def _masked_terms(self, matrices, vectors):
        """``diag(a) A diag(b)`` for one structured ``A``; a diagonal one masks every other factor."""
        read = [self.terms(m) for m in matrices]
        masks = [i for i, t in enumerate(read) if t and all(isinstance(term, Diagonal) for term in t)]
        if masks:
            factors = [(m, t) for i, (m, t) in enumerate(zip(matrices, read, strict=True)) if i != masks[0]]
            return masked_diagonal(diagonal_of(read[masks[0]]), factors, vectors)
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
        return None if s is None else scaled(terms, 1.0 / s.astype(dtype))

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
        return [self._around(left, right) or symmetric_term(self.weighted_product(left, right))]

    def _around(self, left, right) -> LowRank | None:
        """``B M B'`` for a symmetric M of fewer rows, of whose sign nothing is known."""
        if self.facts is None or left.type.ndim != 2 or right.type.ndim != 2:
            return None
        found = []
        match left.owner_op_and_inputs:
            case (Dot(), B, M):
                found.append((B, M, right))
        match right.owner_op_and_inputs:
            case (Dot(), M, Bt):
                found.append((left, M, Bt))
        for B, M, Bt in found:
            (n, k), square = B.type.shape, M.type.ndim == 2 and M.type.shape[0] == M.type.shape[1]
            few = square and None not in (n, k) and k < n and not self._is_diagonal(M)
            if few and are_transposed(B, Bt, self.facts) and self.facts.symmetric(M):
                return LowRank.around(B, M)
        return None

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
        if is_zero(base):
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
            return [_diagonal(t, g, Z) if isinstance(t, Diagonal) else _rows(t, g) for t in terms]
        fewer = var.type.shape[0] is not None and 2 * count <= var.type.shape[0]
        return [LowRank(B[g], None, Z)] if fewer else None

    def _addend(self, addend, whole):
        """The terms of an addend of ``whole``, a scalar included, which is added to all entries."""
        s = scalars_of(addend)
        return self.terms(addend) if s is None else [_filled(s, whole)]


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


def _diagonal(term, index, Z) -> Diagonal | LowRank:
    """Rows and columns of a diagonal matrix, which is one again if none is taken twice."""
    once = isinstance(index, Constant) and len(np.unique(Z.data.argmax(axis=1))) == len(index.data)
    return Diagonal(term.d[index]) if once else LowRank(Z, term.d, Z)


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


def scaled(terms, s):
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


def minus_one(var):
    """-1 in the dtype of ``var``, where it wraps around as subtraction does."""
    return pt.constant(np.array(-1).astype(var.dtype))


def is_square(var) -> bool:
    """Whether a matrix is seen to be square: by its static shape, or by being filled into ``(n, n)``."""
    rows, columns = var.type.shape[-2:]
    match var.owner_op_and_inputs:
        case (Alloc(), _, *shape) if len(shape) > 1 and same(*shape[-2:]):
            return True
        case (AdvancedIncSubtensor(), base, *_):
            return is_square(base)
        case (Cholesky() | Blockwise(core_op=Cholesky()), _):
            return True
    return rows is not None and rows == columns


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
