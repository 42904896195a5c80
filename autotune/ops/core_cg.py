"""Preconditioned conjugate gradients for several right-hand sides at once, with a guard.

Hestenes & Stiefel (1952); Golub & Van Loan (2013), 11.3 and 11.5. Residuals are replaced by true ones as van
der Vorst & Ye (2000) do. Right-hand sides are rows ``(m, n)`` inside, so that a finished one leaves cheaply.
"""

import math

import numpy as np

from autotune.ops import core_direct
from autotune.ops import core_preconditioner as precondition
from autotune.ops.core_operator import as_operator

# The share of the budget after which convergence is judged, and how much faster it may still become.
JUDGED_AFTER, OPTIMISM = 1 / 3, 2.0
# A column whose recurrence claims more than it has this often cannot reach its tolerance.
MISSES = 3


def dots(X, Y):
    """``x_i . y_i`` for every row, in double precision."""
    return np.vecdot(X, Y, dtype=np.float64)


def norms(X):
    """Length of every row, in double precision."""
    return np.sqrt(dots(X, X))


def hopeless(distances, budget):
    """Whether the budget will not do, by the convergence so far.

    ``distances``: of each iteration, the largest ``log(residual / target)``. From the second half of the
    iterations a speed is read; CG accelerates, so twice that speed is granted.
    """
    done = len(distances)
    if done < JUDGED_AFTER * budget:
        return False
    half = (done + 1) // 2
    reached = min(distances)
    speed = (min(distances[:half]) - reached) / (done - half) if done > half else 0.0
    return done > 1 and reached > OPTIMISM * speed * (budget - done)


class Iteration:
    """Conjugate gradients for the rows of ``B``: open ones share a product, and have scalars of their own.

    ``rows`` says which rows of B are open; ``size`` are the lengths of their residuals. ``X`` and ``solved``
    are the outcome for all rows once `finish` is called.
    """

    OPEN = ("rows", "target", "x", "R", "P", "rho", "drift", "late", "misses")

    def __init__(self, A, B, preconditioner, target):
        self.A, self.B, self.preconditioner = A, B, preconditioner
        self.target = np.maximum(target, 1e-300)
        self.eps = float(np.finfo(B.dtype).eps)
        self.X, self.solved = np.zeros_like(B), np.zeros(len(B), dtype=bool)
        self.rows, self.x, self.R = np.arange(len(B)), np.zeros_like(B), B.copy()
        self.P = precondition.apply_inverse(preconditioner, self.R).copy()
        self.rho, self.size = dots(self.R, self.P), norms(B)
        self.drift, self.late = np.zeros(len(B)), np.zeros(len(B), dtype=bool)
        self.misses, self.norm = np.zeros(len(B), dtype=int), 0.0

    def step(self):
        """One product with A; False if A or the preconditioner shows itself not to be positive definite, or
        not finite."""
        Q = self.A.product(self.P)
        curvature = dots(self.P, Q)
        if not (min(curvature.min(), self.rho.min()) > 0 and curvature.max() < np.inf):
            return False
        alpha = (self.rho / curvature).astype(self.B.dtype, copy=False)[:, None]
        self.x += alpha * self.P
        self.R -= alpha * Q
        self.size, self.norm = norms(self.R), max(self.norm, (curvature / dots(self.P, self.P)).max())
        return True

    def replace(self):
        """True residuals where it matters; rows that are solved, and rows that claimed to be and are not.

        It matters where the recurrence claims convergence, and where the rounding errors that it has gathered
        first exceed ``sqrt(eps)`` of it, which costs no convergence (van der Vorst & Ye 2000).
        """
        was_late, rounding = self.late, self.eps * self.norm * norms(self.x)
        self.drift += rounding + self.eps * self.size
        self.late = self.drift > math.sqrt(self.eps) * self.size
        claims = self.size <= np.maximum(self.target, rounding)
        replaced = claims | (self.late & ~was_late)
        if not replaced.any():
            return claims, claims
        x = self.x[replaced]
        self.R[replaced] = self.B[self.rows[replaced]] - self.A.product(x)
        self.drift[replaced] = self.eps * self.norm * norms(x)
        self.size[replaced] = norms(self.R[replaced])
        done = claims & (self.size <= self.target)
        missed = claims & ~done
        self.misses += missed
        self.solved[self.rows] = done
        return done, missed

    def turn(self, done, missed):
        """The next directions; solved rows leave, and who claimed too much starts again."""
        Z = precondition.apply_inverse(self.preconditioner, self.R)
        rho = dots(self.R, Z)
        beta = (rho / self.rho).astype(self.B.dtype, copy=False)
        if missed.any():
            beta[missed] = 0
        self.P, self.rho = Z + beta[:, None] * self.P, rho
        if done.any():
            self.finish()
            for name in self.OPEN:
                setattr(self, name, getattr(self, name)[~done])

    def finish(self):
        """``(X, solved)`` so far."""
        self.X[self.rows] = self.x
        return self.X, self.solved

    def distance(self):
        """``log(residual / target)`` of the row that has furthest to go."""
        return math.log(max((self.size / self.target).max(), 1.0))


def iterate(A, B, preconditioner, target, budget):
    """``(X, solved, iterations)`` for the rows of ``B``: every solved one has ``|b - A x| <= target``.

    Gives up early on a matrix that shows itself indefinite, on a tolerance out of reach, and when the budget
    will not do.
    """
    state, used = Iteration(A, B, preconditioner, target), 0
    distances: list[float] = []
    while used < budget:
        used += 1
        if not state.step():
            break
        done, missed = state.replace()
        distances.append(state.distance())
        if state.solved.all() or (missed.any() and state.misses.max() >= MISSES):
            break
        if hopeless(distances, budget):
            break
        state.turn(done, missed)
    return *state.finish(), used


def better_of(A, B, X, Y, target):
    """``Y``, but for rows that miss the target by more than ``X`` does: true residuals decide."""
    found = norms(B - A.product(Y))
    worse = found > target
    if worse.any():
        worse[worse] = norms(B[worse] - A.product(X[worse])) < found[worse]
    return np.where(worse[:, None], X, Y)


def solve_rows(A, B, rtol, budget, preconditioner, L):
    """``(X, iterations, L)`` for rows ``B`` that are finite and not zero; see `block_cg`."""
    target = rtol * norms(B)
    X, solved, iterations = np.zeros_like(B), np.zeros(len(B), dtype=bool), 0
    if not L.size and (A.diagonal() > 0).all():
        X, solved, iterations = iterate(A, B, preconditioner, target, budget)
        if solved.all():
            return X, iterations, L
    left = ~solved
    Y, L = core_direct.solve_rows(A, B[left], L)
    if np.isnan(Y[0, 0]):
        return np.full_like(B, np.nan), -1 - iterations, L
    X[left] = better_of(A, B[left], X[left], Y, target[left])
    return X, -1 - iterations, L


def block_cg(A, B, rtol, budget, preconditioner, L):
    """``(A^-1 B, iterations, L)`` for symmetric positive definite ``A``, an array or a `SymmetricOperator`.

    ``iterations = -1 - used`` after a fallback: every column reaches ``|b - A x| <= rtol |b|`` within
    ``budget`` iterations, or is solved directly and the better of the two answers, by its true residual, is
    returned. If A is not positive definite all are NaN. ``preconditioner``: the parts that
    `core_preconditioner.build` makes, or a `SymmetricOperator` that is about ``A^-1``.
    ``L``: a factor that exists already, which ends the matter, or an empty matrix; on return the factor that
    was used. A zero column gives zero, one that is not finite gives NaN.
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
    X[wanted], iterations, L = solve_rows(A, rows[wanted], rtol, budget, preconditioner, L)
    return X.T, iterations, L


def block_cg_arrays(A, B, rtol, max_iterations, scale, U, s, L, *parts):
    """`block_cg` on the arrays of a graph: the outputs of the Op, checked and typed.

    ``parts``: d, U, c of the matrix, then all four of a preconditioner that the user gives, empty for none.
    """
    operator = as_operator(A, *parts[:3])
    if operator.order != B.shape[0]:
        raise ValueError("The right-hand side must be as long as the matrix.")
    given = as_operator(*parts[3:])
    preconditioner = given if given.order else (scale, U, s)
    with np.errstate(all="ignore"):
        X, iterations, L = block_cg(operator, B, float(rtol), int(max_iterations), preconditioner, L)
    return np.ascontiguousarray(X), np.array(iterations, dtype=np.int64), np.ascontiguousarray(L)
