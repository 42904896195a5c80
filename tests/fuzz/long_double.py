"""Linear algebra in long double, by elimination with partial pivoting (Golub & Van Loan 1996)."""

import numpy as np

LD = np.longdouble


def lu(A):
    """Packed LU, the permutation of the rows and its sign."""
    A = np.array(A, dtype=LD)
    n = A.shape[0]
    rows, sign = np.arange(n), 1
    for j in range(n):
        p = j + int(np.argmax(np.abs(A[j:, j])))
        if p != j:
            A[[j, p]], rows[[j, p]], sign = A[[p, j]], rows[[p, j]], -sign
        if A[j, j] != 0:
            A[j + 1 :, j] /= A[j, j]
            A[j + 1 :, j + 1 :] -= np.outer(A[j + 1 :, j], A[j, j + 1 :])
    return A, rows, sign


def solve(A, b):
    """``A^-1 b``; NaN where ``A`` is not finite."""
    if not np.isfinite(A).all():
        return np.full(np.shape(b), np.nan, dtype=LD)
    factors, rows, _ = lu(A)
    return triangular(factors, triangular(factors, b[rows], True, True), False, False)


def triangular(A, b, lower, unit):
    """Substitution, forwards or backwards."""
    X = np.array(b, dtype=LD)
    n = A.shape[0]
    for i in range(n) if lower else range(n - 1, -1, -1):
        X[i] -= A[i, :i] @ X[:i] if lower else A[i, i + 1 :] @ X[i + 1 :]
        if not unit:
            X[i] /= A[i, i]
    return X


def det(A):
    factors, _, sign = lu(A)
    return sign * np.prod(np.diag(factors))


def slogdet(A):
    factors, _, sign = lu(A)
    d = np.diag(factors)
    return [LD(sign) * np.prod(np.sign(d)), np.log(np.abs(d)).sum()]


def cholesky(A, lower=True):
    """The factor, NaN where the matrix is not positive definite."""
    A = np.array(A if lower else A.T, dtype=LD)
    L = np.zeros_like(A)
    for j in range(A.shape[0]):
        v = A[j, j] - L[j, :j] @ L[j, :j]
        if not v > 0:
            return np.full_like(A, np.nan)
        L[j, j] = np.sqrt(v)
        L[j + 1 :, j] = (A[j + 1 :, j] - L[j + 1 :, :j] @ L[j, :j]) / L[j, j]
    return L if lower else L.T


def symmetric(A, lower):
    """The symmetric matrix of which one triangle is given."""
    half = np.tril(A) if lower else np.triu(A)
    return half + half.T - np.diag(np.diag(half))


def _solve(op, A, b):
    if op.assume_a in ("pos", "sym", "her", "positive definite", "symmetric", "hermitian"):
        A = symmetric(A, op.lower)
        if op.assume_a.startswith("pos") and np.isnan(cholesky(A)).any():
            return [np.full(np.shape(b), np.nan, dtype=LD)]  # PyTensor's own NaN have the shape of A
    elif op.assume_a == "diagonal":
        A = np.diag(np.diag(A))
    elif op.assume_a == "lower triangular":
        A = np.tril(A)
    elif op.assume_a == "upper triangular":
        A = np.triu(A)
    return [solve(A, b)]


def _cho_solve(op, L, b):
    L = np.tril(L) if op.lower else np.triu(L).T
    return [triangular(L.T, triangular(L, b, True, False), False, False)]


def _pinv(op, A):
    square = A.shape[0] == A.shape[1] and np.linalg.cond(A.astype(float)) < 1e12
    return [solve(A, np.eye(A.shape[0], dtype=LD))] if square else None


def _block_diagonal(op, *blocks):
    out = np.zeros(np.sum([b.shape for b in blocks], axis=0), dtype=LD)
    row = column = 0
    for b in blocks:
        out[row : row + b.shape[0], column : column + b.shape[1]] = b
        row, column = row + b.shape[0], column + b.shape[1]
    return [out]


def _lu_factor(op, A):
    """Packed LU and LAPACK's row interchanges."""
    factors, rows, _ = lu(A)
    pivots, where = [], list(range(len(rows)))
    for j, row in enumerate(rows):
        i = where.index(row)
        pivots.append(i)
        where[j], where[i] = where[i], where[j]
    return [factors, np.array(pivots, dtype=np.int32)]


CORES = {
    "Solve": _solve,
    "MatrixInverse": lambda op, A: [solve(A, np.eye(A.shape[0], dtype=LD))],
    "Det": lambda op, A: [det(A)],
    "SLogDet": lambda op, A: slogdet(A),
    "Cholesky": lambda op, A: [cholesky(A, op.lower)],
    "SolveTriangular": lambda op, A, b: [triangular(A, b, op.lower, op.unit_diagonal)],
    "CholeskySolve": _cho_solve,
    "Dot": lambda op, a, b: [a @ b],
    "MatrixPinv": _pinv,
    "BlockDiagonal": _block_diagonal,
    "LUFactor": _lu_factor,
}


def core(op, args):
    """The results of an Op of linear algebra on single matrices, None if it is not known here."""
    real = all(np.asarray(a).dtype.kind != "c" for a in args)
    return CORES[type(op).__name__](op, *args) if real and type(op).__name__ in CORES else None


def blockwise(op, args):
    """The same over a batch."""
    cores = [len(signature) for signature in op.inputs_sig]
    lead = np.broadcast_shapes(*(a.shape[: a.ndim - k] for a, k in zip(args, cores, strict=True)))
    stacks = [
        np.broadcast_to(a, lead + a.shape[a.ndim - k :]).reshape(-1, *a.shape[a.ndim - k :])
        for a, k in zip(args, cores, strict=True)
        if a.size
    ]
    if len(stacks) < len(args):
        return None
    results = [core(op.core_op, single) for single in zip(*stacks, strict=True)]
    if not results or any(r is None for r in results):
        return None
    return [np.stack(r).reshape(lead + np.shape(r[0])) for r in zip(*results, strict=True)]
