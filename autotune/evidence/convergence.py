"""Conjugate gradients with several preconditioners side by side, to see how fast each converges.

The trials share their products with the matrix, so that five cost little more than one. From the scalars of
the recurrence come the eigenvalues' extremes as well: they are those of the Lanczos process (Golub & Meurant
2010, chapter 5; Meurant & Strakos 2006).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal

from autotune.ops import core_preconditioner as preconditioner
from autotune.problem.spectrum import GIVEN, Convergence, Spectrum

SEED = 20170101
# Nothing asks for less than this relative residual.
SMALLEST = 1e-13
# Roundings of a run that do not cancel.
ROUNDINGS = 10


def unit_of(array) -> float:
    """The largest power of two up to the largest entry: dividing by it rounds nothing."""
    return 2.0 ** (math.frexp(float(np.abs(array).max()))[1] - 1)


class Trial:
    """One preconditioner's iteration for ``A x = b``: a product with A is made outside, for all trials."""

    def __init__(self, kind: tuple[str, int | None], parts, b):
        self.kind, self.parts = kind, parts
        self.x, self.r = np.zeros_like(b), b.copy()
        self.unit = 1.0  # of a preconditioner: a multiple of it does the same
        self.unit = unit_of(self.precondition())
        self.z = self.precondition()
        self.p, self.rho = self.z.copy(), float(self.r @ self.z)
        self.start = float(np.linalg.norm(b))
        self.alphas: list[float] = []
        self.betas: list[float] = []
        self.residuals: list[float] = []  # relative to b
        self.norm = 0.0  # of A, from below

    def precondition(self):
        return preconditioner.apply_inverse(self.parts, self.r[None, :])[0] / self.unit

    def step(self, q) -> bool:
        """One step, given ``q = A p``; False if A shows itself not to be positive definite."""
        curvature = float(self.p @ q)
        if not 0 < curvature < math.inf or not 0 < self.rho < math.inf:
            return False
        alpha = self.rho / curvature
        self.norm = max(self.norm, curvature / float(self.p @ self.p))
        self.x += alpha * self.p
        self.r -= alpha * q
        self.z = self.precondition()
        rho = float(self.r @ self.z)
        beta, self.rho = rho / self.rho, rho
        self.p = self.z + beta * self.p
        self.alphas.append(alpha)
        self.betas.append(beta)
        self.residuals.append(float(np.linalg.norm(self.r)) / self.start)
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
    trials = [
        Trial(kind, inverse if kind == GIVEN else preconditioner.build(A, rank_of(kind)), b) for kind in kinds
    ]
    open_ = list(trials)
    with np.errstate(all="ignore"):
        for _ in range(products):
            Q = np.stack([t.p for t in open_]) @ A
            if not all(t.step(q) for t, q in zip(open_, Q, strict=True)):
                return None
            open_ = [t for t in open_ if not t.done]
            if not open_:
                break
    rounding = float(np.finfo(A.dtype).eps) * max(t.norm for t in trials)
    attainable = ROUNDINGS * rounding * max(float(np.linalg.norm(t.x)) for t in trials) / trials[0].start
    made = max(len(t.residuals) for t in trials)
    return Spectrum("probe", None, tuple(t.convergence(attainable) for t in trials), made)


def rank_of(kind: tuple[str, int | None]) -> int:
    """The rank as `core_preconditioner.build` counts it."""
    name, rank = kind
    fixed = {"none": preconditioner.NONE, "jacobi": preconditioner.JACOBI}
    return fixed.get(name, rank or 0)
