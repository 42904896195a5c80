"""Symmetry proven by the way a matrix is computed: never claimed of what is not, and found in kernels."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import compile_plain, compile_with
from hypothesis import given
from hypothesis import strategies as st
from pytensor.compile.mode import Mode
from pytensor.tensor.linalg import block_diag, kron, slogdet

import autotune
from autotune.read.symmetry import Symmetry

N = 3
X, Y, S = (pt.matrix(name, shape=(N, N)) for name in "XYS")
W, v, u, s = (
    pt.matrix("W", shape=(N, 2)),
    pt.vector("v", shape=(N,)),
    pt.vector("u", shape=(N,)),
    pt.scalar("s"),
)
AS_WRITTEN = Mode(linker="py", optimizer=None)
rng = np.random.default_rng(7)
S_VALUE = rng.normal(size=(N, N))
LEAVES = [
    X,
    Y,
    S,
    W @ W.T,
    v[:, None],
    v[None, :],
    u[:, None],
    u[None, :],
    s[None, None],
    pt.diag(v),
    pt.eye(N),
    pt.constant(rng.normal(size=(N, N))),
    pt.constant(2.0)[None, None],
]
VALUES = {X: rng.normal(size=(N, N)), Y: rng.normal(size=(N, N)), S: S_VALUE + S_VALUE.T}
VALUES |= {W: rng.normal(size=(N, 2)), v: rng.normal(size=N), u: rng.normal(size=N), s: np.array(0.7)}
UNARY = [
    lambda a: a.T,
    lambda a: -a,
    lambda a: pt.sqr(a),
    lambda a: abs(a),
    lambda a: pt.exp(pt.tanh(a)),
    lambda a: a**2,
    lambda a: a**3,
    lambda a: a**-2.0,
    lambda a: pt.cos(a),
    lambda a: pt.sin(a),
    lambda a: a + a.T,
    lambda a: a - a.T,
    lambda a: pt.specify_shape(a, a.type.shape),
]
BINARY = [
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: a - b,
    lambda a, b: b - a,
    lambda a, b: pt.sqr(a - b),
    lambda a, b: abs(a - b) ** 3,
    lambda a, b: a / (2 + pt.sqr(b)),
    lambda a, b: pt.maximum(a, b),
    lambda a, b: pt.minimum(a, b.T),
    lambda a, b: pt.switch(a > b, a, b),
    lambda a, b: pt.ge(a, b).astype(float),
    lambda a, b: pt.eq(a, b).astype(float),
    lambda a, b: pt.arctan2(a, b),
]
OF_MATRICES = [
    lambda a, b: a @ b,
    lambda a, b: a @ a.T,
    lambda a, b: a @ b @ a.T,
    lambda a, b: (2 * a) @ (-b) @ (a.T / 3),
    lambda a, b: -((a @ b).T @ (a @ b.T)),
    lambda a, b: a.T @ b.T,
    lambda a, b: (a * v) @ a.T,
    lambda a, b: (a * v) @ b @ (v[:, None] * a.T * 2),
    lambda a, b: (v[:, None] * a) @ b @ pt.diag(v),
    lambda a, b: kron(a, b)[:N, :N],
]


def _is_square(var):
    return var.type.shape == (N, N)


@st.composite
def expressions(draw):
    made = [draw(st.sampled_from(LEAVES)) for _ in range(3)]
    for _ in range(draw(st.integers(1, 6))):
        a, b = draw(st.sampled_from(made)), draw(st.sampled_from(made))
        if _is_square(a) and _is_square(b) and draw(st.booleans()):
            made.append(draw(st.sampled_from(OF_MATRICES))(a, b))
        elif draw(st.booleans()):
            made.append(draw(st.sampled_from(UNARY))(a))
        else:
            made.append(draw(st.sampled_from(BINARY))(a, b))
    square = [var for var in made if _is_square(var)]
    return square[-1] if square else made[-1] + X


@given(expressions())
def test_what_is_claimed_to_be_symmetric_is(matrix):
    if not Symmetry(lambda var: var is S).holds(matrix):
        return
    with np.errstate(all="ignore"):
        value = compile_plain(list(VALUES), matrix, AS_WRITTEN)(*VALUES.values())
    np.testing.assert_allclose(value, value.T, rtol=1e-10, atol=1e-12)


P = pt.matrix("P", shape=(6, 2))
w = pt.vector("w", shape=(6,))
length = pt.scalar("length")


def squared_distances(P):
    return (pt.sqr(P).sum(axis=1)[:, None] + pt.sqr(P).sum(axis=1)[None, :]) - 2 * P @ P.T


def pymc_distances(P, length):
    """As PyMC's stationary kernels have it."""
    P = pt.mul(P, 1.0 / length)
    squares = pt.sum(pt.square(P), 1)
    distances = -2.0 * pt.dot(P, pt.transpose(P))
    distances += pt.reshape(squares, (-1, 1)) + pt.reshape(squares, (1, -1))
    return pt.clip(distances, 0.0, np.inf)


def ptgp_distances(P, length):
    """As ptgp's stationary kernels have it."""
    P = P / length
    A, B = (pt.sum(pt.square(P), axis=-1, keepdims=True) for _ in range(2))
    return pt.maximum(A - 2.0 * (P @ P.T) + B.T, 0.0)


def matern52(squares):
    r = pt.sqrt(squares + 1e-12)
    return (1.0 + np.sqrt(5.0) * r + 5.0 / 3.0 * pt.square(r)) * pt.exp(-1.0 * np.sqrt(5.0) * r)


POINTS = np.linspace(0, 3, 6)[:, None]
SYMMETRIC = {
    "sum with its transpose": lambda P: X + X.T,
    "product with its transpose": lambda P: X * X.T,
    "mean with its transpose": lambda P: 0.5 * (X + X.T) + pt.eye(N),
    "weighted gram": lambda P: P @ pt.diag(w[:2]) @ P.T + pt.eye(6),
    "sandwich": lambda P: (3 * P) @ (W.T @ W) @ P.T / length + pt.exp(-pt.sqr(w[:, None] - w)),
    "weights in a sandwich": lambda P: (X * v) @ (Y + Y.T) @ (v[:, None] * X.T),
    "weights of a square matrix": lambda P: (X * v) @ X.T,
    "precision": lambda P: X + X.T + pt.diag(v),
    "indexed alike": lambda P: (X + X.T)[[0, 2, 1, 0]][:, [0, 2, 1, 0]] + pt.eye(4),
    "indexed by a column and a row": lambda P: (X + X.T)[[[0], [2], [1], [0]], [[0, 2, 1, 0]]] + pt.eye(4),
    "sandwich of a sum": lambda P: X @ (Y + Y.T) @ X.T,
    "column weights": lambda P: (P * w[:2]) @ P.T + pt.diag(w),
    "distances of points": lambda P: pt.exp(-pt.sqr(w[:, None] - w[None, :]) / length),
    "absolute distances": lambda P: pt.exp(-abs(w[:, None] - w) / length),
    "summed differences": lambda P: pt.exp(-(pt.sqr(P[:, None, :] - P[None, :, :]).sum(axis=-1)) / length),
    "squared norms": lambda P: pt.exp(-squared_distances(P) / length),
    "PyMC's ExpQuad": lambda P: pt.exp(-0.5 * pymc_distances(P, length)) + 1e-6 * pt.eye(6),
    "PyMC's Matern52": lambda P: matern52(pymc_distances(P, length)),
    "PyMC's Matern52 on two lengths": lambda P: matern52(pymc_distances(P, w[:2])) + w[0] * pt.eye(6),
    "ptgp's ExpQuad": lambda P: length**2 * pt.exp(-0.5 * ptgp_distances(P, length)),
    "ptgp's Matern52": lambda P: matern52(ptgp_distances(P, length)) + pt.diag(w),
    "PyMC's ExpQuad on constant points": lambda P: pt.exp(-0.5 * pymc_distances(POINTS, length)),
    "differences of constants": lambda P: pt.exp(-pt.sqr(POINTS - POINTS.T) / length),
    "symmetric constant": lambda P: w[0] * pt.constant(POINTS @ POINTS.T) + pt.outer(w, w),
    "product of kernels": lambda P: pt.exp(-squared_distances(P)) * matern52(ptgp_distances(P, length)),
    "kernel on a column": lambda P: pt.exp(-pt.sqr(P[:, [0]] - P[:, [0]].T)),
    "outer": lambda P: pt.outer(w, w) + pt.exp(length) * pt.eye(6),
    "minimum": lambda P: pt.minimum(w[:, None], w[None, :]) + pt.eye(6),
    "kron": lambda P: kron(X + X.T, pt.exp(-squared_distances(P))),
    "blocks": lambda P: block_diag(X + X.T, pt.exp(-squared_distances(P))),
    "multiple of a transpose of blocks": lambda P: (
        length * block_diag(X + X.T, matern52(squared_distances(P))).T
    ),
}
NOT_SYMMETRIC = {
    "input": lambda P: X,
    "difference": lambda P: X - X.T + pt.eye(N),
    "odd power": lambda P: (w[:, None] - w[None, :]) ** 3 + pt.eye(6),
    "two matrices": lambda P: X + Y.T,
    "product": lambda P: (X + X.T) @ (Y + Y.T),
    "sandwich of two": lambda P: X @ (Y + Y.T) @ X,
    "sandwich in another order": lambda P: X @ (Y + Y.T) @ Y.T,
    "indexed by others": lambda P: (X + X.T)[[0, 2, 1, 0]][:, [0, 1, 1, 0]] + pt.eye(4),
    "weights on one side": lambda P: (X * v) @ (Y + Y.T) @ X.T,
    "rows scaled": lambda P: v[:, None] * (X + X.T),
    "order of a quotient": lambda P: (X + X.T) / (v[:, None] + pt.eye(N)),
    "kron of one": lambda P: kron(X + X.T, Y),
    "blocks of one": lambda P: block_diag(X + X.T, Y),
    "squared difference of others": lambda P: pt.sqr(w[:, None] - pt.sin(w)[None, :]) + pt.eye(6),
}
INPUTS = [X, Y, S, W, P, v, w, length]


@pytest.mark.parametrize("form", [*SYMMETRIC, *NOT_SYMMETRIC])
def test_matrices_as_people_write_them(form):
    """Where a graph is read, after PyTensor has rewritten it."""
    matrix = (SYMMETRIC | NOT_SYMMETRIC)[form](P)
    fn = compile_with(INPUTS, slogdet(matrix))
    [decision] = autotune.explain(fn).decisions
    assert decision.problem.symmetric == (form in SYMMETRIC)


@pytest.mark.parametrize("form", ["PyMC's ExpQuad", "ptgp's Matern52", "summed differences"])
def test_kernels_of_unknown_sizes(form):
    points = pt.matrix("points")
    fn = compile_with([points, w, length], slogdet(SYMMETRIC[form](points)))
    [decision] = autotune.explain(fn).decisions
    assert decision.problem.symmetric
