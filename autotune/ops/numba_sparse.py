"""Numba implementations of the Ops of `sparse`, imported when one is first built: it takes time."""

import numpy as np
from numba.core import types
from numba.core.extending import register_jitable
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from autotune.ops import core_ordering, core_sparse, shapes
from autotune.ops._by_address import VERSION, c_array, compiled, in_python_too, readable, readable_c
from autotune.ops._by_address import in_python as _in_python
from autotune.ops._vectors import FAST
from autotune.ops.sparse import SparseDot, SparseFactor, SparseLogdetPullback, SparseOuter, SparseSolve

for function in (
    core_sparse.opened,
    core_sparse.room,
    core_sparse.move,
    core_sparse.add_update,
    core_sparse.eliminate,
    core_sparse.subtract,
    core_sparse.subtract_four,
    core_sparse.subtract_update,
    core_sparse.is_stable,
    core_sparse.forward,
    core_sparse.backward,
    core_sparse.gather,
    core_sparse.inverse_of_front,
):
    register_jitable(**FAST)(function)
for check in (
    core_ordering.are_few,
    core_ordering.cut,
    core_ordering.places_above,
    core_sparse.check_plan,
    core_sparse.check_entries,
    core_sparse.check_factor,
    core_sparse.check_places,
    shapes.check_lengths,
    shapes.check_same_shape,
):
    register_jitable(check)

PLAN = PLACES = readable(types.int32, 1)

factor = in_python_too(
    core_sparse.factor,
    lambda T: types.Tuple((c_array(T, 1), types.int64, types.float64))(readable(T, 1), PLAN),
)
solve = in_python_too(core_sparse.solve, lambda T: c_array(T, 2)(readable_c(T, 1), readable(T, 2), PLAN))
logdet_pullback = in_python_too(core_sparse.logdet_pullback, lambda T: c_array(T, 1)(readable_c(T, 1), PLAN))
dot = in_python_too(core_sparse.dot, lambda T: c_array(T, 2)(readable(T, 1), readable(T, 2), PLACES, PLACES))
outer = in_python_too(
    core_sparse.outer, lambda T: c_array(T, 1)(readable(T, 2), readable(T, 2), PLACES, PLACES)
)

INTEGERS, COUNTS = c_array(types.int32, 1), c_array(types.int64, 1)
ORDERING = {
    core_ordering.elimination_tree: INTEGERS(INTEGERS, INTEGERS),
    core_ordering.column_counts: COUNTS(INTEGERS, INTEGERS, INTEGERS, types.int64),
    core_ordering.postorder: INTEGERS(INTEGERS),
    core_ordering.front_columns: INTEGERS(INTEGERS, COUNTS),
    core_ordering.front_rows: types.UniTuple(INTEGERS, 4)(INTEGERS, INTEGERS, INTEGERS),
    core_ordering.places_of_entries: types.UniTuple(INTEGERS, 3)(*[INTEGERS] * 4, PLACES, PLACES),
}


def in_python(function):
    """``function`` as it is compiled, to be called from Python."""
    if function in ORDERING:
        return compiled(function, ORDERING[function], no_cpython_wrapper=False)
    return _in_python(function)


@register_funcify_default_op_cache_key(SparseFactor)
def funcify_factor(op, node, **kwargs):
    dtype = node.outputs[0].type.numpy_dtype

    @numba_njit
    def sparse_factor(data, plan):
        core_sparse.check_plan(plan)
        core_sparse.check_entries(data, plan)
        L, first, second = factor(data, plan)
        negative, logabsdet = np.empty((), np.int64), np.empty((), dtype)
        negative[()], logabsdet[()] = first, second
        return L, negative, logabsdet

    return sparse_factor, VERSION


@register_funcify_default_op_cache_key(SparseSolve)
def funcify_solve(op, node, **kwargs):
    @numba_njit
    def sparse_solve(L, B, plan):
        core_sparse.check_plan(plan)
        core_sparse.check_factor(L, plan)
        shapes.check_lengths(plan[0], B.shape[0])
        return solve(np.ascontiguousarray(L), B, plan)

    return sparse_solve, VERSION


@register_funcify_default_op_cache_key(SparseLogdetPullback)
def funcify_logdet_pullback(op, node, **kwargs):
    @numba_njit
    def sparse_logdet_pullback(L, plan):
        core_sparse.check_plan(plan)
        core_sparse.check_factor(L, plan)
        return logdet_pullback(np.ascontiguousarray(L), plan)

    return sparse_logdet_pullback, VERSION


@register_funcify_default_op_cache_key(SparseDot)
def funcify_dot(op, node, **kwargs):
    @numba_njit
    def sparse_dot(data, X, rows, columns):
        shapes.check_lengths(data.size, rows.size)
        core_sparse.check_places(rows, columns, X.shape[0])
        return dot(data, X, rows, columns)

    return sparse_dot, VERSION


@register_funcify_default_op_cache_key(SparseOuter)
def funcify_outer(op, node, **kwargs):
    @numba_njit
    def sparse_outer(left, right, rows, columns):
        shapes.check_same_shape(left, right)
        core_sparse.check_places(rows, columns, left.shape[0])
        return outer(left, right, rows, columns)

    return sparse_outer, VERSION
