"""Points that are equal, and points on a grid: read for what they are, with the dense matrix's results."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_raw, compile_with, largest_array, relative_error
from pytensor.tensor.linalg import cholesky, inv, slogdet, solve_triangular

import autotune
from autotune.read.points import on_a_grid, replicated

rng = np.random.default_rng(5)
N, U, P, Q = 24, 7, 4, 6
DIFFERENT = rng.normal(size=(U, 2))
X = DIFFERENT[rng.permutation(np.r_[np.arange(U), rng.integers(0, U, N - U)])]
GRID = np.array([(u, v) for u in range(P) for v in np.linspace(-1, 2, Q)])
GROUP = np.repeat(np.arange(P), Q)
a, b, s = pt.scalars("a", "b", "s")
B, d = pt.matrix("B", shape=(P, P)), pt.vector("d", shape=(N,))
y = pt.vector("y", shape=(N,))
INPUTS = [a, b, s, B, d, y]
ROOT = rng.normal(size=(P, P))
VALUES = [1.3, 0.7, 0.5, ROOT @ ROOT.T + np.eye(P), rng.uniform(0.2, 1, N), rng.normal(size=N)]
FORMING = ["keep", "cholesky", "cholesky_or_lu", "lu", "cg", "lanczos"]
PARTS_ALONE = {"rules": [{"match": {"min_n": N}, "forbid": FORMING}]}


def squares(x):
    return pt.sqr(pt.constant(x)[:, None] - x)


def kernel(X, scale=a):
    X = pt.constant(X) / scale
    lengths = pt.sqr(X).sum(axis=1)
    return pt.exp(-0.5 * pt.maximum(lengths[:, None] + lengths[None, :] - 2 * (X @ X.T), 0))


AGAIN = {
    "kernel": b * kernel(X),
    "two kernels": kernel(X) + kernel(X[:, :1], b),
    "distances in three axes": pt.exp(-pt.sqr(pt.constant(X)[:, None, :] - X[None]).sum(axis=-1) / a),
    "a constant matrix": pt.exp(-((X[:, None] - X[None]) ** 2).sum(axis=-1) / a),
    "polynomial": (1 + a * pt.constant(X) @ X.T) ** 2,
}
ON_A_GRID = {
    "two coordinates": b * kernel(GRID[:, :1]) * kernel(GRID[:, 1:], b),
    "three factors": kernel(GRID[:, :1]) * kernel(GRID[:, 1:], b) * pt.exp(-squares(GRID[:, 1])),
    "outputs and inputs": B[GROUP[:, None], GROUP[None, :]] * kernel(GRID[:, 1:]),
}
NEITHER = {
    "points that differ": kernel(rng.normal(size=(N, 2))),
    "scaled rows": d[:, None] * kernel(X) * d[None, :],
    "a mean over points": kernel(X) * pt.constant(X[:, 0]).mean() + pt.outer(d, d),
    "points that change": pt.exp(-pt.sqr(d[:, None] - d[None, :])),
    "cumulated": pt.exp(-pt.abs(pt.cumsum(pt.constant(X[:, 0]) * a)[:, None])) + kernel(X),
    "an incomplete grid": kernel(np.r_[GRID[:-1, :1], GRID[:1, :1]]) * kernel(GRID[:, 1:], b),
    "a shuffled grid": (lambda g: kernel(g[:, :1]) * kernel(g[:, 1:], b))(rng.permutation(GRID)),
}


def density(K):
    L = cholesky(K)
    return pt.sqr(solve_triangular(L, y, lower=True)).sum() + pt.log(pt.diagonal(L)).sum()


def check(K, value, policy=None):
    used = [v for v in INPUTS if v in pytensor.graph.traversal.explicit_graph_inputs([value])]
    outs = [value, *pt.grad(value, used)]
    arguments = [x for v, x in zip(INPUTS, VALUES, strict=True) if v in used]
    fn = compile_with(used, outs, policy)
    for found, expected in zip(fn(*arguments), compile_raw(used, outs)(*arguments), strict=True):
        assert relative_error(found, expected) < 1e-9
    return fn


@pytest.mark.parametrize("name", AGAIN)
def test_equal_points_are_of_low_rank(name):
    K = AGAIN[name] + pt.diag(d) + s**2 * pt.eye(N)
    low_rank = replicated(AGAIN[name])
    assert low_rank is not None
    assert low_rank.U.type.shape == (N, U)
    fn = check(K, density(K), PARTS_ALONE)
    assert autotune.explain(fn).decisions[0].problem.sizes["rank"] == U
    assert largest_array(fn) < N * N


@pytest.mark.parametrize("name", ON_A_GRID)
def test_products_on_a_grid_are_kronecker_products(name):
    factors = on_a_grid(ON_A_GRID[name])
    assert factors is not None
    assert [factor.type.shape for factor in factors] == [(P, P), (Q, Q)]
    K = ON_A_GRID[name] + s**2 * pt.eye(N)
    fn = check(K, y @ inv(K) @ y + slogdet(K)[1])
    if name != "outputs and inputs":  # whose B is not known to be symmetric
        assert autotune.explain(fn).decisions[0].problem.structure == ("kronecker_noise",)


@pytest.mark.parametrize("name", NEITHER)
def test_others_are_neither(name):
    assert replicated(NEITHER[name]) is None
    assert on_a_grid(NEITHER[name]) is None
