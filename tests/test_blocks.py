"""Matrices that are joined of blocks: read in many spellings, values and gradients as of the dense matrix."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import compile_raw, compile_with, in_turn, largest_array, relative_error, spd, strategies
from pytensor.assumptions import assume
from pytensor.graph.fg import FunctionGraph
from pytensor.tensor.linalg import cholesky, inv, slogdet, solve, solve_triangular

import autotune
from autotune.read.facts import Facts
from autotune.read.matrices import Recogniser

N, Q = 9, 3
rng = np.random.default_rng(5)
A, D = pt.matrix("A", shape=(N, N)), pt.matrix("D", shape=(Q, Q))
B, C = pt.matrix("B", shape=(N, Q)), pt.matrix("C", shape=(Q, N))
d, e = pt.vector("d", shape=(N,)), pt.vector("e", shape=(Q,))
INPUTS = [A, B, C, D, d, e]
VALUES = [
    spd(N, rng),
    0.3 * rng.normal(size=(N, Q)),
    0.3 * rng.normal(size=(Q, N)),
    spd(Q, rng) + 2 * np.eye(Q),
    rng.uniform(2, 3, N),
    rng.uniform(2, 3, Q),
]
DENSE = ["keep", "cholesky", "lu", "cholesky_or_lu"]
BLOCKS = ["blocks", "block_triangular", "block_diagonal"]
BY_BLOCKS = {"rules": [{"match": {"structure": BLOCKS}, "forbid": DENSE}]}


def symmetric(X):
    return (X + X.T) / 2


def by_rows(*rows):
    return pt.concatenate([pt.concatenate(row, axis=1) for row in rows], axis=0)


def by_columns(*rows):
    columns = zip(*rows, strict=True)
    return pt.concatenate([pt.concatenate(column, axis=0) for column in columns], axis=1)


SADDLE = by_rows((assume(symmetric(A), positive_definite=True), B), (B.T, pt.zeros((Q, Q))))
SYMMETRIC = {
    "arrowhead": by_rows((pt.diag(d), B), (B.T, symmetric(D))),
    "by columns": by_columns((pt.diag(d), B), (B.T, symmetric(D))),
    "backwards": by_rows((symmetric(D), B.T), (B, pt.diag(d))),
    "definite": assume(by_rows((pt.diag(d), B), (B.T, symmetric(D))), positive_definite=True),
    "scaled": 2 * by_rows((pt.diag(d), B / 2), (B.T / 2, pt.diag(e))).T,
    "three": by_rows(
        (pt.diag(d), pt.zeros((N, Q)), B),
        (pt.zeros((Q, N)), symmetric(D), 0.1 * D.T),
        (B.T, 0.1 * D, pt.diag(e)),
    ),
    "apart": by_rows((symmetric(A), pt.zeros((N, Q))), (pt.zeros((Q, N)), symmetric(D))),
}
OTHERS = {
    "saddle": SADDLE,
    "saddle of a constant": by_rows((symmetric(A), VALUES[1]), (VALUES[1].T, np.zeros((Q, Q)))),
    "general": by_rows((pt.diag(d), B), (C, D)),
    "general, backwards": by_rows((D, C), (B, pt.diag(d))),
    "lower": by_rows((A, np.zeros((N, Q))), (C, D)),
    "upper": by_columns((A, B), (pt.zeros((Q, N)), D)),
}
MATRICES = SYMMETRIC | OTHERS


def by_factor(M, y):
    L = cholesky(M)
    value = pt.sqr(solve_triangular(L, y, lower=True)).sum() + pt.log(pt.diagonal(L)).sum()
    return pt.switch(pt.all(pt.diagonal(L) > 0), value, np.nan)


LOSSES = {
    "solve": lambda M, y: y @ solve(M, y) + slogdet(M)[1],
    "transposed": lambda M, y: (solve(M.T, pt.stack([y, y**2], axis=1)) ** 2).sum() + slogdet(M)[0],
    "inverse": lambda M, y: (inv(M) ** 2).sum(),
    "inverse diagonal": lambda M, y: (pt.diagonal(inv(M)) * y).sum(),
    "factor": by_factor,
    "the factor itself": lambda M, y: (cholesky(M) * y).sum(),
}
OF_A_FACTOR = ("factor", "the factor itself")
CASES = [(m, loss) for m in MATRICES for loss in LOSSES if loss not in OF_A_FACTOR or m in SYMMETRIC]


def with_gradient(value):
    return [value, *pt.grad(value, INPUTS, disconnected_inputs="ignore")]


def outputs(M, loss, tuned=False):
    y = pt.constant(np.random.default_rng(1).normal(size=M.type.shape[0]))
    value = LOSSES[loss](M, y)
    return with_gradient(autotune.tune(value, BY_BLOCKS) if tuned else value)


def assert_same(found, right, tolerance=1e-10):
    for mine, plain in zip(found, right, strict=True):
        assert relative_error(mine, plain) < tolerance


@pytest.mark.parametrize(
    ("form", "loss", "tuned"), in_turn([(*case, tuned) for case in CASES for tuned in (True, False)], 7)
)
def test_value_and_gradient_are_those_of_the_dense_matrix(form, loss, tuned):
    fn = compile_with(INPUTS, outputs(MATRICES[form], loss, tuned), BY_BLOCKS)
    assert set(strategies(fn)) & {"eliminate_first", "eliminate_last", "block_triangular", "block_diagonal"}
    assert_same(fn(*VALUES), compile_raw(INPUTS, outputs(MATRICES[form], loss))(*VALUES))


@pytest.mark.parametrize("forced", ["eliminate_first", "eliminate_last"])
def test_either_block_may_be_eliminated(forced):
    policy = {"rules": [{"match": {"structure": "blocks"}, "force": forced}]}
    fn = compile_with(INPUTS, outputs(SYMMETRIC["three"], "factor"), policy)
    assert forced in strategies(fn)
    assert_same(fn(*VALUES), compile_raw(INPUTS, outputs(SYMMETRIC["three"], "factor"))(*VALUES))


@pytest.mark.parametrize("tiny", [0.0, 1e-15, 1e-9])
def test_where_a_block_is_singular_dense_routines_take_over(tiny):
    """Of a regular matrix, in value and gradient."""
    values = [*VALUES[:4], np.where(np.arange(N) == 4, tiny, VALUES[4]), VALUES[5]]
    policy = {"rules": [{"match": {"structure": "blocks"}, "force": "eliminate_first"}]}
    loss = outputs(OTHERS["general"], "solve")
    assert_same(compile_with(INPUTS, loss, policy)(*values), compile_raw(INPUTS, loss)(*values), 1e-12)


@pytest.mark.parametrize("broken", ["the first block", "the other"])
def test_nan_where_there_is_no_factor(broken):
    values = list(VALUES)
    place, value = (4, -VALUES[4]) if broken == "the first block" else (3, VALUES[3] - 4 * np.eye(Q))
    values[place] = value
    loss = [by_factor(SYMMETRIC["arrowhead"], pt.ones(N + Q))]
    assert np.isnan(compile_with(INPUTS, loss, BY_BLOCKS)(*values)).all()


def test_nothing_of_the_order_of_the_matrix_is_made():
    n = 300
    d, B = pt.vector("d", shape=(n,)), pt.matrix("B", shape=(n, Q))
    M = by_rows((pt.diag(d), B), (B.T, symmetric(D)))
    value = by_factor(M, pt.ones(n + Q))
    fn = compile_with([d, B, D], [value, *pt.grad(value, [d, B, D])])
    assert strategies(fn)[0] == "eliminate_first"
    assert largest_array(fn) < 10 * n * Q


def test_blocks_that_do_not_fit_or_have_no_structure_are_left_as_they_are():
    wide, narrow = pt.matrix(shape=(2, 3)), pt.matrix(shape=(3, 2))
    misfits = by_rows((pt.diag(pt.vector(shape=(2,))), wide), (pt.matrix(shape=(3, 3)), narrow))
    for M in (misfits, by_rows((A, B), (C, D))):
        facts = Facts(FunctionGraph(outputs=[M], clone=False))
        assert Recogniser(facts=facts).operator(M).kind == "dense"


def test_lengths_that_do_not_fit_are_refused():
    M = by_rows((pt.diag(pt.vector("d")), B), (B.T, symmetric(D)))
    d, y = M.owner.inputs[0].owner.inputs[0].owner.inputs[0], pt.vector("y")
    fn = compile_with([d, B, D, y], solve(M, y), BY_BLOCKS)
    fn(VALUES[4], VALUES[1], VALUES[3], np.ones(N + Q))
    for wrong in ((VALUES[4][1:], np.ones(N + Q)), (VALUES[4], np.ones(N + Q + 1))):
        with pytest.raises((ValueError, AssertionError)):
            fn(wrong[0], VALUES[1], VALUES[3], wrong[1])
