"""LAPACK and BLAS by pointer under Numba, behind the names of `kernels`.

Only the files that `numba_dispatch` imports use PyTensor's private modules.

A routine is found once per process, in object mode, and kept by PyTensor's ``_call_cached_ptr``: compiled
functions hold no address, so they can be cached on disk.
"""

import numba
import numpy as np
from numba.core import types
from numba.core.extending import get_cython_function_address, intrinsic, overload
from numba.core.imputils import impl_ret_borrowed
from numba.np.linalg import ensure_blas, ensure_lapack, get_blas_kind
from pytensor.link.numba.cache import _call_cached_ptr
from pytensor.link.numba.dispatch.basic import numba_njit
from pytensor.link.numba.dispatch.linalg._LAPACK import int_ptr_to_val, val_to_int_ptr

from autotune.ops import kernels


@numba_njit(inline="always")
def integer_pointer(value):
    """A pointer to ``value`` as the 32-bit integer that BLAS and LAPACK take."""
    return val_to_int_ptr(np.int32(value))


def _address(library, name):
    return get_cython_function_address(f"scipy.linalg.cython_{library}", name)


def routine(library, name, arguments, dtype):
    """A jitted caller of BLAS or LAPACK ``name`` for ``dtype``; ``arguments`` spells int32* as i and data*
    as T."""
    ensure_blas() if library == "blas" else ensure_lapack()
    full_name = get_blas_kind(dtype) + name
    pointers = {"i": types.CPointer(types.int32), "T": types.CPointer(dtype)}
    function_type = types.FunctionType(types.void(*(pointers[letter] for letter in arguments)))
    cache_name = f"autotune.{library}.{full_name}"

    @numba_njit
    def get_pointer():
        with numba.objmode(pointer=types.intp):
            pointer = _address(library, full_name)
        return pointer

    @numba_njit
    def call(*pointers):
        function = _call_cached_ptr(
            get_ptr_func=get_pointer, func_type_ref=function_type, unique_func_name_lit=cache_name
        )
        function(*pointers)

    return call


@intrinsic
def _relabel_c(typing_context, x):
    """The same array, typed as C-contiguous and writable: for arrays that were just seen to be so."""

    def codegen(context, builder, signature, args):
        return impl_ret_borrowed(context, builder, signature.return_type, args[0])

    return x.copy(layout="C", readonly=False)(x), codegen


@numba_njit
def _copy_matrix(x):
    out = np.empty(x.shape, x.dtype)
    if x.flags.c_contiguous:
        out[:, :] = _relabel_c(x)
        return out
    # Square tiles: a transposing copy that runs along whole rows misses the cache at every step.
    rows, columns = x.shape
    for top in range(0, rows, 32):
        for left in range(0, columns, 32):
            for i in range(top, min(top + 32, rows)):
                for j in range(left, min(left + 32, columns)):
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


@overload(kernels.mirror)
def _mirror(A, upper):
    def mirror(A, upper):
        n = A.shape[0]
        for top in range(0, n, 32):
            for left in range(0, top + 1, 32):
                for i in range(top, min(top + 32, n)):
                    for j in range(left, min(left + 32, i)):
                        if upper:
                            A[i, j] = A[j, i]
                        else:
                            A[j, i] = A[i, j]

    return mirror


@overload(kernels.potri)
def _potri(A, upper):
    call = routine("lapack", "potri", "iiTii", A.dtype)

    def potri(A, upper):
        n = A.shape[0]
        info = integer_pointer(0)
        uplo = integer_pointer(ord("L") if upper else ord("U"))
        call(uplo, integer_pointer(n), A.ctypes, integer_pointer(max(1, n)), info)
        kernels.mirror(A, upper)
        return int_ptr_to_val(info)

    return potri


@overload(kernels.getri)
def _getri(A, pivots):
    call = routine("lapack", "getri", "iTiiTii", A.dtype)

    def getri(A, pivots):
        n = A.shape[0]
        info, size, leading = integer_pointer(0), integer_pointer(n), integer_pointer(max(1, n))
        query = np.empty(1, A.dtype)
        call(size, A.ctypes, leading, pivots.ctypes, query.ctypes, integer_pointer(-1), info)
        work = np.empty(max(1, int(query[0])), A.dtype)
        call(size, A.ctypes, leading, pivots.ctypes, work.ctypes, integer_pointer(work.size), info)
        return int_ptr_to_val(info)

    return getri


@overload(kernels.potrf)
def _potrf(A):
    call = routine("lapack", "potrf", "iiTii", A.dtype)

    def potrf(A):
        n = A.shape[0]
        info = integer_pointer(0)
        call(integer_pointer(ord("U")), integer_pointer(n), A.ctypes, integer_pointer(max(1, n)), info)
        return int_ptr_to_val(info)

    return potrf


@overload(kernels.solve_lower)
def _solve_lower(L, rows, transposed):
    call = routine("blas", "trsm", "iiiiiiTTiTi", L.dtype)

    def solve_lower(L, rows, transposed):
        m, k = rows.shape
        side, uplo, diag = integer_pointer(ord("L")), integer_pointer(ord("U")), integer_pointer(ord("N"))
        trans = integer_pointer(ord("N") if transposed else ord("T"))
        size, leading, one = integer_pointer(k), integer_pointer(max(1, k)), np.ones(1, L.dtype)
        columns = integer_pointer(m)
        call(side, uplo, trans, diag, size, columns, one.ctypes, L.ctypes, leading, rows.ctypes, leading)

    return solve_lower
