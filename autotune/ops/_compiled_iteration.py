"""`core_iteration.iterate` compiled: once for each dtype and machine, and called from Python.

Within the functions of PyTensor it would be compiled anew for every graph, in ten seconds.
"""

from functools import cache

import numba
from numba.core import types
from numba.core.extending import register_jitable

from autotune.ops import _lapack, _layout, _vectors, core_iteration, core_operator
from autotune.ops._by_address import compiled, readable_c

# Imported for their effect: they give Numba the functions of `kernels`.
__all__ = ["_lapack", "_layout", "_vectors", "iterate"]

for function in (
    core_operator.product_into,
    core_iteration.start,
    core_iteration.precondition,
    core_iteration.step,
    core_iteration.replace_residuals,
    core_iteration.move,
    core_iteration.leave,
    core_iteration.turn,
    core_iteration.turn_first,
    core_iteration.distance,
    core_iteration.hopeless,
):
    register_jitable(function)


def _signature(dtype):
    """Arrays that are read may be read-only; all are C-contiguous, so that there is one signature."""
    T = numba.from_dtype(dtype)
    vector, rows = readable_c(T, 1), readable_c(T, 2)
    matrix = types.Tuple((rows, types.boolean, vector, rows, vector))
    preconditioner = types.Tuple((vector, rows, vector, matrix))
    return matrix, rows, preconditioner, readable_c(types.float64, 1), types.int64


@cache
def compiled_for(dtype):
    """The compiled function for one dtype of NumPy."""
    return compiled(core_iteration.iterate, _signature(dtype), no_cpython_wrapper=False, nogil=True)


def iterate(matrix, B, preconditioner, target, budget):
    """`core_iteration.iterate`."""
    return compiled_for(B.dtype)(matrix, B, preconditioner, target, budget)
