"""Batches of matrices with a structure: values and gradients of plain PyTensor, served as one matrix is."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import chosen, compile_raw, compile_with, in_turn, op_names, relative_error, spd
from pytensor.graph.replace import vectorize_graph
from pytensor.tensor.linalg import cholesky, inv, slogdet, solve, solve_triangular

import autotune

J, N = 3, 12
rng = np.random.default_rng(7)
A = spd(N, rng)
BANDS = 2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1)
W = np.triu(rng.random((N, N)) < 0.4, 1) + np.eye(N, k=1)
W = W + W.T
TIMES = np.sort(rng.uniform(0, 5, N))
F, G = spd(3, rng), spd(4, rng)
s, t, r = (pt.vector(name, shape=(J,)) for name in "str")
y = pt.matrix("y", shape=(J, N))
VALUES = {
    s: rng.uniform(0.5, 2, J),
    t: rng.uniform(0.5, 2, J),
    r: rng.uniform(0.5, 2, J),
    y: rng.normal(size=(J, N)),
}


def each(v):
    return v[:, None, None]


def vectorized(make):
    one = pt.scalars("a", "b")
    return vectorize_graph(make(*one), dict(zip(one, (s, t), strict=True)))


def decays(scale):
    return pt.exp(-pt.as_tensor(np.abs(TIMES[:, None] - TIMES[None, :])) / scale)


FORMS = {
    "s A + t I": ("spectrum", each(s) * A + each(t) * pt.eye(N)),
    "s (A + t D)": ("spectrum", each(s) * (A + each(t) * np.diag(np.arange(1.0, N + 1)))),
    "s A": ("spectrum", each(s) * A),
    "A + t I": ("spectrum", A + each(t) * pt.eye(N)),
    "regions": ("spectrum", each(s) * (np.diag(W.sum(axis=0)) - each(t) / 4 * W)),
    "two matrices": ("spectrum", each(s) * A + each(t) / 9 * BANDS),
    "vectorized pencil": ("spectrum", vectorized(lambda a, b: a * A + b * pt.eye(N))),
    "bands": ("banded", each(s) * BANDS + each(t) * pt.eye(N)),
    "vectorized bands": ("banded", vectorized(lambda a, b: a * BANDS + pt.diag(pt.full((N,), b)))),
    "line": ("quasiseparable", each(s) * decays(each(r)) + each(t) * pt.eye(N)),
    "factors and noise": (
        "spectrum",
        vectorized(lambda a, b: pt.linalg.kron(pt.exp(a) * F, G) + b * pt.eye(N)),
    ),
}


def by_factor(K):
    L = cholesky(K)
    white = solve_triangular(L, y, lower=True, b_ndim=1)
    return pt.sqr(white).sum() + pt.log(pt.diagonal(L, axis1=-2, axis2=-1)).sum()


LOSSES = {
    "solve": lambda K: (y * solve(K, y, b_ndim=1)).sum() + slogdet(K)[1].sum(),
    "factor": by_factor,
    "inverse": lambda K: (pt.diagonal(inv(K), axis1=-2, axis2=-1) * y).sum(),
}


def outputs(value):
    inputs = list(VALUES)
    return [value, *pt.grad(value, inputs, disconnected_inputs="ignore")]


@pytest.mark.parametrize(("form", "loss"), in_turn([(f, loss) for f in FORMS for loss in LOSSES], 11))
def test_values_and_gradients(form, loss):
    strategy, K = FORMS[form]
    value = LOSSES[loss](K)
    asked = outputs(value)
    force = {"rules": [{"force": strategy}]}
    plain = compile_raw(list(VALUES), asked)(*VALUES.values())
    forced = compile_with(list(VALUES), asked, force)
    assert set(chosen(forced)) == {strategy}
    tuned = compile_raw(list(VALUES), outputs(autotune.tune(value, force)))
    for fn in (forced, tuned):
        for found, expected in zip(fn(*VALUES.values()), plain, strict=True):
            assert relative_error(found, expected) < 1e-9


@pytest.mark.parametrize("form", ["pencil", "line"])
def test_what_is_tuned_makes_a_batch_by_its_structure(form):
    a, b, e, v = pt.scalar("a"), pt.scalar("b"), pt.scalar("e"), pt.vector("v", shape=(N,))
    K = a * (A if form == "pencil" else decays(e)) + b * pt.eye(N)
    value = v @ solve(K, v, b_ndim=1, assume_a="pos") + slogdet(K)[1]
    batched = {a: s, b: t, e: r, v: y}
    tuned, plain = (vectorize_graph(x, batched).sum() for x in (autotune.tune(value), value))
    fn = compile_raw(list(VALUES), outputs(tuned))
    expected = compile_raw(list(VALUES), outputs(plain))(*VALUES.values())
    for found, one in zip(fn(*VALUES.values()), expected, strict=True):
        assert relative_error(found, one) < 1e-9


def test_eigenvectors_of_a_constant_multiply_all_right_hand_sides_at_once():
    K = FORMS["s A + t I"][1]
    fn = compile_with(list(VALUES), outputs(LOSSES["solve"](K)), {"rules": [{"force": "spectrum"}]})
    assert not [name for name in op_names(fn) if "Blockwise" in name]


def test_one_that_is_not_definite_in_a_batch_of_lines():
    """All are served by dense routines, whose answers each one has."""
    K = each(s) * decays(each(r)) + each(t) * pt.eye(N)
    fn = compile_with(list(VALUES), solve(K, y, b_ndim=1), {"rules": [{"force": "quasiseparable"}]})
    plain = compile_raw(list(VALUES), solve(K, y, b_ndim=1))
    values = VALUES | {s: np.array([1.0, -3.0, 0.5])}
    assert relative_error(fn(*values.values()), plain(*values.values())) < 1e-9
