"""Copies and comparisons of matrices under Numba, behind the names of `kernels`, and the checks of shapes.

Transposing loops run in square tiles, since one that runs along whole rows misses the cache at every step. In
tiles of 8, a constant, the compiler unrolls them; the triangles on the diagonal and the last rows are left to
plain loops.
"""

import numpy as np
from numba.core import types
from numba.core.extending import intrinsic, overload, register_jitable
from numba.core.imputils import impl_ret_borrowed
from pytensor.link.numba.dispatch.basic import numba_njit

from autotune.ops import kernels, shapes
from autotune.ops._by_address import by_address, c_array, readable, readable_c

for check in (
    shapes.check_square,
    shapes.check_same_order,
    shapes.check_pivots,
    shapes.check_low_rank,
    shapes.check_rhs,
):
    register_jitable(check)


@intrinsic
def relabel_c(typing_context, x):
    """The same array, typed as C-contiguous and writable: for arrays that were just seen to be so."""

    def codegen(context, builder, signature, args):
        return impl_ret_borrowed(context, builder, signature.return_type, args[0])

    return x.copy(layout="C", readonly=False)(x), codegen


@intrinsic
def _same(typing_context, x):
    def codegen(context, builder, signature, args):
        return impl_ret_borrowed(context, builder, x, args[0])

    return x(x), codegen


def cast(variable, dtype):
    """What gives a value of ``variable`` the ``dtype`` in jitted code; it copies only what has another."""
    if variable.type.numpy_dtype == dtype:
        return _same
    return numba_njit(lambda x: x.astype(dtype))


def _copy_matrix(x):
    """In C order."""
    rows, columns = x.shape
    out = np.empty((rows, columns), x.dtype)
    if x.flags.c_contiguous or not x.flags.f_contiguous:
        for i in range(rows):
            for j in range(columns):
                out[i, j] = x[i, j]
        return out
    source = relabel_c(x.T)
    bottom, right = rows - rows % 8, columns - columns % 8
    for top in range(0, bottom, 8):
        for left in range(0, right, 8):
            for i in range(8):
                for j in range(8):
                    out[top + i, left + j] = source[left + j, top + i]
    for i in range(rows):
        for j in range(right if i < bottom else 0, columns):
            out[i, j] = source[j, i]
    return out


copy_matrix = by_address(_copy_matrix, lambda T: c_array(T, 2)(readable(T, 2)))


@overload(kernels.owned)
def _owned(x, overwrite):
    def owned(x, overwrite):
        if overwrite and x.flags.c_contiguous:
            return relabel_c(x)
        return copy_matrix(x)

    return owned


def _transpose(A):
    """In place, for a square matrix."""
    n = A.shape[0]
    bottom = n - n % 8
    for top in range(0, bottom, 8):
        for left in range(0, top, 8):
            for i in range(top, top + 8):
                for j in range(left, left + 8):
                    A[i, j], A[j, i] = A[j, i], A[i, j]
    for i in range(n):
        for j in range(i - i % 8 if i < bottom else 0, i):
            A[i, j], A[j, i] = A[j, i], A[i, j]


transpose = by_address(_transpose, lambda T: types.void(c_array(T, 2)))


@overload(kernels.owned_transposed)
def _owned_transposed(x, overwrite):
    def owned_transposed(x, overwrite):
        if overwrite and x.flags.c_contiguous:
            out = relabel_c(x)
            transpose(out)
            return out
        return kernels.owned(x.T, overwrite)

    return owned_transposed


def _upper_of_copy(A):
    """The lower triangle of A, transposed, in a new matrix with zeros below."""
    n = A.shape[0]
    out = np.zeros((n, n), A.dtype)
    bottom = n - n % 8
    for top in range(0, bottom, 8):
        for left in range(0, top, 8):
            for i in range(8):
                for j in range(8):
                    out[left + j, top + i] = A[top + i, left + j]
    for i in range(n):
        for j in range(i - i % 8 if i < bottom else 0, i + 1):
            out[j, i] = A[i, j]
    return out


upper_of_copy = by_address(_upper_of_copy, lambda T: c_array(T, 2)(readable_c(T, 2)))


@overload(kernels.upper_from_lower)
def _upper_from_lower(A, overwrite):
    def upper_from_lower(A, overwrite):
        if A.flags.f_contiguous and not A.flags.c_contiguous:
            out = kernels.owned(A.T, overwrite)
        elif overwrite and A.flags.c_contiguous:
            out = relabel_c(A)
            kernels.mirror(out, False)
        else:
            return upper_of_copy(kernels.c_layout(A))
        for i in range(1, out.shape[0]):
            for j in range(i):
                out[i, j] = 0
        return out

    return upper_from_lower


@overload(kernels.c_layout)
def _c_layout(x):
    if x.layout == "C":
        return lambda x: relabel_c(x)
    if x.ndim == 2:

        def c_layout(x):
            return relabel_c(x) if x.flags.c_contiguous else copy_matrix(x)

    else:

        def c_layout(x):
            return relabel_c(x) if x.flags.c_contiguous else x.copy()

    return c_layout


@overload(kernels.either_order)
def _either_order(A):
    def either_order(A):
        if A.flags.f_contiguous and not A.flags.c_contiguous:
            return relabel_c(A.T), True
        return kernels.c_layout(A), False

    return either_order


@overload(kernels.fill_nan)
def _fill_nan(A):
    def fill_nan(A):
        for i in range(A.shape[0]):
            for j in range(A.shape[1]):
                A[i, j] = np.nan

    return fill_nan


def _mirror_down(A):
    """Copy the upper triangle onto the lower one, in square tiles."""
    n = A.shape[0]
    bottom = n - n % 8
    for top in range(0, bottom, 8):
        for left in range(0, top, 8):
            for i in range(8):
                for j in range(8):
                    A[top + i, left + j] = A[left + j, top + i]
    for i in range(n):
        for j in range(i - i % 8 if i < bottom else 0, i):
            A[i, j] = A[j, i]


mirror_down = by_address(_mirror_down, lambda T: types.void(types.Array(T, 2, "A")))


@overload(kernels.mirror)
def _mirror(A, upper):
    def mirror(A, upper):
        mirror_down(A if upper else A.T)

    return mirror


def _nearly_symmetric(A, bounds):
    n = A.shape[0]
    bottom = n - n % 8
    # NaN must not pass: the comparisons are written so that it fails.
    for i in range(n):
        for j in range(i - i % 8 if i < bottom else 0, i):
            if not abs(A[i, j] - A[j, i]) <= bounds[i] * bounds[j]:
                return False
    for top in range(0, bottom, 8):
        for left in range(0, top, 8):
            symmetric = True
            for i in range(top, top + 8):
                for j in range(left, left + 8):
                    symmetric &= abs(A[i, j] - A[j, i]) <= bounds[i] * bounds[j]
            if not symmetric:
                return False
    return True


tiles_agree = by_address(_nearly_symmetric, lambda T: types.boolean(readable_c(T, 2), readable_c(T, 1)))


@overload(kernels.nearly_symmetric)
def _nearly_symmetric_in_any_order(A, bounds):
    return lambda A, bounds: tiles_agree(kernels.either_order(A)[0], bounds)
