"""Kronecker products plus noise: a multiple of the identity, or another Kronecker product, of diagonal
matrices or others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.linalg.solvers.triangular import solve_triangular
from pytensor.tensor.shape import Reshape

from autotune.algebra.composite import Part
from autotune.algebra.congruence import Congruence, Guard
from autotune.algebra.diagonal import Diagonal
from autotune.algebra.kronecker import Kronecker, outer
from autotune.algebra.kronecker_noise import KroneckerNoise
from autotune.algebra.operator import Operator, value_of
from autotune.algebra.triangular import Triangular
from autotune.read.congruence import symmetric_factor
from autotune.read.factors import row_or_column, split_factors, split_scalars

# Entries of the noise of one factor may differ by so much; beyond, scaling them loses digits.
MOST_RATIO = 100.0


def kronecker_noise(product: Kronecker, d: Any, matrix: Any) -> Operator | None:
    """The operator of ``matrix``, the sum of a Kronecker product and ``diag(d)``.

    ``F_1 kron F_2 + diag(d_1) kron diag(d_2)`` is scaled to ``F_i / (d_i d_i')^1/2``, and noise of one
    (Rakitsch et al. 2013, "It is all in the noise"), where no noise is 0 or far smaller than another.
    """
    if not all(child.symmetric for child in product.children):
        return None
    factors = tuple(child.matrix for child in product.children)
    if value_of(d) is not None:
        return KroneckerNoise(factors, d)
    vectors = outer_factors(d)
    orders = [F.type.shape[0] for F in factors], [v.type.shape[0] for v in vectors]
    if len(vectors) < 2 or None in orders[0] or orders[0] != orders[1]:
        return None
    return _scaled(factors, vectors, matrix)


def outer_factors(d: Any) -> list[Any]:
    """The vectors of which a vector is the Kronecker product, scalars in the first: itself, if it is none."""
    match d.owner_op_and_inputs:
        case (Elemwise(scalar_op=ps.Mul()), *factors):
            scalar, vectors = split_scalars(factors)
            if scalar is not None and len(vectors) == 1:
                first, *others = outer_factors(vectors[0])
                return [first * scalar, *others]
        case (Reshape(), product, _):
            match product.owner_op_and_inputs:
                case (Elemwise(scalar_op=ps.Second()), like, value) if value.type.ndim == 2:
                    return _repeated(value, like.type.shape) or [d]
                case (Elemwise(scalar_op=ps.Mul()), *factors) if product.type.ndim == 2:
                    scalar, sides, matrices = split_factors(factors)
                    if not matrices and sorted(side for side, _ in sides) == ["column", "row"]:
                        found = [v for side in ("column", "row") for v in outer_factors(dict(sides)[side])]
                        return found if scalar is None else [found[0] * scalar, *found[1:]]
    return [d]


def _repeated(value: Any, shape: tuple[int | None, ...]) -> list[Any] | None:
    """A column or row, and ones for the axis along which it is repeated."""
    found = row_or_column(value)
    if found is None or None in shape:
        return None
    side, v = found
    ones = pt.ones((shape[side == "column"],), dtype=value.type.dtype)
    return [v, ones] if side == "column" else [ones, v]


def two_products(products: Sequence[Kronecker], matrix: Any) -> Operator | None:
    """``A kron B + C kron D`` as ``(L kron M) (A~ kron B~ + I) (L kron M)'`` with ``C = L L'``, ``D = M M'``,
    ``A~ = L^-1 A L^-T``, ``B~ = M^-1 B M^-T`` (Rakitsch et al. 2013), where C and D are well conditioned."""
    first, second = sorted(products, key=lambda one: one.positive_definite)
    pairs = list(zip(first.children, second.children, strict=False))
    orders = [[child.operator.static.n for child in pair] for pair in pairs]
    if len(first.children) != len(second.children) or any(
        None in pair or len({*pair}) > 1 for pair in orders
    ):
        return None
    if not all(child.symmetric or child.positive_definite for pair in pairs for child in pair):
        return None
    roots = [_root(C) for _, C in pairs]
    squares = [pt.sqr(r if r.type.ndim == 1 else pt.diagonal(r)) for r in roots]
    condition = pt.stack([pt.all(v > 0) & (pt.max(v) <= MOST_RATIO * pt.min(v)) for v in squares]).all()
    # also what is not used must be computable: not every linker is lazy
    roots = [pt.switch(condition, r, _one_like(r)) for r in roots]
    whitened = tuple(_whitened(A.matrix, r) for (A, _), r in zip(pairs, roots, strict=True))
    inside = KroneckerNoise(whitened, pt.ones((matrix.type.shape[0],), dtype=matrix.dtype))
    sides = [Diagonal(r) if r.type.ndim == 1 else Triangular(r, lower=True) for r in roots]
    outside = Kronecker(tuple(Part(side, symmetric=side.symmetric) for side in sides))
    made_of = [x for A, C in pairs for x in (A.matrix, _given(C))]
    guard = Guard(condition, matrix, tuple(made_of))
    return Congruence((Part(outside, symmetric=outside.symmetric), Part(inside, symmetric=True)), guard)


def _root(C: Part) -> Any:
    """The Cholesky factor, or of a diagonal matrix its diagonal."""
    return pt.sqrt(_given(C)) if isinstance(C.operator, Diagonal) else symmetric_factor(C.matrix)


def _given(C: Part) -> Any:
    return C.operator.d if isinstance(C.operator, Diagonal) else C.matrix


def _one_like(root: Any) -> Any:
    n, dtype = root.type.shape[0], root.type.dtype
    return np.ones((), dtype) if root.type.ndim == 1 else pt.eye(n, dtype=dtype)


def _whitened(A: Any, root: Any) -> Any:
    if root.type.ndim == 1:
        return A / (root[:, None] * root[None, :])
    left = solve_triangular(root, A, lower=True, b_ndim=2)
    both = solve_triangular(root, left.mT, lower=True, b_ndim=2)
    return (both + both.mT) / 2


def _scaled(factors: Sequence[Any], vectors: Sequence[Any], matrix: Any) -> Operator:
    condition = pt.stack([pt.all(v > 0) & (pt.max(v) <= MOST_RATIO * pt.min(v)) for v in vectors]).all()
    # also what is not used must be computable: not every linker is lazy
    roots = [pt.sqrt(pt.switch(condition, v, np.ones((), v.type.dtype))) for v in vectors]
    scaled = tuple(F / (r[:, None] * r[None, :]) for F, r in zip(factors, roots, strict=True))
    inside = KroneckerNoise(scaled, pt.ones((matrix.type.shape[0],), dtype=matrix.dtype))
    guard = Guard(condition, matrix, (*factors, *vectors))
    sides = Part(Diagonal(outer(roots)), symmetric=True)
    return Congruence((sides, Part(inside, symmetric=True)), guard)
