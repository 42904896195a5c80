"""Conjugate gradients with several preconditioners side by side, to see how fast each converges.

The trials share their products with the matrix, so that five cost little more than one. From the scalars of
the recurrence come the eigenvalues' extremes as well: they are those of the Lanczos process (Golub & Meurant
2010, chapter 5; Meurant & Strakos 2006).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal

from autotune.ops import core_cg, core_iteration
from autotune.ops import core_preconditioner as preconditioner
from autotune.ops.constants import JACOBI, NONE
from autotune.ops.core_operator import SymmetricOperator
from autotune.problem.spectrum import GIVEN, Convergence, Spectrum

SEED = 20170101
# Nothing asks for less than this relative residual.
SMALLEST = 1e-13
# Roundings of a run that do not cancel.
ROUNDINGS = 10


def unit_of(array) -> float:
    """The largest power of two up to the largest entry: dividing by it rounds nothing."""
    return 2.0 ** (math.frexp(float(np.abs(array).max()))[1] - 1)


def in_units(M: SymmetricOperator, b) -> SymmetricOperator:
    """A multiple of a preconditioner, which does the same, so that ``M b`` neither over- nor underflows."""
    unit = unit_of(M.product(b[None, :]))
    return SymmetricOperator(M.dense / unit, M.d / unit, M.U, M.c / unit)


class Trial:
    """One preconditioner's iteration for ``A x = b``: a product with A is made outside, for all trials.

    ``preconditioner``: as `core_cg.iteration_parts` takes it.
    """

    def __init__(self, kind: tuple[str, int | None], preconditioner, b):
        self.kind = kind
        self.preconditioner = core_cg.iteration_parts(preconditioner, b.dtype)
        self.state = core_iteration.start(b[None, :], np.zeros(1))
        core_iteration.turn_first(self.preconditioner, self.state)
        self.start = float(self.state.size[0])
        self.alphas: list[float] = []
        self.betas: list[float] = []
        self.residuals: list[float] = []  # relative to b
        self.norm = 0.0  # of A, from below

    def step(self, q) -> bool:
        """One step, given ``q = A p``; False if A shows itself not to be positive definite."""
        state = self.state
        rho, curvature = float(state.rho[0]), float(state.p[0] @ q)
        self.norm, sound = core_iteration.step(state, q[None, :], self.norm)
        if not sound:
            return False
        core_iteration.turn(self.preconditioner, state, 1)
        self.alphas.append(rho / curvature)
        self.betas.append(float(state.rho[0]) / rho)
        self.residuals.append(float(state.size[0]) / self.start)
        return True

    @property
    def done(self) -> bool:
        return self.residuals[-1] <= SMALLEST

    def convergence(self, attainable: float) -> Convergence:
        reached = np.minimum.accumulate(self.residuals)
        depth = math.floor(-math.log10(max(reached[-1], 1e-300)))
        name, rank = self.kind
        return Convergence(
            preconditioner=name,
            rank=rank,
            condition_number=_two_digits(condition_number(*tridiagonal(self.alphas, self.betas))),
            decades=tuple(int(np.argmax(reached <= 10.0**-d)) + 1 for d in range(1, depth + 1)),
            made=len(self.residuals),
            attainable=_two_digits(attainable),
        )


def tridiagonal(alphas, betas) -> tuple[np.ndarray, np.ndarray]:
    """Diagonal (m,) and off-diagonal (m - 1,) of the Lanczos matrix that a recurrence's scalars stand for."""
    a, b = np.array(alphas), np.array(betas[: len(alphas) - 1])
    return 1 / a + np.r_[0, b / a[:-1]], np.sqrt(b) / a[:-1]


def condition_number(diagonal, offdiagonal) -> float:
    """Ratio of the extreme Ritz values. At most 1e16: beyond that double precision cannot tell."""
    values = eigvalsh_tridiagonal(diagonal, offdiagonal)
    return float(values[-1] / max(values[0], 1e-16 * values[-1]))


def _two_digits(value: float) -> float:
    """Rounded, so that an estimate is the same whichever BLAS summed it."""
    return float(f"{value:.2g}")


def try_out(A, kinds, products: int, inverse=None) -> Spectrum | None:
    """How conjugate gradients converge on symmetric ``A`` (n, n) under each of ``kinds``.

    ``kinds``: pairs of a preconditioner's name and its rank, as a policy names them, or ``GIVEN``, which is
    ``inverse``, a `SymmetricOperator`. At most ``products`` products of A with as many vectors as kinds. None
    where A or ``inverse`` is not finite, or not positive definite. A multiple of A gives the same.
    Rounding leaves a residual of about ``eps |A| |x|``, whatever the preconditioner (Greenbaum 1997).
    """
    largest = A.diagonal().max()
    if not 0 < largest < math.inf:
        return None
    A = A / unit_of(largest)
    b = np.random.default_rng(SEED).standard_normal(len(A)).astype(A.dtype)
    given = None if inverse is None else in_units(inverse, b)
    trials = [
        Trial(kind, given if kind == GIVEN else preconditioner.build(A, rank_of(kind)), b) for kind in kinds
    ]
    open_ = list(trials)
    with np.errstate(all="ignore"):
        for _ in range(products):
            Q = np.concatenate([t.state.p for t in open_]) @ A
            if not all(t.step(q) for t, q in zip(open_, Q, strict=True)):
                return None
            open_ = [t for t in open_ if not t.done]
            if not open_:
                break
    rounding = float(np.finfo(A.dtype).eps) * max(t.norm for t in trials)
    attainable = (
        ROUNDINGS * rounding * max(float(np.linalg.norm(t.state.x)) for t in trials) / trials[0].start
    )
    made = max(len(t.residuals) for t in trials)
    return Spectrum("probe", None, tuple(t.convergence(attainable) for t in trials), made)


def rank_of(kind: tuple[str, int | None]) -> int:
    """The rank as `core_preconditioner.build` counts it."""
    name, rank = kind
    fixed = {"none": NONE, "jacobi": JACOBI}
    return fixed.get(name, rank or 0)
