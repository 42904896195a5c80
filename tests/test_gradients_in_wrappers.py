"""What `tune` gives goes through PyTensor's wrappers, with the values and gradients of the original."""

import itertools
import pickle

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_raw, compile_with, in_turn
from pytensor.compile.builders import OpFromGraph
from pytensor.conditional.op import ifelse
from pytensor.gradient import jacobian, pushforward
from pytensor.graph.replace import clone_replace, vectorize_graph
from pytensor.tensor.linalg import inv, slogdet, solve

import autotune

N = 6
EXACT = {"margin": 0, "rules": [{"forbid": ["keep", "cg", "lanczos"]}]}
RNG = np.random.default_rng(4)
VALUES = {
    "d": RNG.uniform(1, 2, N),
    "U": RNG.normal(size=(N, 1)),
    "y": RNG.normal(size=N),
    "s": np.array(0.7),
    "batch_d": RNG.uniform(1, 2, (2, N)),
    "batch_U": RNG.normal(size=(2, N, 1)),
}
V = {name: pt.tensor(name, shape=value.shape) for name, value in VALUES.items()}
d, U, y, s = (V[name] for name in "dUys")
INPUTS, POINT = list(V.values()), list(VALUES.values())
STRUCTURED = s * (U @ U.T) + pt.diag(d)
DENSE = pt.exp(-pt.abs(d[:, None] - d[None, :])) + pt.eye(N)
OUTPUTS = {
    "solve": solve(STRUCTURED, y, b_ndim=1),
    "one column": solve(STRUCTURED, U),
    "logdet": slogdet(STRUCTURED)[1],
    "diag(inv)": pt.diagonal(inv(STRUCTURED)),
    "quadratic form": y @ solve(STRUCTURED, y, assume_a="pos", b_ndim=1),
    "dense": solve(DENSE, y, assume_a="pos", b_ndim=1) * slogdet(DENSE)[1],
}


@pytest.fixture(autouse=True)
def _python_inside():
    """PyTensor's Python linker compiles what is inside an OpFromGraph by the default mode."""
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        yield


def weighted(out):
    weights = np.cos(np.arange(np.prod(out.type.shape, dtype=int))).reshape(out.type.shape)
    return (weights * out).sum()


def with_gradients(out):
    loss = weighted(out)
    return [out, *pt.grad(loss, INPUTS, disconnected_inputs="ignore")]


def assert_same(tuned, original):
    """Of two lists of variables."""
    ours, plain = compile_with(INPUTS, tuned, EXACT)(*POINT), compile_raw(INPUTS, original)(*POINT)
    for a, b in zip(ours, plain, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * max(np.abs(b).max(initial=0), 1e-3))


def an_op_from_a_graph(out):
    return OpFromGraph([d, U, y, s], [out], on_unused_input="ignore")(d, U, y, s)


def a_scan(out):
    def step(scale, total):
        return total + weighted(clone_replace(out, replace={d: d * scale}))

    steps = pt.constant(np.array([1.0, 1.5, 2.0]))
    start = pt.constant(np.float64(0))
    return pytensor.scan(step, sequences=[steps], outputs_info=[start], return_updates=False)[-1]


WRAPPERS = {
    "OpFromGraph": an_op_from_a_graph,
    "Scan": a_scan,
    "ifelse": lambda out: ifelse(s > 0.5, out, 2 * out),
    "clone": lambda out: clone_replace(out, replace={d: d * 1.5}),
}
BATCHES = {"d": {d: V["batch_d"]}, "U": {U: V["batch_U"]}, "d, U": {d: V["batch_d"], U: V["batch_U"]}}


@pytest.mark.parametrize(("name", "wrapper"), in_turn(itertools.product(["solve", "dense"], WRAPPERS), 3))
def test_a_wrapper_of_what_was_tuned(name, wrapper):
    wrapped = [WRAPPERS[wrapper](out) for out in (autotune.tune(OUTPUTS[name], EXACT), OUTPUTS[name])]
    assert_same(*map(with_gradients, wrapped))


@pytest.mark.parametrize("wrapper", ["OpFromGraph", "ifelse"])
def test_what_was_wrapped_is_tuned(wrapper):
    wrapped = WRAPPERS[wrapper](OUTPUTS["quadratic form"])
    assert_same(with_gradients(autotune.tune(wrapped, EXACT)), with_gradients(wrapped))


@pytest.mark.parametrize(
    ("name", "batch"),
    in_turn([(name, b) for name in OUTPUTS for b in BATCHES if b == "d" or name != "dense"], 3),
)
def test_a_batch_of_what_was_tuned(name, batch):
    """Lengths that are known stay known: PyTensor broadcasts no axis that it learns to have length 1."""
    out = OUTPUTS[name]
    original, tuned = (vectorize_graph(o, BATCHES[batch]) for o in (out, autotune.tune(out, EXACT)))
    assert tuned.type.shape == original.type.shape
    assert_same(with_gradients(tuned), with_gradients(original))


@pytest.mark.parametrize("name", in_turn(["solve", "logdet"]))
def test_a_batch_of_gradients(name):
    batches = [
        vectorize_graph(pt.grad(weighted(out), [d, U]), BATCHES["d, U"])
        for out in (autotune.tune(OUTPUTS[name], EXACT), OUTPUTS[name])
    ]
    assert_same(*batches)


@pytest.mark.parametrize("name", in_turn(["batch_d", "y"]))
def test_a_batch_of_a_batch_that_was_tuned(name):
    """More right-hand sides for each of the matrices, more matrices for each right-hand side."""
    of_batch = V["batch_U"] @ V["batch_U"].mT + pt.eye(N) * V["batch_d"][:, :, None]
    out = (y * solve(of_batch, y, b_ndim=1)).sum(axis=-1) * slogdet(of_batch)[1]
    more = {V[name]: pt.stack([V[name], 2 * V[name], V[name] + 1])}
    tuned, original = (
        [*with_gradients(vectorize_graph(o, more)), *jacobian(o, [V[name], V["batch_U"]], vectorize=True)]
        for o in (autotune.tune(out, EXACT), out)
    )
    assert_same(tuned, original)


@pytest.mark.parametrize("name", in_turn(OUTPUTS))
def test_what_was_batched_is_tuned(name):
    batched = vectorize_graph(OUTPUTS[name], BATCHES["d"])
    assert_same(with_gradients(autotune.tune(batched, EXACT)), with_gradients(batched))


def test_lengths_that_the_batch_alone_knows():
    any_U = pt.matrix("any_U", shape=(N, None))
    out = slogdet(pt.diag(d) + s * (any_U @ any_U.T))[1]
    original, tuned = (
        vectorize_graph(o, {any_U: V["batch_U"], d: V["batch_d"]}) for o in (out, autotune.tune(out, EXACT))
    )
    assert_same(with_gradients(tuned), with_gradients(original))


def test_pickled_and_loaded():
    tuned = autotune.tune(OUTPUTS["solve"], EXACT)
    inputs, again = pickle.loads(pickle.dumps(([d, U, y, s], tuned)))
    gradients = pt.grad(weighted(again), inputs)
    ours = compile_with(inputs, gradients, EXACT)(*(VALUES[name] for name in "dUys"))
    plain = compile_raw(INPUTS, pt.grad(weighted(OUTPUTS["solve"]), [d, U, y, s]))(*POINT)
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize("name", ["solve", "quadratic form", "dense"])
def test_pushed_forward(name):
    wrt, tangents = [d, y], [pt.sin(d), pt.cos(y)]
    forward = pushforward(weighted(autotune.tune(OUTPUTS[name], EXACT)), wrt, tangents)
    by_gradients = sum(
        (g * t).sum() for g, t in zip(pt.grad(weighted(OUTPUTS[name]), wrt), tangents, strict=True)
    )
    assert_same([forward], [by_gradients])
