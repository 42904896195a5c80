"""The common case of `core_factor` and `core_solve`, compiled: positive terms, well-scaled rows, nothing
dense.

Each function returns ``(done, ...)``. When ``done`` is false, the caller turns to the full algorithm in
Python: those branches run rarely or do cubic work, and compiling them took Numba over a minute.
"""

import numpy as np
from pytensor.link.numba.dispatch.basic import numba_njit

from autotune.ops import kernels
from autotune.ops._thin import FAST, gram, gram_symmetric, product, solve_lower
from autotune.ops.core_factor import SEPARATION
from autotune.ops.core_solve import CANCELLATION_LIMIT, GOOD_ENOUGH, REFINEMENTS, TOO_LARGE


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
def _into_range(U, root, F, T):
    """``Ue C^-1 T'``, and T becomes ``T C^-1``."""
    solve_lower(F, T, False)
    solve_lower(F, T, True)
    scaled = T.copy()
    _scale_columns(scaled, root)
    return product(U, scaled)


@numba_njit
def _correct(U, root, w, F, X, T):
    """In place ``X - W Ue C^-1 (Ue' X - T')``; see `core_solve` for why."""
    gap = gram(X, np.ones_like(w), U)
    for j in range(T.shape[0]):
        for a in range(T.shape[1]):
            gap[j, a] = gap[j, a] * root[a] - T[j, a]
    step = _into_range(U, root, F, gap)
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            X[i, j] -= w[i] * step[i, j]


@numba_njit
def _solve_once(U, root, w, F, B):
    """``(accurate, X)`` by the formula of Woodbury (1950), corrected where ``D^-1/2 Ue`` is large."""
    T = gram(B, w, U)
    _scale_columns(T, root)
    X = _into_range(U, root, F, T)
    accurate, large = _finish_solve(w, B, X), False
    for a in range(F.shape[0]):
        large = large or F[a, a] * F[a, a] > CANCELLATION_LIMIT * w.size
    if large:
        _correct(U, root, w, F, X, T)
    return accurate, X


@numba_njit(fastmath=FAST)
def _residual(d, U, c, scale, B, X):
    """`core_solve.residual`, the squared backward errors without their division."""
    n, m = B.shape
    T = gram(X, np.ones_like(d), U)
    _scale_columns(T, c)
    R = product(U, T)
    size, length = np.zeros(m, X.dtype), np.zeros(m, X.dtype)
    for i in range(n):
        if scale[i] > 0:  # else d is infinite, and the row has no residual
            for j in range(m):
                R[i, j] = B[i, j] - d[i] * X[i, j] - R[i, j]
                size[j] += scale[i] * R[i, j] * R[i, j]
                length[j] += X[i, j] * X[i, j] / scale[i]
        else:
            R[i, :] = 0
    return R, size, length


@numba_njit
def _any_above(limit, size, length):
    """Whether a backward error exceeds ``limit`` eps. Written so that NaN does not: nothing can help it."""
    bound = (limit * np.finfo(size.dtype).eps) ** 2
    found = False
    for j in range(size.size):
        found = found or size[j] > bound * length[j]
    return found


@numba_njit
def _refine(d, U, c, root, w, F, B, X):
    """`core_solve.refine` in place, without its dense solve; whether that is not needed."""
    scale = np.empty_like(d)
    for i in range(d.size):
        total = d[i]
        for a in range(c.size):
            total += U[i, a] * U[i, a] * c[a]
        scale[i] = 1 / total
    R, size, length = _residual(d, U, c, scale, B, X)
    for _ in range(REFINEMENTS):
        if not _any_above(GOOD_ENOUGH, size, length):
            break
        _, refined = _solve_once(U, root, w, F, R)
        refined += X
        refined_R, refined_size, refined_length = _residual(d, U, c, scale, B, refined)
        improved = False
        for j in range(size.size):
            if refined_size[j] * length[j] < size[j] * refined_length[j]:
                improved = True
                size[j], length[j] = refined_size[j], refined_length[j]
                for i in range(d.size):
                    X[i, j] = refined[i, j]
                    R[i, j] = refined_R[i, j]
        if not improved:
            break
    return not _any_above(TOO_LARGE, size, length)


@numba_njit
def _are_independent(F):
    """`core_solve.are_independent`."""
    independent = True
    for a in range(F.shape[0]):
        total = F.dtype.type(0)
        for b in range(a + 1):
            total += F[a, b] * F[a, b]
        independent = independent and not F[a, a] * F[a, a] * CANCELLATION_LIMIT < total
    return independent


@numba_njit
def solve(d, U, c, w, F, B):
    """``(done, K^-1 B)`` from a factor in mode CHOLESKY without eliminated rows."""
    root = np.sqrt(c)
    accurate, X = _solve_once(U, root, w, F, B)
    if accurate and _are_independent(F):
        return True, X
    return _refine(d, U, c, root, w, F, B, X), X


@numba_njit
def solve_columns(U, c, w, F):
    """``(done, K^-1 U)``; see `core_solve.symmetric_solve_columns`."""
    for a in range(c.size):
        if not c[a] > 0:
            return False, U
    if not _are_independent(F):
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
    """``(done, diag(K^-1))`` from a factor in mode CHOLESKY without eliminated rows; not done where an entry
    cancelled."""
    Z = U.copy()
    _scale_columns(Z, np.sqrt(c))
    solve_lower(F, Z, False)
    out = np.empty_like(w)
    done = True
    for i in range(w.size):
        total = w.dtype.type(0)
        for a in range(c.size):
            total += Z[i, a] * Z[i, a]
        rest = 1 - w[i] * total
        out[i] = w[i] * rest
        done = done and not rest * rest * CANCELLATION_LIMIT < 1
    return done, out
