"""Numba implementations of this package's Ops: compiled common cases, and ``core_*.py`` in object mode for
the rest.

Imported when an Op is first built, because it takes time. What an Op runs is compiled once, for arrays of any
layout, and called by address: see `_by_address`. The version that goes into the key of PyTensor's on-disk
cache is a digest of this package's sources, so an edited algorithm can never meet its old machine code.
"""

import numpy as np
from numba.core import types
from numba.core.extending import intrinsic, register_jitable
from numba.core.imputils import impl_ret_borrowed
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from autotune.ops import (
    _compiled_lowrank,
    _lapack,
    core_cg,
    core_cholesky,
    core_cholesky_or_lu,
    core_inverse,
    core_lanczos,
    core_preconditioner,
    shapes,
)
from autotune.ops._base import digest_of_sources
from autotune.ops._by_address import by_address, c_array, python_by_address, readable
from autotune.ops._compiled_iteration import iterate
from autotune.ops.cg import PRECONDITIONER, REST, THIN_PARTS, BlockCG, PartialCholesky
from autotune.ops.cholesky_or_lu import (
    CholeskyOrLU,
    CholeskyOrLUInverse,
    CholeskyOrLUSolve,
    ExchangeSign,
    FactorOrNaN,
)
from autotune.ops.factor import SharedCholesky, SharedLU
from autotune.ops.inverse import CholeskyInverse, CholeskySolveMany, LUInverse
from autotune.ops.lanczos import LanczosLogdet
from autotune.ops.woodbury import LowRankFactor, LowRankInverseDiagonal, LowRankSolve, LowRankSolveColumns

VERSION = int(digest_of_sources()[:12], 16)

# `_lapack` is imported for its effect: it gives Numba functions of `kernels`.
__all__ = ["VERSION", "_lapack"]

for function in (
    core_inverse.cholesky_inverse,
    core_inverse.has_nan_on_diagonal,
    core_cholesky_or_lu.may_be_positive_definite,
    core_cholesky_or_lu.pivots_are_significant,
    core_cholesky_or_lu.checked_exchanges,
    core_cholesky_or_lu.has_zero_pivot,
    core_cholesky_or_lu.packed_lu,
    core_cholesky_or_lu.flag,
    core_cholesky_or_lu.exchange_sign,
    shapes.check_square,
    shapes.check_same_order,
    shapes.check_rhs,
):
    register_jitable(function)


def _f_matrix(T):
    return types.Array(T, 2, "F")


def _numbers(T, ndims):
    return (readable(T, ndim) for ndim in ndims)


def _block_cg(*arrays):
    return core_cg.block_cg_arrays(*arrays, iterate=iterate)


# What the Ops run. All take arrays of any layout, those of floating-point numbers of one dtype.
FLAG, NUMBER, COUNT = types.boolean, readable(types.float64, 0), readable(types.int64, 0)
PIVOTS, KIND = c_array(types.int32, 1), c_array(types.int8, 0)
cholesky = by_address(core_cholesky.factor, lambda T: _f_matrix(T)(readable(T, 2), FLAG))
lu = by_address(
    core_cholesky_or_lu.lu_factor, lambda T: types.Tuple((_f_matrix(T), PIVOTS))(readable(T, 2), FLAG)
)
inverse_from_cholesky = by_address(
    core_inverse.cholesky_inverse, lambda T: c_array(T, 2)(readable(T, 2), FLAG)
)
many_from_cholesky = by_address(
    core_inverse.solve_many, lambda T: c_array(T, 2)(readable(T, 2), readable(T, 2))
)
inverse_from_lu = by_address(
    core_inverse.lu_inverse, lambda T: _f_matrix(T)(readable(T, 2), readable(types.int32, 1))
)
either_factor = by_address(
    core_cholesky_or_lu.factor,
    lambda T: types.Tuple((_f_matrix(T), PIVOTS, KIND))(readable(T, 2), FLAG),
)
solve_by_either = by_address(
    core_cholesky_or_lu.solve,
    lambda T: _f_matrix(T)(readable(T, 2), readable(types.int32, 1), FLAG, readable(T, 2), FLAG),
)
inverse_by_either = by_address(
    core_cholesky_or_lu.inverse,
    lambda T: _f_matrix(T)(readable(T, 2), readable(types.int32, 1), FLAG, FLAG),
)
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


@intrinsic
def _is_writable(typing_context, x):
    """Whether the type of an array allows to write to it."""

    def codegen(context, builder, signature, args):
        return context.get_constant(types.boolean, x.mutable)

    return types.boolean(x), codegen


@intrinsic
def _same(typing_context, x):
    def codegen(context, builder, signature, args):
        return impl_ret_borrowed(context, builder, x, args[0])

    return x(x), codegen


def _cast(variable, dtype):
    """What gives a value of ``variable`` the ``dtype`` in jitted code; it copies only what has another."""
    if variable.type.numpy_dtype == dtype:
        return _same
    return numba_njit(lambda x: x.astype(dtype))


def _casts(node, *indices):
    """The same for inputs of an Op, to the dtype of its first output."""
    return (_cast(node.inputs[i], node.outputs[0].type.numpy_dtype) for i in indices)


@register_funcify_default_op_cache_key(CholeskyInverse)
def funcify_cholesky_inverse(op, node, **kwargs):
    overwrite, (cast,) = op.overwrite_a, _casts(node, 0)

    @numba_njit
    def cholesky_inverse(L):
        return inverse_from_cholesky(cast(L), overwrite and _is_writable(L))

    return cholesky_inverse, VERSION


@register_funcify_default_op_cache_key(CholeskySolveMany)
def funcify_cholesky_solve_many(op, node, **kwargs):
    cast, cast_rhs = _casts(node, 0, 1)

    @numba_njit
    def cholesky_solve_many(L, B):
        return many_from_cholesky(cast(L), cast_rhs(B))

    return cholesky_solve_many, VERSION


@register_funcify_default_op_cache_key(LUInverse)
def funcify_lu_inverse(op, node, **kwargs):
    (cast,), cast_pivots = _casts(node, 0), _cast(node.inputs[1], np.int32)

    @numba_njit
    def lu_inverse(LU, pivots):
        return inverse_from_lu(cast(LU), cast_pivots(pivots))

    return lu_inverse, VERSION


@register_funcify_default_op_cache_key(LowRankFactor)
def funcify_low_rank_factor(op, node, **kwargs):
    positive_definite = op.positive_definite
    factorise = _compiled_lowrank.factorise if op.symmetric else _compiled_lowrank.factor_general

    @numba_njit
    def low_rank_factor(d, U, last):
        return factorise(positive_definite, d, U, last)

    return low_rank_factor, VERSION


@register_funcify_default_op_cache_key(LowRankSolve)
def funcify_low_rank_solve(op, node, **kwargs):
    transposed = op.transposed
    solve = _compiled_lowrank.solve if op.symmetric else _compiled_lowrank.solve_general

    @numba_njit
    def low_rank_solve(d, U, last, mode, w, F, pivots, S, FS, B):
        return solve(transposed, d, U, last, mode, w, F, pivots, S, FS, B)

    return low_rank_solve, VERSION


@register_funcify_default_op_cache_key(LowRankSolveColumns)
def funcify_low_rank_solve_columns(op, node, **kwargs):
    solve_columns = _compiled_lowrank.solve_columns

    @numba_njit
    def low_rank_solve_columns(d, U, c, mode, w, F, pivots, S, FS):
        return solve_columns(d, U, c, mode, w, F, pivots, S, FS)

    return low_rank_solve_columns, VERSION


@register_funcify_default_op_cache_key(LowRankInverseDiagonal)
def funcify_low_rank_inverse_diagonal(op, node, **kwargs):
    diagonal = (
        _compiled_lowrank.inverse_diagonal if op.symmetric else _compiled_lowrank.inverse_diagonal_general
    )

    @numba_njit
    def low_rank_inverse_diagonal(d, U, last, mode, w, F, pivots, S, FS):
        return diagonal(d, U, last, mode, w, F, pivots, S, FS)

    return low_rank_inverse_diagonal, VERSION


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


@register_funcify_default_op_cache_key(SharedCholesky)
def funcify_shared_cholesky(op, node, **kwargs):
    overwrite, (cast,) = op.overwrite_a, _casts(node, 0)

    @numba_njit
    def shared_cholesky(A):
        return cholesky(cast(A), overwrite and _is_writable(A))

    return shared_cholesky, VERSION


@register_funcify_default_op_cache_key(SharedLU)
def funcify_shared_lu(op, node, **kwargs):
    overwrite, (cast,) = op.overwrite_a, _casts(node, 0)

    @numba_njit
    def shared_lu(A):
        return lu(cast(A), overwrite and _is_writable(A))

    return shared_lu, VERSION


@register_funcify_default_op_cache_key(CholeskyOrLU)
def funcify_cholesky_or_lu(op, node, **kwargs):
    overwrite, (cast,) = op.overwrite_a, _casts(node, 0)

    @numba_njit
    def cholesky_or_lu(A):
        return either_factor(cast(A), overwrite and _is_writable(A))

    return cholesky_or_lu, VERSION


@register_funcify_default_op_cache_key(ExchangeSign)
def funcify_exchange_sign(op, node, **kwargs):
    @numba_njit
    def exchange_sign(pivots):
        return core_cholesky_or_lu.exchange_sign(pivots)

    return exchange_sign, VERSION


@register_funcify_default_op_cache_key(FactorOrNaN)
def funcify_factor_or_nan(op, node, **kwargs):
    cast, cast_factor = _casts(node, 0, 1)

    @numba_njit
    def factor_or_nan(A, F, is_cholesky):
        shapes.check_same_order(A, F)
        if is_cholesky.item() != 0:
            return cast_factor(F)
        return cholesky(cast(A), False)

    return factor_or_nan, VERSION


@register_funcify_default_op_cache_key(CholeskyOrLUSolve)
def funcify_cholesky_or_lu_solve(op, node, **kwargs):
    transposed, (cast, cast_rhs) = op.transposed, _casts(node, 0, 3)
    cast_pivots = _cast(node.inputs[1], np.int32)

    @numba_njit
    def cholesky_or_lu_solve(F, pivots, is_cholesky, B):
        return solve_by_either(cast(F), cast_pivots(pivots), is_cholesky.item() != 0, cast_rhs(B), transposed)

    return cholesky_or_lu_solve, VERSION


@register_funcify_default_op_cache_key(CholeskyOrLUInverse)
def funcify_cholesky_or_lu_inverse(op, node, **kwargs):
    overwrite, (cast,) = op.overwrite_f, _casts(node, 0)
    cast_pivots = _cast(node.inputs[1], np.int32)

    @numba_njit
    def cholesky_or_lu_inverse(F, pivots, is_cholesky):
        return inverse_by_either(
            cast(F), cast_pivots(pivots), is_cholesky.item() != 0, overwrite and _is_writable(F)
        )

    return cholesky_or_lu_inverse, VERSION
