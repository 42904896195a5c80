"""Matrices whose rows and columns stand in another order than that of their structure."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import compile_raw, compile_with, in_turn, largest_array, relative_error, spd, strategies
from pytensor.tensor.linalg import cholesky, inv, kron, slogdet, solve, solve_triangular

import autotune

N = 12
rng = np.random.default_rng(2)
i, t = rng.permutation(N), rng.uniform(0, 5, N)
g, P = np.arange(N) % 3, np.eye(N)[rng.permutation(N)]
A, B = pt.matrix("A", shape=(4, 4)), pt.matrix("B", shape=(3, 3))
d, u, y = (pt.vector(name, shape=(N,)) for name in "duy")
s, ls = pt.scalars("s", "ls")
INPUTS = [A, B, d, u, y, s, ls]
VALUES = [
    *(spd(4, rng), spd(3, rng), rng.uniform(2, 3, N), rng.normal(size=N), rng.normal(size=N)),
    *(np.array(1.3), np.array(0.7)),
]
K = kron((A + A.T) / 2, (B + B.T) / 2)
NOISE = s**2 * pt.eye(N)
DISTANCE = pt.abs(pt.constant(t)[:, None] - pt.constant(t)[None, :])
OF_INPUTS = pt.exp(-pt.sqr(u[:, None] - u[None, :]) / ls)
MATRICES = {
    "rows, then columns": K[i][:, i],
    "columns, then rows": K[:, i][i],
    "both": K[i[:, None], i],
    "ix_": 2 * K[np.ix_(i, i)],
    "negative": K[i - N][:, i],
    "P A P'": P @ K @ P.T,
    "twice": K[i][:, i][i][:, i],
    "with noise": P @ K @ P.T + NOISE,
    "points": pt.exp(-DISTANCE / ls) + NOISE,
    "distances": pt.exp(-np.abs(t[:, None] - t) / ls) + pt.diag(d),
    "groups of points": pt.eq(pt.constant(g)[:, None], g) * pt.exp(-pt.sqr(DISTANCE) / ls) + NOISE,
    "groups": OF_INPUTS * (g[:, None] == g) + pt.diag(d),
    "where": pt.switch(g[:, None] == g, OF_INPUTS, 0.0) + NOISE,
}
LOSSES = {
    "solve": lambda M: y @ solve(M, y) + slogdet(M)[1],
    "transposed": lambda M: (solve(M.T, pt.stack([y, y**2], axis=1)) ** 2).sum() + slogdet(M)[0],
    "inverse": lambda M: (inv(M) ** 2 * y).sum(),
    "inverse diagonal": lambda M: (pt.diagonal(inv(M)) * y).sum(),
    "factor": lambda M: by_factor(cholesky(M)),
}
ORDERED = ["permuted", "kronecker", "quasiseparable", "block_diagonal", "kronecker_noise"]
BY_PARTS = {
    "rules": [{"match": {"structure": ORDERED}, "forbid": ["keep", "cholesky", "lu", "cholesky_or_lu"]}]
}


def by_factor(L):
    value = pt.sqr(solve_triangular(L, y, lower=True)).sum() + 2 * pt.log(pt.diagonal(L)).sum()
    return pt.switch(pt.all(pt.diagonal(L) > 0), value, np.nan)


def outputs(M, loss, tuned=False):
    value = LOSSES[loss](M)
    value = autotune.tune(value, BY_PARTS) if tuned else value
    return [value, *pt.grad(value, INPUTS, disconnected_inputs="ignore")]


@pytest.mark.parametrize(
    ("form", "loss", "tuned"),
    in_turn([(m, x, b) for m in MATRICES for x in LOSSES for b in (True, False)], 6),
)
def test_value_and_gradient_are_those_of_the_matrix_as_written(form, loss, tuned):
    fn = compile_with(INPUTS, outputs(MATRICES[form], loss, tuned), BY_PARTS)
    assert "permuted" in strategies(fn)
    for mine, plain in zip(
        fn(*VALUES), compile_raw(INPUTS, outputs(MATRICES[form], loss))(*VALUES), strict=True
    ):
        assert relative_error(mine, plain) < 1e-10


def test_an_index_that_is_no_permutation_is_none():
    repeated, other = np.where(i == 3, 4, i), np.roll(i, 1)
    for M in (K[repeated][:, repeated] + NOISE, K[i][:, other], K[i]):
        fn = compile_with(INPUTS, slogdet(M)[1])
        assert "permuted" not in strategies(fn)
        assert np.allclose(fn(*VALUES), compile_raw(INPUTS, slogdet(M)[1])(*VALUES))


def test_diagonals_of_other_lengths_are_refused():
    free, rhs = pt.vector("d"), pt.vector("y")
    M = pt.exp(-DISTANCE / ls) + pt.diag(free)
    fn = compile_with([free, ls, rhs], solve(M, rhs), BY_PARTS)
    assert "permuted" in strategies(fn)
    fn(VALUES[2], 0.7, np.ones(N))
    for lengths in ((N + 1, N), (N, N + 1)):
        with pytest.raises((ValueError, AssertionError)):
            fn(np.ones(lengths[0]), 0.7, np.ones(lengths[1]))


def test_points_that_are_not_sorted_make_nothing_of_the_order_squared():
    n = 200
    x = np.random.default_rng(1).uniform(0, 9, n)
    rhs = pt.vector("y", shape=(n,))
    M = pt.exp(-pt.abs(pt.constant(x)[:, None] - x) / ls) + s * pt.eye(n)
    L = cholesky(M)
    value = pt.sqr(solve_triangular(L, rhs, lower=True)).sum() + 2 * pt.log(pt.diagonal(L)).sum()
    fn = compile_with([ls, s, rhs], [value, *pt.grad(value, [ls, s])])
    assert "permuted" in strategies(fn)
    assert largest_array(fn) < 20 * n


def test_many_groups_make_few_blocks():
    n = 120
    of = np.random.default_rng(0).integers(0, 40, n)
    x, rhs = pt.vector("x", shape=(n,)), pt.vector("y", shape=(n,))
    M = pt.exp(-pt.sqr(x[:, None] - x)) * (of[:, None] == of) + 0.5 * pt.eye(n)
    fn, plain = compile_with([x, rhs], solve(M, rhs), BY_PARTS), compile_raw([x, rhs], solve(M, rhs))
    [decision] = autotune.explain(fn).decisions
    assert len(decision.parts[0].parts) <= 16
    values = [np.random.default_rng(3).normal(size=n), np.ones(n)]
    assert relative_error(fn(*values), plain(*values)) < 1e-10
