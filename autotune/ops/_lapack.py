"""LAPACK and BLAS under Numba, behind the names of `kernels`: SciPy's, called by symbol, so that code on disk
holds no address."""

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import get_cython_function_address, intrinsic, overload, register_jitable
from numba.np.linalg import get_blas_kind

from autotune.ops import _vectors, kernels, small
from autotune.ops._by_address import by_address, c_array

# `_vectors` is imported for its effect: `small` runs in its loops.
__all__ = ["_vectors"]

ROUTINES = {
    "blas": ("gemm", "gemv", "symm", "symv", "syrk", "trsm"),
    "lapack": ("getrf", "getri", "getrs", "potrf", "potri", "potrs"),
}
POINTER = ir.PointerType(ir.IntType(8))
# Letters that Fortran takes.
LEFT, LOWER, UPPER, PLAIN, TRANSPOSED, GENERAL = map(ord, "LLUNTN")

for library, names in ROUTINES.items():
    for routine_name in (kind + name for name in names for kind in "sd"):
        llvmlite.binding.add_symbol(
            f"autotune.{routine_name}",
            get_cython_function_address(f"scipy.linalg.cython_{library}", routine_name),
        )


def routine(name):
    """A jitted caller of ``name`` for the dtype of its first array: numbers go by reference, arrays by their
    data, as Fortran takes them. Returns INFO, 0 of BLAS."""
    has_info = name in ROUTINES["lapack"]

    @intrinsic
    def call(typing_context, *arguments):
        taken = [types.unliteral(x) for x in arguments]
        T = next(x.dtype for x in taken if isinstance(x, types.Array))

        def codegen(context, builder, signature, args):
            def reference(kind, value):
                if isinstance(kind, types.Array):
                    at = context.make_array(kind)(context, builder, value).data
                else:
                    wanted = T if isinstance(kind, types.Float) else types.int32
                    at = cgutils.alloca_once_value(builder, context.cast(builder, value, kind, wanted))
                return builder.bitcast(at, POINTER)

            info = cgutils.alloca_once_value(builder, ir.IntType(32)(0))
            values = cgutils.unpack_tuple(builder, args[0], len(taken))
            pointers = [reference(kind, value) for kind, value in zip(taken, values, strict=True)]
            pointers += [builder.bitcast(info, POINTER)] * has_info
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(ir.VoidType(), [POINTER] * len(pointers)),
                f"autotune.{get_blas_kind(T)}{name}",
            )
            builder.call(function, pointers)
            return builder.load(info)

        return types.int32(types.StarArgTuple(tuple(taken))), codegen

    return call


gemm, gemv, symm, symv, syrk, trsm = map(routine, ROUTINES["blas"])
getrf, getri, getrs, potrf, potri, potrs = map(routine, ROUTINES["lapack"])


# Order of a matrix up to which plain loops cost less than a call of LAPACK and its blocks.
SMALL = 64
# The same of a Cholesky factor in the triangle that Fortran takes for the upper one: its loops are sums.
SMALL_LOWER = 12
# Right-hand sides up to which they do in a solve.
FEW = 8
# Sums may be reassociated, so that they vectorise; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "arcp"}

for function in vars(small).values():
    if callable(function):
        register_jitable(function)


def _small(function, *arguments, returned=types.int64):
    def signature(T):
        kinds = {"matrix": c_array(T, 2), "pivots": c_array(types.int32, 1)}
        return returned(*(kinds.get(a, a) if isinstance(a, str) else a for a in arguments))

    return by_address(function, signature, fastmath=FAST)


small_getrf = _small(small.getrf, "matrix", "pivots", types.int64)
small_getrs = _small(
    small.getrs, "matrix", "pivots", types.int64, "matrix", types.boolean, returned=types.void
)
small_getri = _small(small.getri, "matrix", "pivots", types.int64)
small_potrf = _small(small.potrf, "matrix", types.boolean)
small_potrs = _small(small.potrs, "matrix", types.boolean, "matrix", returned=types.void)
small_potri = _small(small.potri, "matrix", types.boolean)


@overload(kernels.symv)
def _symv(A, upper, x, out):
    def implementation(A, upper, x, out):
        n = A.shape[0]
        symv(LOWER if upper else UPPER, n, 1.0, A, max(1, n), x, 1, 0.0, out, 1)

    return implementation


@overload(kernels.syrk)
def _syrk(M, turned):
    def implementation(M, turned):
        rows, columns = M.shape
        n, p = (columns, rows) if turned else (rows, columns)
        out = np.zeros((n, n), M.dtype)
        if M.size:
            syrk(LOWER, PLAIN if turned else TRANSPOSED, n, p, 1.0, M, columns, 0.0, out, n)
        return out

    return implementation


@overload(kernels.rows_times)
def _rows_times(X, A, out):
    def implementation(X, A, out):
        m, n = X.shape
        # Fortran computes out' = A' X', from the transposes that it sees.
        gemm(PLAIN, PLAIN, n, m, n, 1.0, A, n, X, n, 0.0, out, n)

    return implementation


@overload(kernels.symm)
def _symm(A, upper, X, out):
    def implementation(A, upper, X, out):
        m, n = X.shape
        lead = max(1, n)
        symm(LEFT, LOWER if upper else UPPER, n, m, 1.0, A, lead, X, lead, 0.0, out, lead)

    return implementation


@overload(kernels.matmul)
def _matmul(X, Y):
    """Of matrices in C or Fortran order, as their types say."""
    plain_x, plain_y = X.layout == "C", Y.layout == "C"
    first, second = PLAIN if plain_y else TRANSPOSED, PLAIN if plain_x else TRANSPOSED

    def implementation(X, Y):
        (m, k), n = X.shape, Y.shape[1]
        out = np.zeros((m, n), X.dtype)
        if not (out.size and k):
            return out
        # Fortran computes out' = Y' X', from the transposes that it sees.
        lead_x, lead_y = k if plain_x else m, n if plain_y else k
        gemm(first, second, n, m, k, 1.0, Y, lead_y, X, lead_x, 0.0, out, n)
        return out

    return implementation


@overload(kernels.potri)
def _potri(A, upper):
    def implementation(A, upper):
        n = A.shape[0]
        if n <= SMALL:
            return small_potri(A, upper)
        info = potri(LOWER if upper else UPPER, n, A, max(1, n))
        kernels.mirror(A, upper)
        return info

    return implementation


@overload(kernels.getri)
def _getri(A, pivots):
    def implementation(A, pivots):
        n = A.shape[0]
        if n <= SMALL:
            return small_getri(A, pivots, 1)
        lead, query = max(1, n), np.empty(1, A.dtype)
        getri(n, A, lead, pivots, query, -1)
        work = np.empty(max(1, int(query[0])), A.dtype)
        return getri(n, A, lead, pivots, work, work.size)

    return implementation


@overload(kernels.potrf)
def _potrf(A, upper=False):
    def implementation(A, upper=False):
        n = A.shape[0]
        if n <= (SMALL if upper else SMALL_LOWER):
            return small_potrf(A, upper)
        return potrf(LOWER if upper else UPPER, n, A, max(1, n))

    return implementation


@overload(kernels.potrs)
def _potrs(A, upper, rows):
    def implementation(A, upper, rows):
        m, n = rows.shape
        if n <= SMALL and m <= FEW:
            small_potrs(A, upper, rows)
            return
        lead = max(1, n)
        potrs(LOWER if upper else UPPER, n, m, A, lead, rows, lead)

    return implementation


@overload(kernels.getrf)
def _getrf(A, pivots):
    def implementation(A, pivots):
        n = A.shape[0]
        if n <= SMALL:
            return small_getrf(A, pivots, 1)
        return getrf(n, n, A, max(1, n), pivots)

    return implementation


@overload(kernels.getrs)
def _getrs(A, pivots, rows, transposed):
    def implementation(A, pivots, rows, transposed):
        m, n = rows.shape
        if n <= SMALL and m <= FEW:
            small_getrs(A, pivots, 1, rows, not transposed)
            return
        lead = max(1, n)
        getrs(PLAIN if transposed else TRANSPOSED, n, m, A, lead, pivots, rows, lead)

    return implementation


@overload(kernels.solve_lower)
def _solve_lower(L, rows, transposed):
    def implementation(L, rows, transposed):
        m, k = rows.shape
        lead = max(1, k)
        trsm(LEFT, UPPER, PLAIN if transposed else TRANSPOSED, GENERAL, k, m, 1.0, L, lead, rows, lead)

    return implementation
