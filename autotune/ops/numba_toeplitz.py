"""Numba implementations of the Ops of `toeplitz`, imported when one is first built: it takes time.

Transforms stay NumPy's, called as Python.
"""

import numpy as np
from numba.core import types
from numba.core.extending import register_jitable
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from autotune.ops import core_schur, core_toeplitz, shapes
from autotune.ops._by_address import VERSION, c_array, in_python, in_python_too, python_by_address, readable
from autotune.ops._vectors import FAST
from autotune.ops.toeplitz import (
    CirculantDot,
    CirculantFactor,
    CirculantOuter,
    CirculantSolve,
    ToeplitzDot,
    ToeplitzFactor,
    ToeplitzOuter,
    ToeplitzSolve,
)

__all__ = ["in_python"]

register_jitable(fastmath={"contract"})(core_schur.turn)  # in the order that it is written in
for function in (core_schur.dot, core_schur.subtract):
    register_jitable(**FAST)(function)
for function in (core_schur.sweep, shapes.check_lengths, shapes.check_same_shape):
    register_jitable(function)

COLUMN, NUMBER, FLAG = c_array(types.float64, 1), types.float64, types.boolean

factor = in_python_too(core_schur.factor, lambda T: types.Tuple((COLUMN, NUMBER, NUMBER))(readable(T, 1)))
sweep_solve = in_python_too(core_schur.solve, lambda T: c_array(T, 2)(readable(T, 1), readable(T, 2)))
solve = python_by_address(
    core_toeplitz.solve,
    lambda T: c_array(T, 2)(readable(T, 1), readable(types.float64, 1), readable(T, 2)),
)
dot = python_by_address(core_toeplitz.dot, lambda T: c_array(T, 2)(readable(T, 1), readable(T, 2)))
outer = python_by_address(core_toeplitz.outer, lambda T: c_array(T, 1)(readable(T, 2), readable(T, 2)))
circulant_factor = python_by_address(
    core_toeplitz.circulant_factor, lambda T: types.Tuple((COLUMN, NUMBER, NUMBER, NUMBER))(readable(T, 1))
)


def _on_circulant(function):
    return python_by_address(function, lambda T: c_array(T, 2)(readable(T, 1), readable(T, 2), FLAG))


circulant_dot, circulant_solve = map(
    _on_circulant, (core_toeplitz.circulant_dot, core_toeplitz.circulant_solve)
)
circulant_outer = python_by_address(
    core_toeplitz.circulant_outer, lambda T: c_array(T, 1)(readable(T, 2), readable(T, 2))
)


@register_funcify_default_op_cache_key(ToeplitzFactor)
def funcify_factor(op, node, **kwargs):
    dtype = node.outputs[1].type.numpy_dtype

    @numba_njit
    def toeplitz_factor(c):
        x, first, second = factor(c)
        sign, logabsdet = np.empty((), dtype), np.empty((), dtype)
        sign[()], logabsdet[()] = first, second
        return x, sign, logabsdet

    return toeplitz_factor, VERSION


@register_funcify_default_op_cache_key(CirculantFactor)
def funcify_circulant_factor(op, node, **kwargs):
    dtype = node.outputs[1].type.numpy_dtype

    @numba_njit
    def toeplitz_circulant_factor(c):
        d, first, second, third = circulant_factor(c)
        sign, logabsdet, smallest = np.empty((), dtype), np.empty((), dtype), np.empty((), dtype)
        sign[()], logabsdet[()], smallest[()] = first, second, third
        return d, sign, logabsdet, smallest

    return toeplitz_circulant_factor, VERSION


@register_funcify_default_op_cache_key(ToeplitzSolve)
def funcify_solve(op, node, **kwargs):
    @numba_njit
    def toeplitz_solve(c, x, B):
        shapes.check_lengths(c.size, x.size)
        shapes.check_lengths(c.size, B.shape[0])
        return solve(c, x, B)

    return toeplitz_solve, VERSION


@register_funcify_default_op_cache_key(ToeplitzDot)
def funcify_dot(op, node, **kwargs):
    @numba_njit
    def toeplitz_dot(c, X):
        shapes.check_lengths(c.size, X.shape[0])
        return dot(c, X)

    return toeplitz_dot, VERSION


@register_funcify_default_op_cache_key(CirculantDot)
@register_funcify_default_op_cache_key(CirculantSolve)
def funcify_on_circulant(op, node, **kwargs):
    function = circulant_solve if isinstance(op, CirculantSolve) else circulant_dot
    transposed = op.transposed

    @numba_njit
    def on_circulant(c, X):
        shapes.check_lengths(c.size, X.shape[0])
        return function(c, X, transposed)

    return on_circulant, VERSION


@register_funcify_default_op_cache_key(ToeplitzOuter)
@register_funcify_default_op_cache_key(CirculantOuter)
def funcify_outer(op, node, **kwargs):
    function = circulant_outer if isinstance(op, CirculantOuter) else outer

    @numba_njit
    def toeplitz_outer(left, right):
        shapes.check_same_shape(left, right)
        return function(left, right)

    return toeplitz_outer, VERSION
