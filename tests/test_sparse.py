"""Sparse matrices of a constant pattern: many spellings, values and gradients as of the dense matrix."""

import numpy as np
import pytensor
import pytensor.sparse
import pytensor.tensor as pt
import pytest
import scipy.sparse
from helpers import compile_plain, compile_with, in_turn, relative_error
from pytensor.tensor.linalg import cholesky, inv, slogdet, solve, solve_triangular

import autotune

rng = np.random.default_rng(5)


def lattice(p, q):
    """Neighbours on a grid, numbered at random."""
    n = p * q
    place = rng.permutation(n).reshape(p, q)
    W = np.zeros((n, n))
    for a, b in ((place[:, 1:], place[:, :-1]), (place[1:], place[:-1])):
        W[a, b] = W[b, a] = 1
    return W


W = lattice(8, 9)
N = len(W)
D = np.diag(W.sum(axis=1))
G = D - W
A = np.where(rng.uniform(size=(2 * N, N)) < 0.8 / N, rng.normal(size=(2 * N, N)), 0)
R = np.eye(N) + G / 3
tau, alpha, kappa = pt.scalars("tau", "alpha", "kappa")
w, v = pt.vector("w", shape=(N,)), pt.vector("v", shape=(2 * N,))
y = pt.vector("y", shape=(N,))
INPUTS = [tau, alpha, kappa, w, v, y]
VALUES = {
    tau: 1.3,
    alpha: 0.8,
    kappa: 1.1,
    w: rng.uniform(0.5, 1, N),
    v: rng.uniform(0.5, 1, 2 * N),
    y: rng.normal(size=N),
}


def of_sparse(X):
    """A variable with the entries of a constant matrix, in PyTensor's own compressed columns."""
    found = scipy.sparse.csc_array(X)
    return pytensor.sparse.CSC(
        tau * pt.constant(found.data), found.indices.astype("int32"), found.indptr.astype("int32"), X.shape
    )


EXACT = {
    "CAR": tau * (D - alpha * W),
    "CAR of numbers": tau * (pt.diag(pt.constant(W.sum(axis=1))) - alpha * W) / kappa,
    "precision and weights": tau * G + pt.diag(w),
    "weights and a scale": (G + pt.diag(w)) / alpha**2,
    "Leroux": tau * (alpha * G + (1 - alpha) * pt.eye(N)),
    "SPDE": kappa**4 * D + 2 * kappa**2 * G + G @ np.linalg.inv(D) @ G,
    "observed": A.T @ (v[:, None] * A) + tau * R,
    "weighted": A.T @ pt.diag(v) @ A + pt.diag(w),
    "scaled sides": pt.sqrt(w)[:, None] * (D - alpha * W) * pt.sqrt(w) + tau * pt.eye(N),
    "masked": W * (w[:, None] * w[None, :]) + 5 * D,
    "SAR": (pt.eye(N) - alpha * W / 4).T @ (pt.eye(N) - alpha * W / 4) + tau * D,
    "compressed columns": pytensor.sparse.dense_from_sparse(of_sparse(R)) + pt.diag(w),
    "sparse variables": pytensor.sparse.dense_from_sparse(
        pytensor.sparse.as_sparse(scipy.sparse.csr_matrix(R)) * tau
    )
    + pt.diag(w),
}
FORCED = {
    "compile_budget": 1e-4,  # too little for the spectrum of a constant
    "rules": [{"match": {"structure": "sparse"}, "force": "sparse_ldl"}],
}


def requests(K):
    L = cholesky(K)
    return {
        "density": pt.sqr(solve_triangular(L, y, lower=True)).sum() + pt.log(pt.diagonal(L)).sum(),
        "precision": y @ K @ y - 2 * pt.log(pt.diagonal(L)).sum(),
        "unknown definiteness": y @ inv(K) @ y + slogdet(K)[1],
        "inverse diagonal": pt.diagonal(inv(K)),
        "solve": solve(K, pt.stack([y, y**2], axis=1), assume_a="pos")[:, 1],
        "is definite": pt.all(pt.diagonal(L) > 0),
    }


def check(K, request, values=VALUES, tolerance=1e-9, policy=FORCED):
    out = requests(K)[request]
    total = pt.dot(np.arange(1, N + 1), out) if out.type.ndim else out
    used = [x for x in INPUTS if x in pytensor.graph.traversal.explicit_graph_inputs([out])]
    smooth = out.type.dtype != "bool"
    outputs = [out, *(pt.grad(total, used) if smooth else ())]
    arguments = [values[x] for x in used]
    plain = compile_plain(used, outputs)(*arguments)
    taken = compile_with(used, outputs, policy)
    results = [taken(*arguments)]
    if smooth:
        tuned = autotune.tune(total, policy)
        results.append(compile_with(used, [out, *pt.grad(tuned, used)], policy)(*arguments))
    for result in results:
        for found, expected in zip(result, plain, strict=True):
            assert relative_error(found, expected) < tolerance
    return taken


@pytest.mark.parametrize("request_name", list(requests(pt.eye(N))))
@pytest.mark.parametrize("form", in_turn(EXACT, every=4))
def test_values_and_gradients_are_those_of_the_dense_matrix(form, request_name):
    fn = check(EXACT[form], request_name)
    assert "sparse_ldl" in str(autotune.explain(fn))
