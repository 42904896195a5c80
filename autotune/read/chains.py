"""Products of square matrices, which are taken apart: ``A @ B``, ``L @ L.T``, ``diag(s) @ R @ diag(s)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytensor.scalar as ps
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot

from autotune.algebra.composite import Composite, Part
from autotune.algebra.congruence import Congruence
from autotune.algebra.diagonal import Diagonal
from autotune.algebra.product import Product
from autotune.read.congruence import are_transposed
from autotune.read.factors import same, split_factors

# Longer products are read as they are multiplied.
MOST = 8


def chain_of(var: Any, reader: Any) -> Composite | None:
    """A product of square matrices that gains by being taken apart, else None.

    ``reader`` reads a matrix as a part (`autotune.read.matrices.Recogniser`). It gains where some factor has
    a structure, or several dense ones would have to be multiplied that are not each other's transposes: of
    such a product PyTensor asks a Cholesky factor, which may exist though a factor is singular.
    """
    scalars: list[Any] = []
    factors = _factors(var, scalars)
    if not 1 < len(factors) <= MOST:
        return None
    parts = [Part(f, symmetric=True) if isinstance(f, Diagonal) else reader.part(f) for f in factors]
    kinds = [None if part is None else part.operator.kind for part in parts]
    unstructured = {*kinds} <= {"dense", "diagonal"}
    mirrored = _is_mirrored(factors[0], factors[-1], reader.facts)
    if None in kinds or (unstructured and (mirrored or kinds.count("dense") < 2)):
        return None
    found = _of_parts(factors, parts, reader.facts)
    for s in scalars:
        found = found.scale(s.astype(var.dtype))
    return found


def _factors(var, scalars: list[Any]) -> list[Any]:
    """The matrices of a product in their order, scalings of rows and columns as `Diagonal`."""
    match var.owner_op_and_inputs:
        case (Dot() | Blockwise(core_op=Dot()), left, right) if left.type.ndim == right.type.ndim == 2:
            return [*_factors(left, scalars), *_factors(right, scalars)]
        case (DimShuffle(is_matrix_transpose=True), inner) if inner.type.ndim == 2:
            return [_transposed(factor) for factor in reversed(_factors(inner, scalars))]
        case (Elemwise(scalar_op=ps.Mul()), *factors) if var.type.ndim == 2:
            scalar, vectors, matrices = split_factors(factors)
            if len(matrices) == 1 and matrices[0].type.dtype == var.type.dtype:
                if scalar is not None:
                    scalars.append(scalar)
                sides: dict[str, list[Any]] = {"column": [], "row": []}
                for side, v in vectors:
                    sides[side].append(Diagonal(v.astype(var.type.dtype)))
                return [*sides["column"], *_factors(matrices[0], scalars), *reversed(sides["row"])]
    return [var]


def _transposed(factor):
    return factor if isinstance(factor, Diagonal) else factor.mT


def _of_parts(factors: Sequence[Any], parts: Sequence[Any], facts: Any) -> Any:
    first, last = factors[0], factors[-1]
    if not _is_mirrored(first, last, facts):
        return Product(tuple(parts))
    inside = parts[1:-1]
    if len(inside) > 1:
        operator = _of_parts(factors[1:-1], inside, facts)
        inside = [Part(operator, operator.positive_definite, operator.symmetric)]
    return Congruence((parts[0], *inside))


def _is_mirrored(first, last, facts) -> bool:
    if isinstance(first, Diagonal) or isinstance(last, Diagonal):
        return isinstance(first, Diagonal) and isinstance(last, Diagonal) and same(first.d, last.d)
    return facts is not None and are_transposed(first, last, facts)
