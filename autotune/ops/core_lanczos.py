"""Log-determinants by stochastic Lanczos quadrature, with a confidence interval or not at all.

    log det A = log det P + tr log M,    M = G A G',  G'G = P^-1
    tr log M  = E[z' log(M) z],          z of random signs (Hutchinson 1990)
    z' log(M) z ~ n sum_k w_k log theta_k,  by Lanczos' tridiagonal matrix (Golub & Meurant 2010)

Ubaru, Chen & Saad (2017). The preconditioner P deflates: its share is exact. Vectors are rows ``(m, n)``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import get_lapack_funcs
from scipy.special import stdtrit

from autotune.ops import core_cg, core_preconditioner, kernels
from autotune.ops.core_direct import cholesky_factor
from autotune.ops.core_operator import contiguous, fortran, product

# Probes of the pilot sample, and of every block after it.
BLOCK = 8
# The share of the error asked for that the quadrature may have.
QUADRATURE_SHARE = 0.1
# Student's quantile of a two-sided 95 % interval on the pilot's degrees of freedom.
QUANTILE = float(stdtrit(BLOCK - 1, 0.975))


def signs(count, n, seed, dtype):
    """The first ``count`` probes of a sequence that ``seed`` fixes, with entries 1 and -1."""
    bits = np.random.default_rng(seed).integers(0, 2, size=(count, n), dtype=np.int8)
    return (2 * bits - 1).astype(dtype)


@dataclass
class Tridiagonal:
    """Lanczos' recurrences of several vectors on one operator, all vectors reorthogonalised twice.

    ``basis`` (m, k, n); ``alpha`` and ``beta`` of each step (m,). Where a vector's Krylov space is exhausted
    the matrix goes on with a one that its first row does not see. Source: Parlett (1998), chapter 13.
    """

    apply: Callable
    basis: np.ndarray
    alpha: list = field(default_factory=list)
    beta: list = field(default_factory=list)

    def step(self):
        last = self.basis[:, -1]
        W = self.apply(last)
        alpha = core_cg.dots(last, W)
        exhausted = ~last.any(axis=1)
        for _ in range(2):
            W = np.stack([self._orthogonal(q, w) for q, w in zip(self.basis, W, strict=True)])
        beta = core_cg.norms(W)
        scale = np.abs(alpha) + (self.beta[-1] if self.beta else 0)
        none_left = ~(beta > 10 * np.finfo(W.dtype).eps * scale)
        beta[none_left] = 0
        following = W / np.where(none_left, 1, beta).astype(W.dtype)[:, None]
        following[none_left] = 0
        self.alpha.append(np.where(exhausted, 1.0, alpha))
        self.beta.append(beta)
        self.basis = np.concatenate([self.basis, following[:, None]], axis=1)

    @staticmethod
    def _orthogonal(basis, w):
        """``w`` without its share in the rows of ``basis``."""
        overlap = kernels.matmul(w[None], basis.T)
        return w - kernels.matmul(overlap, basis)[0]

    def log_forms(self):
        """``e_1' log(T) e_1`` of every vector, NaN where T is not positive definite."""
        k = len(self.alpha)
        T = np.zeros((len(self.basis), k, k))
        on, off = np.arange(k), np.arange(k - 1)
        T[:, on, on] = np.stack(self.alpha, axis=1)
        T[:, off + 1, off] = np.stack(self.beta, axis=1)[:, :-1]
        if not np.isfinite(T).all():
            return np.full(len(T), np.nan)
        theta, vectors = np.linalg.eigh(T)
        return (vectors[:, 0] ** 2 * np.log(theta)).sum(axis=1)

    @property
    def complete(self):
        return not self.beta[-1].any()


@dataclass
class Estimate:
    """The forms ``z' log(M) z`` of a block, the error left of their mean quadrature, and the steps taken."""

    forms: np.ndarray
    bias: float
    steps: int


def quadrature(apply, Z, allowed, max_steps):
    """The `Estimate` of a block of probes, as accurate as ``allowed(mean)`` says; None if steps or positive
    definiteness run out.

    Gauss' rule falls monotonically to the value, by a factor that approaches a constant, so what two steps
    change tells what is left.
    """
    n = Z.shape[1]
    lanczos = Tridiagonal(apply, (Z / np.sqrt(n).astype(Z.dtype))[:, None])
    means: list[float] = []
    for steps in range(1, min(max_steps, n) + 1):
        lanczos.step()
        forms = n * lanczos.log_forms()
        means.append(float(forms.mean()))
        if not np.isfinite(means[-1]):
            return None
        bias = 0.0 if lanczos.complete or steps == n else remaining(means)
        if bias <= QUADRATURE_SHARE * allowed(means[-1]):
            return Estimate(forms, bias, steps)
    return None


def remaining(means):
    """What a geometric sequence of changes has still to go; infinite before there are three of them."""
    if len(means) < 4:
        return np.inf
    changes = np.abs(np.diff(means))
    ratio = min(max(changes[-1] / max(changes[-2], 1e-300), changes[-2] / max(changes[-3], 1e-300)), 0.95)
    return changes[-1] * ratio / (1 - ratio)


def estimate(A, rtol, max_steps, parts, seed):
    """``(log det A, error, probes)`` with an error of at most ``rtol |log det A|``, or None.

    ``error`` is half a 95 % interval, plus the quadrature's. Stein's (1945) two samples: the spread in a
    pilot block tells how many probes are needed; the interval takes the pilot's spread and Student's quantile
    for it, so that looking at the data first does not make it too narrow. None as soon as more than
    ``max_steps`` block steps would be needed.
    """
    n, base = A.shape[0], core_preconditioner.logdet(parts)

    def apply(V):
        inner = core_preconditioner.apply_root_transposed(parts, V)
        return core_preconditioner.apply_root(parts, product(A, inner))

    def allowed(mean):
        return rtol * abs(base + mean)

    block = quadrature(apply, signs(BLOCK, n, seed, A.dtype), allowed, max_steps)
    if block is None:
        return None
    forms, bias, steps, spread = block.forms, block.bias, block.steps, block.forms.std(ddof=1)
    while True:
        count, value = forms.size, base + forms.mean()
        error = QUANTILE * spread / np.sqrt(count) + bias
        if error <= rtol * abs(value):
            return value, error, count
        needed = (QUANTILE * spread / max(rtol * abs(value) - bias, 1e-300)) ** 2
        if not steps + (needed - count) / BLOCK * block.steps <= max_steps:
            return None
        Z = signs(count + BLOCK, n, seed, A.dtype)[count:]
        block = quadrature(apply, Z, allowed, max_steps - steps)
        if block is None:
            return None
        forms, bias, steps = np.append(forms, block.forms), max(bias, block.bias), steps + block.steps


def logdet(A, rtol, max_steps, parts, seed):
    """``(log det A, error, probes, factor)`` for symmetric positive definite ``A``.

    By Lanczos if that can be had with ``error <= rtol |log det A|`` in ``max_steps`` block steps; ``factor``
    is then empty. Otherwise exactly by Cholesky: error and probes 0, and its factor. NaN if it has none.
    """
    A = contiguous(A)
    if A.size and (np.diagonal(A) > 0).all():
        found = estimate(A, rtol, max_steps, parts, seed)
        if found is not None:
            return *found, np.zeros((0, 0), A.dtype)
    if not A.size:
        return 0.0, 0.0, 0, A
    L = cholesky_factor(A)
    return 2 * np.log(np.diagonal(L).astype(np.float64)).sum(), 0.0, 0, L


def inverse(A, rtol, solve_rtol, budget, parts, seed, L):
    """An unbiased estimate of ``A^-1``, for the gradient of the log-determinant, or the exact inverse.

    With z = S y, P = S S' and y the probes, E[z z'] = P. So ``A^-1 = P^-1 + E[(A^-1 z - P^-1 z) (P^-1 z)']``:
    what the preconditioner explains is exact. Solves are conjugate gradients to ``solve_rtol``. Probes are
    added until half a 95 % interval of the trace of the inverse is within ``rtol`` of it; single entries and
    directions that hardly move the trace are less accurate. Exact by Cholesky where that would take more than
    ``budget`` iterations, where a solve falls back, and where the factor ``L`` exists.
    """
    A = contiguous(A)
    if not L.size and A.size:
        estimate, L = estimate_inverse(A, rtol, solve_rtol, budget, parts, seed, L)
        if estimate is not None:
            return estimate
    return exact_inverse(L if L.size or not A.size else cholesky_factor(A))


def estimate_inverse(A, rtol, solve_rtol, budget, parts, seed, L):
    """``(estimate, L)`` for `inverse`; the estimate is None where it does not come off."""
    n, used = A.shape[0], 0
    known = core_preconditioner.dense_inverse(parts, n, A.dtype)
    left, right, samples = np.zeros((0, n), A.dtype), np.zeros((0, n), A.dtype), np.zeros(0)
    while True:
        probes = signs(samples.size + BLOCK, n, seed, A.dtype)[samples.size :]
        Z = core_preconditioner.apply_factor(parts, probes)
        W = core_preconditioner.apply_inverse(parts, Z)
        X, iterations, L = core_cg.block_cg(A, Z.T, solve_rtol, budget - used, parts, L)
        if L.size:
            return None, L
        used += iterations
        left, right = np.concatenate([left, X.T - W]), np.concatenate([right, W])
        samples = np.append(samples, core_cg.dots(X.T - W, W))
        allowed = rtol * abs(np.trace(known) + samples.mean())
        needed = (QUANTILE * samples[:BLOCK].std(ddof=1) / max(allowed, 1e-300)) ** 2
        if needed <= samples.size:
            half = kernels.matmul(left.T, right / (2 * samples.size))
            return known + half + half.T, L
        if not used / samples.size * needed <= budget:
            return None, L


def exact_inverse(L):
    """``(L L')^-1`` by potri; NaN from a factor that does not exist."""
    if not L.size or np.isnan(L[0, 0]):
        return np.full_like(L, np.nan)
    (potri,) = get_lapack_funcs(("potri",), (L,))
    F, lower = fortran(L)
    half = potri(F, lower=lower)[0]
    half = np.tril(half if lower else half.T)
    return half + np.tril(half, -1).T


def logdet_arrays(A, rtol, max_steps, seed, scale, U, s):
    """`logdet` on the arrays of a graph: the outputs of the Op, checked and typed."""
    if A.shape[0] != A.shape[1]:
        raise ValueError(f"A matrix of shape {A.shape} was given. It must be square.")
    with np.errstate(all="ignore"):
        value, error, probes, L = logdet(A, float(rtol), int(max_steps), (scale, U, s), int(seed))
    return (
        np.array(value, dtype=A.dtype),
        np.array(error, dtype=A.dtype),
        np.array(probes, dtype=np.int64),
        np.ascontiguousarray(L),
    )


def inverse_array(A, rtol, solve_rtol, budget, seed, scale, U, s, L):
    """`inverse` on the arrays of a graph."""
    with np.errstate(all="ignore"):
        Y = inverse(A, float(rtol), float(solve_rtol), int(budget), (scale, U, s), int(seed), L)
    return np.ascontiguousarray(Y)
