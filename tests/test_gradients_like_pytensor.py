"""Values and gradients have PyTensor's numbers, shapes and dtypes, whichever door the pass enters by.

A table: matrices (alone, in batches, a batch of one, structured) and what is made of them, right-hand sides
that broadcast either way, and functions of quadratic forms and log-determinants.
"""

from functools import cache

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import compile_raw, compile_with, in_turn
from pytensor.compile.mode import get_mode
from pytensor.graph.rewriting.utils import rewrite_graph
from pytensor.graph.traversal import graph_inputs
from pytensor.tensor.linalg import cho_solve, cholesky, det, inv, slogdet, solve, solve_triangular

import autotune

N, K, BATCH = 5, 2, 3
EXACT = {"margin": 0, "rules": [{"forbid": ["keep", "cg", "lanczos"]}]}
RNG = np.random.default_rng(3)


def _spd(*batch):
    G = RNG.normal(size=(*batch, N, N))
    return G @ np.swapaxes(G, -1, -2) / N + np.eye(N)


def _negative_determinant():
    M = RNG.normal(size=(N, N))
    return M if np.linalg.det(M) < 0 else M[[1, 0, *range(2, N)]]


VALUES = {
    "S": _spd(),
    "M": _negative_determinant(),
    "S3": _spd(BATCH),
    "S1": _spd(1),
    "U": RNG.normal(size=(N, K)),
    "d": RNG.uniform(1, 2, N),
    "b": RNG.normal(size=N),
    "B": RNG.normal(size=(N, 2)),
    "b3": RNG.normal(size=(BATCH, N)),
    "B3": RNG.normal(size=(BATCH, N, 2)),
    "b1": RNG.normal(size=(1, N)),
    "B1": RNG.normal(size=(1, N, 2)),
}
V = {name: pt.tensor(name, shape=value.shape) for name, value in VALUES.items()}
# symmetric by what they are made of: PyTensor's pullback of a Cholesky factor gives one triangle
MATRICES = {
    "dense": V["S"] + V["S"].T,
    "general": V["M"],
    "low_rank": V["U"] @ V["U"].T + pt.diag(V["d"]),
    "batch": V["S3"] + V["S3"].mT,
    "batch_of_one": V["S1"] + V["S1"].mT,
}


def quad(A, b="b", assume_a="gen"):
    return (V[b] * solve(A, V[b], assume_a=assume_a, b_ndim=1)).sum(axis=-1)


def logdet(A):
    return slogdet(A)[1]


def diagonal(A):
    return pt.diagonal(A, axis1=-2, axis2=-1)


RIGHT_HAND_SIDES = {
    f"{what} {b}": (lambda A, b=b, f=f: f(A, V[b], 1 if b.islower() else 2))
    for b in ("b", "B", "b1", "B1", "b3", "B3")
    for what, f in {
        "solve": lambda A, b, nd: solve(A, b, b_ndim=nd),
        "pos": lambda A, b, nd: solve(A, b, assume_a="pos", b_ndim=nd),
        "cho_solve": lambda A, b, nd: cho_solve((cholesky(A), True), b, b_ndim=nd),
        "whitened": lambda A, b, nd: pt.sqr(solve_triangular(cholesky(A), b, lower=True, b_ndim=nd)).sum(-nd),
    }.items()
}
OTHERS = {
    "sym": lambda A: solve(A, V["b"], assume_a="sym", b_ndim=1),
    "inv @ b": lambda A: inv(A) @ V["b"],
    "inv @ B3": lambda A: inv(A) @ V["B3"],
    "b @ inv @ b": lambda A: V["b"] @ inv(A) @ V["b"],
    "inv": inv,
    "diag(inv)": lambda A: diagonal(inv(A)),
    "trace(inv)": lambda A: diagonal(inv(A)).sum(axis=-1),
    "logdet": logdet,
    "sign": lambda A: slogdet(A)[0],
    "sign * logdet": lambda A: slogdet(A)[0] * logdet(A),
    "sign * exp(logdet)": lambda A: slogdet(A)[0] * pt.exp(logdet(A)),
    "det": det,
    "log(det)": lambda A: pt.log(det(A)),
    "log|det|, viewed": lambda A: pt.log(pt.abs(det(A)[..., None])),
    "half logdet": lambda A: pt.log(diagonal(cholesky(A))).sum(axis=-1),
    "exp(-q / 2)": lambda A: pt.exp(-quad(A, assume_a="pos") / 2 - logdet(A) / 2),
    "q ** 2": lambda A: quad(A, assume_a="pos") ** 2,
    "log|q|": lambda A: pt.log(pt.abs(quad(A))),
    "q * logdet": lambda A: quad(A) * logdet(A),
    "tanh": lambda A: pt.tanh(quad(A)) + pt.tanh(logdet(A)),
    "solve(logdet * b)": lambda A: solve(A, logdet(A)[..., None] * V["b"], b_ndim=1),
    "solve(solve(b) ** 2)": lambda A: solve(A, solve(A, V["b"], b_ndim=1) ** 2, b_ndim=1),
    "two matrices": lambda A: logdet(A) * quad(V["S"] + V["S"].T + pt.eye(N)),
}
REAL_FACTOR = ("pos", "cho_solve", "whitened", "half logdet", "exp(-q / 2)", "q ** 2")
SAID_POSITIVE = [name for name in (*RIGHT_HAND_SIDES, *OTHERS) if name.startswith(REAL_FACTOR)]
FUNCTIONS = list(OTHERS)[list(OTHERS).index("half logdet") :]
BATCHED_ONE = ("solve b", "pos B3", "whitened b3", "diag(inv)", "log|det|, viewed")
BATCHED = [name for name in OTHERS if name not in ("log|q|", "tanh", "sign * logdet", "sym", "trace(inv)")]
TABLE = [
    *(("dense", name) for name in (*RIGHT_HAND_SIDES, *OTHERS) if not name.endswith(("b1", "B1"))),
    *(("batch", name) for name in (*RIGHT_HAND_SIDES, *BATCHED)),
    *(("batch_of_one", name) for name in BATCHED_ONE),
    *(("general", name) for name in OTHERS if name not in (*SAID_POSITIVE, "sym")),
    *(("low_rank", name) for name in (*FUNCTIONS, "diag(inv)", "log(det)", "solve b3", "pos B3")),
]


def repeats(matrix, name):
    """What other cases hold one by one: each right-hand side beside `solve`, each function of dense ones."""
    what, *b = name.split(" ")
    if name in RIGHT_HAND_SIDES:
        return what != "solve" and b != (["b"] if matrix == "dense" else ["B3"])
    return name in FUNCTIONS and matrix in ("batch", "general")


CASES = [
    pytest.param(m, name, id=f"{m}: {name}", marks=[pytest.mark.slow] if repeats(m, name) else [])
    for m, name in TABLE
]


def weighted(out):
    """A scalar that depends on every entry, on each differently."""
    weights = np.cos(np.arange(np.prod(out.type.shape, dtype=int))).reshape(out.type.shape)
    return (weights * out).sum()


def with_gradient(loss):
    used = set(graph_inputs([loss]))
    wrt = [v for v in V.values() if v in used]
    return [loss, *pt.grad(loss, wrt, disconnected_inputs="ignore")]


def before_the_compile(out):
    return with_gradient(weighted(out))


def after_tune(out):
    return with_gradient(autotune.tune(weighted(out), EXACT))


def as_pymc(out):
    with autotune.enabled(EXACT):
        return with_gradient(rewrite_graph(weighted(out), include=("canonicalize", "stabilize"), clone=True))


DOORS = [before_the_compile, after_tune, as_pymc]


def assert_same(actual, expected):
    for ours, plain in zip(actual, expected, strict=True):
        assert (ours.shape, ours.dtype) == (plain.shape, plain.dtype)
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(plain))
        largest = np.abs(plain[~np.isnan(plain)]).max(initial=1e-3)
        np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-9 * largest)


def output(matrix, name):
    return (RIGHT_HAND_SIDES | OTHERS)[name](MATRICES[matrix])


@cache
def expected(matrix, name):
    return compile_raw(list(V.values()), before_the_compile(output(matrix, name)))(*VALUES.values())


THROUGH_DOORS = [
    pytest.param(*case.values, door, id=f"{case.id}, {door.__name__}", marks=case.marks)
    for case in CASES
    for door in DOORS
]


@pytest.mark.parametrize(("matrix", "name", "door"), in_turn(THROUGH_DOORS, 14))
def test_values_and_gradients_are_those_of_pytensor(matrix, name, door):
    fn = compile_with(list(V.values()), door(output(matrix, name)), EXACT)
    assert_same(fn(*VALUES.values()), expected(matrix, name))


@pytest.mark.slow
@pytest.mark.parametrize("matrix", ["dense", "batch", "low_rank"])
def test_values_and_gradients_are_those_of_pytensor_with_numba(matrix):
    names = ["pos b3", "whitened b", "log(det)", "q * logdet", "solve(logdet * b)"]
    out = [output(matrix, name) for name in names]
    loss = sum(weighted(o) for o in out)
    inputs, values = list(V.values()), list(VALUES.values())
    expected = compile_raw(inputs, with_gradient(loss))(*values)
    tuned = with_gradient(autotune.tune(loss, EXACT))
    assert_same(compile_with(inputs, tuned, EXACT, base=get_mode("NUMBA"))(*values), expected)
