"""`tune` gives a graph on the caller's own variables, and changes none of them."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_raw, compile_with, largest_array, relative_error
from pytensor.graph.replace import graph_replace, vectorize_graph
from pytensor.graph.traversal import ancestors
from pytensor.tensor.linalg import inv, slogdet, solve

import autotune
from autotune.algebra.requests import RequestOp

N = 30
RNG = np.random.default_rng(8)
X = RNG.normal(size=(N, 1))
EXACT = {"margin": 0, "rules": [{"forbid": ["keep", "cg", "lanczos"]}]}
# PyTensor wants to be given one, by a name that changes between its versions.
WITHOUT_A_GENERATOR = pytest.mark.filterwarnings(
    "ignore:.*rng:DeprecationWarning", "ignore:.*rng:FutureWarning"
)


def a_covariance(length, noise):
    return pt.exp(-0.5 * (X - X.T) ** 2 / length**2) + noise * pt.eye(N)


def a_loss(K, y):
    return y @ inv(K) @ y + slogdet(K)[1]


def requests(*outputs):
    return [v for v in ancestors(outputs) if isinstance(v.owner_op, RequestOp)]


@WITHOUT_A_GENERATOR
def test_random_variables_stay_what_they_are():
    """PyMC replaces its own by identity. One that depends on another is left as it is."""
    scale = pt.random.exponential(2.0, name="scale")
    length = pt.random.gamma(2.0, scale=scale * 3.0, name="length")
    y = pt.vector("y", shape=(N,))
    loss = a_loss(a_covariance(length, scale + 1), y)
    tuned = autotune.tune(loss, EXACT)
    assert requests(tuned)
    assert {scale, length, y} <= set(ancestors([tuned]))
    values = {scale: pt.scalar("v_scale"), length: pt.scalar("v_length")}
    replaced = [graph_replace(out, values, strict=False) for out in (loss, tuned)]
    inputs, point = [*values.values(), y], [0.5, 1.3, RNG.normal(size=N)]
    plain, ours = (compile_with(inputs, [out, *pt.grad(out, inputs)], EXACT)(*point) for out in replaced)
    for a, b in zip(ours, plain, strict=True):
        assert relative_error(a, b) < 1e-9


@WITHOUT_A_GENERATOR
def test_what_a_random_variable_is_made_of_is_left_alone():
    y = pt.vector("y", shape=(N,))
    mean = solve(a_covariance(1.0, 1.0), y)
    draw = pt.random.normal(mean, 1.0)
    assert autotune.tune(draw, EXACT) is draw
    assert not requests(autotune.tune(draw.sum(), EXACT))


def test_shared_variables_inputs_and_constants_are_the_callers():
    noise = pytensor.shared(np.float64(0.5), name="noise")
    y, A = pt.vector("y", shape=(N,)), pt.constant(np.eye(N) + 0.1, name="A")
    loss = a_loss(a_covariance(1.0, noise), y) + (A @ y).sum()
    tuned = autotune.tune(loss, EXACT)
    assert {noise, y} <= set(ancestors([tuned]))
    fn = compile_with([y], tuned, EXACT)
    for value in (0.5, 2.0):
        noise.set_value(value)
        point = RNG.normal(size=N)
        assert relative_error(fn(point), compile_raw([y], loss)(point)) < 1e-9


def test_several_outputs_some_of_them_inputs_or_constants():
    y, one = pt.vector("y", shape=(N,)), pt.constant(np.ones(3))
    K = a_covariance(1.0, 0.5)
    x, logdet = solve(K, y, assume_a="pos"), slogdet(K)[1]
    tuned = autotune.tune([x, y, logdet, one, x], EXACT)
    assert isinstance(tuned, list)
    assert tuned[1] is y
    assert tuned[4] is tuned[0]
    np.testing.assert_array_equal(tuned[3].data, one.data)
    point = RNG.normal(size=N)
    pairs = zip(
        compile_with([y], tuned, EXACT)(point),
        compile_raw([y], [x, y, logdet, one, x])(point),
        strict=True,
    )
    assert all(relative_error(a, b) < 1e-9 for a, b in pairs)


def test_names_and_tags_are_kept():
    y = pt.vector("y", shape=(N,))
    K = a_covariance(1.0, 0.5)
    K.name = "K"
    for out in (a_loss(K, y), slogdet(K)[1]):
        out.name, out.tag.told = "out", "something"
        tuned = autotune.tune(out, EXACT)
        assert tuned is not out
        assert (tuned.name, tuned.tag.told) == ("out", "something")


def test_a_variable_of_the_caller_takes_no_other_name():
    y = pt.vector(shape=(N,))
    same = y * 1
    same.name = "same"
    assert autotune.tune(same) is y
    assert y.name is None


e, U = pt.vector("e", shape=(N,)), pt.matrix("U", shape=(N, 2))
SCALED = {
    "both sides": pt.diag(e) @ (0.5 * pt.eye(N) + U @ U.T) @ pt.diag(e),
    "both sides, elementwise": e[:, None] * (pt.diag(1 + e) + U @ U.T) * e,
    "product of diagonals": pt.diag(e) @ pt.diag(1 + e) + U @ U.T,
    "masked": pt.diag(1 + e) * (U @ U.T) + U @ U.T + pt.eye(N),
    "masked twice": pt.eye(N) * pt.diag(1 + e) * pt.diag(e) + U @ U.T,
}


@pytest.mark.parametrize("name", SCALED)
def test_gradients_of_what_was_tuned_stay_thin_and_right(name):
    y = pt.vector("y", shape=(N,))
    loss = a_loss(SCALED[name], y)
    tuned = autotune.tune(loss, EXACT)
    outs, plain = ([out, *pt.grad(out, [e, U, y])] for out in (tuned, loss))
    fn = compile_with([e, U, y], outs, EXACT)
    assert largest_array(fn) < N * N
    point = [RNG.uniform(1, 2, N), RNG.normal(size=(N, 2)), RNG.normal(size=N)]
    for a, b in zip(fn(*point), compile_raw([e, U, y], plain)(*point), strict=True):
        assert relative_error(a, b) < 1e-9


CONNECTED = {
    "a term": lambda loss, x: loss + 0.0 * x.sum(),
    "all": lambda loss, x: 0.0 * loss * x.sum(),
    "a matrix": lambda loss, x: pt.outer(x, x) * (loss * 0.0),
    "an integer": lambda loss, x: loss + 0 * x.astype("int64").sum(),
}


@pytest.mark.parametrize("case", CONNECTED)
def test_what_an_output_depends_on_it_still_does_where_that_is_simplified_away(case):
    """Its gradient is zero, it may be an input of the function, a batch of it gives a batch."""
    x, y = pt.vector("x", shape=(N,)), pt.vector("y", shape=(N,))
    out = CONNECTED[case](a_loss(a_covariance(1.0, 0.5), y), x)
    tuned = autotune.tune(out, EXACT)
    assert {x, y} <= set(ancestors([tuned]))
    assert tuned.type == out.type
    gradient = pt.grad(tuned.sum(), x, disconnected_inputs="ignore")
    fn, plain = (compile_raw([x, y], outs) for outs in ([tuned, gradient], [out]))
    value, zero = fn(np.full(N, 3.0), point := RNG.normal(size=N))
    np.testing.assert_allclose(value, plain(np.full(N, 3.0), point)[0], rtol=1e-9)
    np.testing.assert_array_equal(zero, np.zeros(N))
    batch = pt.matrix("batch", shape=(2, N))
    shapes = [vectorize_graph(o, {x: batch}).type.shape for o in (tuned, out)]
    assert shapes[0] == shapes[1]


def test_the_callers_graph_is_left_as_it_was():
    y = pt.vector("y", shape=(N,))
    loss = a_loss(a_covariance(1.0, 0.5), y)
    before = pytensor.dprint(loss, file="str")
    autotune.tune(loss, EXACT)
    assert pytensor.dprint(loss, file="str") == before


SPLIT = {
    "margin": 0,
    "rules": [
        {"match": {"request": ["logdet"]}, "force": "cholesky_or_lu"},
        {"match": {"request": ["solve", "inverse", "inverse_diagonal"]}, "force": "lu"},
    ],
}


@pytest.mark.parametrize("policy", [EXACT, SPLIT], ids=["one strategy", "a strategy for each request"])
def test_what_was_tuned_is_not_decided_again(policy, caplog):
    """Not by `tune`, and not where a gradient has asked for more of the same matrix."""
    A, y = pt.matrix("A", shape=(N, N)), pt.vector("y", shape=(N,))
    loss = y @ solve(A, y) + slogdet(A)[1]
    tuned = autotune.tune(loss, policy)
    [gradient] = pt.grad(tuned, [y])
    again = autotune.tune([tuned, gradient], policy)
    assert not caplog.records
    before, after = ({v.owner_op.spec.strategy for v in requests(*v)} for v in ([tuned, gradient], again))
    assert before == after
    point = [RNG.normal(size=(N, N)) + 9 * np.eye(N), RNG.normal(size=N)]
    expected = compile_raw([A, y], [loss, *pt.grad(loss, [y])])(*point)
    for a, b in zip(compile_with([A, y], again, policy)(*point), expected, strict=True):
        assert relative_error(a, b) < 1e-9
