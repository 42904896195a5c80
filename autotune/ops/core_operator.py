"""Symmetric matrices given in parts: ``A = S + diag(d) + U diag(c) U'``, of which products are cheap.

S (n, n) is dense and read as symmetric, d (n,), U (n, k), c (k,); a part that is not there is empty. What
iterates needs products, the diagonal and single rows; nothing n x n is made unless `to_dense` is called.
Blocks of vectors are rows ``(m, n)``.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import get_blas_funcs

from autotune.ops import kernels

# Up to as many vectors at once, products that read half the matrix are faster than one matrix product.
SYMV_VECTORS = 4


def fortran(M):
    """``(F, lower)``: the memory of ``M`` in Fortran order, and where the lower triangle of M lies in it.

    LAPACK then reads a matrix in C order without a transposing copy: as its transpose.
    """
    return (M, 1) if M.flags.f_contiguous else (M.T, 0)


def contiguous(A):
    """``A``, or a copy of it in C order where it has neither order."""
    return A if A.flags.c_contiguous or A.flags.f_contiguous else np.ascontiguousarray(A)


def product(A, V):
    """``A v`` for every row v of ``V`` (m, n), A symmetric and in C or Fortran order. 2 n^2 m flops."""
    if not 0 < len(V) <= SYMV_VECTORS or not A.size:
        return kernels.matmul(V, A)
    symv = get_blas_funcs("symv", (A, V))
    F, lower = fortran(A)  # the lower triangle is what a Cholesky factorisation reads, too
    Q = np.empty(V.shape, np.result_type(A, V))
    for q, v in zip(Q, V, strict=True):
        q[:] = symv(1.0, F, v, lower=lower)
    return Q


@dataclass(frozen=True)
class SymmetricOperator:
    """The parts of a matrix of order n, all of one dtype. ValueError where they do not fit together."""

    dense: np.ndarray
    d: np.ndarray
    U: np.ndarray
    c: np.ndarray

    def __post_init__(self):
        rows, columns = self.dense.shape
        lengths = {rows, self.d.size, self.U.shape[0]} - {0}
        if rows != columns:
            raise ValueError(f"A matrix of shape {self.dense.shape} was given. It must be square.")
        if len(lengths) > 1 or self.c.size != self.U.shape[1]:
            raise ValueError("The dense, the diagonal and the low-rank part of a matrix do not fit together.")

    @cached_property
    def order(self):
        return max(self.dense.shape[0], self.d.size, self.U.shape[0])

    @property
    def dtype(self):
        return self.dense.dtype

    @property
    def thin(self):
        """Whether it is a diagonal and fewer columns than rows: then a direct way is thin, too."""
        return not self.dense.size and self.d.size > self.c.size

    def product(self, V):
        """``A v`` for every row of ``V``: 2 n^2 m flops for the dense part, 4 n k m for the columns."""
        if self.dense.size or not self.order:
            Q = product(self.dense, V)
            if self.d.size:
                Q += self.d * V
        else:
            Q = self.d * V if self.d.size else np.zeros_like(V)
        if self.c.size:
            Q += kernels.matmul(kernels.matmul(V, self.U) * self.c, self.U.T)
        return Q

    def diagonal(self):
        """The diagonal, in double precision. O(n k)."""
        diagonal = np.zeros(self.order)
        for part in (np.diagonal(self.dense), self.d, kernels.row_dots(self.U, self.c, self.U)):
            if part.size:
                diagonal += part
        return diagonal

    def rows(self, indices):
        """Rows ``(len(indices), n)``, in double precision. O(n k) each."""
        indices = np.asarray(indices, dtype=np.int64)
        rows = np.zeros((indices.size, self.order))
        if self.dense.size:
            rows += self.dense[indices]
        if self.d.size:
            rows[np.arange(indices.size), indices] += self.d[indices]
        if self.c.size:
            rows += kernels.matmul(self.U[indices] * self.c, self.U.T)
        return rows

    def is_finite(self):
        return all(np.isfinite(part).all() for part in (self.dense, self.d, self.U, self.c))

    def to_dense(self):
        """The matrix itself; where it is nothing else, the dense part and not a copy."""
        if not (self.d.size or self.c.size):
            return self.dense
        if self.c.size:
            A = kernels.matmul(self.U * self.c, self.U.T)
        else:
            A = np.zeros((self.order, self.order), self.dtype)
        if self.dense.size:
            A += self.dense
        if self.d.size:
            A[np.diag_indices(self.order)] += self.d
        return A


def as_operator(A, d=None, U=None, c=None):
    """A `SymmetricOperator` of an array and further parts; one that is given stays itself."""
    if isinstance(A, SymmetricOperator):
        return A
    d = np.zeros(0, A.dtype) if d is None else d
    U = np.zeros((0, 0), A.dtype) if U is None else U
    c = np.ones(U.shape[1], A.dtype) if c is None else c
    return SymmetricOperator(contiguous(A), d, contiguous(U), c)
