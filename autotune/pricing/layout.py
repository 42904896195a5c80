"""Memory order: which arrays have their first index running fastest.

LAPACK leaves columns together (Fortran order); elementwise loops, products and PyTensor's inputs keep rows
together. A loop over both reads one of them crosswise, which costs several times the pass itself.
"""

from __future__ import annotations

from typing import Any

from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.linalg.decomposition.cholesky import Cholesky
from pytensor.tensor.linalg.decomposition.lu import LUFactor
from pytensor.tensor.linalg.inverse import MatrixInverse
from pytensor.tensor.linalg.solvers.general import Solve
from pytensor.tensor.linalg.solvers.psd import CholeskySolve

from autotune.ops import (
    CholeskyInverse,
    CholeskyOrLU,
    CholeskyOrLUInverse,
    CholeskyOrLUSolve,
    LUInverse,
    SharedCholesky,
)

BY_COLUMNS = (
    *(Cholesky, LUFactor, MatrixInverse, Solve, CholeskySolve),
    *(CholeskyOrLU, CholeskyOrLUInverse, CholeskyOrLUSolve, LUInverse),
)
"""Ops whose result is LAPACK's, in Fortran order."""
IN_PLACE = (Cholesky, CholeskyInverse, Elemwise)
"""Ops whose result has the order of the array that it overwrites."""


def is_fortran(graph: Any, node: Any, index: int) -> bool:
    """Whether output ``index`` of ``node`` is in Fortran order."""
    overwritten = node.op.destroy_map.get(index)
    if overwritten and isinstance(node.op, IN_PLACE) and not isinstance(node.op, SharedCholesky):
        return graph.fortran(node.inputs[overwritten[0]])
    if isinstance(node.op, DimShuffle):
        kept = [axis for axis in node.op.new_order if axis != "x"]
        return graph.fortran(node.inputs[0]) != (kept != sorted(kept))
    if index in node.op.view_map:
        return graph.fortran(node.inputs[node.op.view_map[index][0]])
    return isinstance(node.op, BY_COLUMNS)


NEEDS_COLUMNS = (LUFactor, CholeskySolve)
"""Ops that overwrite only what lies in Fortran order, and make a copy of anything else."""


def overwrites(graph: Any, node: Any, index: int) -> bool:
    """Whether output ``index`` really lies in the memory of the input that its Op declares overwritten."""
    [source] = node.op.destroy_map[index]
    same = node.inputs[source].type.ndim == node.outputs[index].type.ndim  # PyTensor's LU names its pivots
    copied = isinstance(node.op, NEEDS_COLUMNS) and not graph.fortran(node.inputs[source])
    return same and not copied
