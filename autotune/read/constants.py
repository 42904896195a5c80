"""What constants are made of, found from their values when a function is compiled, and which are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from autotune.algebra.diagonal import Diagonal
from autotune.algebra.low_rank import LowRank
from autotune.read.views import strip_view

# Operations a second that looking for a factor is taken to do: few, for no compile is to wait for it.
FLOPS = 1e8
# Whole numbers up to here are exact in double precision.
EXACT = 2**53
# What is left of a matrix that was multiplied out, in units of rounding and of its largest entry: measured,
# less than 7 up to rank 60 and order 2000. As much is left of one whose eigenvalues fall below rounding.
ROUNDING = 16


def _transposed(var) -> Any:
    """``var.mT``, of a constant another constant."""
    return (
        pt.constant(np.ascontiguousarray(np.swapaxes(var.data, -2, -1)))
        if isinstance(var, Constant)
        else var.mT
    )


def _are_equal(a, b) -> bool:
    """Whether two matrices are one, or equal constants."""
    if a is b:
        return True
    constants = isinstance(a, Constant) and isinstance(b, Constant)
    return constants and a.data.shape == b.data.shape and np.array_equal(a.data, b.data)


def factors_of(U, Vt):
    """``(U, V)`` of ``U V'``: one variable where they are the same."""
    (u, flipped), (v, turned) = strip_view(U), strip_view(Vt)
    if u.type.ndim != v.type.ndim:
        return U, Vt.mT
    if u is v and flipped != turned:
        U = _transposed(u) if flipped else u
        return U, U
    U, V = _transposed(u) if flipped else u, v if turned else _transposed(v)
    return U, U if _are_equal(U, V) else V


def cast_constants(term: LowRank, dtype: str) -> LowRank:
    """A low-rank term of constants in the dtype of the sum that it is part of; others as they are."""
    U, V = term.U, term.V
    if not isinstance(U, Constant) or not isinstance(V, Constant) or np.dtype(dtype).kind != "f":
        return term
    if U.type.dtype == V.type.dtype == dtype:
        return term
    cast = pt.constant(U.data.astype(dtype))
    c = None if term.c is None else term.c.astype(dtype)
    return LowRank(cast, c, cast if term.symmetric else pt.constant(V.data.astype(dtype)), term.tied)


def as_exact(term: LowRank, dtype: np.dtype) -> LowRank | None:
    """A product of whole numbers in double precision; None where it may not be exact, or wraps around."""
    U, V = term.U, term.V
    if not isinstance(U, Constant) or not isinstance(V, Constant) or term.c is not None:
        return None
    if term.symmetric and U.data.dtype.kind == "f" and is_one_hot(U.data):
        return term
    if U.data.dtype.kind not in "biu" or V.data.dtype.kind not in "biu":
        return None
    u, v = np.abs(U.data.astype(float)), np.abs(V.data.astype(float))
    most = u.sum(axis=1).max(initial=0) * v.max(initial=0)
    limit = 1 if dtype.kind == "b" else min(EXACT, np.iinfo(dtype).max)
    return cast_constants(term, "float64") if most <= limit else None


def is_one_hot(matrix: np.ndarray) -> bool:
    """Whether each row holds at most one entry other than 0, which is 1."""
    return bool(((matrix == 0) | (matrix == 1)).all() and (matrix.sum(axis=1) <= 1).all())


def symmetric_term(term: LowRank) -> LowRank:
    """``U diag(c) V'`` of two constants as ``W diag(c') W'``, where it is symmetric."""
    U, V, c = term.U, term.V, term.c
    if term.symmetric or not isinstance(U, Constant) or not isinstance(V, Constant) or U.type.ndim != 2:
        return term
    u, v = (np.asarray(one.data, dtype=float) for one in (U, V))
    if u.shape != v.shape or u.size == 0 or not (np.isfinite(u).all() and np.isfinite(v).all()):
        return term
    ratio = _column_ratios(u, v)
    if ratio is not None:
        W = pt.constant(v)
        weights = pt.constant(ratio)
        return cast_constants(LowRank(W, weights if c is None else c * weights, W), _dtype_of(term))
    if c is not None and not isinstance(c, Constant):
        return term
    found = _symmetric_factor(u if c is None else u * c.data, v)
    if found is None:
        return term
    W, weights = map(pt.constant, found)
    return cast_constants(LowRank(W, weights, W), _dtype_of(term))


def _dtype_of(term: LowRank) -> str:
    return "float32" if term.U.type.dtype == term.V.type.dtype == "float32" else "float64"


def _column_ratios(u: np.ndarray, v: np.ndarray) -> np.ndarray | None:
    """``r`` with ``u = v diag(r)`` up to rounding; None if there is none."""
    at = np.abs(v).argmax(axis=0), np.arange(v.shape[1])
    with np.errstate(all="ignore"):
        ratio = np.where(v[at] == 0, 0.0, u[at] / v[at])
    close = np.abs(u - v * ratio) <= 2 * np.finfo(float).eps * np.abs(u)
    return ratio if close.all() else None


def _symmetric_factor(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """``(W, c)`` with ``u v' = W diag(c) W'``: in a basis of the range of both the product is small."""
    n, k = v.shape
    if k > n:
        return None
    basis, R = np.linalg.qr(v)
    inside = basis.T @ u
    rounding = 16 * k * np.finfo(float).eps
    small = inside @ R.T
    size = np.abs(small).max()
    outside = np.abs(u - basis @ inside).max()
    if outside > rounding * np.abs(u).max() or np.abs(small - small.T).max() > rounding * size:
        return None
    c, E = np.linalg.eigh((small + small.T) / 2)
    kept = np.abs(c) > rounding * size
    return basis @ E[:, kept], c[kept]


def constant_terms(var, seconds: float) -> list[Any] | None:
    """A constant that is diagonal, as folding of ``s * eye(n)`` leaves it, or of low rank by its values.

    ``seconds``: what finding that out may take.
    """
    data = var.data.reshape(var.data.shape[-2:]) if all(var.type.broadcastable[:-2]) else var.data
    if data.shape[-2] != data.shape[-1]:
        return None
    d = np.diagonal(data, axis1=-2, axis2=-1)
    if np.count_nonzero(data) == np.count_nonzero(d):
        return [Diagonal(pt.constant(np.ascontiguousarray(d)))]
    found = _low_rank_of(var, seconds) if var.type.ndim == data.ndim else None
    return None if found is None else [found]


def _low_rank_of(var, seconds: float) -> LowRank | None:
    """A constant, or batch of them, that is positive semidefinite and of low rank, up to rounding; else None.

    By Cholesky with diagonal pivoting (Higham 1990), checked on all entries; n k^2 operations for rank k, as
    many as can be done in so many ``seconds``.
    """
    known = getattr(var.tag, "autotune_factor", None)
    if known is None or known[0] != seconds:
        known = (seconds, _factor_of_each(np.asarray(var.data), seconds))
        var.tag.autotune_factor = known
    if known[1] is None:
        return None
    W = pt.constant(known[1])
    return LowRank(W, None, W)


def _factor_of_each(matrices: np.ndarray, seconds: float) -> np.ndarray | None:
    """Of a batch with as many columns as the one of the largest rank has."""
    if matrices.ndim == 2:
        return _pivoted_factor(matrices, seconds)
    batch = matrices.reshape(-1, *matrices.shape[-2:])
    factors = []
    for matrix in batch:
        factor = _pivoted_factor(matrix, seconds / len(batch))
        if factor is None:
            return None
        factors.append(factor)
    most = max((factor.shape[1] for factor in factors), default=0)
    padded = [np.pad(factor, ((0, 0), (0, most - factor.shape[1]))) for factor in factors]
    return np.stack(padded).reshape(*matrices.shape[:-1], most) if padded else None


def _pivoted_factor(matrix: np.ndarray, seconds: float) -> np.ndarray | None:
    n = matrix.shape[0]
    A = matrix.astype(float)
    most = int(min(n // 2, (seconds * FLOPS / max(n, 1)) ** 0.5))
    left = np.diagonal(A).copy()
    largest = left.max(initial=0)
    if most < 1 or not largest > 0 or not np.isfinite(A).all():
        return None
    if left.sum() ** 2 > most * np.sum(A * A):
        return None  # (sum of eigenvalues)^2 <= rank * (sum of their squares)
    precision = matrix.dtype if matrix.dtype.kind == "f" else np.dtype(float)
    tolerance = ROUNDING * np.finfo(precision).eps * largest
    rows = np.empty((most, n))
    rank = 0
    while left.max() > tolerance:
        if rank == most:
            return None
        pivot = left.argmax()
        rows[rank] = (A[pivot] - rows[:rank, pivot] @ rows[:rank]) / np.sqrt(left[pivot])
        left -= rows[rank] ** 2
        rank += 1
    W = np.ascontiguousarray(rows[:rank].T)
    close = all(np.abs(A[i : i + 256] - W[i : i + 256] @ W.T).max() <= tolerance for i in range(0, n, 256))
    return W.astype(precision) if close else None
