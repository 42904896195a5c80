"""Numba implementations of the Ops that iterate, imported when one is first built: it takes time.

Their algorithms stay Python, but for the iteration itself.
"""

from numba.core import types
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from autotune.ops import core_cg, core_lanczos, core_preconditioner
from autotune.ops._by_address import VERSION, c_array, python_by_address, readable
from autotune.ops._compiled_iteration import iterate
from autotune.ops.cg import PRECONDITIONER, REST, THIN_PARTS, BlockCG, PartialCholesky
from autotune.ops.lanczos import LanczosLogdet

NUMBER, COUNT = readable(types.float64, 0), readable(types.int64, 0)


def _numbers(T, ndims):
    return (readable(T, ndim) for ndim in ndims)


def _block_cg(*arrays):
    return core_cg.block_cg_arrays(*arrays, iterate=iterate)


block_cg = python_by_address(
    _block_cg,
    lambda T: types.Tuple((c_array(T, 2), c_array(types.int64, 0), c_array(T, 2)))(
        *_numbers(T, (2, 2)), NUMBER, COUNT, *_numbers(T, REST)
    ),
)
partial_cholesky = python_by_address(
    core_preconditioner.build_arrays,
    lambda T: types.Tuple((c_array(T, 1), c_array(T, 2), c_array(T, 1)))(
        readable(T, 2), COUNT, *_numbers(T, THIN_PARTS)
    ),
)
lanczos_logdet = python_by_address(
    core_lanczos.logdet_arrays,
    lambda T: types.Tuple((c_array(T, 0), c_array(T, 0), c_array(types.int64, 0), c_array(T, 2)))(
        readable(T, 2), NUMBER, COUNT, COUNT, *_numbers(T, PRECONDITIONER), NUMBER, *_numbers(T, THIN_PARTS)
    ),
)


@register_funcify_default_op_cache_key(BlockCG)
def funcify_block_cg(op, node, **kwargs):
    @numba_njit
    def block_cg_solve(A, B, rtol, limit, scale, U, s, factor, d, V, c, S, e, W, g):
        return block_cg(A, B, rtol, limit, scale, U, s, factor, d, V, c, S, e, W, g)

    return block_cg_solve, VERSION


@register_funcify_default_op_cache_key(PartialCholesky)
def funcify_partial_cholesky(op, node, **kwargs):
    @numba_njit
    def preconditioner(A, rank, d, V, c):
        return partial_cholesky(A, rank, d, V, c)

    return preconditioner, VERSION


@register_funcify_default_op_cache_key(LanczosLogdet)
def funcify_lanczos_logdet(op, node, **kwargs):
    @numba_njit
    def logdet(A, rtol, max_steps, seed, scale, U, s, condition_number, d, V, c):
        return lanczos_logdet(A, rtol, max_steps, seed, scale, U, s, condition_number, d, V, c)

    return logdet, VERSION
