"""Read what a matrix is from the graph that computes it: its structure, or a sum of thin terms.

A matrix is a sum of thin terms (`autotune.read.terms`), such terms beside a dense matrix or one with another
structure, a pencil of constants, or put together from other matrices; anything else is ``Dense``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.assumptions import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.graph.replace import vectorize_graph
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.subtensor import AdvancedIncSubtensor

from autotune.algebra import STRUCTURES
from autotune.algebra.batch import Batch
from autotune.algebra.block_diagonal import BlockDiagonal, split_rows
from autotune.algebra.composite import Composite, Part
from autotune.algebra.dense import Dense
from autotune.algebra.diagonal import Diagonal
from autotune.algebra.kronecker import Kronecker
from autotune.algebra.low_rank import LowRank
from autotune.algebra.marked import Marked
from autotune.algebra.marks import Mark, SpecifyConditionNumber, SpecifyPreconditioner
from autotune.algebra.operator import Operator, of_one_batch, rebuilt, value_of
from autotune.algebra.pencil import Pencil
from autotune.algebra.permuted import Order, Permuted, in_order
from autotune.algebra.sum import Sum, sum_of
from autotune.algebra.triangular import Triangular
from autotune.read.bands import BandReader
from autotune.read.batches import item_of_batch
from autotune.read.blocks import blocks_of
from autotune.read.chains import chain_of
from autotune.read.contractions import (
    diagonal_of,
)
from autotune.read.factors import is_zero, scalar_of, split_factors, split_multiple
from autotune.read.lags import LagReader
from autotune.read.line import LineReader
from autotune.read.masks import blocks_of_mask, cut
from autotune.read.noise import kronecker_noise, two_products
from autotune.read.pencils import in_eigenvectors, pencil_of, with_orthonormal_columns
from autotune.read.permutations import in_another_order
from autotune.read.points import along_a_line, on_a_grid, replicated
from autotune.read.sparse import SparseReader
from autotune.read.terms import Terms, is_square, minus_one, scaled
from autotune.read.triangles import is_triangular
from autotune.read.views import drop_leading_ones, marks_of, strip_view

LOOPS = 8
"""Time of an operation in a sparse factor, and what belongs to it, in those of a product with a matrix."""


class Recogniser(Terms):
    """Reads matrices as operators."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._bands = BandReader(self.terms, lambda var: self._holds("symmetric", var))
        self._sparse = SparseReader(self.terms, lambda var: self._holds("symmetric", var))

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
            return self._batch(dense.matrix) or self._of_each(dense.matrix) or dense
        banded = self._bands.banded(dense.matrix)
        if banded is not None:
            return self._of_less_work(banded, dense.matrix)
        composite = self.composite(matrix)
        if composite is not None:
            return composite
        line = self._on_line(dense.matrix)
        if line is not None:
            return line
        terms = self.terms(matrix)
        if not terms or any(map(_is_wide, terms)):
            sparse = self._sparse.sparse(dense.matrix) if terms else None
            if sparse is not None:
                return sparse
        if not terms:
            found = (
                self._in_another_order(dense.matrix)
                or self._kronecker_noise(dense.matrix)
                or self._of_constants(dense.matrix)
                or LagReader(self.terms).operator(dense.matrix)
                or self._of_fewer_points(dense.matrix)
                or self._updated(dense.matrix)
                or self._multiple(dense.matrix)
            )
            if found is not None:
                return found
            terms = self._beside_dense(dense.matrix)
        if not terms or not all(isinstance(term, Dense | Diagonal | LowRank) for term in terms):
            return dense
        operator = sum_of(terms)
        if not isinstance(operator, Sum) or any(p.dtype != matrix.dtype for p in operator.parts):
            return dense
        return with_orthonormal_columns(operator, self.compile_budget)

    def is_banded(self, var, at_most: float = math.inf) -> bool:
        """Whether it is a matrix with several diagonals, the rest zero; none of them further off."""
        found = self._bands.read(strip_view(var)[0])
        return found is not None and 0 < found.width <= at_most

    def is_identity(self, var) -> bool:
        """Whether it is an identity matrix of static order."""
        n = var.type.shape[-1]
        terms = self.terms(var) if n is not None and var.type.shape[-2] == n else None
        value = value_of(terms[0].d) if terms and [type(t) for t in terms] == [Diagonal] else None
        return isinstance(value, Constant) and value.data == 1

    def _of_less_work(self, banded, matrix) -> Operator:
        """A pencil of constants is, where factoring the band takes more work than a product with it."""
        n = matrix.type.shape[-1]
        wide = n is not None and max(banded.lower, banded.upper) ** 2 > n
        pencil = pencil_of(matrix, self.terms, self.compile_budget) if wide else None
        return pencil or banded

    def _of_constants(self, matrix) -> Operator | None:
        """A sparse matrix, or a pencil of constants, if a product with that takes less work."""
        sparse = self._sparse.sparse(matrix)
        height, n = (0, 0) if sparse is None else (sparse.pattern.height, sparse.pattern.n)
        pencil = pencil_of(matrix, self.terms, self.compile_budget) if LOOPS * height**2 >= n else None
        return pencil or sparse

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

    def _of_each(self, matrices) -> Batch | None:
        """A batch of matrices with a structure that is served in batches, else None."""
        item, given = item_of_batch(matrices)
        operator: Any = self._operator(item)
        if not operator.in_batches:
            operator = pencil_of(item, self.terms, self.compile_budget)
        if operator is None or not operator.in_batches or not given:
            return None
        parts = vectorize_graph(list(operator.parts), given)
        whole = of_one_batch(rebuilt(operator.signature, parts), matrices.type.ndim - 2)
        found = Batch(whole.signature, whole.parts)
        alike = all(part.dtype == matrices.dtype for part in found.parts)
        lengths = zip(found.batch, matrices.type.shape[:-2], strict=True)
        return found if alike and all(own in (n, None) for own, n in lengths) else None

    def composite(self, var) -> Composite | Triangular | None:
        """The operator of a matrix that is put together from others, or is triangular, or of a multiple of
        one; else None."""
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
                return _scaled_operator(self.composite(inner), minus_one(var))
            case (Elemwise(scalar_op=ps.Mul()), *factors):
                scalar, vectors, matrices = split_factors(factors)
                if scalar is not None and not vectors and len(matrices) == 1:
                    return _scaled_operator(self.composite(matrices[0]), scalar)
            case (Elemwise(scalar_op=ps.TrueDiv()), inner, divisor) if scalar_of(divisor) is not None:
                return _scaled_operator(self.composite(inner), 1.0 / scalar_of(divisor).astype(var.dtype))
        found = (cls.read(var, self.part) for cls in STRUCTURES if issubclass(cls, Composite))
        whole = next((operator for operator in found if operator is not None), None)
        return whole or blocks_of(var, self) or self._on_a_grid(var) or self._factorised(var)

    def _on_a_grid(self, var) -> Kronecker | None:
        factors = on_a_grid(var)
        return Kronecker.of([self.part(factor) for factor in factors]) if factors else None

    def _factorised(self, var) -> Any:
        """A triangular matrix, or a product of square ones; None for what is read as a sum with diagonals."""
        if any(not isinstance(term, LowRank) for term in self.terms(var) or []) or var.type.ndim != 2:
            return None
        for lower in (True, False) if is_square(var) else ():
            if is_triangular(var, self.facts, lower=lower):
                return Triangular(var, lower)
        return chain_of(var, self)

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
        if core.type.ndim != 2 or not (square or isinstance(operator, Composite | Triangular)):
            return None
        operator = operator.transpose() if transposed else operator
        return Part(operator, definite, symmetric, var.name or core.name, var)

    def _holds(self, fact: str, *variables) -> bool:
        return self.facts is not None and any(getattr(self.facts, fact)(var) for var in variables)

    def _multiple(self, matrix) -> Operator | None:
        """A multiple of a sum that has a structure as a whole."""
        inner, s = split_multiple(matrix)
        if s is None or inner.type.dtype != matrix.type.dtype:
            return None
        operator: Any = self._operator(inner)
        return None if operator.structure == ("dense",) else operator.scale(s.astype(matrix.type.dtype))

    def _updated(self, matrix) -> Operator | None:
        """A matrix with a structure, and low-rank terms of known, small rank, if it is the sum of these."""
        addends = self._addends(matrix)
        read = [self._addend(addend, matrix) or [] for addend in addends]
        thin = [bool(terms) and all(map(_is_thin_column, terms)) for terms in read]
        rest = [addend for addend, few in zip(addends, thin, strict=True) if not few]
        if not rest or len(rest) == len(addends):
            return None
        base = self._operator(rest[0] if len(rest) == 1 else pt.add(*rest))
        if base.unmarked.kind in ("dense", "sum"):
            return None
        update = [term for terms, is_thin in zip(read, thin, strict=True) if is_thin for term in terms]
        found = in_eigenvectors(base, sum_of(update)) if isinstance(base, Pencil) else sum_of([base, *update])
        return found if all(part.dtype == matrix.dtype for part in found.parts) else None

    def _kronecker_noise(self, matrix) -> Operator | None:
        """A Kronecker product of symmetric matrices plus a multiple of the identity, or another one of
        symmetric matrices of the same orders, else None."""
        products: list[Any] = []
        diagonals: list[Any] = []
        for addend in self._addends(matrix):
            terms = self._addend(addend, matrix)
            if terms and all(isinstance(term, Diagonal) for term in terms):
                diagonals += terms
            else:
                products.append(self.composite(addend))
        if not products or not all(isinstance(product, Kronecker) for product in products):
            return None
        if len(products) == 2 and not diagonals:
            found = two_products(products, matrix)
        elif len(products) == 1 and diagonals:
            found = kronecker_noise(products[0], diagonal_of(diagonals), matrix)
        else:
            return None
        return found if found and all(part.type.dtype == matrix.type.dtype for part in found.parts) else None

    def _on_line(self, matrix) -> Operator | None:
        """A covariance of points on a line, and diagonals, else None."""
        n = matrix.type.shape[-1]
        if n is None or matrix.type.shape[0] != n or matrix.type.numpy_dtype.kind != "f":
            return None
        diagonals, rest = self._without_diagonals(matrix)
        found = LineReader().covariance(rest, n, matrix.type.dtype) if rest else None
        return found.plus_diagonal(diagonal_of(diagonals)) if found and diagonals else found

    def _in_another_order(self, matrix) -> Operator | None:
        """A matrix that has a structure once its rows and columns are permuted: that is indexed so, a
        covariance of points on a line, or one that is zero between groups; and diagonals."""
        n = matrix.type.shape[-1]
        if n is None or matrix.type.shape[0] != n or matrix.type.numpy_dtype.kind != "f":
            return None
        diagonals, rest = self._without_diagonals(matrix)
        if not rest:
            return None
        whole = pt.add(*rest) if len(rest) > 1 else rest[0]
        found = in_another_order(whole)
        if found is not None:
            inner, places = found
            return self._permuted(matrix, inner, np.argsort(places), diagonals)
        order = along_a_line(whole)
        if order is not None:
            inner = cut(whole, order, n)
            if LineReader().covariance([inner], n, matrix.type.dtype) is not None:
                return self._permuted(matrix, inner, order, diagonals)
        blocks = blocks_of_mask(rest, n)
        return self._masked(matrix, whole, blocks, diagonals) if blocks else None

    def _permuted(self, matrix, inner, order, diagonals) -> Operator | None:
        """``matrix``, of which ``inner`` and the diagonals are the rows and columns in some order."""
        if diagonals:
            d = diagonal_of(diagonals)
            inner = inner + pt.diag(in_order(d, order) if value_of(d) is None else d)
        part = self._principal(matrix, inner)
        if part is None or part.operator.unmarked.kind == "dense":
            return None
        found = Permuted((part,), Order.of(np.argsort(order)))
        return found if all(p.type.dtype == matrix.type.dtype for p in found.parts) else None

    def _principal(self, matrix, inner) -> Part | None:
        """Rows and the same columns of ``matrix`` as a part."""
        part = self.part(inner)
        definite, symmetric = (self._holds(fact, matrix) for fact in ("positive_definite", "symmetric"))
        return part and replace(
            part,
            positive_definite=part.positive_definite or definite,
            symmetric=part.symmetric or symmetric or definite,
        )

    def _masked(self, matrix, whole, blocks, diagonals) -> Operator | None:
        n, order = matrix.type.shape[0], np.concatenate(blocks)
        cuts = [cut(whole, rows, n) for rows in blocks]
        if diagonals:
            pieces = split_rows(in_order(diagonal_of(diagonals), order), [len(rows) for rows in blocks])
            cuts = [inner + pt.diag(d) for inner, d in zip(cuts, pieces, strict=True)]
        found = BlockDiagonal.of([self._principal(matrix, inner) for inner in cuts])
        if found is None or any(p.type.dtype != matrix.type.dtype for p in found.parts):
            return None
        if np.array_equal(order, np.arange(n)):
            return found
        part = Part(found, found.positive_definite, found.symmetric)
        return Permuted((part,), Order.of(np.argsort(order)))

    def _of_fewer_points(self, matrix) -> Operator | None:
        """A covariance of points of which several are equal, and diagonals, else None."""
        diagonals, rest = self._without_diagonals(matrix)
        low_rank = replicated(pt.add(*rest) if len(rest) > 1 else rest[0]) if diagonals and rest else None
        return low_rank and sum_of([*diagonals, low_rank])

    def _without_diagonals(self, matrix) -> tuple[list, list]:
        """The diagonals and the other matrices that a matrix is the sum of."""
        diagonals, rest = [], []
        for addend in self._addends(matrix):
            terms = self.terms(addend)
            if terms and all(isinstance(term, Diagonal) for term in terms):
                diagonals += terms
            else:
                rest.append(addend)
        return diagonals, rest

    def _addends(self, var) -> list:
        """The matrices that ``var`` is the sum of; those that are subtracted are multiplied by -1."""
        match var.owner_op_and_inputs:
            case (SpecifyAssumptions() | Mark(), inner, *_):
                return self._addends(inner)
            case (Elemwise(scalar_op=ps.Add()), *addends):
                return [term for addend in addends for term in self._addends(addend)]
            case (Elemwise(scalar_op=ps.Sub()), left, right):
                return [*self._addends(left), *(minus_one(var) * term for term in self._addends(right))]
            case (AdvancedIncSubtensor() as op, base, placed, index) if (
                not op.set_instead_of_inc and not is_zero(base) and None not in var.type.shape
            ):  # so PyTensor writes what is placed into zeros, plus another matrix
                return [*self._addends(base), op(pt.zeros(var.type.shape, dtype=var.dtype), placed, index)]
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
                    return scaled(self._terms_or_dense(matrices[0]), scalar)
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


def recognise(matrix) -> Operator:
    """The operator of one ``matrix``, see ``Recogniser.operator``."""
    return Recogniser().operator(matrix)


def _is_small(term) -> bool:
    """Whether products with a symmetric term are known to be cheaper than with an n x n matrix."""
    rows, columns = term.U.type.shape
    return term.symmetric and None not in (rows, columns) and 2 * columns < rows


def _is_thin_column(term) -> bool:
    """Whether it is of low rank, of columns known to be few: of an unknown order any known number."""
    if not isinstance(term, LowRank):
        return False
    rows, columns = term.U.type.shape
    return columns is not None and (rows is None or 2 * columns < rows)


def _is_wide(term) -> bool:
    """Whether it is of low rank by name only: of half as many columns as rows, or more."""
    return isinstance(term, LowRank) and not _is_thin_column(term)


def _scaled_operator(operator, s):
    return None if operator is None else operator.scale(s)
