"""The factor of `woodbury` under Numba: symmetric matrices with positive terms and well-scaled rows.

`lowrank` does everything else, in Python: those branches run rarely or do cubic work. Each function is called
by address and checks what it is given.
"""

import numpy as np
from numba.core import types

from autotune.ops import kernels, lowrank, shapes
from autotune.ops._by_address import by_address, c_array, python_by_address, readable, readable_c
from autotune.ops._thin import FAST, gram_symmetric
from autotune.ops.core_factor import CHOLESKY, SEPARATION


def matrix(T, last=1):
    """``d, U, c``, or ``d, U, V``."""
    return readable(T, 1), readable(T, 2), readable(T, last)


def factor(T):
    """`FACTOR_FIELDS`."""
    integers = readable(types.int32, 1), readable(types.int64, 1)
    return readable(types.int8, 0), readable(T, 1), readable(T, 2), *integers, readable(T, 2)


def _outputs(T):
    """Of a `LowRankFactor`."""
    integers = c_array(types.int32, 1), c_array(types.int64, 1)
    fields = c_array(types.int8, 0), c_array(T, 1), c_array(T, 2), *integers, c_array(T, 2)
    return types.Tuple((*fields, c_array(T, 0), c_array(T, 0)))


def _factorised(last):
    """The signature of `lowrank.factorise` for c (1) or V (2)."""
    return lambda T: _outputs(T)(types.boolean, *matrix(T, last))


factor_general = python_by_address(lowrank.factorise, _factorised(2))
factor_rest = python_by_address(lowrank.factorise, _factorised(1))


def _row_norms(U, turned, c):
    """``sum_a U[i, a]^2 c[a]`` for every row i."""
    n = U.shape[1] if turned else U.shape[0]
    out = np.zeros(n, U.dtype)
    if turned:
        for a in range(c.size):
            for i in range(n):
                out[i] += U[a, i] * U[a, i] * c[a]
    else:
        for i in range(n):
            for a in range(c.size):
                out[i] += U[i, a] * U[i, a] * c[a]
    return out


row_norms = by_address(
    _row_norms,
    lambda T: c_array(T, 1)(readable_c(T, 2), types.boolean, readable_c(T, 1)),
    fastmath=FAST,
)


def _weights(d, norms, c):
    """``(well_scaled, 1/d, sum log d)``; see `core_factor.ill_scaled_rows` for what it means to be well
    scaled."""
    n, k = d.size, c.size
    tiny = np.finfo(d.dtype).tiny
    w, rho = np.empty_like(d), np.empty_like(d)
    logdet, largest = 0.0, d.dtype.type(0)
    for a in range(k):
        if not c[a] >= 0:
            return False, w, logdet
    for i in range(n):
        if not d[i] > tiny:
            return False, w, logdet
        w[i] = 1 / d[i]
        rho[i] = norms[i] * w[i]
        if not np.isfinite(rho[i]):
            return False, w, logdet
        largest = max(largest, rho[i])
        logdet += np.log(np.float64(d[i]))
    outliers, bulk = 0, 0.0
    for i in range(n):
        if rho[i] * SEPARATION >= largest:
            outliers += 1
        else:
            bulk += rho[i]
    return outliers > k or largest * k <= SEPARATION * bulk, w, logdet


weights = by_address(
    _weights,
    lambda T: types.Tuple((types.boolean, c_array(T, 1), types.float64))(
        readable_c(T, 1), readable_c(T, 1), readable_c(T, 1)
    ),
    fastmath=FAST,
)


def _factorise(positive_definite, d, U, c):
    shapes.check_low_rank(d, U, c)
    k, one = c.size, d.dtype.type(1)
    d, c = kernels.c_layout(d), kernels.c_layout(c)
    M, turned = kernels.either_order(U)
    done, w, logdet = weights(d, row_norms(M, turned, c), c)
    if done:
        F = gram_symmetric(M, w, turned)
        for a in range(k):
            for b in range(a + 1):
                F[a, b] *= np.sqrt(c[a]) * np.sqrt(c[b])
            F[a, a] += one
        done = kernels.potrf(F) == 0
        for a in range(k):
            logdet += 2 * np.log(np.float64(F[a, a]))
        if done and logdet > -np.inf:
            none, S, FS = np.empty(0, np.int32), np.empty(0, np.int64), np.empty((0, k), d.dtype)
            mode, sign, logabsdet = np.empty((), np.int8), np.empty((), d.dtype), np.empty((), d.dtype)
            mode[()], sign[()], logabsdet[()] = CHOLESKY, one, d.dtype.type(logdet)
            return mode, w, F, none, S, FS, sign, logabsdet
    return factor_rest(positive_definite, d, U, c)


factorise = by_address(_factorise, _factorised(1))


def _root(T):
    return types.Tuple((c_array(T, 2), c_array(T, 1), c_array(T, 2)))(readable(T, 2))


symmetric_root_rest = python_by_address(lowrank.symmetric_root, _root)


def _symmetric_root(M):
    k = M.shape[0]
    shapes.check_square(M)
    L = kernels.owned(M, False)
    if kernels.potrf(L) != 0:
        return symmetric_root_rest(M)
    inverse = np.zeros((k, k), M.dtype)
    for i in range(k):
        L[i, i + 1 :] = 0
        inverse[i, i] = 1 / L[i, i]
        for j in range(i):
            total = M.dtype.type(0)
            for a in range(j, i):
                total += L[i, a] * inverse[a, j]
            inverse[i, j] = -total * inverse[i, i]
    return L, np.ones(k, M.dtype), inverse


symmetric_root = by_address(_symmetric_root, _root)
