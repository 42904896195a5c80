"""LAPACK and BLAS by pointer under Numba, behind the names of `kernels`.

Only the files that `numba_dispatch` imports use PyTensor's private modules.

A routine is found once per process, in object mode, and kept by PyTensor's ``_call_cached_ptr``: compiled
functions hold no address, so they can be cached on disk.
"""

import numba
import numpy as np
from numba.core import types
from numba.core.extending import get_cython_function_address, overload
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


@overload(kernels.symv)
def _symv(A, upper, x, out):
    call = routine("blas", "symv", "iiTTiTiTTi", A.dtype)

    def symv(A, upper, x, out):
        n = A.shape[0]
        alpha, beta = np.ones(1, A.dtype), np.zeros(1, A.dtype)
        uplo, size, leading = (
            integer_pointer(ord("L") if upper else ord("U")),
            integer_pointer(n),
            integer_pointer(max(1, n)),
        )
        step = integer_pointer(1)
        call(uplo, size, alpha.ctypes, A.ctypes, leading, x.ctypes, step, beta.ctypes, out.ctypes, step)

    return symv


@overload(kernels.rows_times)
def _rows_times(X, A, out):
    call = routine("blas", "gemm", "iiiiiTTiTiTTi", A.dtype)

    def rows_times(X, A, out):
        m, n = X.shape
        one, zero = np.ones(1, A.dtype), np.zeros(1, A.dtype)
        plain, rows, size = integer_pointer(ord("N")), integer_pointer(m), integer_pointer(n)
        # Fortran computes out' = A' X', from the transposes that it sees.
        call(
            plain, plain, size, rows, size, one.ctypes, A.ctypes, size, X.ctypes, size, zero.ctypes,
            out.ctypes, size,
        )  # fmt: skip

    return rows_times


@overload(kernels.symm)
def _symm(A, upper, X, out):
    call = routine("blas", "symm", "iiiiTTiTiTTi", A.dtype)

    def symm(A, upper, X, out):
        m, n = X.shape
        alpha, beta = np.ones(1, A.dtype), np.zeros(1, A.dtype)
        side, uplo = integer_pointer(ord("L")), integer_pointer(ord("L") if upper else ord("U"))
        size, columns, leading = integer_pointer(n), integer_pointer(m), integer_pointer(max(1, n))
        call(
            side, uplo, size, columns, alpha.ctypes, A.ctypes, leading, X.ctypes, leading, beta.ctypes,
            out.ctypes, leading,
        )  # fmt: skip

    return symm


@overload(kernels.matmul)
def _matmul(X, Y):
    """Of matrices in C or Fortran order, as their types say."""
    call = routine("blas", "gemm", "iiiiiTTiTiTTi", X.dtype)
    plain_x, plain_y = X.layout == "C", Y.layout == "C"
    first, second = ord("N" if plain_y else "T"), ord("N" if plain_x else "T")

    def matmul(X, Y):
        (m, k), n = X.shape, Y.shape[1]
        out = np.zeros((m, n), X.dtype)
        if not (out.size and k):
            return out
        one, zero = np.ones(1, X.dtype), np.zeros(1, X.dtype)
        # Fortran computes out' = Y' X', from the transposes that it sees.
        lead_x, lead_y = integer_pointer(k if plain_x else m), integer_pointer(n if plain_y else k)
        call(
            integer_pointer(first), integer_pointer(second), integer_pointer(n), integer_pointer(m),
            integer_pointer(k), one.ctypes, Y.ctypes, lead_y, X.ctypes, lead_x, zero.ctypes, out.ctypes,
            integer_pointer(n),
        )  # fmt: skip
        return out

    return matmul


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
def _potrf(A, upper=False):
    call = routine("lapack", "potrf", "iiTii", A.dtype)

    def potrf(A, upper=False):
        n = A.shape[0]
        info = integer_pointer(0)
        uplo = integer_pointer(ord("L") if upper else ord("U"))
        call(uplo, integer_pointer(n), A.ctypes, integer_pointer(max(1, n)), info)
        return int_ptr_to_val(info)

    return potrf


@overload(kernels.potrs)
def _potrs(A, upper, rows):
    call = routine("lapack", "potrs", "iiiTiTii", A.dtype)

    def potrs(A, upper, rows):
        m, n = rows.shape
        info, leading = integer_pointer(0), integer_pointer(max(1, n))
        uplo = integer_pointer(ord("L") if upper else ord("U"))
        size, columns = integer_pointer(n), integer_pointer(m)
        call(uplo, size, columns, A.ctypes, leading, rows.ctypes, leading, info)

    return potrs


@overload(kernels.getrf)
def _getrf(A, pivots):
    call = routine("lapack", "getrf", "iiTiii", A.dtype)

    def getrf(A, pivots):
        n = A.shape[0]
        info, size, leading = integer_pointer(0), integer_pointer(n), integer_pointer(max(1, n))
        call(size, size, A.ctypes, leading, pivots.ctypes, info)
        return int_ptr_to_val(info)

    return getrf


@overload(kernels.getrs)
def _getrs(A, pivots, rows, transposed):
    call = routine("lapack", "getrs", "iiiTiiTii", A.dtype)

    def getrs(A, pivots, rows, transposed):
        m, n = rows.shape
        info, leading = integer_pointer(0), integer_pointer(max(1, n))
        trans = integer_pointer(ord("N") if transposed else ord("T"))
        size, columns = integer_pointer(n), integer_pointer(m)
        call(trans, size, columns, A.ctypes, leading, pivots.ctypes, rows.ctypes, leading, info)

    return getrs


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
