"""`core_iteration.iterate` compiled: once for each dtype and machine, and called from Python.

Within the functions of PyTensor it would be compiled anew for every graph, in ten seconds.
"""

from functools import cache

import numba
from numba.core import types
from numba.core.extending import register_jitable
from pytensor import config
from pytensor.link.numba.cache import CACHED_SRC_FUNCTIONS

from autotune.ops import _lapack, _layout, _vectors, core_iteration, core_operator
from autotune.ops._base import digest_of_sources

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

# By this PyTensor's cache on disk finds the machine code.
CACHED_SRC_FUNCTIONS[core_iteration.iterate] = digest_of_sources()


def _signature(dtype):
    """Arrays that are read may be read-only; all are C-contiguous, so that there is one signature."""
    scalar = numba.from_dtype(dtype)

    def array(ndim, readonly=True):
        return types.Array(scalar, ndim, "C", readonly=readonly)

    matrix = types.Tuple((array(2), types.boolean, array(1), array(2), array(1)))
    preconditioner = types.Tuple((array(1), array(2), array(1), matrix))
    target = types.Array(types.float64, 1, "C", readonly=True)
    return matrix, array(2), preconditioner, target, types.int64


@cache
def compiled_for(dtype):
    """The compiled function for one dtype of NumPy."""
    return numba.njit(_signature(dtype), cache=config.numba__cache, nogil=True)(core_iteration.iterate)


def iterate(matrix, B, preconditioner, target, budget):
    """`core_iteration.iterate`."""
    return compiled_for(B.dtype)(matrix, B, preconditioner, target, budget)
