"""Numba implementations of the Ops of `quasiseparable`, imported when one is first built: it takes time."""

from functools import cache

import numpy as np
from numba.core import types
from numba.core.extending import register_jitable
from pytensor.graph.basic import Constant
from pytensor.link.numba.cache import compile_numba_function_src
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from autotune.ops import core_quasiseparable, shapes
from autotune.ops._base import digest_of_sources
from autotune.ops._by_address import VERSION, by_address, c_array, in_python, in_python_too, readable
from autotune.ops._vectors import FAST
from autotune.ops.quasiseparable import (
    QuasiseparableDot,
    QuasiseparableFactor,
    QuasiseparableLogdetPullback,
    QuasiseparableOuter,
    QuasiseparableSolve,
)
from autotune.ops.unrolled_quasiseparable import MOST_COLUMNS, MOST_STATES, SOURCES

__all__ = ["in_python"]

for function in (
    core_quasiseparable.decays,
    core_quasiseparable.slope,
    core_quasiseparable.starts_of,
    core_quasiseparable.blocks_of,
    core_quasiseparable.transition,
    core_quasiseparable.advance,
    core_quasiseparable.retreat,
    core_quasiseparable.advance_both,
    core_quasiseparable.retreat_both,
    core_quasiseparable.first_states,
    core_quasiseparable.condense,
    core_quasiseparable.admit,
    core_quasiseparable.weighted,
    core_quasiseparable.add,
    core_quasiseparable.inner,
    core_quasiseparable.uncondense,
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


SIGNATURES = {
    core_quasiseparable.factor: lambda T: types.Tuple(
        (c_array(T, 1), c_array(T, 2), c_array(types.float64, 2), types.float64, types.float64)
    )(*[readable(T, 1)] * 4, SIZES, POWERS),
    core_quasiseparable.solve: lambda T: c_array(T, 2)(
        readable(T, 1), readable(T, 2), DECAYS, readable(T, 1), readable(T, 1), SIZES, readable(T, 2)
    ),
    core_quasiseparable.logdet_pullback: lambda T: _vectors(T)(
        readable(T, 1), readable(T, 2), DECAYS, *[readable(T, 1)] * 3, SIZES, POWERS
    ),
    core_quasiseparable.dot: lambda T: c_array(T, 2)(*[readable(T, 1)] * 4, SIZES, POWERS, readable(T, 2)),
    core_quasiseparable.outer: lambda T: _vectors(T)(
        *[readable(T, 2)] * 2, *[readable(T, 1)] * 3, SIZES, POWERS
    ),
}
factor, solve, logdet_pullback, dot, outer = (
    in_python_too(function, signature) for function, signature in SIGNATURES.items()
)


def for_few_states(function, node, loops):
    """The ``loops``, unrolled where the blocks of a node are known and its states few; and a version."""
    sizes = next(var for var in node.inputs if var.type.dtype == "int64")
    if not isinstance(sizes, Constant) or sizes.data.sum() > MOST_STATES:
        return loops, VERSION
    known = tuple(sizes.data.tolist())
    return unrolled(function, known), int(f"{VERSION}{''.join(map(str, known))}")


@cache
def unrolled(function, sizes):
    """Compiled once for each sizes of blocks, kept on disk by its name."""
    name = f"{function.__name__}_of_{'_'.join(map(str, sizes))}"
    source = SOURCES[function.__name__](sizes).replace(function.__name__, name, 1)
    called = {f.__name__: f for f in (core_quasiseparable.decays, core_quasiseparable.slope)}
    made = compile_numba_function_src(
        source,
        name,
        {"np": np, "__name__": __name__} | called,
        cache_key=f"{digest_of_sources()}.{__name__}.{name}",
    )
    return by_address(made, SIGNATURES[function], **FAST)


@register_funcify_default_op_cache_key(QuasiseparableFactor)
def funcify_factor(op, node, **kwargs):
    dtype = node.outputs[0].type.numpy_dtype
    fast, version = for_few_states(core_quasiseparable.factor, node, factor)

    @numba_njit
    def quasiseparable_factor(d, steps, c, rates, sizes, powers):
        shapes.check_lengths(d.size, steps.size)
        shapes.check_on_line(steps, c, rates, sizes, powers)
        D, V, E, first, second = fast(d, steps, c, rates, sizes, powers)
        sign, logabsdet = np.empty((), dtype), np.empty((), dtype)
        sign[()], logabsdet[()] = first, second
        return D, V, E, sign, logabsdet

    return quasiseparable_factor, version


@register_funcify_default_op_cache_key(QuasiseparableSolve)
def funcify_solve(op, node, **kwargs):
    fast, version = for_few_states(core_quasiseparable.solve, node, solve)

    @numba_njit
    def quasiseparable_solve(D, V, E, steps, c, sizes, B):
        shapes.check_line_factor(D, V, E, steps, c, sizes)
        shapes.check_lengths(D.size, B.shape[0])
        if B.shape[1] > MOST_COLUMNS:
            return solve(D, V, E, steps, c, sizes, B)
        return fast(D, V, E, steps, c, sizes, B)

    return quasiseparable_solve, version


@register_funcify_default_op_cache_key(QuasiseparableLogdetPullback)
def funcify_logdet_pullback(op, node, **kwargs):
    fast, version = for_few_states(core_quasiseparable.logdet_pullback, node, logdet_pullback)

    @numba_njit
    def quasiseparable_logdet_pullback(D, V, E, steps, c, rates, sizes, powers):
        shapes.check_line_factor(D, V, E, steps, c, sizes)
        shapes.check_on_line(steps, c, rates, sizes, powers)
        return fast(D, V, E, steps, c, rates, sizes, powers)

    return quasiseparable_logdet_pullback, version


@register_funcify_default_op_cache_key(QuasiseparableDot)
def funcify_dot(op, node, **kwargs):
    fast, version = for_few_states(core_quasiseparable.dot, node, dot)

    @numba_njit
    def quasiseparable_dot(d, steps, c, rates, sizes, powers, X):
        shapes.check_lengths(d.size, X.shape[0])
        shapes.check_lengths(d.size, steps.size)
        shapes.check_on_line(steps, c, rates, sizes, powers)
        if X.shape[1] > MOST_COLUMNS:
            return dot(d, steps, c, rates, sizes, powers, X)
        return fast(d, steps, c, rates, sizes, powers, X)

    return quasiseparable_dot, version


@register_funcify_default_op_cache_key(QuasiseparableOuter)
def funcify_outer(op, node, **kwargs):
    fast, version = for_few_states(core_quasiseparable.outer, node, outer)

    @numba_njit
    def quasiseparable_outer(left, right, steps, c, rates, sizes, powers):
        shapes.check_same_shape(left, right)
        shapes.check_lengths(left.shape[0], steps.size)
        shapes.check_on_line(steps, c, rates, sizes, powers)
        if left.shape[1] > MOST_COLUMNS:
            return outer(left, right, steps, c, rates, sizes, powers)
        return fast(left, right, steps, c, rates, sizes, powers)

    return quasiseparable_outer, version
