"""High-precision references (mpmath) and compiled functions shared by the tests of autotune.ops."""

from functools import cache
from types import SimpleNamespace

import mpmath
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.mode import Mode

from autotune.ops import (
    FACTOR_FIELDS,
    LowRankFactor,
    LowRankInverseDiagonal,
    LowRankSolve,
    LowRankSolveInRange,
)

EPS = np.finfo(np.float64).eps


def plain_mode():
    return Mode(linker="py", optimizer=None)


@cache
def low_rank_function(symmetric, positive_definite=False, transposed=False, dtype="float64", linker="py"):
    """``f(d, U, last, B) -> solution, inverse diagonal, sign, logabsdet, mode``."""
    d, U, B = pt.vector("d", dtype=dtype), pt.matrix("U", dtype=dtype), pt.matrix("B", dtype=dtype)
    last = pt.vector("c", dtype=dtype) if symmetric else pt.matrix("V", dtype=dtype)
    factor = LowRankFactor(symmetric=symmetric, positive_definite=positive_definite)(d, U, last)
    parts, (sign, logabsdet) = factor[: len(FACTOR_FIELDS)], factor[-2:]
    solution = LowRankSolve(symmetric=symmetric, transposed=transposed)(d, U, last, *parts, B)
    diagonal = LowRankInverseDiagonal(symmetric=symmetric)(d, U, last, *parts)
    mode = plain_mode() if linker == "py" else "NUMBA"
    return pytensor.function([d, U, last, B], [solution, diagonal, sign, logabsdet, factor[0]], mode=mode)


@cache
def in_range_function(linker):
    """``f(d, U, c, Z) -> K^-1 U Z`` of a positive definite K."""
    d, U, c, Z = pt.vector("d"), pt.matrix("U"), pt.vector("c"), pt.matrix("Z")
    *factor, _, _ = LowRankFactor(symmetric=True, positive_definite=True)(d, U, c, return_list=True)
    mode = plain_mode() if linker == "py" else "NUMBA"
    return pytensor.function([d, U, c, Z], LowRankSolveInRange()(d, U, c, *factor, Z), mode=mode)


def exact(array):
    return np.vectorize(mpmath.mpf, otypes=[object])(np.asarray(array, dtype=float))


def exact_lu(A):
    A, n, logabsdet, sign = A.copy(), len(A), mpmath.mpf(0), 1
    order = np.arange(n)
    for j in range(n):
        pivot = j + int(np.argmax([abs(x) for x in A[j:, j]]))
        if pivot != j:
            A[[j, pivot]], order[[j, pivot]], sign = A[[pivot, j]], order[[pivot, j]], -sign
        logabsdet += mpmath.log(abs(A[j, j]))
        sign = sign if A[j, j] > 0 else -sign
        for i in range(j + 1, n):
            A[i, j] /= A[j, j]
            A[i, j + 1 :] -= A[i, j] * A[j, j + 1 :]
    return A, order, sign, logabsdet


def exact_solve(lu, B):
    A, order, *_ = lu
    B, n = B[order].copy(), len(A)
    for i in range(1, n):
        B[i] -= A[i, :i] @ B[:i]
    for i in range(n - 1, -1, -1):
        if i < n - 1:
            B[i] -= A[i, i + 1 :] @ B[i + 1 :]
        B[i] /= A[i, i]
    return B


def low_rank_reference(d, U, V, B):
    """Solution, inverse diagonal, sign and log-determinant of ``diag(d) + U V'`` to 100 digits; a zero d
    is 1e-70."""
    with mpmath.workdps(100):
        d = np.array([x if x != 0 else mpmath.mpf(10) ** -70 for x in exact(d)], dtype=object)
        U, V, B, w = exact(U), exact(V), exact(B), 1 / d
        capacitance = V.T @ (w[:, None] * U)
        for a in range(len(capacitance)):
            capacitance[a, a] += 1
        lu = exact_lu(capacitance)
        solution = w[:, None] * (B - U @ exact_solve(lu, V.T @ (w[:, None] * B)))
        right = exact_solve(lu, V.T.copy())
        diagonal = w - w * w * np.array([U[i] @ right[:, i] for i in range(len(d))], dtype=object)
        logabsdet = lu[3] + sum(mpmath.log(abs(x)) for x in d)
        return solution, diagonal, lu[2] * int(np.prod([1 if x > 0 else -1 for x in d])), logabsdet


def relative_error(found, reference):
    with mpmath.workdps(100):
        error = exact(found) - reference
        norm = sum(x * x for x in reference.ravel())
        return (
            float(mpmath.sqrt(sum(x * x for x in error.ravel()) / norm))
            if norm
            else float(np.abs(found).max())
        )


@pytest.fixture(scope="session")
def low_rank():
    """The tools above, under one name."""
    return SimpleNamespace(
        function=low_rank_function,
        in_range=in_range_function,
        reference=low_rank_reference,
        relative_error=relative_error,
        eps=EPS,
    )


@pytest.fixture(scope="session")
def plain():
    return plain_mode()
