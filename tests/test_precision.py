"""Matrices that are given by their inverse: solves are products with it, and nothing is inverted."""

import itertools

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import (
    compile_raw,
    compile_with,
    in_turn,
    largest_array,
    op_names,
    python_mode,
    relative_error,
    spd,
)
from pytensor.assumptions import assume
from pytensor.tensor.linalg import cho_solve, cholesky, inv, kron, slogdet, solve_triangular

import autotune

N, ROWS = 6, 4
RNG = np.random.default_rng(3)
Y = RNG.normal(size=(ROWS, N))
W = np.diag(np.ones(N - 1), 1) + np.diag(np.ones(N - 1), -1)
OTHERS = [s.name for s in autotune.strategies.STRATEGIES if s.name != "inverse"]
BY_INVERSE = {"rules": [{"match": {"structure": "inverse"}, "forbid": OTHERS}]}

# -- PyMC -------------------------------------------------------------------------------------------------


def low_rank(pm):
    return (U := pm.Normal("U", shape=(N, 2))) @ U.T + pt.diag(pm.HalfNormal("d", shape=N))


def neighbours(pm):
    return pm.HalfNormal("t") * (np.diag(W.sum(axis=1)) - pm.Uniform("a") * W)


def kronecker(pm):
    A, B = (pm.HalfNormal(name) * pt.eye(n) + 1.0 for name, n in (("a", 2), ("b", 3)))
    return kron(A, B)


def dense(pm):
    X = np.arange(N)[:, None] / 3
    return pm.gp.cov.ExpQuad(1, ls=pm.HalfNormal("l"))(X) + 0.1 * np.eye(N)


@pytest.mark.pymc
@pytest.mark.parametrize(
    ("tau", "rows"),
    in_turn(itertools.product([low_rank, neighbours, kronecker, dense], [ROWS, None]), every=3),
)
def test_a_normal_with_a_precision(tau, rows):
    pm = pytest.importorskip("pymc")
    with pm.Model() as model:
        pm.MvNormal("y", pm.Normal("m", shape=N), tau=tau(pm), observed=Y[0] if rows is None else Y)
    compiled = []
    for policy in ({"rules": [{"force": "keep"}]}, BY_INVERSE):
        with autotune.enabled(policy) as session:
            compiled.append(model.logp_dlogp_function(ravel_inputs=True, mode=python_mode()))
        compiled[-1].set_extra_values({})
    plain, mine = compiled
    start = 0.3 * np.random.default_rng(0).normal(size=sum(v.size for v in model.initial_point().values()))
    for ours, expected in zip(mine(start), plain(start), strict=True):
        assert relative_error(ours, expected) < 1e-9
    if rows:
        [decision] = session.plans[0].decisions
        assert decision.chosen == "inverse"
        names = op_names(mine._pytensor_function)
        assert not any("MatrixInverse" in name or "SolveTriangular" in name for name in names)


# -- PyTensor ---------------------------------------------------------------------------------------------

A, B, U, d, y = (
    *(pt.matrix("A", shape=(N, N)), pt.matrix("B", shape=(3, 3)), pt.matrix("U", shape=(N, 1))),
    *(pt.vector("d", shape=(N,)), pt.vector("y", shape=(N,))),
)
INPUTS = [A, B, U, d, y]
VALUES = [spd(N, RNG), spd(3, RNG), RNG.normal(size=(N, 1)), RNG.uniform(1, 2, N), Y[0]]
SYMMETRIC = (A + A.T) / 2
PRECISIONS = {
    "dense": SYMMETRIC,
    "definite": assume(SYMMETRIC, positive_definite=True),
    "low rank": pt.diag(d) + U @ U.T,
    "scaled": 3 * SYMMETRIC,
}


def by_factor(K):
    L = cholesky(K)
    return pt.sqr(solve_triangular(L, y, lower=True)).sum() + 2 * pt.log(pt.diagonal(L)).sum()


LOSSES = {
    "factor": by_factor,
    "solve": lambda K: (pt.sin(y) * cho_solve((cholesky(K), True), y)).sum() + by_factor(K),
    "scaled": lambda K: by_factor(2.0 * K),
}
CASES = [(precision, loss, door) for precision in PRECISIONS for loss in LOSSES for door in ("mode", "tune")]


def compared(loss, policy, door="mode", values=VALUES):
    """The function, whose value and gradient are plain PyTensor's."""
    tuned = autotune.tune(loss, policy) if door == "tune" else loss
    outputs = [[out, *pt.grad(out, INPUTS, disconnected_inputs="ignore")] for out in (tuned, loss)]
    fn, plain = compile_with(INPUTS, outputs[0], policy), compile_raw(INPUTS, outputs[1])
    for mine, expected in zip(fn(*values), plain(*values), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-9)
    return fn


@pytest.mark.parametrize(("precision", "loss", "door"), in_turn(CASES, 8))
def test_value_and_gradient_are_plain_ones(precision, loss, door):
    fn = compared(LOSSES[loss](inv(PRECISIONS[precision])), BY_INVERSE, door)
    assert "inverse" in [decision.chosen for decision in autotune.explain(fn).decisions]


def test_no_factor_where_the_precision_has_none():
    values = [-VALUES[0], *VALUES[1:]]
    compared(by_factor(inv(SYMMETRIC)), BY_INVERSE, values=values)


def test_a_triangle_of_a_precision_is_not_taken_for_all_of_it():
    fn = compile_with(INPUTS, by_factor(inv(A)), BY_INVERSE)
    assert "inverse" not in [decision.chosen for decision in autotune.explain(fn).decisions]


def test_a_factor_that_is_needed_itself_is_made():
    K = inv(SYMMETRIC)
    fn = compile_with(INPUTS, [cholesky(K), slogdet(K)[1]], {"rules": [{"forbid": "keep"}]})
    factor, logdet = fn(*VALUES)
    expected = np.linalg.inv(VALUES[0])
    assert relative_error(factor, np.linalg.cholesky(expected)) < 1e-10
    assert relative_error(logdet, np.linalg.slogdet(expected)[1]) < 1e-10


@pytest.mark.parametrize(
    "form",
    [lambda K: kron(K, B), lambda K: K + pt.outer(y, y), lambda K: kron(B, inv(K))],
    ids=["kron", "plus low rank", "inverse of inverse"],
)
def test_as_a_part(form):
    compared(slogdet(form(inv(PRECISIONS["definite"])))[1], {"margin": 0, "rules": [{"forbid": "keep"}]})


def test_nothing_of_the_whole_order_is_made():
    n = 60
    U, d, y = pt.matrix("U", shape=(n, 2)), pt.vector("d", shape=(n,)), pt.matrix("y", shape=(n, 3))
    L = cholesky(inv(pt.diag(d) + U @ U.T))
    loss = pt.sqr(solve_triangular(L, y, lower=True)).sum() + pt.log(pt.diagonal(L)).sum()
    fn = compile_with([U, d, y], [loss, *pt.grad(loss, [U, d, y])])
    assert largest_array(fn) < n * n / 4
