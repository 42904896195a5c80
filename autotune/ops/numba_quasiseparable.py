"""Numba implementations of the Ops of `quasiseparable`, imported when one is first built: it takes time."""

import numpy as np
from numba.core import types
from numba.core.extending import register_jitable
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from autotune.ops import core_quasiseparable, shapes
from autotune.ops._by_address import VERSION, c_array, in_python, in_python_too, readable
from autotune.ops._vectors import FAST
from autotune.ops.quasiseparable import (
    QuasiseparableDot,
    QuasiseparableFactor,
    QuasiseparableLogdetPullback,
    QuasiseparableOuter,
    QuasiseparableSolve,
)

__all__ = ["in_python"]

for function in (
    core_quasiseparable.decays,
    core_quasiseparable.slope,
    core_quasiseparable.advance,
    core_quasiseparable.retreat,
    core_quasiseparable.first_states,
    core_quasiseparable.add_slopes,
):
    register_jitable(**FAST)(function)
for check in (
    shapes.check_lengths,
    shapes.check_same_shape,
    shapes.check_states,
    shapes.check_on_line,
    shapes.check_line_factor,
):
    register_jitable(check)

SIZES = POWERS = readable(types.int64, 1)
DECAYS = readable(types.float64, 2)


def _vectors(T):
    return types.UniTuple(c_array(T, 1), 3)


factor = in_python_too(
    core_quasiseparable.factor,
    lambda T: types.Tuple(
        (c_array(T, 1), c_array(T, 2), c_array(types.float64, 2), types.float64, types.float64)
    )(*[readable(T, 1)] * 4, SIZES, POWERS),
)
solve = in_python_too(
    core_quasiseparable.solve,
    lambda T: c_array(T, 2)(
        readable(T, 1), readable(T, 2), DECAYS, readable(T, 1), readable(T, 1), SIZES, readable(T, 2)
    ),
)
logdet_pullback = in_python_too(
    core_quasiseparable.logdet_pullback,
    lambda T: _vectors(T)(readable(T, 1), readable(T, 2), DECAYS, *[readable(T, 1)] * 3, SIZES, POWERS),
)
dot = in_python_too(
    core_quasiseparable.dot, lambda T: c_array(T, 2)(*[readable(T, 1)] * 4, SIZES, POWERS, readable(T, 2))
)
outer = in_python_too(
    core_quasiseparable.outer,
    lambda T: _vectors(T)(*[readable(T, 2)] * 2, *[readable(T, 1)] * 3, SIZES, POWERS),
)


@register_funcify_default_op_cache_key(QuasiseparableFactor)
def funcify_factor(op, node, **kwargs):
    dtype = node.outputs[0].type.numpy_dtype

    @numba_njit
    def quasiseparable_factor(d, steps, c, rates, sizes, powers):
        shapes.check_lengths(d.size, steps.size)
        shapes.check_on_line(steps, c, rates, sizes, powers)
        D, V, E, first, second = factor(d, steps, c, rates, sizes, powers)
        sign, logabsdet = np.empty((), dtype), np.empty((), dtype)
        sign[()], logabsdet[()] = first, second
        return D, V, E, sign, logabsdet

    return quasiseparable_factor, VERSION


@register_funcify_default_op_cache_key(QuasiseparableSolve)
def funcify_solve(op, node, **kwargs):
    @numba_njit
    def quasiseparable_solve(D, V, E, steps, c, sizes, B):
        shapes.check_line_factor(D, V, E, steps, c, sizes)
        shapes.check_lengths(D.size, B.shape[0])
        return solve(D, V, E, steps, c, sizes, B)

    return quasiseparable_solve, VERSION


@register_funcify_default_op_cache_key(QuasiseparableLogdetPullback)
def funcify_logdet_pullback(op, node, **kwargs):
    @numba_njit
    def quasiseparable_logdet_pullback(D, V, E, steps, c, rates, sizes, powers):
        shapes.check_line_factor(D, V, E, steps, c, sizes)
        shapes.check_on_line(steps, c, rates, sizes, powers)
        return logdet_pullback(D, V, E, steps, c, rates, sizes, powers)

    return quasiseparable_logdet_pullback, VERSION


@register_funcify_default_op_cache_key(QuasiseparableDot)
def funcify_dot(op, node, **kwargs):
    @numba_njit
    def quasiseparable_dot(d, steps, c, rates, sizes, powers, X):
        shapes.check_lengths(d.size, X.shape[0])
        shapes.check_lengths(d.size, steps.size)
        shapes.check_on_line(steps, c, rates, sizes, powers)
        return dot(d, steps, c, rates, sizes, powers, X)

    return quasiseparable_dot, VERSION


@register_funcify_default_op_cache_key(QuasiseparableOuter)
def funcify_outer(op, node, **kwargs):
    @numba_njit
    def quasiseparable_outer(left, right, steps, c, rates, sizes, powers):
        shapes.check_same_shape(left, right)
        shapes.check_lengths(left.shape[0], steps.size)
        shapes.check_on_line(steps, c, rates, sizes, powers)
        return outer(left, right, steps, c, rates, sizes, powers)

    return quasiseparable_outer, VERSION
