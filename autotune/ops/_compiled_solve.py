"""Solves with the factor of `_compiled_factor`, refined where digits were lost, and what is made of them."""

import numpy as np
from numba.core import types
from numba.core.extending import register_jitable

from autotune.ops import kernels, lowrank, shapes
from autotune.ops._by_address import by_address, c_array, python_by_address, readable, readable_c
from autotune.ops._compiled_factor import factor, matrix, row_norms
from autotune.ops._thin import FAST, gram, product, solve_lower
from autotune.ops.core_factor import CHOLESKY
from autotune.ops.core_solve import CANCELLATION_LIMIT, CORRECTED, GOOD_ENOUGH, REFINEMENTS, TOO_LARGE


def _matrix_c(T):
    """``d, U, turned, c``, U as in `_thin`."""
    return readable_c(T, 1), readable_c(T, 2), types.boolean, readable_c(T, 1)


def _formula(T):
    """``U, turned, root, w, F`` of the formula of Woodbury."""
    return readable_c(T, 2), types.boolean, readable_c(T, 1), readable_c(T, 1), readable_c(T, 2)


def _solved(last):
    """The signature of `lowrank.solve` for c (1) or V (2)."""
    return lambda T: c_array(T, 2)(types.boolean, *matrix(T, last), *factor(T), readable(T, 2))


def _diagonal(last):
    """That of `lowrank.inverse_diagonal`."""
    return lambda T: c_array(T, 1)(*matrix(T, last), *factor(T))


def _range(T):
    return c_array(T, 2)(*matrix(T), *factor(T), readable(T, 2))


solve_general = python_by_address(lowrank.solve, _solved(2))
solve_rest = python_by_address(lowrank.solve, _solved(1))
inverse_diagonal_general = python_by_address(lowrank.inverse_diagonal, _diagonal(2))
inverse_diagonal_rest = python_by_address(lowrank.inverse_diagonal, _diagonal(1))
solve_in_range_rest = python_by_address(lowrank.solve_in_range, _range)
check_factor = by_address(
    shapes.check_low_rank_factor,
    lambda T: types.void(*matrix(T), types.int8, *factor(T)[1:]),
)


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


solve = by_address(_solve, _solved(1))


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


inverse_diagonal = by_address(_inverse_diagonal, _diagonal(1), fastmath=FAST)
