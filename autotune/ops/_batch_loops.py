"""Loops over the matrices of a batch in Numba, which write each factor or solution where it is to stand.

LAPACK is called for matrices that are not small only.
"""

import numpy as np
from numba.core import cgutils, types
from numba.core.extending import intrinsic, register_jitable
from numba.np.arrayobj import populate_array

from autotune.ops import _lapack, core_cholesky_or_lu, core_inverse, kernels, small
from autotune.ops._by_address import c_array, readable
from autotune.ops._lapack import FAST, FEW, LOWER, PLAIN, SMALL, TRANSPOSED
from autotune.ops._threads import in_parts


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


# -- in several threads ------------------------------------------------------------------------------

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
