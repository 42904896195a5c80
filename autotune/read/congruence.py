"""Products ``U M U'`` that are ``W W'``: of M the identity, a positive definite matrix, or its inverse.

``W = U``, ``U L`` and ``U L'^-1``, L the Cholesky factor of M, or of what M is the inverse of. So are written
covariances of random effects, and those of sparse Gaussian processes with ``U = Kfu`` and M the inverse of
``Kuu`` (Williams and Seeger, 2001; Titsias, 2009). As ``W W'`` the term is symmetric and semidefinite by how
it is computed, where the product of three is neither, and keeps digits that a solution with an
ill-conditioned matrix loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.linalg.decomposition.cholesky import cholesky
from pytensor.tensor.linalg.inverse import MatrixInverse
from pytensor.tensor.linalg.solvers.general import Solve
from pytensor.tensor.linalg.solvers.psd import CholeskySolve
from pytensor.tensor.linalg.solvers.triangular import solve_triangular
from pytensor.tensor.math import Dot

from autotune.read.factors import scalar_of, split_scalars
from autotune.read.symmetry import Symmetry
from autotune.read.views import strip_view


class Inverse(NamedTuple):
    """``M^-1`` in a product: ``matrix`` is M, or with ``factored`` a Cholesky factor of it, lower or not.

    ``promised``: by a solve, that M is positive definite.
    """

    matrix: Any
    factored: bool = False
    lower: bool = True
    promised: bool = False


def half(left, right, facts, is_diagonal, *, small: bool):
    """``(c, W)`` if ``left @ right``, of three factors or more, is ``c W W'`` for a scalar c (None for 1).

    None for other products, one around a diagonal matrix too, of which there are better readings; and where W
    would not have fewer columns than rows, with ``small`` also where that is not known.
    """
    scalars: list[Any] = []
    factors = [*_factors(left, scalars), *_factors(right, scalars)]
    many = len(factors) // 2
    before, [*middle], after = factors[:many], factors[many : len(factors) - many], factors[-many:]
    sides = [*before, *after]
    if len(factors) < 3 or any(isinstance(factor, Inverse) for factor in sides):
        return None
    if any(not isinstance(M, Inverse) and is_diagonal(M) for M in middle):
        return None
    k, n = before[-1].type.shape[-1], before[0].type.shape[-2]
    if (small and None in (k, n)) or (None not in (k, n) and k >= n):
        return None
    if not all(are_transposed(a, b, facts) for a, b in zip(before, reversed(after), strict=True)):
        return None
    W = _half(before, after, middle, facts)
    return None if W is None else (reduce(lambda a, b: a * b, scalars) if scalars else None, W)


def are_transposed(a, b, facts) -> bool:
    """Whether one matrix is proven to be the transpose of another, as a view or by how both are computed."""
    (one, flipped), (other, turned) = strip_view(a), strip_view(b)
    if one is other:
        return flipped != turned
    if isinstance(one, Constant) and isinstance(other, Constant):
        data = other.data if flipped != turned else np.swapaxes(other.data, -2, -1)
        return one.data.shape == data.shape and np.array_equal(one.data, data)
    return a.type.ndim == b.type.ndim == 2 and facts.symmetry.are_transposed(a, b)


def _half(before: Sequence[Any], after: Sequence[Any], middle: Sequence[Any], facts):
    """W, if what stands in the middle is known to be positive definite."""
    match middle:
        case []:
            return reduce(pt.matmul, before)
        case [Inverse() as inverse]:
            if inverse.factored:
                L = inverse.matrix if inverse.lower else inverse.matrix.mT
            elif _is_definite(inverse.matrix, inverse.promised, facts):
                L = symmetric_factor(inverse.matrix)
            else:
                return None
            return solve_triangular(L, reduce(pt.matmul, after), lower=True, b_ndim=2).mT
        case [M]:
            return reduce(pt.matmul, before) @ symmetric_factor(M) if _is_definite(M, False, facts) else None


def _is_definite(matrix, promised: bool, facts) -> bool:
    """A solve alone may be with what one triangle of the matrix stands for."""
    return facts.positive_definite(matrix) or (promised and facts.symmetric(matrix))


def symmetric_factor(matrix):
    """The lower Cholesky factor, with the gradient that a solve has: of both triangles.

    That of a factor is of one, which is the same only for what is computed alike on both sides.
    """
    alike = Symmetry(lambda var: False).holds(matrix)
    return cholesky(matrix if alike else 0.5 * (matrix + matrix.mT))


def _factors(var, scalars: list[Any]) -> list[Any]:
    """The matrices of a product in their order, inverses as `Inverse`; its scalars go into ``scalars``."""
    op = var.owner_op.core_op if isinstance(var.owner_op, Blockwise) else var.owner_op
    match op, var.owner and var.owner.inputs:
        case Dot(), [left, right] if min(left.type.ndim, right.type.ndim) > 1:
            return [*_factors(left, scalars), *_factors(right, scalars)]
        case DimShuffle(is_matrix_transpose=True), [inner]:
            return [_transposed(factor) for factor in reversed(_factors(inner, scalars))]
        case Solve(b_ndim=2, assume_a=kind), [M, b]:
            return [Inverse(M, promised=kind == "pos"), *_factors(b, scalars)]
        case CholeskySolve(b_ndim=2, lower=lower), [L, b]:
            return [Inverse(L, factored=True, lower=lower), *_factors(b, scalars)]
        case MatrixInverse(), [M]:
            return [Inverse(M)]
        case Elemwise(scalar_op=ps.Mul()), factors:
            scalar, rest = split_scalars(factors)
            if scalar is not None and len(rest) == 1 and rest[0].type.dtype == var.type.dtype:
                scalars.append(scalar.astype(var.type.dtype))
                return _factors(rest[0], scalars)
        case Elemwise(scalar_op=ps.TrueDiv()), [inner, divisor]:
            s = scalar_of(divisor)
            if s is not None and inner.type.dtype == var.type.dtype:
                scalars.append(1.0 / s.astype(var.type.dtype))
                return _factors(inner, scalars)
    return [var]


def _transposed(factor):
    """Of the inverse of a symmetric matrix, itself."""
    return factor if isinstance(factor, Inverse) else factor.mT
