"""Request Ops compute without the pass, and their pullbacks are exact, twice over."""

import itertools
import pickle

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_plain, compile_with, in_turn, python_mode, relative_error, spd
from pytensor.compile.mode import Mode
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.rewriting.utils import rewrite_graph
from pytensor.tensor.linalg import solve

import autotune
from autotune.algebra.dense import Dense
from autotune.algebra.diagonal import Diagonal
from autotune.algebra.low_rank import LowRank
from autotune.algebra.requests import RequestedSystem, RequestOp
from autotune.algebra.sum import Sum

N, K = 7, 2
M, U, V = pt.matrix("M", shape=(N, N)), pt.matrix("U", shape=(N, K)), pt.matrix("V", shape=(N, K))
d, c = pt.vector("d", shape=(N,)), pt.vector("c", shape=(K,))
b = pt.matrix("b", shape=(N, 3))
INPUTS = [M, U, V, d, c, b]
rng = np.random.default_rng(5)
VALUES = [
    spd(N, rng),
    rng.normal(size=(N, K)),
    rng.normal(size=(N, K)),
    rng.uniform(1, 2, N),
    rng.uniform(0.5, 1, K),
    rng.normal(size=(N, 3)),
]

# name: operator, positive definite, symmetric, strategies that serve it
SYSTEMS = {
    "dense_spd": (Dense((M + M.T) / 2), True, True, ("keep", "cholesky", "cholesky_or_lu", "lu")),
    "dense_general": (Dense(M + U @ V.T), False, False, ("keep", "cholesky_or_lu", "lu")),
    "low_rank_spd": (Sum((Diagonal(d), LowRank(U, c, U))), True, True, ("keep", "woodbury", "cholesky")),
    "low_rank_symmetric": (
        Sum((Diagonal(d), LowRank(U, -c / 9, U))),
        False,
        True,
        ("keep", "woodbury", "cholesky_or_lu", "lu"),
    ),
    "low_rank_general": (
        Sum((Diagonal(d), LowRank(U, c, V / 5))),
        False,
        False,
        ("keep", "woodbury", "cholesky_or_lu", "lu"),
    ),
}
KINDS = (
    "solve",
    "solve_transposed",
    "logdet",
    "inverse",
    "inverse_diagonal",
    "inv_quad",
    "is_positive_definite",
)


def dense_reference(kind, A):
    """The same by PyTensor's own differentiable Ops."""
    inverse = pt.linalg.inv(A)
    return {
        "solve": lambda: pt.linalg.solve(A, b),
        "solve_transposed": lambda: pt.linalg.solve(A.T, b),
        "logdet": lambda: pt.linalg.slogdet(A)[1],
        "inverse": lambda: inverse,
        "inverse_diagonal": lambda: pt.diagonal(inverse),
        "inv_quad": lambda: (b * pt.linalg.solve(A, b)).sum(axis=0),
        "is_positive_definite": lambda: pt.all(pt.diagonal(pt.linalg.cholesky(A)) > 0),
    }[kind]()


def requested(kind, operator, positive_definite, symmetric, strategy):
    system = RequestedSystem(
        operator, positive_definite=positive_definite, symmetric=symmetric, strategy=strategy, decision=None
    )
    if kind == "solve_transposed":
        return system.solve(b, transposed=True)
    out = system.answer(kind, b if kind in ("solve", "inv_quad") else None)
    return out[-1]


CASES = [
    (name, kind)
    for name, kind in itertools.product(SYSTEMS, KINDS)
    if SYSTEMS[name][1] or kind not in ("inv_quad", "is_positive_definite")
]


def scalar_of(out):
    """A scalar that depends unevenly on every entry."""
    weights = np.cos(np.arange(int(np.prod(out.type.shape)))).reshape(out.type.shape)
    return (out * weights).sum()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_value_without_the_pass(name, kind):
    operator, pd, symmetric, _ = SYSTEMS[name]
    out = requested(kind, operator, pd, symmetric, "keep")
    expected = dense_reference(kind, operator.to_dense())
    actual, reference = compile_plain(INPUTS, [out, expected])(*VALUES)
    assert relative_error(actual, reference) < 1e-10


# The other requests, as every strategy serves them, are differentiated twice in test_gradients.
DIFFERENTIATED = [
    case if case[1] in ("solve_transposed", "inv_quad") else pytest.param(*case, marks=pytest.mark.slow)
    for case in CASES
    if case[1] != "is_positive_definite"
]


@pytest.mark.parametrize(("name", "kind"), DIFFERENTIATED)
def test_gradient_and_its_gradient_are_exact(name, kind):
    operator, pd, symmetric, _ = SYSTEMS[name]
    wrt = INPUTS
    out = requested(kind, operator, pd, symmetric, "keep")
    expected = dense_reference(kind, operator.to_dense())
    first = pt.grad(scalar_of(out), wrt, disconnected_inputs="ignore")
    first_reference = pt.grad(scalar_of(expected), wrt, disconnected_inputs="ignore")
    direction = [np.sin(1.0 + np.arange(np.prod(i.type.shape))).reshape(i.type.shape) for i in wrt]
    second = pt.grad(
        sum((g * p).sum() for g, p in zip(first, direction, strict=True)), wrt, disconnected_inputs="ignore"
    )
    second_reference = pt.grad(
        sum((g * p).sum() for g, p in zip(first_reference, direction, strict=True)),
        wrt,
        disconnected_inputs="ignore",
    )
    actual = compile_plain(INPUTS, [*first, *second])(*VALUES)
    reference = compile_plain(INPUTS, [*first_reference, *second_reference])(*VALUES)
    for a, r in zip(actual, reference, strict=True):
        assert np.abs(a - r).max() <= 1e-8 * max(np.abs(r).max(), 1.0)


@pytest.mark.parametrize("name", in_turn(SYSTEMS))
def test_every_strategy_lowers_value_and_gradient(name):
    operator, pd, symmetric, strategies = SYSTEMS[name]
    kinds = [kind for system, kind in CASES if system == name and kind != "is_positive_definite"]

    def joint(strategy):
        cost = sum(scalar_of(requested(kind, operator, pd, symmetric, strategy)) for kind in kinds)
        return [cost, *pt.grad(cost, INPUTS, disconnected_inputs="ignore")]

    reference = compile_plain(INPUTS, joint("keep"))(*VALUES)
    for strategy in strategies:
        fn = compile_with(INPUTS, joint(strategy))
        assert not any(isinstance(node.op, RequestOp) for node in fn.maker.fgraph.apply_nodes)
        for a, r in zip(fn(*VALUES), reference, strict=True):
            assert np.abs(a - r).max() <= 1e-9 * max(np.abs(r).max(), 1.0)


def test_requests_survive_pytensors_rewrites_and_pickling():
    operator, pd, symmetric, _ = SYSTEMS["low_rank_spd"]
    out = requested("logdet", operator, pd, symmetric, "woodbury")
    rewritten = rewrite_graph(out, include=("canonicalize", "stabilize"))
    assert isinstance(rewritten.owner.op, RequestOp)
    inputs, again = pickle.loads(pickle.dumps((INPUTS, rewritten)))
    value = pytensor.function(inputs, again, mode=python_mode(), on_unused_input="ignore")(*VALUES)
    assert relative_error(value, compile_plain(INPUTS, out)(*VALUES)) < 1e-12


@pytest.mark.parametrize(
    "mode",
    [
        "FAST_COMPILE",
        Mode(linker="py", optimizer=None),
        pytest.param("NUMBA", marks=pytest.mark.slow),
    ],
    ids=["FAST_COMPILE", "no_rewrites", "NUMBA"],
)
def test_requests_compute_in_other_modes(mode):
    operator, pd, symmetric, _ = SYSTEMS["low_rank_spd"]
    out = requested("logdet", operator, pd, symmetric, "woodbury")
    fn = pytensor.function(INPUTS, out, mode=mode, on_unused_input="ignore")
    assert relative_error(fn(*VALUES), compile_plain(INPUTS, out)(*VALUES)) < 1e-12


def test_equal_requests_merge():
    operator, pd, symmetric, _ = SYSTEMS["dense_spd"]
    twice = requested("inverse", operator, pd, symmetric, "keep") + requested(
        "inverse", operator, pd, symmetric, "keep"
    )
    fn = compile_plain(INPUTS, twice)
    assert sum(isinstance(node.op, RequestOp) for node in fn.maker.fgraph.apply_nodes) == 1


def test_vectorised_requests_compute():
    operator, pd, symmetric, _ = SYSTEMS["low_rank_spd"]
    out = requested("solve", operator, pd, symmetric, "woodbury")
    batch = pt.tensor("batch", shape=(2, N))
    vectorised = vectorize_graph(out, {d: batch})
    fn = compile_with([*INPUTS, batch], vectorised)
    values = np.stack([VALUES[3], 2 * VALUES[3]])
    result = fn(*VALUES, values)
    single = compile_plain(INPUTS, out)
    for row, diagonal in zip(result, values, strict=True):
        assert relative_error(row, single(*VALUES[:3], diagonal, *VALUES[4:])) < 1e-12


def test_parts_that_merging_makes_one_variable_keep_their_gradients():
    """``U V.T`` with V replaced by U is rebuilt as what it was: two parts, two gradient terms."""
    general = LowRank(U, None, V)
    system = RequestedSystem(
        Sum((Diagonal(d), general)),
        positive_definite=False,
        symmetric=False,
        strategy="woodbury",
        decision=None,
    )
    op = system.solve(b).owner.op
    out = op(d, U, U, b).sum()
    reference = pt.linalg.solve(pt.diag(d) + U @ U.T, b).sum()
    actual = compile_with(INPUTS, [out, *pt.grad(out, [U, d])])(*VALUES)
    for a, e in zip(
        actual, compile_plain(INPUTS, [reference, *pt.grad(reference, [U, d])])(*VALUES), strict=True
    ):
        assert relative_error(a, e) < 1e-10


@pytest.mark.parametrize("static", [True, False])
def test_a_batch_of_right_hand_sides_of_a_batch_of_matrices(static):
    """Each matrix is solved with each: along an axis of its own the matrices have length 1."""
    s = pt.tensor("s", shape=(3, N, N) if static else (None, N, None), dtype="float64")
    y, many = pt.vector("y", shape=(N,)), pt.matrix("many", shape=(2, N))
    policy = {"rules": [{"forbid": ["keep"]}]}
    tuned = autotune.tune((y * solve(s, y, assume_a="pos", b_ndim=1)).sum(-1), policy)
    fn = compile_with([s, many], vectorize_graph(tuned, {y: many}), policy)
    rng = np.random.default_rng(0)
    matrices, right = np.stack([spd(N, rng) for _ in range(3)]), rng.normal(size=(2, N))
    expected = [[b @ np.linalg.solve(A, b) for A in matrices] for b in right]
    assert relative_error(fn(matrices, right), expected) < 1e-10
