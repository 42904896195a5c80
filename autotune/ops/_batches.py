"""Batches of matrices under Numba: one loop over the batch for each Op, in several threads where that pays.

PyTensor's own loop calls a function for each matrix, which allocates, and copies what it returns. These write
every factor, solution and inverse where it is to stand, and call LAPACK for matrices that are not small only:
OpenBLAS runs it in one thread up to 40,000 entries; of larger ones its threads share each.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.core.extending import intrinsic, register_jitable
from numba.np.arrayobj import populate_array
from pytensor.link.numba.cache import compile_numba_function_src
from pytensor.link.numba.dispatch import blockwise as _theirs  # noqa: F401  registered before ours
from pytensor.link.numba.dispatch.basic import (
    numba_funcify_and_cache_key,
    numba_njit,
    register_funcify_and_cache_key,
)
from pytensor.tensor.blockwise import BlockwiseWithCoreShape

from autotune.ops import _lapack, core_cholesky_or_lu, core_inverse, kernels, small
from autotune.ops._by_address import VERSION, by_address, c_array, readable
from autotune.ops._lapack import FAST, FEW, LOWER, PLAIN, SMALL, TRANSPOSED
from autotune.ops._layout import cast, relabel_c
from autotune.ops._threads import in_parts, parts_of
from autotune.ops.cholesky_or_lu import CholeskyOrLU, CholeskyOrLUInverse, CholeskyOrLUSolve, FactorSlogdet
from autotune.ops.factor import SharedCholesky, SharedLU
from autotune.ops.inverse import CholeskyInverse, CholeskySolveMany, LUInverse

# Entries of a matrix from which on BLAS runs in threads of its own.
OF_BLAS = 40_000


@intrinsic
def _item(typing_context, x, i):
    """Matrix ``i`` of a batch, of which a single one serves for all, as a view that counts no reference."""
    view = x.copy(ndim=x.ndim - 1)

    def codegen(context, builder, signature, args):
        batch = context.make_array(x)(context, builder, args[0])
        lengths, strides = (cgutils.unpack_tuple(builder, t, x.ndim) for t in (batch.shape, batch.strides))
        zero = context.get_constant(types.intp, 0)
        one = builder.icmp_signed("==", lengths[0], context.get_constant(types.intp, 1))
        offset = builder.mul(builder.select(one, zero, args[1]), strides[0])
        out = context.make_array(view)(context, builder)
        populate_array(
            out,
            data=cgutils.pointer_add(builder, batch.data, offset),
            shape=lengths[1:],
            strides=strides[1:],
            itemsize=batch.itemsize,
            meminfo=None,
        )
        return out._getvalue()

    return view(x, types.intp), codegen


# -- on one matrix of a batch ------------------------------------------------------------------------
# As in `kernels`, Fortran sees the transpose of T, whose factors or inverse are meant.


@register_jitable
def _transpose(A, T):
    for j in range(T.shape[0]):
        for i in range(T.shape[1]):
            T[j, i] = A[i, j]


@register_jitable
def _getrf(T, pivots):
    n = T.shape[0]
    if n <= SMALL:
        small.getrf(T, pivots, 0)
        return
    _lapack.getrf(n, n, T, n, pivots)
    for k in range(n):
        pivots[k] -= 1


@register_jitable
def _potrf(T):
    n = T.shape[0]
    return small.potrf(T, True) if n <= SMALL else _lapack.potrf(LOWER, n, T, n)


@register_jitable
def _looks_definite(A, scratch):
    """`core_cholesky_or_lu.may_be_positive_definite`; ends soon if it is not."""
    n = A.shape[0]
    tolerance = core_cholesky_or_lu.SYMMETRY * np.finfo(scratch.dtype).eps
    for i in range(n):
        if not 0 < A[i, i] < np.inf:
            return False
        scratch[0, i] = np.sqrt(tolerance * A[i, i])
    for i in range(n):
        for j in range(i):
            if not abs(A[i, j] - A[j, i]) <= scratch[0, i] * scratch[0, j]:
                return False
    return True


@register_jitable
def _has_factor(A, T):
    """Cholesky's factor in place of A in T, and whether it is one by `core_cholesky_or_lu.factor`."""
    n = A.shape[0]
    significant = _potrf(T) == 0
    least = (n + core_cholesky_or_lu.PIVOT) * np.finfo(T.dtype).eps
    for i in range(n if significant else 0):
        significant &= T[i, i] * T[i, i] > least * A[i, i]
    return significant


@register_jitable
def _invert(T, pivots, is_cholesky):
    """``T.T`` from its factor to its inverse; NaN everywhere of a singular matrix."""
    n = T.shape[0]
    found = not core_inverse.has_nan_on_diagonal(T)
    if found and is_cholesky:
        if n <= SMALL:
            found = small.potri(T, True) == 0
        else:
            found = _lapack.potri(LOWER, n, T, n) == 0
            for i in range(n):
                for j in range(i):
                    T[i, j] = T[j, i]
    elif found:
        found = (small.getri(T, pivots, 0) if n <= SMALL else kernels.getri(T, _from_one(pivots))) == 0
    if not found:
        kernels.fill_nan(T)


@register_jitable
def _from_one(pivots):
    exchanges = np.empty(pivots.size, np.int32)
    for k in range(pivots.size):
        exchanges[k] = pivots[k] + 1
    return exchanges


@register_jitable
def _solve(T, pivots, is_cholesky, rows, transposed):
    m, n = rows.shape
    if n <= SMALL and m <= FEW:
        if is_cholesky:
            small.potrs(T, True, rows)
        else:
            small.getrs(T, pivots, 0, rows, transposed)
    elif is_cholesky:
        _lapack.potrs(LOWER, n, m, T, n, rows, n)
    else:
        kind = TRANSPOSED if transposed else PLAIN
        _lapack.getrs(kind, n, m, T, n, _from_one(pivots), rows, n)


# -- loops over a part of a batch --------------------------------------------------------------------


def _cholesky_loop(start, stop, A, T):
    for b in range(start, stop):
        a, t = _item(A, b), _item(T, b)
        for j in range(t.shape[0]):
            for i in range(j):
                t[j, i] = 0
            for i in range(j, t.shape[0]):
                t[j, i] = a[i, j]
        if _potrf(t) != 0:
            kernels.fill_nan(t)


def _lu_loop(start, stop, A, T, pivots):
    for b in range(start, stop):
        t = _item(T, b)
        _transpose(_item(A, b), t)
        _getrf(t, _item(pivots, b))


def _either_loop(start, stop, A, T, pivots, is_cholesky):
    for b in range(start, stop):
        a, t, p = _item(A, b), _item(T, b), _item(pivots, b)
        found = _looks_definite(a, t)
        _transpose(a, t)
        if found and not _has_factor(a, t):
            found = False
            _transpose(a, t)
        is_cholesky[b] = found
        for k in range(p.size if found else 0):
            p[k] = k
        if not found:
            _getrf(t, p)


def _solve_loop(start, stop, T, pivots, is_cholesky, B, transposed, X):
    rows = np.empty((X.shape[2], X.shape[1]), X.dtype)
    if rows.size == 0:
        return
    for b in range(start, stop):
        t, x = _item(T, b), _item(X, b)
        cholesky = is_cholesky[b if is_cholesky.size > 1 else 0] != 0
        if not cholesky and core_cholesky_or_lu.has_zero_pivot(t):
            kernels.fill_nan(x)
        else:
            _transpose(_item(B, b), rows)
            _solve(t, _item(pivots, b), cholesky, rows, transposed)
            _transpose(rows, x)


def _inverse_loop(start, stop, F, T, pivots, is_cholesky):
    for b in range(start, stop):
        t = _item(T, b)
        _transpose(_item(F, b), t)
        cholesky = is_cholesky[b if is_cholesky.size > 1 else 0] != 0
        _invert(t, _item(pivots, b), cholesky)
        if not cholesky:
            for i in range(t.shape[0]):
                for j in range(i):
                    t[i, j], t[j, i] = t[j, i], t[i, j]


def _slogdet_loop(start, stop, T, pivots, is_cholesky, sign, logabsdet):
    for b in range(start, stop):
        cholesky = is_cholesky[b if is_cholesky.size > 1 else 0] != 0
        sign[b], logabsdet[b] = core_cholesky_or_lu.slogdet(_item(T, b), _item(pivots, b), cholesky)


# -- on a whole batch --------------------------------------------------------------------------------

FLAG = types.boolean
PIVOTS, KINDS = readable(types.int32, 2), readable(types.int8, 1)
NEW_PIVOTS, NEW_KINDS = c_array(types.int32, 2), c_array(types.int8, 1)
BOUNDS = (types.int64, types.int64)


def _loop(function, *arguments):
    """``function`` in several threads; "any": matrices of any layout, "new": those that it writes."""

    def signature(T):
        named = {"any": readable(T, 3), "new": c_array(T, 3), "numbers": c_array(T, 1)}
        return types.void(*BOUNDS, *(named.get(a, a) if isinstance(a, str) else a for a in arguments))

    return in_parts(function, signature, fastmath=FAST)


cholesky_loop = _loop(_cholesky_loop, "any", "new")
lu_loop = _loop(_lu_loop, "any", "new", NEW_PIVOTS)
either_loop = _loop(_either_loop, "any", "new", NEW_PIVOTS, NEW_KINDS)
solve_loop = _loop(_solve_loop, "new", PIVOTS, KINDS, "any", FLAG, "new")
inverse_loop = _loop(_inverse_loop, "any", "new", PIVOTS, KINDS)
slogdet_loop = _loop(_slogdet_loop, "any", PIVOTS, KINDS, "numbers", "numbers")


@register_jitable
def _parts(batch, n, cubes, squares):
    """Into how many threads to cut a loop of ``cubes n^3 + squares n^2`` operations for each matrix."""
    return 1 if n * n >= OF_BLAS else parts_of(batch, n * n * (cubes * n + squares))


@register_jitable
def _new(A):
    """Room for a factor of each matrix."""
    if A.shape[1] != A.shape[2]:
        raise ValueError("The matrix must be square. It has another number of rows than of columns.")
    return np.empty(A.shape, A.dtype)


@register_jitable
def _in_order(F):
    """The transposed factors, by rows: as they were made, or copied."""
    T = F.transpose((0, 2, 1))
    return relabel_c(T) if T.flags.c_contiguous else T.copy()


@register_jitable
def _check_factors(F, pivots):
    n = F.shape[1]
    if F.shape[2] != n or pivots.shape[1] != n:
        raise ValueError("The factors must be a square matrix and one pivot for each row.")
    for b in range(pivots.shape[0]):
        for k in range(n):
            if pivots[b, k] < 0 or pivots[b, k] >= n:
                raise ValueError("A pivot lies outside the matrix. It is no row's number.")


def _cholesky(A):
    T = _new(A)
    cholesky_loop(len(A), _parts(len(A), A.shape[1], 0.33, 6.0), A, T)
    return T.transpose((0, 2, 1))


def _lu(A):
    T, pivots = _new(A), np.empty(A.shape[:2], np.int32)
    lu_loop(len(A), _parts(len(A), A.shape[1], 0.67, 6.0), A, T, pivots)
    return T.transpose((0, 2, 1)), pivots


def _either(A):
    T, pivots, is_cholesky = _new(A), np.empty(A.shape[:2], np.int32), np.empty(len(A), np.int8)
    either_loop(len(A), _parts(len(A), A.shape[1], 0.67, 8.0), A, T, pivots, is_cholesky)
    return T.transpose((0, 2, 1)), pivots, is_cholesky


def _solve_all(F, pivots, is_cholesky, B, transposed):
    _check_factors(F, pivots)
    if B.shape[1] != F.shape[1]:
        raise ValueError("The right-hand side must have as many rows as the matrix. It differs in length.")
    batch = len(B) if len(F) == 1 else len(F)
    X = np.empty((batch, *B.shape[1:]), B.dtype)
    parts = _parts(batch, F.shape[1], 0.0, 2.0 * B.shape[2] + 1.0)
    solve_loop(batch, parts, _in_order(F), pivots, is_cholesky, B, transposed, X)
    return X


def _inverse(F, pivots, is_cholesky):
    _check_factors(F, pivots)
    T = np.empty(F.shape, F.dtype)
    inverse_loop(len(F), _parts(len(F), F.shape[1], 1.33, 8.0), F, T, pivots, is_cholesky)
    return T


def _slogdet(F, pivots, is_cholesky):
    _check_factors(F, pivots)
    sign, logabsdet = np.empty(len(F), F.dtype), np.empty(len(F), F.dtype)
    slogdet_loop(len(F), _parts(len(F), 1, 0.0, 4.0 * F.shape[1]), F, pivots, is_cholesky, sign, logabsdet)
    return sign, logabsdet


register_jitable(_inverse)
register_jitable(_solve_all)


def _inverse_from_cholesky(L):
    return _inverse(L, np.zeros((1, L.shape[1]), np.int32), np.ones(1, np.int8))


def _solve_from_cholesky(L, B):
    none = np.zeros((1, L.shape[1]), np.int32)
    return _solve_all(L, none, np.ones(1, np.int8), B, False)


def _inverse_from_lu(F, pivots):
    return _inverse(F, pivots, np.zeros(1, np.int8))


def _whole(function, returned, *arguments):
    """``function`` of matrices in any order, with what else it takes."""

    def signature(T):
        kinds = {"matrices": types.Array(T, 3, "A"), "inverses": c_array(T, 3), "numbers": c_array(T, 1)}
        found = [kinds.get(r, r) if isinstance(r, str) else r for r in returned]
        out = found[0] if len(found) == 1 else types.Tuple(found)
        return out(*(readable(T, 3) if a == "matrices" else a for a in arguments))

    return by_address(function, signature)


cholesky = _whole(_cholesky, ["matrices"], "matrices")
lu = _whole(_lu, ["matrices", NEW_PIVOTS], "matrices")
either = _whole(_either, ["matrices", NEW_PIVOTS, NEW_KINDS], "matrices")
solve = _whole(_solve_all, ["inverses"], "matrices", PIVOTS, KINDS, "matrices", FLAG)
inverse = _whole(_inverse, ["inverses"], "matrices", PIVOTS, KINDS)
inverse_from_cholesky = _whole(_inverse_from_cholesky, ["inverses"], "matrices")
solve_from_cholesky = _whole(_solve_from_cholesky, ["inverses"], "matrices", "matrices")
inverse_from_lu = _whole(_inverse_from_lu, ["inverses"], "matrices", PIVOTS)
slogdet = _whole(_slogdet, ["numbers", "numbers"], "matrices", PIVOTS, KINDS)


# -- in PyTensor's graphs ----------------------------------------------------------------------------


def _solve_of(op):
    transposed = op.transposed

    @numba_njit
    def solve_either(F, pivots, is_cholesky, B):
        return solve(F, pivots, is_cholesky, B, transposed)

    return solve_either


WHOLE: dict[type, Callable[[Any], Any]] = {
    SharedCholesky: lambda op: cholesky,
    SharedLU: lambda op: lu,
    CholeskyInverse: lambda op: inverse_from_cholesky,
    CholeskySolveMany: lambda op: solve_from_cholesky,
    LUInverse: lambda op: inverse_from_lu,
    CholeskyOrLU: lambda op: either,
    CholeskyOrLUSolve: _solve_of,
    CholeskyOrLUInverse: lambda op: inverse,
    FactorSlogdet: lambda op: slogdet,
}
"""What runs the batches of an Op: those on one matrix of the batch have been written above."""
in_their_loop = numba_funcify_and_cache_key.dispatch(BlockwiseWithCoreShape)


@register_funcify_and_cache_key(BlockwiseWithCoreShape)
def funcify_batch(op, node, **kwargs):
    """By the functions above; PyTensor's own loop for all other Ops, and for inputs that vary along some axes
    of the batch only."""
    [inner] = op.fgraph.apply_nodes
    core_op, axes = inner.op.core_op, inner.op.batch_ndim(inner)
    patterns = [x.type.broadcastable[:axes] for x in node.inputs[: len(inner.inputs)]]
    if type(core_op) not in WHOLE or axes == 0 or any(any(p) != all(p) for p in patterns):
        return in_their_loop(op, node, **kwargs)
    dtype = next(out.type.numpy_dtype for out in node.outputs if out.type.numpy_dtype.kind == "f")
    wanted = {2: dtype, 1: np.dtype(np.int32), 0: np.dtype(np.int8)}
    casts = (cast(x, wanted[len(core)]) for x, core in zip(node.inputs, inner.op.inputs_sig, strict=False))
    environment = {
        "whole": WHOLE[type(core_op)](core_op),
        "flat": _flat(axes),
        "shaped": _shaped(axes),
        "check_length": _check_length,
        **{f"cast{i}": function for i, function in enumerate(casts)},
    }
    lead = next((i for i, pattern in enumerate(patterns) if not any(pattern)), 0)
    source = _source(len(node.inputs), [all(p) for p in patterns], lead, len(node.outputs))
    key = (type(core_op), core_op._props_dict(), patterns, [x.type.dtype for x in node.inputs], VERSION)
    return (
        numba_njit(compile_numba_function_src(source, "batch", environment)),
        sha256(repr(key).encode()).hexdigest(),
    )


def _source(arguments, single, lead, outputs):
    """A function of the inputs and of PyTensor's core shapes, which are not needed; input number ``lead`` has
    the batch's axes, a ``single`` one serves all of it."""
    lines = [f"def batch({', '.join(f'x{i}' for i in range(arguments))}):"]
    lines += [f"y{i} = cast{i}(flat(x{i}))" for i in range(len(single))]
    lines += [f"check_length(y{i}, {1 if alone else f'len(y{lead})'})" for i, alone in enumerate(single)]
    found = ", ".join(f"found{i}" for i in range(outputs))
    lines.append(f"{found} = whole({', '.join(f'y{i}' for i in range(len(single)))})")
    lines.append("return " + ", ".join(f"shaped(found{i}, x{lead})" for i in range(outputs)))
    return "\n    ".join(lines)


@numba_njit
def _check_length(x, length):
    if len(x) != length:
        raise ValueError("The batches of an operation have different lengths, or one that broadcasts.")


def _flat(axes):
    """The axes of a batch as one."""
    if axes == 1:
        return numba_njit(lambda x: x)

    @numba_njit
    def flat(x):
        length = 1
        for i in range(axes):
            length *= x.shape[i]
        return np.ascontiguousarray(x).reshape((length, *x.shape[axes:]))

    return flat


def _shaped(axes):
    """Those of another array in the place of one."""
    if axes == 1:
        return numba_njit(lambda x, like: x)

    @numba_njit
    def shaped(x, like):
        return np.ascontiguousarray(x).reshape((*like.shape[:axes], *x.shape[1:]))

    return shaped
