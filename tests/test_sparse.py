"""Sparse matrices of a constant pattern: many spellings, values and gradients as of the dense matrix."""

import numpy as np
import pytensor
import pytensor.sparse
import pytensor.tensor as pt
import pytest
import scipy.sparse
from helpers import compile_raw, compile_with, in_turn, largest_array, relative_error
from pytensor.tensor.linalg import cholesky, inv, kron, slogdet, solve, solve_triangular

import autotune
from autotune.ops import pattern
from autotune.ops.core_sparse import HEIGHT
from autotune.read.matrices import recognise

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
    plain = compile_raw(used, outputs)(*arguments)
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
@pytest.mark.parametrize("form", in_turn(EXACT, every=7))
def test_values_and_gradients_are_those_of_the_dense_matrix(form, request_name):
    fn = check(EXACT[form], request_name)
    assert "sparse_ldl" in str(autotune.explain(fn))
    if request_name == "density" and form != "compressed columns":
        assert largest_array(fn) < N * N


def structure(K):
    return recognise(K).structure


UNREAD = {
    "not symmetric": tau * (D - alpha * np.triu(W)) + pt.diag(w),
    "scaled on one side": w[:, None] * (D - alpha * W) + tau * pt.eye(N),
    "dense": tau * np.cov(rng.normal(size=(N, 3 * N))) + pt.diag(w) * W.sum(),
    "places that change": tau * pt.eq(w[:, None], w[None, :]) + D,
    "a full factor": tau * (rng.uniform(size=(N, N)) < 0.1) * 1.0 + pt.diag(w),
}


@pytest.mark.parametrize("form", UNREAD)
def test_other_matrices_are_not_read(form):
    assert "sparse" not in structure(UNREAD[form])


def test_a_spectrum_or_a_band_is_read_where_it_takes_less_work():
    assert structure(EXACT["CAR"]) == ("pencil",)
    line = np.eye(N, k=1) + np.eye(N, k=-1)
    assert structure(tau * (2 * np.eye(N) - alpha * line) + pt.diag(w)) == ("banded",)


def test_what_is_not_positive_definite_has_no_factor():
    K = tau * W - pt.diag(w)
    asked = requests(K)
    fn = compile_with(INPUTS, [asked["density"], asked["is definite"]], FORCED)
    density, definite = fn(*VALUES.values())
    assert np.isnan(density)
    assert not definite


@pytest.mark.parametrize(
    "K", [tau * alpha * W - kappa * pt.eye(N) * 0.3, 6 * W - pt.diag(w), pt.diag(w) - 0.7 * D + tau * W]
)
def test_indefinite_matrices_are_solved(K):
    """Pivots of 0, growth, and negative pivots that do no harm."""
    check(K, "unknown definiteness", tolerance=1e-8)


def test_parts_of_the_graph_that_are_not_connected():
    apart = W.copy()
    apart[:20, 20:] = apart[20:, :20] = 0
    apart[:5] = apart[:, :5] = 0
    check(tau * (np.diag(apart.sum(axis=1)) - alpha * apart) + pt.diag(w), "unknown definiteness")


def test_nan_and_single_precision():
    K = EXACT["precision and weights"]
    fn = compile_with(INPUTS, requests(K)["density"], FORCED)
    assert np.isnan(fn(*({**VALUES, tau: np.nan}.values())))
    s, z = pt.scalar("s", dtype="float32"), pt.vector("z", shape=(N,), dtype="float32")
    K = s * G.astype("float32") + pt.eye(N, dtype="float32")
    value = slogdet(K)[1] + z @ solve(K, z, assume_a="pos")
    outs = [value, *pt.grad(value, [s, z])]
    given = np.float32(0.7), VALUES[y].astype("float32")
    found, expected = (f([s, z], outs)(*given) for f in (compile_with, compile_raw))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert relative_error(a, b) < 1e-4


def test_second_derivatives():
    value = requests(EXACT["precision and weights"])["unknown definiteness"]
    tuned = autotune.tune(value, FORCED)
    inputs = [tau, w, y]
    values = [VALUES[x] for x in inputs]
    found, expected = (
        compile_raw(inputs, pt.grad(pt.grad(one, tau) + pt.grad(one, w).sum(), [tau, w]))(*values)
        for one in (tuned, value)
    )
    for a, b in zip(found, expected, strict=True):
        assert relative_error(a, b) < 1e-8


def test_beside_low_rank_and_as_a_factor():
    x = pt.matrix("x", shape=(N, 2))
    K = EXACT["precision and weights"]
    S = pt.diag(pt.stack([2.0, 1.0])) + 0.5
    points = np.concatenate([VALUES[y], VALUES[y] ** 2])
    for whole, rhs in ((K + x @ x.T, y), (kron(S * tau, K), pt.concatenate([y, y**2]))):
        assert "sparse" in str(recognise(whole).term(lambda v, axis: v.type.shape[axis]))
        value = rhs @ solve(whole, rhs, assume_a="pos") + slogdet(whole)[1]
        inputs = [tau, w, y, x]
        outs = [value, *pt.grad(value, inputs, disconnected_inputs="ignore")]
        arguments = [VALUES[tau], VALUES[w], VALUES[y], points[:N, None] * [1, 0.5]]
        found, expected = (f(inputs, outs)(*arguments) for f in (compile_with, compile_raw))
        for a, b in zip(found, expected, strict=True):
            assert relative_error(a, b) < 1e-8


def test_functions_are_pickled():
    cloudpickle = pytest.importorskip("cloudpickle")
    inputs = [tau, w, y]
    value = requests(EXACT["precision and weights"])["unknown definiteness"]
    fn = compile_with(inputs, value, FORCED)
    again = cloudpickle.loads(cloudpickle.dumps(fn))  # as PyMC does
    values = [VALUES[x] for x in inputs]
    assert again(*values) == fn(*values)


@pytest.mark.slow
def test_a_lattice_is_ordered_alike_in_python_and_compiled_and_fills_little(monkeypatch):
    rows, columns = (x.astype("int32") for x in np.nonzero(np.tril(lattice(30, 31) + np.eye(930))))
    plan = pattern.plan_of(930, rows, columns)
    monkeypatch.setattr(pattern, "LARGE", 0)
    assert np.array_equal(plan, pattern.plan_of(930, rows, columns))
    assert plan[HEIGHT] < 20  # 31 in the order of the lattice
