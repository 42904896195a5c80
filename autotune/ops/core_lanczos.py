"""Log-determinants by stochastic Lanczos quadrature, with a confidence interval or not at all.

    log det A = log det P + tr log M,    M = G A G',  G'G = P^-1
    tr log M  = E[z' log(M) z],          z of random signs (Hutchinson 1990)
    z' log(M) z ~ n sum_k w_k log theta_k,  by Lanczos' tridiagonal matrix (Golub & Meurant 2010)

Ubaru, Chen & Saad (2017). The preconditioner P deflates: its share is exact. Vectors are rows ``(m, n)``.
What the steps tell of ``M^-1 z`` goes to the gradient, see `core_lanczos_inverse`.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from autotune.ops import core_preconditioner, lowrank
from autotune.ops.core_direct import cholesky_factor, low_rank_parts, packed
from autotune.ops.core_operator import as_operator
from autotune.ops.core_tridiagonal import Tridiagonal

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


def preconditioned(A, parts):
    """``V -> M v`` for every row v, where ``M = G A G'``; A is a `SymmetricOperator`."""

    def apply(V):
        inner = core_preconditioner.apply_root_transposed(parts, V)
        return core_preconditioner.apply_root(parts, A.product(inner))

    return apply


@dataclass
class Estimate:
    """The forms ``z' log(M) z`` of a block, the error left of their mean quadrature, the steps taken, and
    where conjugate gradients for ``M x = z`` would be after these, see `Tridiagonal.conjugate_gradients`."""

    forms: np.ndarray
    bias: float
    steps: int
    krylov: np.ndarray


def quadrature(apply, Z, allowed, max_steps, kept=0):
    """The `Estimate` of a block of probes, as accurate as ``allowed(mean)`` says; None if steps or positive
    definiteness run out. ``kept``: of how many probes its ``krylov`` is.

    Gauss' rule falls monotonically to the value (Golub & Meurant 2010), so its changes tell what is left.
    """
    n = Z.shape[1]
    length = np.sqrt(n)
    lanczos = Tridiagonal(apply, Z / length.astype(Z.dtype))
    means: list[float] = []
    for steps in range(1, min(max_steps, n) + 1):
        lanczos.step()
        forms = n * lanczos.log_forms()
        means.append(float(forms.mean()))
        if not np.isfinite(means[-1]):
            return None
        bias = 0.0 if lanczos.complete or steps == n else remaining(means)
        if bias <= QUADRATURE_SHARE * allowed(means[-1]):
            nothing = np.zeros((3, 0, n), Z.dtype)
            solves = lanczos.conjugate_gradients(length)[:, :kept] if kept > 0 else nothing
            return Estimate(forms, bias, steps, solves)
    return None


def remaining(means):
    """What a sequence that falls has still to go, by its last three changes; infinite before there are three.

    The greater of what is left of a geometric sequence, and of one of changes like ``k^-p`` at step k. The
    latter is it while eigenvalues are still to be found that are smaller than all that were.
    """
    if len(means) < 4:
        return np.inf
    changes = np.abs(np.diff(means))
    ratios = changes[-2:] / np.maximum(changes[-3:-1], 1e-300)
    ratio, k = np.clip(ratios.max(), 1e-300, 0.99), len(means)
    p = -np.log(ratio) / np.log(k / (k - 1))
    slow = min(ratio, 0.95)
    return changes[-1] * max(slow / (1 - slow), k / max(p - 1, 0.5))


def estimate(A, rtol, max_steps, parts, seed, kept=0):
    """``(log det A, error, probes, krylov)`` with an error of at most ``rtol |log det A|``, or None.

    ``error`` is half a 95 % interval, plus the quadrature's. Stein's (1945) two samples: the spread in a
    pilot block tells how many probes are needed; the interval takes the pilot's spread and Student's quantile
    for it, so that looking at the data first does not make it too narrow. None as soon as more than
    ``max_steps`` block steps would be needed. ``krylov`` (3, m, n) is of the first m probes, m <= ``kept``.
    """
    A = as_operator(A)
    n, base, apply = A.order, core_preconditioner.logdet(parts), preconditioned(A, parts)

    def allowed(mean):
        return rtol * abs(base + mean)

    block = quadrature(apply, signs(BLOCK, n, seed, A.dtype), allowed, max_steps, kept)
    if block is None:
        return None
    forms, bias, steps, spread = block.forms, block.bias, block.steps, block.forms.std(ddof=1)
    krylov = [block.krylov]
    while True:
        count, value = forms.size, base + forms.mean()
        error = QUANTILE * spread / np.sqrt(count) + bias
        if error <= rtol * abs(value):
            return value, error, count, np.concatenate(krylov, axis=1)
        needed = (QUANTILE * spread / max(rtol * abs(value) - bias, 1e-300)) ** 2
        if not steps + (needed - count) / BLOCK * block.steps <= max_steps:
            return None
        Z = signs(count + BLOCK, n, seed, A.dtype)[count:]
        block = quadrature(apply, Z, allowed, max_steps - steps, kept - count)
        if block is None:
            return None
        forms, bias, steps = np.append(forms, block.forms), max(bias, block.bias), steps + block.steps
        krylov.append(block.krylov)


def logdet(A, rtol, max_steps, parts, seed, kept=0):
    """``(log det A, error, probes, factor, krylov)`` for symmetric positive definite ``A``, an array or a
    `SymmetricOperator`.

    By Lanczos if that can be had with ``error <= rtol |log det A|`` in ``max_steps`` block steps; ``factor``
    is then empty. Otherwise exactly by the direct way (see `core_direct`): error and probes 0, its factor,
    and no ``krylov``. NaN if it has none.
    """
    A = as_operator(A)
    n = A.order
    nothing = np.zeros((3, 0, n), A.dtype)
    if n and (A.diagonal() > 0).all():
        found = estimate(A, rtol, max_steps, parts, seed, kept)
        if found is not None:
            *numbers, krylov = found
            return *numbers, np.zeros((0, 0), A.dtype), krylov
    value, L = exact_logdet(A)
    return value, 0.0, 0, L, nothing


def exact_logdet(A):
    """``(log det A, L)`` by the direct way; NaN if A is not positive definite."""
    if A.thin:
        *factor, _, value = lowrank.factorise(True, *low_rank_parts(A))
        return value, packed(factor, A)
    if not A.order:
        return 0.0, A.dense
    L = cholesky_factor(A.to_dense())
    return 2 * np.log(np.diagonal(L).astype(np.float64)).sum(), L


def logdet_arrays(A, rtol, max_steps, seed, scale, U, s, kept, *thin):
    """`logdet` on the arrays of a graph: the outputs of the Op, typed. ``thin``: d, V, c of the matrix."""
    A = as_operator(A, *thin)
    with np.errstate(all="ignore"):
        value, error, probes, L, krylov = logdet(
            A, float(rtol), int(max_steps), (scale, U, s), int(seed), int(kept)
        )
    return (
        np.array(value, dtype=A.dtype),
        np.array(error, dtype=A.dtype),
        np.array(probes, dtype=np.int64),
        np.ascontiguousarray(L),
        np.ascontiguousarray(krylov),
    )
