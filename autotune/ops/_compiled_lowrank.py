"""The Ops of `woodbury` under Numba: symmetric matrices with positive terms and well-scaled rows.

`lowrank` does everything else, in Python: those branches run rarely or do cubic work. Each function is called
by address and checks what it is given.
"""

import numpy as np
from numba.core import types
from numba.core.extending import register_jitable

from autotune.ops import kernels, lowrank, shapes
from autotune.ops._by_address import by_address, c_array, python_by_address, readable, readable_c
from autotune.ops._thin import FAST, gram, gram_symmetric, product, solve_lower
from autotune.ops.core_factor import CHOLESKY, SEPARATION
from autotune.ops.core_solve import CANCELLATION_LIMIT, CORRECTED, GOOD_ENOUGH, REFINEMENTS, TOO_LARGE


def _matrix(T, last=1):
    """``d, U, c``, or ``d, U, V``."""
    return readable(T, 1), readable(T, 2), readable(T, last)


def _matrix_c(T):
    """``d, U, turned, c``, U as in `_thin`."""
    return readable_c(T, 1), readable_c(T, 2), types.boolean, readable_c(T, 1)


def _formula(T):
    """``U, turned, root, w, F`` of the formula of Woodbury."""
    return readable_c(T, 2), types.boolean, readable_c(T, 1), readable_c(T, 1), readable_c(T, 2)


def _factor(T):
    """`FACTOR_FIELDS`."""
    integers = readable(types.int32, 1), readable(types.int64, 1)
    return readable(types.int8, 0), readable(T, 1), readable(T, 2), *integers, readable(T, 2)


def _outputs(T):
    """Of a `LowRankFactor`."""
    integers = c_array(types.int32, 1), c_array(types.int64, 1)
    factor = c_array(types.int8, 0), c_array(T, 1), c_array(T, 2), *integers, c_array(T, 2)
    return types.Tuple((*factor, c_array(T, 0), c_array(T, 0)))


def _with_last(last):
    """The signatures of `lowrank.factorise`, `solve` and `inverse_diagonal` for c (1) or V (2)."""
    return (
        lambda T: _outputs(T)(types.boolean, *_matrix(T, last)),
        lambda T: c_array(T, 2)(types.boolean, *_matrix(T, last), *_factor(T), readable(T, 2)),
        lambda T: c_array(T, 1)(*_matrix(T, last), *_factor(T)),
    )


def _range(T):
    return c_array(T, 2)(*_matrix(T), *_factor(T), readable(T, 2))


IN_PYTHON = lowrank.factorise, lowrank.solve, lowrank.inverse_diagonal
factor_general, solve_general, inverse_diagonal_general = map(python_by_address, IN_PYTHON, _with_last(2))
factor_rest, solve_rest, inverse_diagonal_rest = map(python_by_address, IN_PYTHON, _with_last(1))
solve_in_range_rest = python_by_address(lowrank.solve_in_range, _range)
check_factor = by_address(
    shapes.check_low_rank_factor,
    lambda T: types.void(*_matrix(T), types.int8, *_factor(T)[1:]),
)


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


factorise = by_address(_factorise, _with_last(1)[0])


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


finish_solve = by_address(
    _finish_solve,
    lambda T: types.boolean(readable_c(T, 1), readable_c(T, 2), c_array(T, 2)),
    fastmath=FAST,
)


@register_jitable
def _roots(c):
    roots = np.empty_like(c)
    for a in range(c.size):
        roots[a] = np.sqrt(c[a])
    return roots


@register_jitable
def _scale_columns(T, factors):
    for j in range(T.shape[0]):
        for a in range(T.shape[1]):
            T[j, a] *= factors[a]


@register_jitable
def _into_range(U, turned, root, F, T):
    """``Ue C^-1 T'``, and T becomes ``T C^-1``."""
    solve_lower(F, T, False)
    solve_lower(F, T, True)
    scaled = np.empty_like(T)
    for j in range(T.shape[0]):
        for a in range(T.shape[1]):
            scaled[j, a] = T[j, a] * root[a]
    return product(U, scaled, turned)


def _correct(U, turned, root, w, F, X, T):
    """In place ``X - W Ue C^-1 (Ue' X - T')``; see `core_solve` for why."""
    gap = gram(X, np.ones_like(w), U, turned)
    for j in range(T.shape[0]):
        for a in range(T.shape[1]):
            gap[j, a] = gap[j, a] * root[a] - T[j, a]
    step = _into_range(U, turned, root, F, gap)
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            X[i, j] -= w[i] * step[i, j]


correct = by_address(
    _correct,
    lambda T: types.void(*_formula(T), c_array(T, 2), c_array(T, 2)),
)


def _solve_once(U, turned, root, w, F, B):
    """``(accurate, X)`` by the formula of Woodbury (1950), corrected where ``D^-1/2 Ue`` is large."""
    T = gram(B, w, U, turned)
    _scale_columns(T, root)
    X = _into_range(U, turned, root, F, T)
    accurate, large = finish_solve(w, B, X), False
    for a in range(F.shape[0]):
        large = large or F[a, a] * F[a, a] > CANCELLATION_LIMIT * w.size
    if large:
        correct(U, turned, root, w, F, X, T)
    return accurate, X


solve_once = by_address(
    _solve_once, lambda T: types.Tuple((types.boolean, c_array(T, 2)))(*_formula(T), readable_c(T, 2))
)


def _residual(d, U, turned, c, scale, B, X):
    """`core_solve.residual`, the squared backward errors without their division."""
    n, m = B.shape
    T = gram(X, np.ones_like(d), U, turned)
    _scale_columns(T, c)
    R = product(U, T, turned)
    size, length = np.zeros(m, X.dtype), np.zeros(m, X.dtype)
    for i in range(n):
        for j in range(m):
            if scale[i] > 0:
                R[i, j] = B[i, j] - d[i] * X[i, j] - R[i, j]
                size[j] += scale[i] * R[i, j] * R[i, j]
                length[j] += X[i, j] * X[i, j] / scale[i]
            else:  # d is infinite, and the row has no residual
                R[i, j] = 0
    return R, size, length


residual = by_address(
    _residual,
    lambda T: types.Tuple((c_array(T, 2), c_array(T, 1), c_array(T, 1)))(
        *_matrix_c(T), readable_c(T, 1), readable_c(T, 2), readable_c(T, 2)
    ),
    fastmath=FAST,
)


@register_jitable
def _any_above(limit, n, size, length):
    """Whether a backward error exceeds the limit. Written so that NaN does not: nothing can help it."""
    bound = (max(limit[0], limit[1] * n) * np.finfo(size.dtype).eps) ** 2
    found = False
    for j in range(size.size):
        found = found or size[j] > bound * length[j]
    return found


def _refine(d, U, turned, c, root, w, F, B, X, corrected):
    """`core_solve.refine` in place, without its dense solve; whether that is not needed."""
    scale = row_norms(U, turned, c)
    for i in range(d.size):
        scale[i] = 1 / (d[i] + scale[i])
    R, size, length = residual(d, U, turned, c, scale, B, X)
    for _ in range(REFINEMENTS):
        if not _any_above(CORRECTED if corrected else GOOD_ENOUGH, d.size, size, length):
            break
        _, refined = solve_once(U, turned, root, w, F, R)
        for i in range(d.size):
            for j in range(size.size):
                refined[i, j] += X[i, j]
        refined_R, refined_size, refined_length = residual(d, U, turned, c, scale, B, refined)
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
    return not _any_above(TOO_LARGE, d.size, size, length)


refine = by_address(
    _refine,
    lambda T: types.boolean(*_matrix_c(T), *_formula(T)[2:], readable_c(T, 2), c_array(T, 2), types.boolean),
)


@register_jitable
def _are_independent(F):
    """`core_solve.are_independent`."""
    independent = True
    for a in range(F.shape[0]):
        total = F.dtype.type(0)
        for b in range(a + 1):
            total += F[a, b] * F[a, b]
        independent = independent and not F[a, a] * F[a, a] * CANCELLATION_LIMIT < total
    return independent


def _solve(transposed, d, U, c, mode, w, F, pivots, S, FS, B):
    check_factor(d, U, c, mode.item(), w, F, pivots, S, FS)
    shapes.check_rhs(d.shape[0], B)
    if mode.item() == CHOLESKY and S.size == 0:
        c_d, c_c, (M, turned) = kernels.c_layout(d), kernels.c_layout(c), kernels.either_order(U)
        c_w, c_F, c_B = kernels.c_layout(w), kernels.c_layout(F), kernels.c_layout(B)
        root = _roots(c_c)
        accurate, X = solve_once(M, turned, root, c_w, c_F, c_B)
        if accurate and _are_independent(c_F):
            return X
        if refine(c_d, M, turned, c_c, root, c_w, c_F, c_B, X, False):
            return X
    return solve_rest(transposed, d, U, c, mode, w, F, pivots, S, FS, B)


solve = by_address(_solve, _with_last(1)[1])


@register_jitable
def _are_positive(c):
    positive = True
    for a in range(c.size):
        positive = positive and c[a] > 0
    return positive


def _pushed_through(of_columns, d, U, c, mode, w, F, pivots, S, FS, Z):
    """`core_solve.symmetric_solve_in_range`; ``of_columns``: Z is the identity."""
    check_factor(d, U, c, mode.item(), w, F, pivots, S, FS)
    shapes.check_rhs(c.shape[0], Z)
    c_c = kernels.c_layout(c)
    if not (mode.item() == CHOLESKY and S.size == 0 and _are_positive(c_c)):
        return solve_in_range_rest(d, U, c, mode, w, F, pivots, S, FS, Z)
    c_d, (M, turned) = kernels.c_layout(d), kernels.either_order(U)
    c_w, c_F = kernels.c_layout(w), kernels.c_layout(F)
    root = _roots(c_c)
    T = kernels.owned(Z.T, False)
    _scale_columns(T, 1 / root)
    kept = T.copy()
    X = _into_range(M, turned, root, c_F, T)
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            X[i, j] *= c_w[i]
    if _are_independent(c_F):
        return X
    correct(M, turned, root, c_w, c_F, X, kept - T)
    B = kernels.c_layout(U) if of_columns else product(M, kernels.owned(Z.T, False), turned)
    if refine(c_d, M, turned, c_c, root, c_w, c_F, B, X, True):
        return X
    return solve_in_range_rest(d, U, c, mode, w, F, pivots, S, FS, Z)


pushed_through = by_address(_pushed_through, lambda T: _range(T).return_type(types.boolean, *_range(T).args))


@register_jitable
def solve_in_range(d, U, c, mode, w, F, pivots, S, FS, Z):
    return pushed_through(False, d, U, c, mode, w, F, pivots, S, FS, Z)


@register_jitable
def solve_columns(d, U, c, mode, w, F, pivots, S, FS):
    return pushed_through(True, d, U, c, mode, w, F, pivots, S, FS, np.eye(c.size, dtype=d.dtype))


def _inverse_diagonal(d, U, c, mode, w, F, pivots, S, FS):
    """Not where an entry cancelled."""
    check_factor(d, U, c, mode.item(), w, F, pivots, S, FS)
    if mode.item() == CHOLESKY and S.size == 0:
        Z, out, done = kernels.owned(U, False), np.empty(w.size, w.dtype), True
        _scale_columns(Z, _roots(kernels.c_layout(c)))
        solve_lower(kernels.c_layout(F), Z, False)
        for i in range(w.size):
            total = w.dtype.type(0)
            for a in range(c.size):
                total += Z[i, a] * Z[i, a]
            rest = 1 - w[i] * total
            out[i] = w[i] * rest
            done = done and not rest * rest * CANCELLATION_LIMIT < 1
        if done:
            return out
    return inverse_diagonal_rest(d, U, c, mode, w, F, pivots, S, FS)


inverse_diagonal = by_address(_inverse_diagonal, _with_last(1)[2], fastmath=FAST)
