"""Symmetric matrices given in parts: ``A = S + diag(d) + U diag(c) U'``, of which products are cheap.

S (n, n) is dense and read as symmetric, d (n,), U (n, k), c (k,); a part that is not there is empty. What
iterates needs products, the diagonal and single rows; nothing n x n is made unless `to_dense` is called.
Blocks of vectors are rows ``(m, n)``.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from autotune.ops import kernels

# Up to as many vectors at once, products one by one are faster than one of all.
SYMV_VECTORS = 4


def signs(count, n, seed, dtype):
    """The first ``count`` vectors of a sequence that ``seed`` fixes, with entries 1 and -1."""
    bits = np.random.default_rng(seed).integers(0, 2, size=(count, n), dtype=np.int8)
    return (2 * bits - 1).astype(dtype)


def contiguous(A):
    """``A``, or a copy of it in C order where it has neither order."""
    return A if A.flags.c_contiguous or A.flags.f_contiguous else np.ascontiguousarray(A)


def parts_of(A, d, U, c):
    """``(M, transposed, d, U, c)``, what `product_into` takes: A as `kernels.either_order` gives it.

    ValueError where the parts do not fit together; see `SymmetricOperator`.
    """
    if A.shape[0] != A.shape[1]:
        raise ValueError("A matrix that is not square was given. It must be square.")
    n = order(A, d, U)
    for length in (A.shape[0], d.size, U.shape[0]):
        if length not in (0, n):
            raise ValueError("The dense, the diagonal and the low-rank part of a matrix do not fit together.")
    if c.size != U.shape[1]:
        raise ValueError("The dense, the diagonal and the low-rank part of a matrix do not fit together.")
    M, transposed = kernels.either_order(A)
    return M, transposed, kernels.c_layout(d), kernels.c_layout(U), kernels.c_layout(c)


def order(A, d, U):
    """n of a matrix (n, n) with these parts."""
    return max(A.shape[0], d.size, U.shape[0])


def product_into(matrix, V, out, certain):
    """In place: row i of ``out`` becomes ``A v_i``, for the parts of A that `parts_of` gives.

    2 n^2 m flops for the dense part and 4 n k m for the columns. If ``certain``, only the lower triangle of
    the dense part is read, as by a Cholesky factorisation; else the product is fast where both agree.
    """
    M, transposed, d, U, c = matrix
    if not M.size:
        out[:, :] = 0
    elif len(V) <= SYMV_VECTORS:
        for i in range(len(V)):
            kernels.symv(M, transposed, V[i], out[i])
    elif certain:
        kernels.symm(M, transposed, V, out)
    else:
        kernels.rows_times(V, M, out)
    if d.size:
        for i in range(len(V)):
            kernels.multiply_add(d, V[i], out[i])
    if c.size:
        inner = kernels.matmul(V, U)
        for i in range(len(V)):
            kernels.multiply(c, inner[i])
        outer = kernels.matmul(inner, U.T)
        for i in range(len(V)):
            kernels.axpby(1.0, outer[i], 1.0, out[i])


@dataclass(frozen=True)
class SymmetricOperator:
    """The parts of a matrix of order n, all of one dtype. ValueError where they do not fit together."""

    dense: np.ndarray
    d: np.ndarray
    U: np.ndarray
    c: np.ndarray

    def __post_init__(self):
        parts_of(self.dense, self.d, self.U, self.c)

    @cached_property
    def order(self):
        return order(self.dense, self.d, self.U)

    @property
    def dtype(self):
        return self.dense.dtype

    @property
    def thin(self):
        """Whether it is a diagonal and fewer columns than rows: then a direct way is thin, too."""
        return not self.dense.size and self.d.size > self.c.size

    @cached_property
    def parts(self):
        return parts_of(self.dense, self.d, self.U, self.c)

    def product(self, V):
        """``A v`` for every row of ``V``, with the A whose lower triangle is given; see `product_into`."""
        V = np.ascontiguousarray(V)
        out = np.empty_like(V)
        if V.size:
            product_into(self.parts, V, out, not self.is_symmetric)
        return out

    @cached_property
    def is_symmetric(self):
        """Whether both triangles of the dense part agree in a product with random signs: all of it may be
        read."""
        if not self.dense.size:
            return True
        v, M = signs(1, self.order, 0, self.dtype), self.parts[0]
        half, whole = np.empty_like(v), np.empty_like(v)
        kernels.symv(M, self.parts[1], v[0], half[0])
        kernels.rows_times(v, M, whole)
        return bool(np.abs(half - whole).max() <= np.sqrt(np.finfo(self.dtype).eps) * np.abs(half).max())

    def diagonal(self):
        """The diagonal, in double precision. O(n k)."""
        diagonal = np.zeros(self.order)
        for part in (np.diagonal(self.dense), self.d):
            if part.size:
                diagonal += part
        if self.c.size:
            diagonal += kernels.row_dots(self.U, self.c, self.U)
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


def product(A, V):
    """``A v`` for every row v of ``V`` (m, n), A a symmetric array or a `SymmetricOperator`."""
    return as_operator(A).product(V)


def as_operator(A, d=None, U=None, c=None):
    """A `SymmetricOperator` of an array and further parts; one that is given stays itself."""
    if isinstance(A, SymmetricOperator):
        return A
    d = np.zeros(0, A.dtype) if d is None else d
    U = np.zeros((0, 0), A.dtype) if U is None else U
    c = np.ones(U.shape[1], A.dtype) if c is None else c
    return SymmetricOperator(contiguous(A), d, contiguous(U), c)
