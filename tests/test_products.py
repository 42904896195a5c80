"""Products of square matrices and triangular ones, taken apart: values and gradients are plain PyTensor's."""

import mpmath
import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import (
    assert_equal,
    compile_plain,
    compile_with,
    in_turn,
    largest_array,
    of_factor,
    relative_error,
    strategies,
)
from pytensor.assumptions import assume
from pytensor.graph.fg import FunctionGraph
from pytensor.tensor.linalg import cholesky, det, inv, slogdet, solve

import autotune
from autotune.read.facts import Facts
from autotune.read.triangles import is_triangular

pytestmark = pytest.mark.filterwarnings("ignore:An ill-conditioned matrix")  # that of NaN

N = 6
ROWS, COLUMNS = np.tril_indices(N)
rng = np.random.default_rng(0)
A, B = pt.matrix("A", shape=(N, N)), pt.matrix("B", shape=(N, N))
v, d, y = pt.vector("v", shape=(len(ROWS),)), pt.vector("d", shape=(N,)), pt.vector("y", shape=(N,))
s, U = pt.scalar("s"), pt.matrix("U", shape=(N, 1))
INPUTS = [A, B, v, d, y, s, U]
LOWER = np.tril(rng.normal(size=(N, N)) / 3) + np.diag(rng.uniform(1, 2, N))
VALUES = {
    A: LOWER + LOWER.T / 3,
    B: np.eye(N) + rng.normal(size=(N, N)) / 5,
    v: LOWER[ROWS, COLUMNS],
    d: rng.uniform(0.5, 2, N) * np.array([1, -1, 1, 1, -1, 1]),
    y: rng.normal(size=N),
    s: 1.3,
    U: rng.normal(size=(N, 1)),
}
R = np.corrcoef(rng.normal(size=(N, 20)))
W = np.eye(N, k=1) + np.eye(N, k=-1)
W[0, 3] = W[3, 0] = 2
BY_ROWS = W / W.sum(axis=1, keepdims=True)
packed = pt.zeros((N, N))[ROWS, COLUMNS].set(v)
lower = pt.tril(A)
SYMMETRIC = {
    "packed L L'": packed @ packed.T,
    "tril": lower @ lower.T,
    "L' L": lower.T @ lower,
    "triu": pt.triu(A) @ pt.triu(A).T,
    "scaled": 2 * s**2 * (packed @ packed.T) / 3,
    "L D L'": packed @ pt.diag(d**2) @ packed.T,
    "D L L' D": pt.diag(d) @ packed @ packed.T @ pt.diag(d),
    "d L L' d'": d[:, None] * (packed @ packed.T) * d[None, :],
    "D R D": pt.diag(d) @ pt.constant(R) @ pt.diag(d),
    "d s R d'": d[:, None] * (s * pt.constant(R)) * d,
    "SAR": (pt.eye(N) - s / 4 * BY_ROWS).T @ (pt.eye(N) - s / 4 * BY_ROWS) * s,
    "diagonal set": (lambda L: L @ L.T)(lower[np.arange(N), np.arange(N)].set(pt.exp(d))),
    "tril and diagonal": (lambda L: L @ L.T)(pt.tril(A, -1) + pt.diag(pt.exp(d))),
    "pencil and low rank": s * pt.constant(R) + d[0] ** 2 * pt.eye(N) + U @ U.T,
    "CAR and a scalar": s * (pt.diag(W.sum(axis=1)) - 0.3 * W) + d[1] ** 2,
    "constant": pt.constant(R) + 0 * s,
    "of a Kronecker product": pt.diag(d)
    @ pt.linalg.kron(assume(A[:2, :2] @ A[:2, :2].T, positive_definite=True), pt.eye(3) + s)
    @ pt.diag(d),
}
GENERAL = {
    "A B": A @ B,
    "A B A": A @ B @ A,
    "A D B": A @ pt.diag(d) @ B,
    "L B": packed @ B,
    "L": packed,
    "L'": packed.T / s,
    "I - r W": pt.eye(N) - s / 4 * BY_ROWS,
    "(I - r W) B": (pt.eye(N) - s / 4 * BY_ROWS.T) @ B,
    "indefinite": packed @ pt.diag(d) @ packed.T,
}
FORMS = SYMMETRIC | GENERAL
PARTS = (
    "product",
    "congruence",
    "triangular",
    "spectrum",
    "known_inverse",
    "diagonal",
    "kronecker",
    "woodbury",
)
DENSE = ["keep", "cholesky", "cholesky_or_lu", "lu", "cg", "lanczos"]
# Dense matrices are factorised as parts alone.
BY_PARTS = {
    "rules": [
        {
            "match": {"structure": ["product", "congruence", "triangular", "pencil", "known_inverse"]},
            "forbid": DENSE,
        }
    ]
}


def requests(K):
    Y = pt.constant(np.random.default_rng(1).normal(size=(N, 3)))
    return {
        "solve": solve(K, y),
        "solve matrix": solve(K, Y),
        "solve transposed": solve(K.T, Y),
        "inverse times": inv(K) @ Y,
        "quadratic form": y @ inv(K) @ y,
        "sign": slogdet(K)[0],
        "logdet": slogdet(K)[1],
        "determinant": det(K),
        "inverse": inv(K),
        "inverse diagonal": pt.diagonal(inv(K)),
    }


def factor_requests(K):
    return of_factor(K, y)


CASES = [(form, requests) for form in FORMS] + [(form, factor_requests) for form in SYMMETRIC]


@pytest.mark.parametrize(("form", "make"), in_turn(CASES, every=11))
def test_values(form, make):
    asked = list(make(FORMS[form]).values())
    fn = compile_with(INPUTS, asked, BY_PARTS)
    assert_equal(fn(*VALUES.values()), compile_plain(INPUTS, asked)(*VALUES.values()))
    assert set(strategies(fn)) & {*PARTS}


def loss_of(outputs):
    rng = np.random.default_rng(3)
    numbers = [out for out in outputs if out.dtype != "bool"]
    return sum((pt.constant(rng.uniform(0.5, 1, size=out.type.shape)) * out).sum() for out in numbers)


@pytest.mark.parametrize("taken", ["by the user", "of what is tuned"])
@pytest.mark.parametrize(("form", "make"), in_turn(CASES, every=20))
def test_gradients(form, make, taken):
    loss = loss_of(make(FORMS[form]).values())
    value = loss if taken == "by the user" else autotune.tune(loss, BY_PARTS)
    outputs, plain = ([x, *pt.grad(x, INPUTS, disconnected_inputs="ignore")] for x in (value, loss))
    fn = compile_with(INPUTS, outputs, BY_PARTS)
    assert_equal(fn(*VALUES.values()), compile_plain(INPUTS, plain)(*VALUES.values()))
    assert set(strategies(fn)) & {*PARTS}


@pytest.mark.parametrize("form", ["packed L L'", "SAR", "pencil and low rank"])
def test_a_density_makes_no_square_array_but_that_of_the_factor(form):
    K = FORMS[form]
    loss = -0.5 * (slogdet(K)[1] + y @ solve(K, y))
    fn = compile_with(INPUTS, [loss, *pt.grad(loss, [s, d, U, y], disconnected_inputs="ignore")], BY_PARTS)
    of_factor = form == "packed L L'"
    assert largest_array(fn) <= (N * N if of_factor else len(ROWS))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["D L L' D", "SAR", "pencil and low rank", "A B"])
def test_numba(form):
    loss = loss_of(requests(FORMS[form]).values())
    outputs = [loss, *pt.grad(loss, INPUTS, disconnected_inputs="ignore")]
    mine, plain = compile_with(INPUTS, outputs, BY_PARTS, base="NUMBA"), compile_plain(INPUTS, outputs)
    assert_equal(mine(*VALUES.values()), plain(*VALUES.values()))


# -- what is no positive definite matrix -----------------------------------------------------------------


@pytest.mark.parametrize("entry", [0.0, np.nan])
def test_a_factor_of_a_singular_product_is_nan(entry):
    asked = factor_requests(FORMS["packed L L'"])
    fn = compile_with(INPUTS, list(asked.values()), BY_PARTS)
    singular = VALUES[v].copy()
    singular[5] = entry  # a diagonal entry
    *numbers, definite = fn(*{**VALUES, v: singular}.values())
    assert all(np.isnan(x).all() for x in numbers)
    assert not definite


def test_a_factor_of_an_indefinite_product_is_nan():
    asked = list(factor_requests(FORMS["indefinite"]).values())
    fn = compile_with(INPUTS, asked, BY_PARTS)
    assert_equal(fn(*VALUES.values()), compile_plain(INPUTS, asked)(*VALUES.values()))
    assert "congruence" in strategies(fn)


def test_products_with_few_columns_are_reordered_by_pytensor(caplog):
    """It cannot reorder a product in a transposed one, such as a product with L L' may be written."""
    inputs = [pt.matrix(name, shape=(12, n)) for name, n in (("L", 12), ("X", 2), ("Y", 1))]
    Q = pt.tril(inputs[0]) @ pt.tril(inputs[0]).T
    outputs = [slogdet(Q)[1], (Q @ inputs[1]).T @ inputs[2]]
    point = [np.random.default_rng(i).normal(size=v.type.shape) for i, v in enumerate(inputs)]
    point[0] += 5 * np.eye(12)
    found, expected = compile_with(inputs, outputs)(*point), compile_plain(inputs, outputs)(*point)
    assert not [record for record in caplog.records if record.name.startswith("pytensor")]
    assert all(relative_error(a, b) < 1e-10 for a, b in zip(found, expected, strict=True))


def test_a_product_of_dense_matrices_keeps_its_factor():
    """One of them may be singular where rounding makes a factor of the product fail."""
    fn = compile_with(INPUTS, list(factor_requests(A @ A.T).values()))
    assert set(strategies(fn)) <= set(DENSE)


def test_the_factor_of_a_product_is_the_product():
    for form in ("packed L L'", "d L L' d'", "L D L'"):
        L = cholesky(FORMS[form])
        fn = compile_with(INPUTS, [L], BY_PARTS)
        assert_equal(fn(*VALUES.values()), compile_plain(INPUTS, [L])(*VALUES.values()))
        assert "congruence" in strategies(fn)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_small_orders(n):
    short = pt.vector("v", shape=(n * (n + 1) // 2,))
    L = pt.zeros((n, n))[np.tril_indices(n)].set(short)
    K = d[:n, None] * (L @ L.T) * d[:n]
    asked = [slogdet(K)[1], y[:n] @ solve(K, y[:n])]
    values = {**VALUES, v: VALUES[v][: n * (n + 1) // 2]}
    inputs = [short if i is v else i for i in INPUTS]
    fn, plain = compile_with(inputs, asked, BY_PARTS), compile_plain(inputs, asked)
    assert_equal(fn(*values.values()), plain(*values.values()))


def test_single_precision():
    x = pt.vector("x", shape=(len(ROWS),), dtype="float32")
    L = pt.zeros((N, N), dtype="float32")[ROWS, COLUMNS].set(x)
    fn = compile_with([x], [slogdet(L @ L.T)[1], inv(L @ L.T)], BY_PARTS)
    logdet, inverse = fn(VALUES[v].astype("float32"))
    assert logdet.dtype == inverse.dtype == "float32"
    assert relative_error(logdet, np.linalg.slogdet(LOWER @ LOWER.T)[1]) < 1e-5


def test_unknown_sizes_are_left_alone():
    M = pt.matrix("M")
    fn = compile_with([M], slogdet(pt.tril(M) @ pt.tril(M).T)[1])
    assert all(set(d.problem.structure) == {"dense"} for d in autotune.explain(fn).decisions)


def test_a_plan_says_what_is_inside_and_pins_hold_it(tmp_path):
    K = FORMS["D L L' D"]
    outputs = [solve(K, y), slogdet(K)[1]]
    fn = compile_with(INPUTS, outputs, BY_PARTS)
    [decision] = autotune.explain(fn).decisions
    assert [part.chosen for part in decision.parts] == ["diagonal", "congruence"]
    again = compile_with(INPUTS, outputs, autotune.explain(fn).save(tmp_path / "pins.yaml"))
    assert strategies(again) == strategies(fn)


# -- accuracy --------------------------------------------------------------------------------------------


def exact(L):
    """log|det L L'| and the inverse, in 50 digits."""
    with mpmath.workdps(50):
        M = mpmath.matrix(L.tolist())
        return float(2 * sum(mpmath.log(abs(M[i, i])) for i in range(len(L)))), M


@pytest.mark.parametrize("smallest", [1.0, 1e-4, 1e-8, 1e-12])
def test_a_product_loses_fewer_digits_than_what_it_forms(smallest):
    """The condition number of L L' is the square of that of L."""
    L = LOWER.copy()
    L[3, 3] = smallest
    logdet, M = exact(L)
    with mpmath.workdps(50):
        b = mpmath.matrix(VALUES[y].tolist())
        x = mpmath.lu_solve(M * M.T, b)
    K = FORMS["packed L L'"]
    fn = compile_with(INPUTS, [slogdet(K)[1], solve(K, y)], BY_PARTS)
    found_logdet, found = fn(*{**VALUES, v: L[ROWS, COLUMNS]}.values())
    assert relative_error(found_logdet, logdet) < 1e-14
    assert relative_error(found, np.array([float(t) for t in x])) < 1e-13 / smallest


# -- which matrices are triangular -----------------------------------------------------------------------

TRIANGLES = {
    "tril": (pt.tril(A), True, False),
    "triu": (pt.triu(A), False, True),
    "tril 1": (pt.tril(A, 1), False, False),
    "triu -1": (pt.triu(A, -1), False, False),
    "packed": (packed, True, False),
    "incremented": (packed[ROWS, COLUMNS].inc(v), True, False),
    "upper": (pt.zeros((N, N))[COLUMNS, ROWS].set(v), False, True),
    "set elsewhere": (packed[COLUMNS, ROWS].set(v), False, False),
    "on a matrix": (A[ROWS, COLUMNS].set(v), False, False),
    "negative index": (pt.zeros((N, N))[[0, -1], [0, 1]].set(y[:2]), False, False),
    "product": (packed @ pt.tril(A), True, False),
    "product of both": (packed @ pt.triu(A), False, False),
    "sum": (2 * packed - pt.tril(A) / s, True, False),
    "sum of both": (packed + pt.triu(A), False, False),
    "elementwise": (packed * B, True, False),
    "scalar added": (packed + s, False, False),
    "transposed": (packed.T, False, True),
    "chosen": (pt.switch(np.tri(N, dtype=bool), A, 0.0), True, False),
    "chosen, not 0": (pt.switch(np.tri(N, dtype=bool), A, 1.0), False, False),
    "divided by it": (A / packed, False, False),
    "factor": (cholesky(B @ B.T), True, False),
    "diagonal": (pt.diag(d), True, True),
    "constant": (pt.constant(LOWER), True, False),
}


@pytest.mark.parametrize("name", TRIANGLES)
def test_triangles(name):
    matrix, below, above = TRIANGLES[name]
    facts = Facts(FunctionGraph(outputs=[matrix], clone=False))
    assert [is_triangular(matrix, facts, lower=side) for side in (True, False)] == [below, above]
    value = compile_plain(INPUTS, [matrix])(*VALUES.values())[0]
    assert not below or not np.triu(value, 1).any()
    assert not above or not np.tril(value, -1).any()
