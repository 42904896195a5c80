"""Kronecker products and block-diagonal matrices, and what is asked of them, for the tests of parts."""

import numpy as np
import pytensor.tensor as pt
from helpers import compile_plain, relative_error, spd
from pytensor.assumptions import assume
from pytensor.tensor.linalg import (
    block_diag,
    cho_solve,
    cholesky,
    det,
    inv,
    kron,
    slogdet,
    solve,
    solve_triangular,
)

import autotune

COMPOSITES = ("kronecker", "block_diagonal")
OTHERS = [s.name for s in autotune.strategies.STRATEGIES if s.name not in COMPOSITES]
BY_PARTS = {"rules": [{"match": {"structure": list(COMPOSITES)}, "forbid": OTHERS}]}

A, B, C = pt.matrix("A", shape=(4, 4)), pt.matrix("B", shape=(3, 3)), pt.matrix("C", shape=(2, 2))
U, d = pt.matrix("U", shape=(5, 1)), pt.vector("d", shape=(5,))
s = pt.scalar("s")
INPUTS = [A, B, C, U, d, s]
thin = pt.diag(d) + U @ U.T
MATRICES = {
    "kron": lambda A, B, C: kron(A, B),
    "kron of three": lambda A, B, C: kron(kron(A, C), B),
    "kron of thin": lambda A, B, C: kron(thin, B),
    "kron with thin": lambda A, B, C: kron(B, thin),
    "identity first": lambda A, B, C: kron(pt.eye(3), A),
    "identity last": lambda A, B, C: kron(A, pt.eye(3)),
    "diagonal first": lambda A, B, C: kron(pt.diag(d), B),
    "scaled": lambda A, B, C: s * kron(A, B),
    "divided": lambda A, B, C: kron(A, B) / s,
    "factor scaled": lambda A, B, C: kron(s * A, B / 2),
    "transposed": lambda A, B, C: kron(A, B).T,
    "factor transposed": lambda A, B, C: kron(A.T, B),
    "of one number": lambda A, B, C: kron(pt.exp(s)[None, None], A),
    "blocks": lambda A, B, C: block_diag(A, B),
    "three blocks": lambda A, B, C: block_diag(A, C, B),
    "one block": lambda A, B, C: block_diag(A),
    "blocks of blocks": lambda A, B, C: block_diag(block_diag(A, C), B),
    "block of kron": lambda A, B, C: block_diag(kron(A, C), B),
    "block of thin": lambda A, B, C: block_diag(thin, C, A),
    "block of a diagonal": lambda A, B, C: block_diag(pt.diag(d), A),
    "block of one number": lambda A, B, C: block_diag(s[None, None], A, B),
    "the same block": lambda A, B, C: block_diag(A, B, A),
    "kron of blocks": lambda A, B, C: kron(C, block_diag(A, B)),
    "blocks scaled": lambda A, B, C: -2 * block_diag(-A, -s * B),
    "blocks transposed": lambda A, B, C: s * block_diag(A.T, B).T,
}
# Made symmetric, so that there is one gradient: of a matrix that is only said to be, any part of it counts.
FACTS = {
    "none": lambda X: X,
    "symmetric": lambda X: (X + X.T) / 2,
    "definite": lambda X: assume((X + X.T) / 2, positive_definite=True),
}


def made(form, facts="none"):
    return MATRICES[form](*(FACTS[facts](X) for X in (A, B, C)))


def order_of(matrix):
    return matrix.type.shape[0] or compile_plain(INPUTS, matrix.shape[0])(*values())


def values(seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    matrices = [spd(n, rng) for n in (4, 3, 2)]
    rest = [rng.normal(size=(5, 1)), rng.uniform(0.5, 2, 5), np.array(1.3)]
    return [np.asarray(value, dtype) for value in (*matrices, *rest)]


def requests(K, n):
    """Everything that may be asked of a matrix, which is positive definite."""
    rng = np.random.default_rng(1)
    y, Y, stack = (pt.constant(rng.normal(size=shape).astype(K.dtype)) for shape in ((n,), (n, 3), (2, n, 2)))
    return {
        "solve": solve(K, y),
        "solve matrix": solve(K, Y),
        "solve stack": solve(K, stack),
        "solve stacked vectors": solve(K, stack.mT, b_ndim=1),
        "solve transposed": solve(K.T, Y),
        "solve sym": solve(K, y, assume_a="sym"),
        "inverse times": inv(K) @ Y,
        "times inverse": Y.T @ inv(K),
        "quadratic form": y @ inv(K) @ y,
        "sign": slogdet(K)[0],
        "logdet": slogdet(K)[1],
        "log of det": pt.log(det(K)),
        "determinant": det(K),
        "inverse": inv(K),
        "inverse diagonal": pt.diagonal(inv(K)),
        "trace of inverse": pt.trace(inv(K)),
    }


def factor_requests(K, n):
    """What is asked of a Cholesky factor."""
    rng = np.random.default_rng(2)
    y, Y = (pt.constant(rng.normal(size=shape).astype(K.dtype)) for shape in ((n,), (n, 2)))
    L = cholesky(K)
    return {
        "pos": solve(K, y, assume_a="pos"),
        "cho_solve": cho_solve((L, True), Y, b_ndim=2),
        "whitened square": pt.sqr(solve_triangular(L, y, lower=True)).sum(),
        "whitened squares": pt.sqr(solve_triangular(L, Y, lower=True)).sum(axis=0),
        "log of factor": pt.log(pt.diagonal(L)).sum(),
        "is definite": pt.all(pt.diagonal(L) > 0),
    }


def assert_equal(mine, plain, names, tolerance=1e-9):
    for name, one, other in zip(names, mine, plain, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(np.isnan(one), np.isnan(other)), f"{name}: {one}, PyTensor {other}"
        if not np.isnan(other).any():
            assert relative_error(one, other) < tolerance, f"{name}: {one}, PyTensor {other}"


KINDS = {"matrix": requests, "factor": factor_requests}


def loss_of(outputs):
    """A sum of all outputs that are numbers, in which no two entries weigh the same."""
    rng = np.random.default_rng(3)
    numbers = [out for out in outputs if out.dtype != "bool"]
    weights = [pt.constant(rng.uniform(0.5, 1, size=out.type.shape).astype(out.dtype)) for out in numbers]
    return sum((w * out).sum() for w, out in zip(weights, numbers, strict=True))


def gradients(loss, inputs=INPUTS):
    return pt.grad(loss, inputs, disconnected_inputs="ignore")
