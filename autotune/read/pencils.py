"""Read ``s A + t D`` with constants A and D and two scalars, in the ways it is written."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import mul
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.assumptions import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import DimShuffle, Elemwise

from autotune.algebra.composite import Part
from autotune.algebra.congruence import Congruence
from autotune.algebra.diagonal import Diagonal
from autotune.algebra.known_inverse import KnownInverse
from autotune.algebra.low_rank import LowRank
from autotune.algebra.marks import Mark
from autotune.algebra.operator import value_of
from autotune.algebra.pencil import Pencil
from autotune.algebra.product import Product
from autotune.algebra.sum import Sum
from autotune.read.contractions import diagonal_of
from autotune.read.factors import scalar_of, split_factors
from autotune.read.spectra import (
    constants_of,
    constants_of_two,
    is_within,
    orthonormal_columns,
    pivots_of,
    rows_of_symmetric,
    symmetric_values,
)
from autotune.read.views import strip_view

Weighted = list[tuple[Any, np.ndarray]]
"""Arrays with their scalars: constant matrices (n, n), or diagonals (n,)."""


def pencil_of(var, terms: Callable[[Any], list | None], seconds: float) -> Pencil | Product | None:
    """``var`` as a pencil whose spectrum is found within so many ``seconds``; None if it is none.

    With scaled rows it is a product: of ``I - r W`` with weights W that were divided by their sums in each
    row (Ord 1975, "Estimation methods for models of spatial interaction"). ``terms`` reads a matrix as a sum
    of thin terms.
    """
    n = var.type.shape[-1]
    if var.type.ndim != 2 or n is None or n < 2 or var.type.shape[0] != n or not is_within(n, seconds):
        return None
    found = _weighted(var, pt.constant(np.asarray(1, var.dtype)), terms)
    if found is None:
        return None
    full = _merged([(s, x) for s, x in found if x.ndim == 2])
    thin = _merged([(s, x) for s, x in found if x.ndim == 1])
    if len(full) == 2 and not thin:
        return _pencil_of_two(full, var.dtype) if is_within(n, seconds / 2) else None
    if len(full) != 1 or len(thin) > 1:
        return None
    [(s, A)], (t, d) = full, thin[0] if thin else (pt.constant(np.asarray(0, var.dtype)), np.ones(n))
    w = _weights(s, t, var.dtype)
    S = symmetric_values(A)
    if S is not None:
        return _pencil(S, d, w)
    scaled = rows_of_symmetric(A)
    pencil = None if scaled is None else _pencil(scaled[1], d / scaled[0], w)
    if scaled is None or pencil is None:
        return None
    rows = Diagonal(pt.constant(scaled[0].astype(var.dtype)))
    return Product((Part(rows, symmetric=True), Part(pencil, symmetric=True)))


def _weights(s, t, dtype: str):
    return pt.stack([s.astype(dtype), t.astype(dtype)])


def _pencil_of_two(full: Weighted, dtype: str) -> Pencil | None:
    """Of two symmetric matrices, by the one of them that is positive definite and better conditioned."""
    (s, A), (t, D) = ((weight, symmetric_values(matrix)) for weight, matrix in full)
    if A is None or D is None:
        return None
    of_A, of_D = pivots_of(A), pivots_of(D)
    if of_A is not None and (of_D is None or of_A[0] < of_D[0]):
        s, t, A, D, of_D = t, s, D, A, of_A
    if of_D is None:
        return None
    return Pencil(w=_weights(s, t, dtype), **constants_of_two(A, D, of_D[1], dtype))


def _pencil(A: np.ndarray, d: np.ndarray, w) -> Pencil | None:
    identity = bool((d == 1).all())
    if not (identity or (np.isfinite(d).all() and (d > 0).all())):
        return None
    return Pencil(w=w, **constants_of(A, None if identity else d, w.dtype))


def in_eigenvectors(pencil: Pencil, low_rank: LowRank) -> Congruence:
    """The sum of both, ``M (diag(e) + P' U diag(c) V' P) M'`` with M the eigenvectors and P their duals."""
    M, P = pencil.M, pencil.dual
    U = P.T @ low_rank.U
    rotated = LowRank(U, low_rank.c, U if low_rank.symmetric else P.T @ low_rank.V, low_rank.symmetric)
    inside = Sum((Diagonal(pencil.eigenvalues), rotated))
    outside = KnownInverse.of(M.data, P.data.T, pencil.dtype)
    return Congruence((Part(outside), Part(inside, symmetric=inside.symmetric)))


def _merged(weighted: Weighted) -> Weighted:
    """Equal arrays once, with the sum of their scalars; diagonals that are constant as the identity."""
    found: Weighted = []
    for s, x in weighted:
        if x.ndim == 1 and (x == x[0]).all():
            s, x = s * x[0], np.ones_like(x)
        at = next((i for i, (_, other) in enumerate(found) if np.array_equal(x, other)), None)
        if at is None:
            found.append((s, x))
        else:
            found[at] = (found[at][0] + s, x)
    return found


def _weighted(var, s, terms) -> Weighted | None:
    """The constants of which ``s * var`` is the weighted sum; None if it is none."""
    core, transposed = strip_view(var)
    if isinstance(core, Constant):
        data = np.swapaxes(core.data, -2, -1) if transposed else core.data
        if data.ndim != 2 or data.shape[0] != data.shape[1]:
            return None
        d = np.diagonal(data)
        is_diagonal = np.count_nonzero(data) == np.count_nonzero(d)
        return [(s, np.array(d, dtype=float))] if is_diagonal else [(s, data)]
    match var.owner_op_and_inputs:
        case (SpecifyAssumptions() | Mark(), inner, *_):
            return _weighted(inner, s, terms)
        case (DimShuffle(is_left_expand_dims=True), inner):
            return _weighted(inner, s, terms)
        case (Elemwise(scalar_op=ps.Add()), *addends) if all(_is_matrix(a) for a in addends):
            return _joined([_weighted(a, s, terms) for a in addends])
        case (Elemwise(scalar_op=ps.Sub()), left, right) if _is_matrix(left) and _is_matrix(right):
            return _joined([_weighted(left, s, terms), _weighted(right, -s, terms)])
        case (Elemwise(scalar_op=ps.Neg()), inner):
            return _weighted(inner, -s, terms)
        case (Elemwise(scalar_op=ps.Mul()), *factors):
            scalar, vectors, matrices = split_factors(factors)
            if scalar is not None and not vectors and len(matrices) == 1 and scalar.ndim == 0:
                return _weighted(matrices[0], s * scalar, terms)
        case (Elemwise(scalar_op=ps.TrueDiv()), inner, divisor) if scalar_of(divisor) is not None:
            return _weighted(inner, s / scalar_of(divisor).astype(var.dtype), terms)
    return _of_thin_terms(terms(var) or [], s)


def _is_matrix(var) -> bool:
    return not any(var.type.broadcastable)


def _joined(groups: list[Weighted | None]) -> Weighted | None:
    return None if any(g is None for g in groups) else [one for g in groups for one in g or ()]


def _of_thin_terms(terms: list, s) -> Weighted | None:
    """Diagonals of constants and multiples of the identity; low rank of constants with one scalar."""
    if not terms or not all(isinstance(term, Diagonal | LowRank) for term in terms):
        return None
    diagonals = [term for term in terms if isinstance(term, Diagonal)]
    found = [_of_low_rank(term, s) for term in terms if isinstance(term, LowRank)]
    if diagonals:
        found.append(_of_diagonal(diagonal_of(diagonals), s))
    return None if None in found else [one for one in found if one is not None]


def _of_diagonal(d, s) -> tuple[Any, np.ndarray] | None:
    n = d.type.shape[-1]
    if isinstance(d, Constant):
        return s, np.asarray(d.data, dtype=float)
    value = None if n is None else value_of(d)
    if value is not None:
        return s * value, np.ones(n)
    match d.owner_op_and_inputs:
        case (Elemwise(scalar_op=ps.Mul()), *factors):
            scalars = [f for f in factors if all(f.type.broadcastable)]
            others = [f for f in factors if f not in scalars]
            if scalars and len(others) == 1:
                return _of_diagonal(others[0], reduce(mul, (scalar_of(f) for f in scalars), s))
    return None


def _of_low_rank(term: LowRank, s) -> tuple[Any, np.ndarray] | None:
    weight = pt.constant(np.asarray(1, term.U.dtype)) if term.c is None else value_of(term.c)
    if weight is None or not isinstance(term.U, Constant) or not isinstance(term.V, Constant):
        return None
    return s * weight, term.U.data.astype(float) @ term.V.data.astype(float).T


def _values_of(U) -> np.ndarray | None:
    """Those of a constant matrix, or of one that is filled with a number."""
    if isinstance(U, Constant):
        return np.asarray(U.data)
    match U.owner_op_and_inputs:
        case (Alloc(), Constant() as value, *_) if value.data.size == 1 and None not in U.type.shape:
            return np.full(U.type.shape, value.data.item())
    return None


def with_orthonormal_columns(operator, seconds: float) -> Any:
    """``t I + U diag(c) U'`` of a constant U with orthonormal columns, else ``operator`` as it is.

    Where columns are orthogonal, as in designs of groups, or have all the same weight.
    """
    match operator:
        case Sum(terms=(Diagonal(d=d) as diagonal, LowRank(U=U, c=c, symmetric=True))):
            values = None if value_of(d) is None else _values_of(U)
            uniform = c is None or value_of(c) is not None
            found = None if values is None else orthonormal_columns(values, uniform, seconds)
            if found is not None:
                Q, squares = (pt.constant(np.asarray(x, U.type.dtype)) for x in found)
                weights = squares if c is None else squares * (value_of(c) if uniform else c)
                return Sum((diagonal, LowRank(Q, weights.astype(U.type.dtype), Q, True, orthonormal=True)))
    return operator
