"""Numba implementations of the direct Ops; those of others are in `numba_low_rank` and `numba_iterative`.

Imported when such an Op is first built, because it takes time. What an Op runs is compiled once, for arrays
of any layout, and called by address: see `_by_address`.
"""

import numpy as np
from numba.core import types
from numba.core.extending import intrinsic, register_jitable
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from autotune.ops import (
    _lapack,
    _layout,
    core_cholesky,
    core_cholesky_or_lu,
    core_gram,
    core_inverse,
    numba_batches,
    shapes,
)
from autotune.ops._by_address import VERSION, by_address, c_array, readable
from autotune.ops._layout import cast as _cast
from autotune.ops.cholesky_or_lu import (
    CholeskyOrLU,
    CholeskyOrLUInverse,
    CholeskyOrLUSolve,
    ExchangeSign,
    FactorOrNaN,
    FactorSlogdet,
)
from autotune.ops.factor import SharedCholesky, SharedLU
from autotune.ops.gram import Gram
from autotune.ops.inverse import CholeskyInverse, CholeskySolveMany, LUInverse

# Imported for their effect: they give Numba functions of `kernels`, and `numba_batches` loops to PyTensor.
__all__ = ["_lapack", "_layout", "numba_batches"]

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
    core_cholesky_or_lu.slogdet,
):
    register_jitable(function)


def _f_matrix(T):
    return types.Array(T, 2, "F")


# What the Ops run. All take arrays of any layout, those of floating-point numbers of one dtype.
FLAG = types.boolean
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
slogdet_by_either = by_address(
    core_cholesky_or_lu.checked_slogdet,
    lambda T: types.UniTuple(types.float64, 2)(readable(T, 2), readable(types.int32, 1), FLAG),
)
inverse_by_either = by_address(
    core_cholesky_or_lu.inverse,
    lambda T: _f_matrix(T)(readable(T, 2), readable(types.int32, 1), FLAG, FLAG),
)
gram = by_address(core_gram.gram, lambda T: c_array(T, 2)(readable(T, 2)))


@intrinsic
def _is_writable(typing_context, x):
    """Whether the type of an array allows to write to it."""

    def codegen(context, builder, signature, args):
        return context.get_constant(types.boolean, x.mutable)

    return types.boolean(x), codegen


def _casts(node, *indices):
    """The same for inputs of an Op, to the dtype of its first output."""
    return (_cast(node.inputs[i], node.outputs[0].type.numpy_dtype) for i in indices)


@register_funcify_default_op_cache_key(Gram)
def funcify_gram(op, node, **kwargs):
    (cast,) = _casts(node, 0)

    @numba_njit
    def gram_product(X):
        return gram(cast(X))

    return gram_product, VERSION


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


@register_funcify_default_op_cache_key(FactorSlogdet)
def funcify_factor_slogdet(op, node, **kwargs):
    (cast,), cast_pivots = _casts(node, 0), _cast(node.inputs[1], np.int32)
    dtype = node.outputs[0].type.numpy_dtype

    @numba_njit
    def factor_slogdet(F, pivots, is_cholesky):
        found = slogdet_by_either(cast(F), cast_pivots(pivots), is_cholesky.item() != 0)
        sign, logabsdet = np.empty((), dtype), np.empty((), dtype)
        sign[()], logabsdet[()] = found
        return sign, logabsdet

    return factor_slogdet, VERSION


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
