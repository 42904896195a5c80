"""Copies and comparisons of matrices under Numba, behind the names of `kernels`.

Only the files that `numba_dispatch` imports use PyTensor's private modules. Transposing loops run in square
tiles, since one that runs along whole rows misses the cache at every step. In tiles of 8, a constant, the
compiler unrolls them; the triangles on the diagonal and the last rows are left to plain loops.
"""

import numpy as np
from numba.core.extending import intrinsic, overload
from numba.core.imputils import impl_ret_borrowed
from pytensor.link.numba.dispatch.basic import numba_njit

from autotune.ops import kernels


@intrinsic
def _relabel_c(typing_context, x):
    """The same array, typed as C-contiguous and writable: for arrays that were just seen to be so."""

    def codegen(context, builder, signature, args):
        return impl_ret_borrowed(context, builder, signature.return_type, args[0])

    return x.copy(layout="C", readonly=False)(x), codegen


@numba_njit
def _copy_matrix(x):
    if x.flags.c_contiguous:
        return _relabel_c(x).copy()
    rows, columns = x.shape
    out = np.empty(x.shape, x.dtype)
    bottom, right = rows - rows % 8, columns - columns % 8
    for top in range(0, bottom, 8):
        for left in range(0, right, 8):
            for i in range(8):
                for j in range(8):
                    out[top + i, left + j] = x[top + i, left + j]
    for i in range(rows):
        for j in range(right if i < bottom else 0, columns):
            out[i, j] = x[i, j]
    return out


@numba_njit
def _copy(x):
    return x.copy()


@overload(kernels.owned)
def _owned(x, overwrite):
    copy = _copy_matrix if x.ndim == 2 else _copy
    if not x.mutable:
        return lambda x, overwrite: copy(x)

    def owned(x, overwrite):
        if overwrite and x.flags.c_contiguous:
            return _relabel_c(x)
        return copy(x)

    return owned


@numba_njit
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


@overload(kernels.owned_transposed)
def _owned_transposed(x, overwrite):
    if not x.mutable:
        return lambda x, overwrite: _copy_matrix(x.T)

    def owned_transposed(x, overwrite):
        if overwrite and x.flags.c_contiguous:
            _transpose(x)
            return _relabel_c(x)
        return kernels.owned(x.T, overwrite)

    return owned_transposed


@numba_njit
def _clear_lower(A):
    for i in range(1, A.shape[0]):
        for j in range(i):
            A[i, j] = 0


@numba_njit
def _upper_in_place(A):
    kernels.mirror(A, False)
    _clear_lower(A)
    return _relabel_c(A)


@numba_njit
def _upper_of_fortran(A, overwrite):
    out = kernels.owned(A.T, overwrite)
    _clear_lower(out)
    return out


@numba_njit
def _upper_of_copy(A):
    """In square tiles; the rows below the last whole tile by a plain loop."""
    n = A.shape[0]
    out = np.empty((n, n), A.dtype)
    bottom = n - n % 8
    for top in range(0, bottom, 8):
        for left in range(0, top, 8):
            for i in range(8):
                for j in range(8):
                    out[left + j, top + i] = A[top + i, left + j]
    for i in range(n):
        for j in range(i - i % 8 if i < bottom else 0, i + 1):
            out[j, i] = A[i, j]
    _clear_lower(out)
    return out


@overload(kernels.upper_from_lower)
def _upper_from_lower(A, overwrite):
    if not A.mutable:

        def upper_from_lower(A, overwrite):
            fortran = A.flags.f_contiguous and not A.flags.c_contiguous
            return _upper_of_fortran(A, False) if fortran else _upper_of_copy(A)

    else:

        def upper_from_lower(A, overwrite):
            if A.flags.f_contiguous and not A.flags.c_contiguous:
                return _upper_of_fortran(A, overwrite)
            if overwrite and A.flags.c_contiguous:
                return _upper_in_place(A)
            return _upper_of_copy(A)

    return upper_from_lower


@overload(kernels.c_layout)
def _c_layout(x):
    copy = _copy_matrix if x.ndim == 2 else _copy
    if x.layout == "C":
        return lambda x: _relabel_c(x)

    def c_layout(x):
        if x.flags.c_contiguous:
            return _relabel_c(x)
        return copy(x)

    return c_layout


@overload(kernels.either_order)
def _either_order(A):
    def either_order(A):
        if A.flags.f_contiguous and not A.flags.c_contiguous:
            return _relabel_c(A.T), True
        return kernels.c_layout(A), False

    return either_order


@numba_njit
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


@overload(kernels.mirror)
def _mirror(A, upper):
    def mirror(A, upper):
        _mirror_down(A if upper else A.T)

    return mirror


@overload(kernels.nearly_symmetric)
def _nearly_symmetric(A, bounds):
    def nearly_symmetric(A, bounds):
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

    return nearly_symmetric
