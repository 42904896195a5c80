"""Structure that canonicalisation, or PyMC, would fold into an n x n constant is read in every spelling."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import chosen, compile_plain, compile_with, forced, in_turn, relative_error
from pytensor.tensor.linalg import cholesky, inv, slogdet, solve

import autotune

N, Q = 60, 5
rng = np.random.default_rng(0)
g = rng.integers(0, Q, N)
g[g == 3] = 2  # a group without members
Z = np.eye(Q)[g]
X = rng.normal(size=(N, 4))
A = rng.normal(size=(4, 4))
S0 = A @ A.T
s, t, r = pt.scalars("s", "t", "r")
w, v, y = pt.vector("w", shape=(Q,)), pt.vector("v", shape=(4,)), pt.vector("y", shape=(N,))
W = pt.matrix("W", shape=(Q, 2))
INPUTS = [s, t, r, w, v, y, W]
VALUES = [
    np.array(0.7),
    np.array(1.3),
    np.array(0.4),
    rng.uniform(1, 2, Q),
    rng.uniform(1, 2, 4),
    rng.normal(size=N),
    rng.normal(size=(Q, 2)),
]
as_pt = pt.as_tensor
C, D = as_pt(X), as_pt(Z)
eq = pt.eq(g[:, None], g[None, :])

FORMS = {
    "one-hot, Z (t I) Z'": Z @ (t * pt.eye(Q)) @ Z.T,
    "one-hot, Z ((t I) Z')": Z @ ((t * pt.eye(Q)) @ Z.T),
    "one-hot, Z diag(w) Z'": Z @ pt.diag(w) @ Z.T,
    "one-hot, (Z w) Z'": (Z * w) @ Z.T,
    "one-hot, Z (w Z')": Z @ (w[:, None] * Z.T),
    "one-hot, t Z Z'": t * pt.dot(D, D.T),
    "one-hot, (t Z) Z'": (t * D) @ D.T,
    "one-hot, Z Z' t^2 / 2": D @ D.T * t**2 / 2,
    "one-hot, transposed first": t * (as_pt(Z.T).T @ as_pt(Z.T)),
    "one-hot, bool": t * (as_pt(Z.astype(bool)) @ as_pt(Z.astype(bool)).T),
    "one-hot, int8": t * (as_pt(Z.astype("int8")) @ as_pt(Z.astype("int8")).T),
    "one-hot, float32": t * (as_pt(Z.astype("float32")) @ as_pt(Z.astype("float32")).T),
    "one-hot, bool with weights": (as_pt(Z.astype(bool)) * w) @ as_pt(Z.astype(bool)).T,
    "one-hot, eye[g]": t * (pt.eye(Q)[g] @ pt.eye(Q)[g].T),
    "one-hot, eye[:, g]": t * (pt.eye(Q)[:, g].T @ pt.eye(Q)[:, g]),
    "one-hot, Z (W W' + diag(w)) Z'": Z @ (W @ W.T + pt.diag(w)) @ Z.T,
    "one-hot, sparse to dense": (Z * w) @ Z.T + t * X @ X.T,
    "group, t (g == g')": t * eq,
    "group, cast": t * eq.astype("float64"),
    "group, counted": t * eq.astype("int64"),
    "group, w[g] (g == g')": w[g][:, None] * eq,
    "group, exp(w)[g]": pt.exp(w)[g][:, None] * eq,
    "group, exp(w[g]) t": pt.exp(w[g])[:, None] * eq * t,
    "group, sides": w[g][:, None] * eq * w[g][None, :],
    "group, float": t * pt.eq(as_pt(g * 0.5)[:, None], as_pt(g * 0.5)[None, :]),
    "columns, t X X'": t * (C @ C.T),
    "columns, [:, idx]": t * (C[:, np.array([0, 2])] @ C[:, np.array([0, 2])].T),
    "columns, [:, :2]": t * (C[:, :2] @ C[:, :2].T),
    "columns, one": t * (C[:, [1]] @ C[:, [1]].T),
    "columns, outer": t * pt.outer(C[:, 1], C[:, 1]),
    "columns, centred": t * ((C - C.mean(0))[:, :2] @ (C - C.mean(0))[:, :2].T),
    "columns, scaled by constants": (2 * C) @ C.T * t,
    "columns, constant weights": t * ((C * np.arange(1.0, 5)) @ C.T),
    "columns, indefinite weights": t * ((C * np.array([1.0, -0.01, 2, 3])) @ C.T),
    "columns, constant middle": t * (C @ S0 @ C.T),
    "columns, X diag(v) X'": C @ pt.diag(v) @ C.T,
    "columns, X (t I) X'": C @ (t * pt.eye(4)) @ C.T,
    "columns, int": t * (as_pt(np.round(X * 3).astype(int)) @ as_pt(np.round(X * 3).astype(int)).T),
    "columns, float32": t * (as_pt(X.astype("float32")) @ as_pt(X.astype("float32")).T),
    "folded, one-hot": t * as_pt(Z @ Z.T),
    "folded, weighted": t * as_pt((Z * np.arange(1, Q + 1)) @ Z.T),
    "folded, X X'": t * as_pt(X @ X.T),
    "folded, bool": t * as_pt((Z @ Z.T).astype(bool)),
    "folded, ones": t * as_pt(np.ones((N, N))),
    "scalar": t,
    "scalar, minus": -0.001 * t,
    "scalar, full": pt.full((N, N), t),
    "scalar and columns": t + r * (C @ C.T),
    "indexed, kernel of groups": pt.exp(-t * pt.abs(w[:, None] - w[None, :]))[g][:, g],
    "one-hot, kernel of groups": Z @ pt.exp(-t * pt.abs(w[:, None] - w[None, :])) @ Z.T,
    "indexed, (W W' + diag(w))[g, g']": (W @ W.T + pt.diag(w))[g[:, None], g[None, :]],
    "indexed, [g][:, g]": (W @ W.T + pt.diag(w))[g][:, g],
}


def thin(fn) -> list[str]:
    """What makes or holds an N x N array in a compiled function."""
    fgraph = fn.maker.fgraph
    made = [str(n.op) for n in fgraph.toposort() for o in n.outputs if getattr(o.type, "shape", ()) == (N, N)]
    return made + ["a constant" for v in fgraph.variables if np.size(getattr(v, "data", None)) >= N * N]


@pytest.mark.parametrize("form", in_turn(FORMS, 3))
def test_no_square_array_is_made(form):
    K = FORMS[form] + s * pt.eye(N)
    value = y @ solve(K, y, assume_a="sym") + slogdet(K)[1]
    by = [i for i in INPUTS if i in pytensor.graph.traversal.ancestors([value])]
    outputs = [value, *pt.grad(value, by)]
    fn = compile_with(INPUTS, outputs, {"rules": [{"forbid": ["keep", "lu", "cholesky_or_lu"]}]})
    assert chosen(fn) in (["woodbury"], ["spectrum"])
    assert thin(fn) == []
    plain = compile_plain(INPUTS, outputs)
    tolerance = 1e-5 if "float32" in form else 1e-9
    for actual, expected in zip(fn(*VALUES), plain(*VALUES), strict=True):
        assert relative_error(actual, expected) < tolerance


def log_determinant(A):
    """In extended precision, by Cholesky."""
    A = A.astype(np.longdouble)
    total = np.longdouble(0)
    for j in range(len(A)):
        total += np.log(A[j, j])
        A[j + 1 :, j + 1 :] -= np.outer(A[j + 1 :, j], A[j, j + 1 :]) / A[j, j]
    return float(total)


@pytest.mark.parametrize("noise", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("made", ["kernel", "gram"])
@pytest.mark.parametrize("strategy", ["woodbury", "spectrum"])
def test_the_rank_of_a_constant_costs_no_digits(strategy, made, noise):
    """Also of one whose eigenvalues fall off below rounding."""
    x = np.linspace(0, 1, 100)
    A = (
        np.exp(-0.5 * (x[:, None] - x) ** 2 / 0.3**2)
        if made == "kernel"
        else (lambda X: X @ X.T)(rng.normal(size=(100, 8)))
    )
    K = t * pt.constant(A) + s * pt.eye(100)
    value = slogdet(K)[1]
    fn = compile_with([s, t], [value, pt.grad(value, s)], forced(strategy))
    plain = compile_plain([s, t], [value, pt.grad(value, s)])
    dense = 1.3 * A.astype(np.longdouble) + noise * np.eye(100)
    right = log_determinant(dense)
    mine, theirs = fn(noise, 1.3), plain(noise, 1.3)
    assert abs(mine[0] - right) <= 10 * abs(theirs[0] - right) + 1e-13 * abs(right)
    assert relative_error(mine[1], theirs[1]) < 1e-13 / noise


@pytest.mark.parametrize("rank", [5, 31])
def test_a_constant_is_looked_at_within_the_budget(rank):
    """Its rank costs operations."""
    B = rng.normal(size=(N, rank))
    K = t * pt.constant(B @ B.T) + s * pt.eye(N)
    known = compile_with([s, t], slogdet(K)[1])
    spared = compile_with([s, t], slogdet(K)[1], {"compile_budget": 1e-9})
    assert autotune.explain(known).decisions[0].problem.structure[-1] == (
        "low_rank" if rank == 5 else "pencil"
    )
    assert autotune.explain(spared).decisions[0].problem.structure == ("dense",)


HUNDREDS = as_pt(np.full((N, 2), 100, "int8"))
NOT_LOW_RANK = {
    "as many columns as rows": t * (as_pt(rng.normal(size=(N, N))) @ as_pt(rng.normal(size=(N, N))).T),
    "a general constant": t * as_pt(rng.normal(size=(N, N))),
    "whole numbers that wrap around": t
    * (as_pt(np.full((N, 2), 100, "int8")) @ as_pt(np.full((2, N), 100, "int8"))),
    "a bool that absorbs": t * (as_pt(np.ones((N, 2), bool)) @ as_pt(np.ones((2, N), bool))),
    "groups of unknown members": t * pt.eq(y[:, None], y[None, :]),
    "a column for each row": w[g][:, None] * pt.exp(-t * pt.abs(y[:, None] - y)),
}


# By the one row that they have, not as the product that they are.
OF_EQUAL_ROWS = ("whole numbers that wrap around", "a bool that absorbs")


@pytest.mark.parametrize("form", NOT_LOW_RANK)
def test_what_is_not_proven_is_left_as_it_is(form):
    K = NOT_LOW_RANK[form] + 300 * s * pt.eye(N)
    fn, plain = compile_with(INPUTS, slogdet(K)[1]), compile_plain(INPUTS, slogdet(K)[1])
    structure = autotune.explain(fn).decisions[0].problem.structure
    assert structure == (("diagonal", "low_rank") if form in OF_EQUAL_ROWS else ("dense",))
    assert relative_error(fn(*VALUES), plain(*VALUES)) < 1e-10


def test_more_columns_than_rows_are_not_a_low_rank():
    wide = as_pt(rng.normal(size=(6, 9)))
    K = t * (wide @ wide.T) + s * pt.eye(6)
    fn = compile_with([s, t], slogdet(K)[1])
    assert chosen(fn) != ["woodbury"]
    assert relative_error(fn(0.7, 1.3), compile_plain([s, t], slogdet(K)[1])(0.7, 1.3)) < 1e-12


@pytest.mark.parametrize("asked", [cholesky, inv])
def test_what_is_asked_of_a_design_used_elsewhere_too(asked):
    """The product is a value of the function as well, and the design has other uses."""
    K = (D * w) @ D.T + s * pt.eye(N)
    outputs = [asked(K).sum(), (D @ w).sum(), (D @ W).sum(axis=0), (D.T @ D) @ w, K.sum()]
    for actual, expected in zip(
        compile_with(INPUTS, outputs)(*VALUES), compile_plain(INPUTS, outputs)(*VALUES), strict=True
    ):
        assert relative_error(actual, expected) < 1e-10


def test_a_graph_that_is_never_read_has_no_marks_left():
    """Of tune, compiled without autotune."""
    K = t * (C @ C.T) + s * pt.eye(N)
    tuned = autotune.tune(slogdet(K)[1], {"rules": [{"force": "keep"}]})
    fn = compile_plain([s, t], [tuned, pt.grad(tuned, s)])
    assert not any("AsWritten" in str(node.op) for node in fn.maker.fgraph.apply_nodes)
    assert relative_error(fn(0.7, 1.3)[0], compile_plain([s, t], slogdet(K)[1])(0.7, 1.3)) < 1e-12
