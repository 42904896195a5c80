"""Spectra of constant matrices, found once when a function is compiled and kept for the next one.

Eigenvalues are corrected: those of LAPACK are wrong by a few eps of the largest one, which in ``s A + t I``
with a small t would be all that is left of the smallest. A Rayleigh quotient is wrong by the square of the
error of its vector (Parlett 1998, "The symmetric eigenvalue problem", 4.6), if the residual is computed in
more precision: here by products of slices of the matrices, which are exact (Ozaki, Ogita, Oishi & Rump 2012,
"Error-free transformations of matrix multiplication").
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from math import ceil, log2
from typing import Any

import numpy as np
import pytensor.tensor as pt
from scipy.linalg import cholesky, eigh, eigvalsh, svd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

# Operations a second, and those that a spectrum takes in units of n^3: LAPACK's, and six products.
FLOPS, WORK = 2e10, 9 + 12
# The condition number of the constant that another is measured by, at most: solutions lose its digits.
MOST_CONDITION = 100
# Slices whose products with one another are exact, and so many of them that nothing is left.
SLICES = 3
# Spectra that are kept.
MOST_KEPT = 8
# How unsymmetric rounding leaves a matrix that is symmetric, in eps of its largest entry.
ROUNDING = 4

_kept: OrderedDict[Any, tuple[np.ndarray, np.ndarray]] = OrderedDict()


def symmetric_values(matrix: np.ndarray) -> np.ndarray | None:
    """``matrix`` in double precision where it is finite and symmetric up to rounding; else None."""
    if matrix.dtype.kind not in "fiub":
        return None
    A = matrix.astype(float)
    if not np.isfinite(A).all():
        return None
    precision = matrix.dtype if matrix.dtype.kind == "f" else np.dtype(float)
    if np.abs(A - A.T).max(initial=0) > ROUNDING * np.finfo(precision).eps * np.abs(A).max(initial=0):
        return None
    return (A + A.T) / 2


def rows_of_symmetric(A: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """``(r, S)`` with ``A = diag(r) S``, r positive, S symmetric up to rounding; None if there are none."""
    if A.dtype.kind not in "fiub" or not np.isfinite(A).all():
        return None
    values, r = A.astype(float), np.ones(len(A))
    pattern = csr_array(values != 0)
    count, component = connected_components(pattern, directed=False)
    for first in np.unique(component, return_index=True)[1] if count < len(A) else ():
        order, above = breadth_first_order(pattern, first, directed=False)
        for i in order[1:]:
            there, back = values[above[i], i], values[i, above[i]]
            if there == 0 or back / there <= 0:
                return None
            r[i] = r[above[i]] * (back / there)
    S = symmetric_values((values / r[:, None]).astype(A.dtype if A.dtype.kind == "f" else float))
    return None if S is None else (r, S)


def is_within(n: int, seconds: float) -> bool:
    """Whether the spectrum of a matrix of order n is found in so much time."""
    return WORK * n**3 <= FLOPS * seconds


def spectrum(A: np.ndarray, D: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (n,), each right to its last digits, and orthonormal eigenvectors (n, n) of symmetric A.

    Of ``A v = e D v`` with a positive definite D: eigenvectors with ``V' D V = I``.
    """
    key = sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in (A, D) if x is not None)).digest()
    if key not in _kept:
        values, Q = eigh(A, D, driver="evd" if D is None else "gvd", check_finite=False)
        DQ = Q.astype(np.longdouble) if D is None else _product(D, Q)
        residual = (_product(A, Q) - DQ * values.astype(np.longdouble)).astype(float)
        corrected = values + (Q * residual).sum(axis=0) / (Q * DQ.astype(float)).sum(axis=0)
        _kept[key] = corrected, np.ascontiguousarray(Q)
        while len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def _product(A: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """``A Q`` in the precision of ``longdouble``."""
    left, right = _slices(A, axis=1), _slices(Q, axis=0)
    total = np.zeros(A.shape, np.longdouble)
    for i in range(SLICES):
        for j in range(SLICES - i):
            total += left[i] @ right[j]
    return total


def _slices(M: np.ndarray, *, axis: int) -> list[np.ndarray]:
    """``M`` as a sum; products of the terms along ``axis`` are exact, but for those of the last one."""
    n = M.shape[axis]
    bits = ceil((53 + log2(max(n, 1))) / 2)
    found = []
    for _ in range(SLICES - 1):
        largest = np.abs(M).max(axis=axis, keepdims=True, initial=0)
        scale = np.where(largest > 0, 2.0 ** (np.ceil(np.log2(np.where(largest > 0, largest, 1))) + bits), 0)
        found.append((M + scale) - scale)
        M = M - found[-1]
    return [*found, M]


def orthonormal_columns(U: np.ndarray, rotated: bool, seconds: float) -> tuple[np.ndarray, np.ndarray] | None:
    """``(Q, squares)`` with ``U diag(c) U' = Q diag(squares c) Q'`` and orthonormal Q; None if there is none.

    For any c where the columns of U are orthogonal, else for equal c, if they may be ``rotated``.
    """
    n, k = U.shape
    if not 0 < k <= n or WORK * n * k**2 > FLOPS * seconds or not np.isfinite(U).all():
        return None
    values = U.astype(float)
    squares = (values**2).sum(axis=0)
    if (squares > 0).all():
        gram = values.T @ values
        if np.count_nonzero(gram) == k:
            return values / np.sqrt(squares), squares
    if not rotated:
        return None
    Q, lengths, _ = svd(values, full_matrices=False, check_finite=False)
    kept = lengths > n * np.finfo(float).eps * lengths.max(initial=0)
    return np.ascontiguousarray(Q[:, kept]), lengths[kept] ** 2


def pivots_of(D: np.ndarray) -> tuple[float, np.ndarray] | None:
    """The condition number of D, and its Cholesky factor's diagonal squared; None where D may cost digits.

    Both scaled to a unit diagonal, which costs none (Higham 2002, "Accuracy and stability of numerical
    algorithms", 10.1).
    """
    d = np.diagonal(D)
    if not (d > 0).all():
        return None
    root = np.sqrt(d)
    scaled = D / np.outer(root, root)
    values = eigvalsh(scaled, check_finite=False)
    if values[0] * MOST_CONDITION < values[-1]:
        return None
    factor = cholesky(scaled, lower=True, check_finite=False)
    return values[-1] / values[0], (root * np.diagonal(factor)) ** 2


def constants_of_two(A: np.ndarray, D: np.ndarray, pivots: np.ndarray, dtype: str) -> dict[str, Any]:
    """The constant parts of a pencil (A, D) with a positive definite D that has these pivots."""
    values, P = spectrum(A, D)
    arrays = {"A": A, "spectrum": values, "M": _product(D, P), "d": pivots, "P": P, "D": D}
    return {name: pt.constant(np.asarray(array, dtype=dtype)) for name, array in arrays.items()}


def constants_of(A: np.ndarray, d: np.ndarray | None, dtype: str) -> dict[str, Any]:
    """The constant parts of a pencil ``(A, diag(d))``, d positive or None for the identity."""
    root = None if d is None else np.sqrt(d)
    values, Q = spectrum(A if root is None else A / np.outer(root, root))
    arrays = {"A": A, "spectrum": values, "M": Q}
    if d is not None and root is not None:
        arrays |= {"M": root[:, None] * Q, "d": d, "P": Q / root[:, None]}
    return {name: pt.constant(np.asarray(array, dtype=dtype)) for name, array in arrays.items()}
