"""Numba implementations of this package's Ops: compiled common cases, and ``core_*.py`` in object mode for
the rest.

Imported when an Op is first built, because it costs half a second. The version that goes into the key of
PyTensor's on-disk cache is a digest of this package's sources, so an edited algorithm can never meet its old
machine code.
"""

import numba
import numpy as np
from numba.core import types
from numba.core.extending import register_jitable
from pytensor.link.numba.dispatch.basic import (
    get_numba_type,
    numba_njit,
    register_funcify_default_op_cache_key,
)
from pytensor.link.numba.dispatch.linalg.decomposition.lu_factor import _getrf

from autotune.ops import (
    _compiled_lowrank,
    _lapack,
    _layout,
    core_cg,
    core_cholesky,
    core_cholesky_or_lu,
    core_inverse,
    core_lanczos,
    core_preconditioner,
    kernels,
    lowrank,
    shapes,
)
from autotune.ops._base import digest_of_sources
from autotune.ops._compiled_iteration import compiled_for, iterate
from autotune.ops.cg import BlockCG, PartialCholesky
from autotune.ops.cholesky_or_lu import (
    CholeskyOrLU,
    CholeskyOrLUInverse,
    CholeskyOrLUSolve,
    FactorOrNaN,
)
from autotune.ops.core_factor import CHOLESKY
from autotune.ops.factor import SharedCholesky, SharedLU
from autotune.ops.inverse import CholeskyInverse, LUInverse
from autotune.ops.lanczos import LanczosLogdet
from autotune.ops.woodbury import LowRankFactor, LowRankInverseDiagonal, LowRankSolve, LowRankSolveColumns

VERSION = int(digest_of_sources()[:12], 16)

# Imported for their effect: they give Numba the functions of `kernels`.
__all__ = ["VERSION", "_lapack", "_layout"]

for function in (
    core_cholesky.factor,
    core_inverse.cholesky_inverse,
    core_inverse.lu_inverse,
    core_cholesky_or_lu.may_be_positive_definite,
    core_cholesky_or_lu.pivots_are_significant,
    core_cholesky_or_lu.lower_factor,
    core_cholesky_or_lu.checked_exchanges,
    core_cholesky_or_lu.factor,
    core_cholesky_or_lu.solve,
    core_cholesky_or_lu.inverse,
    shapes.check_square,
    shapes.check_same_order,
    shapes.check_rhs,
    shapes.check_pivots,
    shapes.check_low_rank,
    shapes.check_low_rank_factor,
):
    register_jitable(function)


def _array_type(variable):
    """The Numba type of a C-contiguous array with a variable's dtype and rank, for the results of object
    mode."""
    return get_numba_type(variable.type, layout="C")


@register_funcify_default_op_cache_key(CholeskyInverse)
def funcify_cholesky_inverse(op, node, **kwargs):
    overwrite = op.overwrite_a
    dtype = node.outputs[0].type.numpy_dtype
    if node.inputs[0].type.numpy_dtype != dtype:

        @numba_njit
        def cholesky_inverse(L):
            return core_inverse.cholesky_inverse(L.astype(dtype), True)

    else:

        @numba_njit
        def cholesky_inverse(L):
            return core_inverse.cholesky_inverse(L, overwrite)

    return cholesky_inverse, VERSION


@register_funcify_default_op_cache_key(LUInverse)
def funcify_lu_inverse(op, node, **kwargs):
    dtype = node.outputs[0].type.numpy_dtype
    if node.inputs[0].type.numpy_dtype != dtype:

        @numba_njit
        def lu_inverse(LU, pivots):
            return core_inverse.lu_inverse(LU.astype(dtype), pivots)

    else:

        @numba_njit
        def lu_inverse(LU, pivots):
            return core_inverse.lu_inverse(LU, pivots)

    return lu_inverse, VERSION


@register_funcify_default_op_cache_key(LowRankFactor)
def funcify_low_rank_factor(op, node, **kwargs):
    positive_definite, symmetric = op.positive_definite, op.symmetric
    factor_type = types.Tuple([_array_type(out) for out in node.outputs])

    @numba_njit
    def in_python(d, U, last):
        with numba.objmode(factor=factor_type):
            factor = lowrank.factorise(positive_definite, d, U, last)
        return factor

    if not symmetric:
        return in_python, VERSION

    @numba_njit
    def low_rank_factor(d, U, c):
        shapes.check_low_rank(d, U, c)
        done, w, F, logdet = _compiled_lowrank.factor(
            kernels.c_layout(d), kernels.c_layout(U), kernels.c_layout(c)
        )
        if not done:
            return in_python(d, U, c)
        pivots, S, FS = np.empty(0, np.int32), np.empty(0, np.int64), np.empty((0, c.size), d.dtype)
        sign = np.asarray(d.dtype.type(1))
        return np.asarray(np.int8(CHOLESKY)), w, F, pivots, S, FS, sign, np.asarray(d.dtype.type(logdet))

    return low_rank_factor, VERSION


@register_funcify_default_op_cache_key(LowRankSolve)
def funcify_low_rank_solve(op, node, **kwargs):
    transposed, symmetric = op.transposed, op.symmetric
    solution_type = _array_type(node.outputs[0])

    @numba_njit
    def in_python(d, U, last, mode, w, F, pivots, S, FS, B):
        with numba.objmode(X=solution_type):
            X = lowrank.solve(transposed, d, U, last, mode, w, F, pivots, S, FS, B)
        return X

    if not symmetric:
        return in_python, VERSION

    @numba_njit
    def low_rank_solve(d, U, c, mode, w, F, pivots, S, FS, B):
        shapes.check_low_rank_factor(d, U, c, mode.item(), w, F, pivots, S, FS)
        shapes.check_rhs(d.shape[0], B)
        if mode.item() == CHOLESKY and S.size == 0:
            done, X = _compiled_lowrank.solve(
                kernels.c_layout(d),
                kernels.c_layout(U),
                kernels.c_layout(c),
                kernels.c_layout(w),
                kernels.c_layout(F),
                kernels.c_layout(B),
            )
            if done:
                return X
        return in_python(d, U, c, mode, w, F, pivots, S, FS, B)

    return low_rank_solve, VERSION


@register_funcify_default_op_cache_key(LowRankSolveColumns)
def funcify_low_rank_solve_columns(op, node, **kwargs):
    solution_type = _array_type(node.outputs[0])

    @numba_njit
    def low_rank_solve_columns(d, U, c, mode, w, F, pivots, S, FS):
        shapes.check_low_rank_factor(d, U, c, mode.item(), w, F, pivots, S, FS)
        if mode.item() == CHOLESKY and S.size == 0:
            done, X = _compiled_lowrank.solve_columns(
                kernels.c_layout(U), kernels.c_layout(c), kernels.c_layout(w), kernels.c_layout(F)
            )
            if done:
                return X
        with numba.objmode(X=solution_type):
            X = lowrank.solve_columns(d, U, c, mode, w, F, pivots, S, FS)
        return X

    return low_rank_solve_columns, VERSION


@register_funcify_default_op_cache_key(LowRankInverseDiagonal)
def funcify_low_rank_inverse_diagonal(op, node, **kwargs):
    symmetric = op.symmetric
    diagonal_type = _array_type(node.outputs[0])

    @numba_njit
    def in_python(d, U, last, mode, w, F, pivots, S, FS):
        with numba.objmode(diagonal=diagonal_type):
            diagonal = lowrank.inverse_diagonal(d, U, last, mode, w, F, pivots, S, FS)
        return diagonal

    if not symmetric:
        return in_python, VERSION

    @numba_njit
    def low_rank_inverse_diagonal(d, U, c, mode, w, F, pivots, S, FS):
        shapes.check_low_rank_factor(d, U, c, mode.item(), w, F, pivots, S, FS)
        if mode.item() == CHOLESKY and S.size == 0:
            done, diagonal = _compiled_lowrank.inverse_diagonal(
                kernels.c_layout(U), kernels.c_layout(c), kernels.c_layout(w), kernels.c_layout(F)
            )
            if done:
                return diagonal
        return in_python(d, U, c, mode, w, F, pivots, S, FS)

    return low_rank_inverse_diagonal, VERSION


@register_funcify_default_op_cache_key(BlockCG)
def funcify_block_cg(op, node, **kwargs):
    result_type = types.Tuple([_array_type(out) for out in node.outputs])

    compiled_for(node.outputs[0].type.numpy_dtype)

    # Only the iteration is compiled: it is one function for all graphs, which Numba would compile into each.
    @numba_njit
    def block_cg(A, B, rtol, limit, scale, U, s, factor, d, V, c, S, e, W, g):
        with numba.objmode(result=result_type):
            result = core_cg.block_cg_arrays(
                A, B, rtol, limit, scale, U, s, factor, d, V, c, S, e, W, g, iterate=iterate
            )
        return result

    return block_cg, VERSION


@register_funcify_default_op_cache_key(PartialCholesky)
def funcify_partial_cholesky(op, node, **kwargs):
    parts_type = types.Tuple([_array_type(out) for out in node.outputs])

    @numba_njit
    def partial_cholesky(A, rank, d, V, c):
        with numba.objmode(parts=parts_type):
            parts = core_preconditioner.build_arrays(A, rank, d, V, c)
        return parts

    return partial_cholesky, VERSION


@register_funcify_default_op_cache_key(LanczosLogdet)
def funcify_lanczos_logdet(op, node, **kwargs):
    result_type = types.Tuple([_array_type(out) for out in node.outputs])

    @numba_njit
    def lanczos_logdet(A, rtol, max_steps, seed, scale, U, s, condition_number, d, V, c):
        with numba.objmode(result=result_type):
            result = core_lanczos.logdet_arrays(
                A, rtol, max_steps, seed, scale, U, s, condition_number, d, V, c
            )
        return result

    return lanczos_logdet, VERSION


@register_funcify_default_op_cache_key(SharedCholesky)
def funcify_shared_cholesky(op, node, **kwargs):
    overwrite = op.overwrite_a
    cast = _cast(node.inputs[0], node.outputs[0].type.numpy_dtype)

    @numba_njit
    def shared_cholesky(A):
        return core_cholesky.factor(cast(A), overwrite)

    return shared_cholesky, VERSION


@register_funcify_default_op_cache_key(SharedLU)
def funcify_shared_lu(op, node, **kwargs):
    overwrite = op.overwrite_a

    @numba_njit
    def shared_lu(A):
        shapes.check_square(A)
        if A.shape[0] == 0:
            return A.copy(), np.empty(0, np.int32)
        LU, pivots, _ = _getrf(A, overwrite_a=overwrite)
        return LU, pivots - np.int32(1)

    return shared_lu, VERSION


def _cast(variable, dtype):
    """A jitted function that gives a value of ``variable`` the ``dtype``; it copies only what has another."""
    if variable.type.numpy_dtype == dtype:
        return numba_njit(lambda x: x)
    return numba_njit(lambda x: x.astype(dtype))


@register_funcify_default_op_cache_key(CholeskyOrLU)
def funcify_cholesky_or_lu(op, node, **kwargs):
    overwrite = op.overwrite_a
    cast = _cast(node.inputs[0], node.outputs[0].type.numpy_dtype)

    @numba_njit
    def cholesky_or_lu(A):
        F, pivots, is_cholesky = core_cholesky_or_lu.factor(cast(A), overwrite)
        return F, pivots, np.asarray(is_cholesky)

    return cholesky_or_lu, VERSION


@register_funcify_default_op_cache_key(FactorOrNaN)
def funcify_factor_or_nan(op, node, **kwargs):
    cast, cast_factor = (_cast(x, node.outputs[0].type.numpy_dtype) for x in node.inputs[:2])

    @numba_njit
    def factor_or_nan(A, F, is_cholesky):
        return core_cholesky_or_lu.lower_factor(cast(A), cast_factor(F), is_cholesky.item() != 0)

    return factor_or_nan, VERSION


@register_funcify_default_op_cache_key(CholeskyOrLUSolve)
def funcify_cholesky_or_lu_solve(op, node, **kwargs):
    transposed = op.transposed
    F, *_, B = node.inputs
    cast_factor, cast_rhs = (_cast(x, node.outputs[0].type.numpy_dtype) for x in (F, B))

    @numba_njit
    def cholesky_or_lu_solve(F, pivots, is_cholesky, B):
        return core_cholesky_or_lu.solve(
            cast_factor(F), pivots, is_cholesky.item() != 0, cast_rhs(B), transposed
        )

    return cholesky_or_lu_solve, VERSION


@register_funcify_default_op_cache_key(CholeskyOrLUInverse)
def funcify_cholesky_or_lu_inverse(op, node, **kwargs):
    overwrite = op.overwrite_f
    cast = _cast(node.inputs[0], node.outputs[0].type.numpy_dtype)

    @numba_njit
    def cholesky_or_lu_inverse(F, pivots, is_cholesky):
        return core_cholesky_or_lu.inverse(cast(F), pivots, is_cholesky.item() != 0, overwrite)

    return cholesky_or_lu_inverse, VERSION
