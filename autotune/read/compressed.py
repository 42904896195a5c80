"""Read PyTensor's sparse variables of a constant pattern."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.tensor.elemwise import Elemwise

from autotune.read.entries import Entries, Terms, joined, scaled, with_vector
from autotune.read.factors import scalar_of


def entries_of(var, of_dense: Callable[[Any], Terms | None]) -> Terms | None:
    """The terms of a sparse variable; ``of_dense`` reads a dense one. None where they are not seen."""
    from pytensor.sparse import basic, math  # takes time to import: here it is there already

    def read(x) -> Terms | None:
        return entries_of(x, of_dense)

    if isinstance(var, Constant):
        coordinates = var.data.tocoo()
        rows, columns = (index.astype(np.int64) for index in (coordinates.row, coordinates.col))
        return [Entries(rows, columns, coordinates.data.astype(float))]
    match var.owner_op_and_inputs:
        case (basic.CSM(format=form), data, Constant(data=indices), Constant(data=indptr), Constant()):
            return [_of_lists(data, indices, indptr, by_columns=form == "csc")]
        case (basic.Transpose(), inner):
            found = read(inner)
            return found and [one.transposed for one in found]
        case (basic.Cast(), inner) if var.type.dtype in ("float32", "float64"):
            return read(inner)
        case (math.AddSparseSparse(), left, right):
            return joined([read(left), read(right)])
        case (math.MultiplySparseDense(), inner, factor) if scalar_of(factor) is not None:
            return scaled(read(inner), [scalar_of(factor)])
        case (math.MultiplySparseDenseVector(), inner, v):
            found = read(inner)
            return found and [one.along("row", v) for one in found]
        case (basic.ColScaleCSC(), inner, v):
            found = read(inner)
            return found and [one.along("row", v) for one in found]
        case (basic.RowScaleCSC(), inner, v):
            found = read(inner)
            return found and [one.along("column", v) for one in found]
        case (basic.SparseFromDense(), dense):
            return of_dense(dense)
    return None


def _of_lists(data, indices, indptr, *, by_columns: bool) -> Entries:
    """Rows of each column, or columns of each row."""
    indices = indices.astype(np.int64)
    lists = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    rows, columns = (indices, lists) if by_columns else (lists, indices)
    found = Entries(rows, columns, np.ones(len(indices)))
    for factor in _factors(data):
        known = factor.type.shape[0] is not None
        whole = factor if known else pt.specify_shape(factor, len(indices))
        found = with_vector(found, whole, np.arange(len(indices)))
    return found


def _factors(data) -> list[Any]:
    """The vectors, of length 1 where they are scalars, that one is the product of."""
    if isinstance(data.owner_op, Elemwise) and isinstance(data.owner_op.scalar_op, ps.Mul):
        return [factor for one in data.owner.inputs for factor in _factors(one)]
    return [data]
