"""Numba implementations of the Ops of `woodbury`, imported when one is first built: it takes time."""

from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from autotune.ops import _compiled_factor, _compiled_solve, _layout
from autotune.ops._by_address import VERSION
from autotune.ops.woodbury import (
    LowRankFactor,
    LowRankInverseDiagonal,
    LowRankSolve,
    LowRankSolveColumns,
    LowRankSolveInRange,
    SymmetricRoot,
)

# Imported for its effect: it gives Numba functions of `kernels`.
__all__ = ["_layout"]


@register_funcify_default_op_cache_key(LowRankFactor)
def funcify_low_rank_factor(op, node, **kwargs):
    positive_definite = op.positive_definite
    factorise = _compiled_factor.factorise if op.symmetric else _compiled_factor.factor_general

    @numba_njit
    def low_rank_factor(d, U, last):
        return factorise(positive_definite, d, U, last)

    return low_rank_factor, VERSION


@register_funcify_default_op_cache_key(LowRankSolve)
def funcify_low_rank_solve(op, node, **kwargs):
    transposed = op.transposed
    solve = _compiled_solve.solve if op.symmetric else _compiled_solve.solve_general

    @numba_njit
    def low_rank_solve(d, U, last, mode, w, F, pivots, S, FS, B):
        return solve(transposed, d, U, last, mode, w, F, pivots, S, FS, B)

    return low_rank_solve, VERSION


@register_funcify_default_op_cache_key(LowRankSolveColumns)
def funcify_low_rank_solve_columns(op, node, **kwargs):
    solve_columns = _compiled_solve.solve_columns

    @numba_njit
    def low_rank_solve_columns(d, U, c, mode, w, F, pivots, S, FS):
        return solve_columns(d, U, c, mode, w, F, pivots, S, FS)

    return low_rank_solve_columns, VERSION


@register_funcify_default_op_cache_key(LowRankSolveInRange)
def funcify_low_rank_solve_in_range(op, node, **kwargs):
    solve_in_range = _compiled_solve.solve_in_range

    @numba_njit
    def low_rank_solve_in_range(d, U, c, mode, w, F, pivots, S, FS, Z):
        return solve_in_range(d, U, c, mode, w, F, pivots, S, FS, Z)

    return low_rank_solve_in_range, VERSION


@register_funcify_default_op_cache_key(SymmetricRoot)
def funcify_symmetric_root(op, node, **kwargs):
    root = _compiled_factor.symmetric_root

    @numba_njit
    def symmetric_root(M):
        return root(M)

    return symmetric_root, VERSION


@register_funcify_default_op_cache_key(LowRankInverseDiagonal)
def funcify_low_rank_inverse_diagonal(op, node, **kwargs):
    diagonal = _compiled_solve.inverse_diagonal if op.symmetric else _compiled_solve.inverse_diagonal_general

    @numba_njit
    def low_rank_inverse_diagonal(d, U, last, mode, w, F, pivots, S, FS):
        return diagonal(d, U, last, mode, w, F, pivots, S, FS)

    return low_rank_inverse_diagonal, VERSION
