"""Numba implementations of the Ops of `banded`, imported when one is first built: it takes time."""

import numpy as np
from numba.core import types
from numba.core.extending import register_jitable
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from autotune.ops import core_banded, shapes
from autotune.ops._by_address import VERSION, c_array, in_python, in_python_too, readable
from autotune.ops._vectors import FAST
from autotune.ops.banded import BandedDot, BandedFactor, BandedLogdetPullback, BandedOuter, BandedSolve

__all__ = ["in_python"]

for function in (
    core_banded.by_rows,
    core_banded.rows_of_matrix,
    core_banded.ldl,
    core_banded.ldl_of_tridiagonal,
    core_banded.subtract,
    core_banded.assign,
    core_banded.swap,
    core_banded.lu,
    core_banded.exchange,
    core_banded.solve_by_ldl,
    core_banded.solve_one_by_ldl,
    core_banded.solve_by_lu,
    core_banded.solve_by_lu_transposed,
    core_banded.inverse_by_ldl,
    core_banded.inverse_by_lu,
    shapes.check_band,
    shapes.check_band_factor,
    shapes.check_same_shape,
    shapes.check_lengths,
):
    register_jitable(**FAST)(function)

SIZE, FLAG, PIVOTS = types.int64, types.boolean, c_array(types.int64, 1)

factor = in_python_too(
    core_banded.factor,
    lambda T: types.Tuple((c_array(T, 2), c_array(T, 2), PIVOTS, types.float64, types.float64))(
        readable(T, 2), SIZE, SIZE, FLAG, FLAG, FLAG
    ),
)
solve = in_python_too(
    core_banded.solve,
    lambda T: c_array(T, 2)(readable(T, 2), readable(T, 2), readable(types.int64, 1), readable(T, 2), FLAG),
)
logdet_pullback = in_python_too(
    core_banded.logdet_pullback,
    lambda T: c_array(T, 2)(readable(T, 2), readable(T, 2), readable(types.int64, 1), SIZE, SIZE, FLAG),
)
dot = in_python_too(
    core_banded.dot, lambda T: c_array(T, 2)(readable(T, 2), SIZE, SIZE, FLAG, readable(T, 2), FLAG)
)
outer = in_python_too(
    core_banded.outer, lambda T: c_array(T, 2)(readable(T, 2), readable(T, 2), SIZE, SIZE, FLAG)
)


@register_funcify_default_op_cache_key(BandedFactor)
def funcify_banded_factor(op, node, **kwargs):
    lower, upper, mirrored, definite, checked = op.lower, op.upper, op.mirrored, op.definite, op.checked
    dtype = node.outputs[0].type.numpy_dtype

    rows = op.rows

    @numba_njit
    def banded_factor(ab):
        shapes.check_band(ab, rows)
        F, M, pivots, first, second = factor(ab, lower, upper, mirrored, definite, checked)
        sign, logabsdet = np.empty((), dtype), np.empty((), dtype)
        sign[()], logabsdet[()] = first, second
        return F, M, pivots, sign, logabsdet

    return banded_factor, VERSION


@register_funcify_default_op_cache_key(BandedSolve)
def funcify_banded_solve(op, node, **kwargs):
    transposed = op.transposed

    @numba_njit
    def banded_solve(F, M, pivots, B):
        shapes.check_band_factor(F, M, pivots)
        shapes.check_lengths(F.shape[0], B.shape[0])
        return solve(F, M, pivots, B, transposed)

    return banded_solve, VERSION


@register_funcify_default_op_cache_key(BandedLogdetPullback)
def funcify_banded_logdet_pullback(op, node, **kwargs):
    lower, upper, mirrored = op.lower, op.upper, op.mirrored

    @numba_njit
    def banded_logdet_pullback(F, M, pivots):
        shapes.check_band_factor(F, M, pivots)
        return logdet_pullback(F, M, pivots, lower, upper, mirrored)

    return banded_logdet_pullback, VERSION


@register_funcify_default_op_cache_key(BandedDot)
def funcify_banded_dot(op, node, **kwargs):
    lower, upper, mirrored, transposed = op.lower, op.upper, op.mirrored, op.transposed

    rows = op.rows

    @numba_njit
    def banded_dot(ab, X):
        shapes.check_band(ab, rows)
        shapes.check_lengths(ab.shape[1], X.shape[0])
        return dot(ab, lower, upper, mirrored, X, transposed)

    return banded_dot, VERSION


@register_funcify_default_op_cache_key(BandedOuter)
def funcify_banded_outer(op, node, **kwargs):
    lower, upper, mirrored = op.lower, op.upper, op.mirrored

    @numba_njit
    def banded_outer(left, right):
        shapes.check_same_shape(left, right)
        return outer(left, right, lower, upper, mirrored)

    return banded_outer, VERSION
