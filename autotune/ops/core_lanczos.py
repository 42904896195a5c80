"""Log-determinants by stochastic Lanczos quadrature, with a confidence interval or not at all.

    log det A = log det P + tr log M,    M = G A G',  G'G = P^-1
    tr log M  = E[z' log(M) z],          z of random signs (Hutchinson 1990)
    z' log(M) z ~ n sum_k w_k log theta_k,  by Lanczos' tridiagonal matrix (Golub & Meurant 2010)

Ubaru, Chen & Saad (2017). Gauss' rule is an upper bound of the form, Gauss-Radau's a lower one (Bai & Golub
1996). The preconditioner P deflates: its share is exact. Vectors are rows ``(m, n)``.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from autotune.ops import core_preconditioner, lowrank
from autotune.ops.constants import BLOCK
from autotune.ops.core_direct import cholesky_factor, low_rank_parts, packed
from autotune.ops.core_operator import as_operator, signs
from autotune.ops.core_tridiagonal import Tridiagonal

# The share of the error asked for that the quadrature may have.
QUADRATURE_SHARE = 0.1
# The least eigenvalue may be so many times below what a condition number says: a probe gives a lower bound,
# and of another matrix than that of the call.
LEEWAY = 2.0
# Where nothing is said of it, it may be so many times below the least Ritz value. With this the quadrature's
# error stayed below 0.05 of the one allowed for 16 kinds of spectra of condition 10 to 1e10, n = 300.
UNSEEN = 10.0


@cache
def student_quantile():
    """Of a two-sided 95 % interval on the pilot's degrees of freedom."""
    from scipy.special import stdtrit  # a tenth of a second that most processes need not spend

    return float(stdtrit(BLOCK - 1, 0.975))


def preconditioned(A, parts):
    """``V -> M v`` for every row v, where ``M = G A G'``; A is a `SymmetricOperator`."""

    def apply(V):
        inner = core_preconditioner.apply_root_transposed(parts, V)
        return core_preconditioner.apply_root(parts, A.product(inner))

    return apply


@dataclass
class Estimate:
    """The forms ``z' log(M) z`` of a block, the error left of their mean quadrature, and the steps taken."""

    forms: np.ndarray
    bias: float
    steps: int


def quadrature(apply, Z, allowed, max_steps, condition_number=np.inf):
    """The `Estimate` of a block of probes, as accurate as ``allowed(mean)`` says; None if steps or positive
    definiteness run out. ``condition_number``: that of M, at most; infinite where nothing is known."""
    n = Z.shape[1]
    lanczos = Tridiagonal(apply, Z / np.sqrt(n).astype(Z.dtype))
    means: list[float] = []
    for steps in range(1, min(max_steps, n) + 1):
        lanczos.step()
        forms = n * lanczos.log_forms()
        means.append(float(forms.mean()))
        if not np.isfinite(means[-1]):
            return None
        enough = QUADRATURE_SHARE * allowed(means[-1])
        bias = 0.0 if lanczos.complete or steps == n else remaining(means)
        if 0 < bias <= enough:
            lowest = n * lanczos.lower_log_forms(least_eigenvalue(lanczos, condition_number))
            bias = max(bias, means[-1] - float(lowest.mean()))
        if bias <= enough:
            return Estimate(forms, bias, steps)
    return None


def least_eigenvalue(lanczos, condition_number):
    """A lower bound of the eigenvalues, if ``condition_number`` is true or, where it is infinite or seen to
    be false, none is far below the Ritz values."""
    least, greatest = lanczos.ritz_range()
    by_condition = greatest / (LEEWAY * condition_number)
    return by_condition if 0 < by_condition < least else least / UNSEEN


def remaining(means):
    """What a sequence that falls has still to go, by its last three changes; infinite before there are three.

    The greater of what is left of a geometric sequence, and of one of changes like ``k^-p`` at step k. The
    latter is it while eigenvalues are still to be found that are smaller than all that were. A second opinion
    beside the bounds, the lower of which believes what is said of the least eigenvalue.
    """
    if len(means) < 4:
        return np.inf
    changes = np.abs(np.diff(means))
    ratios = changes[-2:] / np.maximum(changes[-3:-1], 1e-300)
    ratio, k = np.clip(ratios.max(), 1e-300, 0.99), len(means)
    p = -np.log(ratio) / np.log(k / (k - 1))
    slow = min(ratio, 0.95)
    return changes[-1] * max(slow / (1 - slow), k / max(p - 1, 0.5))


def estimate(A, rtol, max_steps, parts, seed, condition_number=np.inf):
    """``(log det A, error, probes)`` with an error of at most ``rtol |log det A|``, or None.

    ``error`` is half a 95 % interval, plus the quadrature's. Stein's (1945) two samples: the spread in a
    pilot block tells how many probes are needed; the interval takes the pilot's spread and Student's quantile
    for it, so that looking at the data first does not make it too narrow. None as soon as more than
    ``max_steps`` block steps would be needed. See `quadrature` for ``condition_number``.
    """
    A = as_operator(A)
    n, base, apply = A.order, core_preconditioner.logdet(parts), preconditioned(A, parts)

    def allowed(mean):
        return rtol * abs(base + mean)

    Z = signs(BLOCK, n, seed, A.dtype)
    block = quadrature(apply, Z, allowed, max_steps, condition_number)
    if block is None:
        return None
    forms, bias, steps, spread = block.forms, block.bias, block.steps, block.forms.std(ddof=1)
    while True:
        count, value = forms.size, base + forms.mean()
        error = student_quantile() * spread / np.sqrt(count) + bias
        if error <= rtol * abs(value):
            return value, error, count
        needed = (student_quantile() * spread / max(rtol * abs(value) - bias, 1e-300)) ** 2
        if not steps + (needed - count) / BLOCK * block.steps <= max_steps:
            return None
        Z = signs(count + BLOCK, n, seed, A.dtype)[count:]
        block = quadrature(apply, Z, allowed, max_steps - steps, condition_number)
        if block is None:
            return None
        forms, bias, steps = np.append(forms, block.forms), max(bias, block.bias), steps + block.steps


def logdet(A, rtol, max_steps, parts, seed, condition_number=np.inf):
    """``(log det A, error, probes, factor)`` for symmetric positive definite ``A``, an array or a
    `SymmetricOperator`.

    By Lanczos if that can be had with ``error <= rtol |log det A|`` in ``max_steps`` block steps; ``factor``
    is then empty. Otherwise exactly by the direct way (see `core_direct`): error and probes 0, and its
    factor. NaN if it has none.
    """
    A = as_operator(A)
    if A.order and (A.diagonal() > 0).all():
        found = estimate(A, rtol, max_steps, parts, seed, condition_number)
        if found is not None:
            return *found, np.zeros((0, 0), A.dtype)
    value, L = exact_logdet(A)
    return value, 0.0, 0, L


def exact_logdet(A):
    """``(log det A, L)`` by the direct way; NaN if A is not positive definite."""
    if A.thin:
        *factor, _, value = lowrank.factorise(True, *low_rank_parts(A))
        return value, packed(factor, A)
    if not A.order:
        return 0.0, A.dense
    L = cholesky_factor(A)
    return 2 * np.log(np.diagonal(L).astype(np.float64)).sum(), L


def logdet_arrays(A, rtol, max_steps, seed, scale, U, s, condition_number, *thin):
    """`logdet` on the arrays of a graph: the outputs of the Op, typed. ``thin``: d, V, c of the matrix."""
    A = as_operator(A, *thin)
    core_preconditioner.check_parts(A.order, scale, U, s)
    with np.errstate(all="ignore"):
        value, error, probes, L = logdet(
            A, float(rtol), int(max_steps), (scale, U, s), int(seed), float(condition_number)
        )
    return (
        np.array(value, dtype=A.dtype),
        np.array(error, dtype=A.dtype),
        np.array(probes, dtype=np.int64),
        np.ascontiguousarray(L),
    )
