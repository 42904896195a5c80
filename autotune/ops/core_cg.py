"""Preconditioned conjugate gradients for several right-hand sides at once, with a guard.

Hestenes & Stiefel (1952); Golub & Van Loan (2013), 11.3 and 11.5. Residuals are replaced by true ones as van
der Vorst & Ye (2000) do. Right-hand sides are rows ``(m, n)`` inside, so that a finished one leaves cheaply.
"""

import numpy as np
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from autotune.ops import core_preconditioner as preconditioner

# Up to as many vectors at once, products that read half the matrix are faster than one matrix product.
SYMV_VECTORS = 4
# The share of the budget after which convergence is judged, and how much faster it may still become.
JUDGED_AFTER, OPTIMISM = 1 / 3, 2.0
# A column whose recurrence claims more than it has this often cannot reach its tolerance.
MISSES = 3


def dots(X, Y):
    """``x_i . y_i`` for every row, in double precision."""
    return np.einsum("ij,ij->i", X, Y, dtype=np.float64)


def norms(X):
    """Length of every row, in double precision."""
    return np.sqrt(dots(X, X))


def contiguous(A):
    """``A``, or a copy of it in C order where it has neither order."""
    return A if A.flags.c_contiguous or A.flags.f_contiguous else np.ascontiguousarray(A)


def product(A, V):
    """``A v`` for every row v of ``V`` (m, n), A symmetric and in C or Fortran order."""
    if not 0 < len(V) <= SYMV_VECTORS or not A.size:
        return V @ A
    symv = get_blas_funcs("symv", (A, V))
    F, lower = fortran(A)  # the lower triangle is what a Cholesky factorisation reads, too
    return np.stack([symv(1.0, F, v, lower=lower) for v in V])


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
    are the outcome for all rows.
    """

    def __init__(self, A, B, parts, target):
        self.A, self.B, self.parts, self.target = A, B, parts, target
        self.eps = float(np.finfo(B.dtype).eps)
        self.X, self.solved = np.zeros_like(B), np.zeros(len(B), dtype=bool)
        self.rows, self.x, self.R = np.arange(len(B)), np.zeros_like(B), B.copy()
        self.P = preconditioner.apply_inverse(parts, self.R).copy()
        self.rho, self.size = dots(self.R, self.P), norms(B)
        self.drift, self.late = np.zeros(len(B)), np.zeros(len(B), dtype=bool)
        self.misses, self.norm = np.zeros(len(B), dtype=int), 0.0

    def step(self):
        """One product with A; False if A shows itself not to be positive definite, or not finite."""
        Q = product(self.A, self.P)
        curvature = dots(self.P, Q)
        if not ((curvature > 0) & (curvature < np.inf)).all():
            return False
        alpha = (self.rho / curvature).astype(self.B.dtype)[:, None]
        self.x += alpha * self.P
        self.R -= alpha * Q
        self.size, self.norm = norms(self.R), max(self.norm, (curvature / dots(self.P, self.P)).max())
        return True

    def replace(self):
        """True residuals where it matters; rows that are solved, and rows that claimed to be and are not.

        It matters where the recurrence claims convergence, and where the rounding errors that it has gathered
        first exceed ``sqrt(eps)`` of it, which costs no convergence (van der Vorst & Ye 2000).
        """
        target, was_late = self.target[self.rows], self.late
        rounding = self.eps * self.norm * norms(self.x)
        self.drift += rounding + self.eps * self.size
        self.late = self.drift > np.sqrt(self.eps) * self.size
        claims = self.size <= np.maximum(target, rounding)
        replaced = claims | (self.late & ~was_late)
        if replaced.any():
            x = self.x[replaced]
            self.R[replaced] = self.B[self.rows[replaced]] - product(self.A, x)
            self.drift[replaced] = self.eps * self.norm * norms(x)
            self.size[replaced] = norms(self.R[replaced])
        done = claims & (self.size <= target)
        self.misses += claims & ~done
        self.X[self.rows], self.solved[self.rows] = self.x, done
        return done, claims & ~done

    def turn(self, done, missed):
        """The next directions; solved rows leave, and who claimed too much starts again."""
        Z = preconditioner.apply_inverse(self.parts, self.R)
        rho = dots(self.R, Z)
        beta = np.where(missed, 0, rho / self.rho).astype(self.B.dtype)
        self.P, self.rho = Z + beta[:, None] * self.P, rho
        if done.any():
            for name in ("rows", "x", "R", "P", "rho", "drift", "late", "misses"):
                setattr(self, name, getattr(self, name)[~done])

    def distance(self):
        """``log(residual / target)`` of the row that has furthest to go."""
        return float(np.log(max((self.size / np.maximum(self.target[self.rows], 1e-300)).max(), 1.0)))


def iterate(A, B, parts, target, budget):
    """``(X, solved, iterations)`` for the rows of ``B``: every solved one has ``|b - A x| <= target``.

    Gives up early on a matrix that shows itself indefinite, on a tolerance out of reach, and when the budget
    will not do.
    """
    state = Iteration(A, B, parts, target)
    distances: list[float] = []
    for used in range(1, budget + 1):
        if not state.step():
            return state.X, state.solved, used
        done, missed = state.replace()
        distances.append(state.distance())
        if state.solved.all() or (state.misses >= MISSES).any() or hopeless(distances, budget):
            return state.X, state.solved, used
        state.turn(done, missed)
    return state.X, state.solved, max(budget, 0)


def fortran(M):
    """``(F, lower)``: the memory of ``M`` in Fortran order, and where the lower triangle of M lies in it.

    LAPACK then reads a matrix in C order without a transposing copy: as its transpose.
    """
    return (M, 1) if M.flags.f_contiguous else (M.T, 0)


def cholesky_factor(A):
    """The lower factor of A (its upper triangle means nothing); NaN everywhere if A has none."""
    (potrf,) = get_lapack_funcs(("potrf",), (A,))
    F, lower = fortran(A)
    L, info = potrf(F, lower=lower, clean=False)
    if info != 0 or not np.isfinite(np.diagonal(L)).all():
        return np.full_like(A, np.nan)
    return L if lower else L.T


def factor_solve(L, B):
    """``(L L')^-1 b`` for every row b; NaN from a factor that does not exist."""
    if np.isnan(L[0, 0]):
        return np.full_like(B, np.nan)
    (potrs,) = get_lapack_funcs(("potrs",), (L, B))
    F, lower = fortran(L)
    return potrs(F, B.T, lower=lower)[0].T


def better_of(A, B, X, Y, target):
    """``Y``, but for rows that miss the target by more than ``X`` does: true residuals decide."""
    found = norms(B - product(A, Y))
    worse = found > target
    if worse.any():
        worse[worse] = norms(B[worse] - product(A, X[worse])) < found[worse]
    return np.where(worse[:, None], X, Y)


def solve_rows(A, B, rtol, budget, parts, L):
    """``(X, iterations, L)`` for rows ``B`` that are finite and not zero; see `block_cg`."""
    target = rtol * norms(B)
    X, solved, iterations = np.zeros_like(B), np.zeros(len(B), dtype=bool), 0
    if not L.size and (np.diagonal(A) > 0).all():
        X, solved, iterations = iterate(A, B, parts, target, budget)
        if solved.all():
            return X, iterations, L
    L = L if L.size else cholesky_factor(A)
    if np.isnan(L[0, 0]):
        return np.full_like(B, np.nan), -1 - iterations, L
    left = ~solved
    X[left] = better_of(A, B[left], X[left], factor_solve(L, B[left]), target[left])
    return X, -1 - iterations, L


def block_cg(A, B, rtol, budget, parts, L):
    """``(A^-1 B, iterations, L)`` for symmetric positive definite ``A``; ``iterations = -1 - used`` after a
    fallback.

    Every column reaches ``|b - A x| <= rtol |b|`` within ``budget`` iterations, or is solved by Cholesky and
    the better of the two answers, by its true residual, is returned. If A has no Cholesky factor all are NaN.
    ``L``: a factor that exists already, which ends the matter, or an empty matrix; on return the factor that
    was used. A zero column gives zero, one that is not finite gives NaN.
    """
    A, rows = contiguous(A), np.ascontiguousarray(B.T)
    finite = np.isfinite(rows).all(axis=1)
    X = np.zeros_like(rows)
    X[~finite] = np.nan
    wanted = finite & (rows != 0).any(axis=1)
    if not wanted.any():
        # Nothing to solve. Still, NaN in A must not vanish where a direct solve would show it.
        if B.size and not np.isfinite(A).all():
            X[:] = np.nan
        return X.T, 0, L
    X[wanted], iterations, L = solve_rows(A, rows[wanted], rtol, budget, parts, L)
    return X.T, iterations, L


def block_cg_arrays(A, B, rtol, max_iterations, scale, U, s, L):
    """`block_cg` on the arrays of a graph: the outputs of the Op, checked and typed."""
    if A.shape[0] != A.shape[1] or A.shape[0] != B.shape[0]:
        raise ValueError("The matrix must be square, and the right-hand side as long.")
    with np.errstate(all="ignore"):
        X, iterations, L = block_cg(A, B, float(rtol), int(max_iterations), (scale, U, s), L)
    return np.ascontiguousarray(X), np.array(iterations, dtype=np.int64), np.ascontiguousarray(L)
