"""The common case of `core_factor` and `core_solve`, compiled: positive terms, well-scaled rows, no
cancellation.

Each function returns ``(done, ...)``. When ``done`` is false, the caller turns to the full algorithm in
Python: those branches run rarely or do cubic work, and compiling them took Numba over a minute.
"""

import numpy as np
from pytensor.link.numba.dispatch.basic import numba_njit

from autotune.ops import kernels
from autotune.ops._thin import FAST, gram, gram_symmetric, product, solve_lower
from autotune.ops.core_factor import SEPARATION
from autotune.ops.core_solve import CANCELLATION_LIMIT, REFINEMENTS


@numba_njit(fastmath=FAST)
def _weights(d, U, c):
    """``(well_scaled, 1/d, sum log d)``; see `core_factor.ill_scaled_rows` for what it means to be well
    scaled."""
    n, k = U.shape
    tiny = np.finfo(d.dtype).tiny
    w, rho = np.empty_like(d), np.empty_like(d)
    logdet, largest = 0.0, d.dtype.type(0)
    for a in range(k):
        if not c[a] >= 0:
            return False, w, logdet
    for i in range(n):
        if not d[i] > tiny:
            return False, w, logdet
        total = d.dtype.type(0)
        for a in range(k):
            total += U[i, a] * U[i, a] * c[a]
        w[i] = 1 / d[i]
        rho[i] = total * w[i]
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


@numba_njit
def factor(d, U, c):
    """``(done, w, F, logdet)`` of a factor in mode CHOLESKY without eliminated rows."""
    k = c.size
    done, w, logdet = _weights(d, U, c)
    if not done:
        return False, w, np.empty((0, 0), d.dtype), logdet
    F = gram_symmetric(U, w)
    root = np.sqrt(c)
    for a in range(k):
        for b in range(a + 1):
            F[a, b] *= root[a] * root[b]
        F[a, a] += 1
    done = kernels.potrf(F) == 0
    for a in range(k):
        logdet += 2 * np.log(np.float64(F[a, a]))
    return done and logdet > -np.inf, w, F, logdet


@numba_njit(fastmath=FAST)
def _finish_solve(w, B, X):
    """In place ``X = w (B - X)``; whether no column lost digits by that (`core_solve.CANCELLATION_LIMIT`)."""
    n, m = B.shape
    before, after = np.zeros(m, X.dtype), np.zeros(m, X.dtype)
    for i in range(n):
        for j in range(m):
            rest = B[i, j] - X[i, j]
            before[j] += w[i] * B[i, j] * B[i, j]
            X[i, j] = w[i] * rest
            after[j] += rest * X[i, j]  # d x^2, also where d is infinite
    accurate = True
    for j in range(m):
        # Written so that NaN is accurate: refinement cannot help it.
        accurate = accurate and not before[j] > CANCELLATION_LIMIT * after[j]
    return accurate


@numba_njit
def _scale_columns(T, root):
    for j in range(T.shape[0]):
        for a in range(T.shape[1]):
            T[j, a] *= root[a]


@numba_njit
def _solve_once(d, U, root, w, F, B):
    """``(accurate, X)`` by the formula of Woodbury (1950)."""
    T = gram(B, w, U)
    _scale_columns(T, root)
    solve_lower(F, T, False)
    solve_lower(F, T, True)
    _scale_columns(T, root)
    X = product(U, T)
    return _finish_solve(w, B, X), X


@numba_njit(fastmath=FAST)
def _residual(d, U, c, scale, B, X):
    """``(B - K X, its squared norm by columns)``, rows weighted by ``scale``."""
    n, m = B.shape
    T = gram(X, np.ones_like(d), U)
    _scale_columns(T, c)
    R = product(U, T)
    size = np.zeros(m, X.dtype)
    for i in range(n):
        for j in range(m):
            if scale[i] > 0:  # else d is infinite, and the row has no residual
                R[i, j] = B[i, j] - d[i] * X[i, j] - R[i, j]
            size[j] += scale[i] * R[i, j] * R[i, j]
    return R, size


@numba_njit
def _refine(d, U, c, root, w, F, B, X):
    """`core_solve.refine`, compiled: steps are taken column by column while the residual shrinks."""
    scale = np.empty_like(d)
    for i in range(d.size):
        total = d[i]
        for a in range(c.size):
            total += U[i, a] * U[i, a] * c[a]
        scale[i] = 1 / total
    R, size = _residual(d, U, c, scale, B, X)
    for _ in range(REFINEMENTS):
        _, step = _solve_once(d, U, root, w, F, R)
        refined = X + step
        refined_R, refined_size = _residual(d, U, c, scale, B, refined)
        better = False
        for j in range(size.size):
            if refined_size[j] < size[j]:
                better = True
                size[j] = refined_size[j]
                for i in range(d.size):
                    X[i, j] = refined[i, j]
                    R[i, j] = refined_R[i, j]
        if not better:
            break
    return X


@numba_njit
def solve(d, U, c, w, F, B):
    """``K^-1 B`` from a factor in mode CHOLESKY without eliminated rows."""
    root = np.sqrt(c)
    accurate, X = _solve_once(d, U, root, w, F, B)
    return X if accurate else _refine(d, U, c, root, w, F, B, X)


@numba_njit
def solve_columns(U, c, w, F):
    """``(done, K^-1 U)``; see `core_solve.symmetric_solve_columns`."""
    for a in range(c.size):
        if not c[a] > 0:
            return False, U
    root = np.sqrt(c)
    X = U.copy()
    _scale_columns(X, root)
    solve_lower(F, X, False)
    solve_lower(F, X, True)
    _scale_columns(X, 1 / root)
    for i in range(w.size):
        for a in range(c.size):
            X[i, a] *= w[i]
    return True, X


@numba_njit(fastmath=FAST)
def inverse_diagonal(U, c, w, F):
    """``diag(K^-1)`` from a factor in mode CHOLESKY without eliminated rows."""
    Z = U.copy()
    _scale_columns(Z, np.sqrt(c))
    solve_lower(F, Z, False)
    out = np.empty_like(w)
    for i in range(w.size):
        total = w.dtype.type(0)
        for a in range(c.size):
            total += Z[i, a] * Z[i, a]
        out[i] = w[i] - w[i] * w[i] * total
    return out
