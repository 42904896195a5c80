"""Preconditioned conjugate gradients that end: within a budget of iterations, or by the direct way.

The iteration is in `core_iteration`, the direct way in `core_direct`. Right-hand sides are rows ``(m, n)``.
"""

from functools import cache

import numpy as np

from autotune.ops import core_direct, core_iteration, core_preconditioner
from autotune.ops.core_operator import SymmetricOperator, as_operator
from autotune.ops.shapes import check_rhs


def dots(X, Y):
    """``x_i . y_i`` for every row, in double precision."""
    return np.vecdot(X, Y, dtype=np.float64)


def norms(X):
    """Length of every row, in double precision."""
    return np.sqrt(dots(X, X))


def better_of(A, B, X, Y, target):
    """``Y``, but for rows that miss the target by more than ``X`` does: true residuals decide."""
    found = norms(B - A.product(Y))
    worse = found > target
    if worse.any():
        worse[worse] = norms(B[worse] - A.product(X[worse])) < found[worse]
    return np.where(worse[:, None], X, Y)


@cache
def nothing(dtype):
    """The parts of no preconditioner, as `core_iteration.iterate` takes it."""
    empty = np.zeros(0, dtype)
    return empty, np.zeros((0, 0), dtype), empty, as_operator(np.zeros((0, 0), dtype)).parts


def iteration_parts(preconditioner, dtype):
    """A preconditioner as `core_iteration.iterate` takes it; see `block_cg` for what it may be."""
    if isinstance(preconditioner, SymmetricOperator):
        return (*nothing(dtype)[:3], preconditioner.parts)
    scale, U, s = preconditioner
    if not scale.size:
        return nothing(dtype)
    return np.ascontiguousarray(scale), np.ascontiguousarray(U), s / (1 + s), nothing(dtype)[3]


def solve_rows(A, B, rtol, budget, preconditioner, L, iterate):
    """``(X, iterations, L)`` for rows ``B`` that are finite and not zero; see `block_cg`."""
    target = rtol * norms(B)
    X, solved, iterations = np.zeros_like(B), np.zeros(len(B), dtype=bool), 0
    if not L.size and budget > 0 and (A.diagonal() > 0).all():
        parts = iteration_parts(preconditioner, A.dtype)
        X, solved, iterations = iterate(A.parts, B, parts, target, budget)
        if solved.all():
            return X, iterations, L
    left = ~solved
    Y, L = core_direct.solve_rows(A, B[left], L)
    if np.isnan(Y[0, 0]):
        return np.full_like(B, np.nan), -1 - iterations, L
    X[left] = better_of(A, B[left], X[left], Y, target[left])
    return X, -1 - iterations, L


def block_cg(A, B, rtol, budget, preconditioner, L, iterate=core_iteration.iterate):
    """``(A^-1 B, iterations, L)`` for symmetric positive definite ``A``, an array or a `SymmetricOperator`.

    ``iterations = -1 - used`` after a fallback: every column reaches ``|b - A x| <= rtol |b|`` within
    ``budget`` iterations, or is solved directly and the better of the two answers, by its true residual, is
    returned. If A is not positive definite all are NaN. ``preconditioner``: the parts that
    `core_preconditioner.build` makes, or a `SymmetricOperator` that is about ``A^-1``.
    ``L``: a factor that exists already, which ends the matter, or an empty matrix; on return the factor that
    was used. A zero column gives zero, one that is not finite gives NaN. ``iterate``: that of
    `core_iteration`, or of `_compiled_iteration`.
    """
    A, rows = as_operator(A), np.ascontiguousarray(B.T)
    finite = np.isfinite(rows).all(axis=1)
    X = np.zeros_like(rows)
    X[~finite] = np.nan
    wanted = finite & (rows != 0).any(axis=1)
    if not wanted.any():
        # Nothing to solve. Still, NaN in A must not vanish where a direct solve would show it.
        if B.size and not A.is_finite():
            X[:] = np.nan
        return X.T, 0, L
    X[wanted], iterations, L = solve_rows(A, rows[wanted], rtol, budget, preconditioner, L, iterate)
    return X.T, iterations, L


def block_cg_arrays(A, B, rtol, budget, scale, U, s, L, d, V, c, *inverse, iterate=core_iteration.iterate):
    """`block_cg` on the arrays of a graph: the outputs of the Op, checked and typed.

    ``d, V, c``: parts of the matrix beside A. ``inverse``: all four parts of a preconditioner that the user
    gives, empty for none.
    """
    operator = as_operator(A, d, V, c)
    check_rhs(operator.order, B)
    core_preconditioner.check_parts(operator.order, scale, U, s)
    core_direct.check_factor(operator, L)
    preconditioner = scale, U, s
    if any(part.size for part in inverse):
        preconditioner = as_operator(*inverse)
        if preconditioner.order != operator.order:
            raise ValueError(
                f"The preconditioner is of order {preconditioner.order}, the matrix of order "
                f"{operator.order}. They must be equal."
            )
    with np.errstate(all="ignore"):
        X, iterations, L = block_cg(operator, B, float(rtol), int(budget), preconditioner, L, iterate)
    return np.ascontiguousarray(X), np.array(iterations, dtype=np.int64), np.ascontiguousarray(L)
