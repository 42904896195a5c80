"""Numba implementations of this package's Ops: the algorithms of ``core_*.py``, compiled.

Imported when an Op is first built, because it costs half a second. The version that goes into the key of PyTensor's
on-disk cache is a digest of this package's sources, so an edited algorithm can never meet its old machine code.
"""

from hashlib import sha256
from inspect import isfunction
from pathlib import Path

import numpy as np
from numba.core.extending import register_jitable
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from autotune.ops import _lapack, _products, core_factor, core_inverse, core_solve, kernels, woodbury
from autotune.ops.inverse import CholeskyInverse, LUInverse
from autotune.ops.woodbury import LowRankFactor, LowRankInverseDiagonal, LowRankSolve

_SOURCES = [path for path in sorted(Path(__file__).parent.glob("*.py"))]
VERSION = int(sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()[:12], 16)

# Imported for their effect: they give Numba the functions of `kernels`.
_KERNELS = (_lapack, _products)


def _functions_of(module):
    return [f for f in vars(module).values() if isfunction(f) and f.__module__ == module.__name__]


for function in [f for m in (core_inverse, core_factor, core_solve) for f in _functions_of(m)]:
    register_jitable(function)
register_jitable(woodbury.check_lengths)
register_jitable(woodbury.check_rhs)


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
    positive_definite = op.positive_definite
    if op.symmetric:

        @numba_njit
        def factorise(d, U, last):
            return core_factor.symmetric_factor(d, U, last, positive_definite)

    else:

        @numba_njit
        def factorise(d, U, last):
            return core_factor.general_factor(d, U, last, False)

    @numba_njit
    def low_rank_factor(d, U, last):
        woodbury.check_lengths(d, U, last)
        factor = factorise(kernels.c_layout(d), kernels.c_layout(U), kernels.c_layout(last))
        mode, w, F, pivots, S, FS, sign, logabsdet = factor
        return np.asarray(np.int8(mode)), w, F, pivots, S, FS, np.asarray(sign), np.asarray(logabsdet)

    return low_rank_factor, VERSION


@register_funcify_default_op_cache_key(LowRankSolve)
def funcify_low_rank_solve(op, node, **kwargs):
    transposed = op.transposed
    if op.symmetric:

        @numba_njit
        def solve(d, U, last, mode, w, F, pivots, S, FS, B):
            return core_solve.symmetric_solve(d, U, last, mode, w, F, pivots, S, FS, B)

    else:

        @numba_njit
        def solve(d, U, last, mode, w, F, pivots, S, FS, B):
            return core_solve.general_solve(d, U, last, mode, w, F, pivots, B, transposed)

    c = kernels.c_layout

    @numba_njit
    def low_rank_solve(d, U, last, mode, w, F, pivots, S, FS, B):
        woodbury.check_rhs(d, B)
        return solve(c(d), c(U), c(last), mode.item(), c(w), c(F), c(pivots), c(S), c(FS), c(B))

    return low_rank_solve, VERSION


@register_funcify_default_op_cache_key(LowRankInverseDiagonal)
def funcify_low_rank_inverse_diagonal(op, node, **kwargs):
    if op.symmetric:

        @numba_njit
        def diagonal(U, last, mode, w, F, pivots, S, FS):
            return core_solve.symmetric_inverse_diagonal(U, last, mode, w, F, pivots, S, FS)

    else:

        @numba_njit
        def diagonal(U, last, mode, w, F, pivots, S, FS):
            return core_solve.general_inverse_diagonal(U, last, mode, w, F, pivots)

    c = kernels.c_layout

    @numba_njit
    def low_rank_inverse_diagonal(d, U, last, mode, w, F, pivots, S, FS):
        return diagonal(c(U), c(last), mode.item(), c(w), c(F), c(pivots), c(S), c(FS))

    return low_rank_inverse_diagonal, VERSION
