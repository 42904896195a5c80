"""Matrices whose entries lie on a few diagonals: values and gradients are plain PyTensor's."""

import pickle

import mpmath
import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import (
    assert_equal,
    compile_raw,
    compile_with,
    in_turn,
    largest_array,
    of_factor,
    relative_error,
    strategies,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pytensor.assumptions import assume
from pytensor.tensor.linalg import block_diag, cholesky, det, inv, kron, slogdet, solve, solve_triangular

import autotune
from autotune.algebra.banded import Banded
from autotune.algebra.dense import Dense

pytestmark = pytest.mark.filterwarnings("ignore:An ill-conditioned matrix")  # that of NaN

N = 24
rng = np.random.default_rng(0)
d, u, l = (pt.vector(name, shape=(N - k,)) for name, k in (("d", 0), ("u", 1), ("l", 1)))  # noqa: E741
w, y, s = pt.vector("w", shape=(N - 2,)), pt.vector("y", shape=(N,)), pt.scalar("s")
INPUTS = [d, u, l, w, y, s]
VALUES = {
    d: rng.uniform(4, 5, N),
    u: rng.normal(size=N - 1) / 2,
    l: rng.normal(size=N - 1) / 2,
    w: rng.uniform(1, 2, N - 2),
    y: rng.normal(size=N),
    s: np.array(1.3),
}
I, i = pt.eye(N), np.arange(N)  # noqa: E741
D2 = np.diff(np.eye(N), 2, axis=0)
RW2, CHAIN = D2.T @ D2, np.eye(N, k=1) + np.eye(N, k=-1)
TAPER = np.maximum(1 - abs(i[:, None] - i) / 2.5, 0)
symmetric = pt.diag(d) + pt.diag(u, 1) + pt.diag(u, -1)
lower = pt.diag(d) + pt.diag(l, -1)
kernel = pt.exp(-0.1 * pt.sqr(d[:, None] - d[None, :]))
SYMMETRIC = {
    "diag": symmetric,
    "eye": 3 * I + s * (pt.eye(N, k=1) + pt.eye(N, k=-1)),
    "set": pt.zeros((N, N))[i, i].set(d)[i[:-1], i[1:]].set(u)[i[1:], i[:-1]].set(u),
    "inc": (pt.diag(d)[i[:-1], i[1:]].inc(u))[i[1:], i[:-1]].inc(u),
    "RW2": s * RW2 + 0.5 * I,
    "RW2 + diagonal": s * RW2 + pt.diag(d),
    "P-spline": pt.constant(D2).T @ (w[:, None] * pt.constant(D2)) + s * I,
    "D' W D": pt.constant(D2).T @ pt.diag(w) @ pt.constant(D2) + s * I,
    "CAR": s * (np.diag(CHAIN.sum(axis=1)) - 0.9 * CHAIN),
    "scaled": pt.diag(d) @ (3 * I + pt.diag(u, 1) + pt.diag(u, -1)) @ pt.diag(d),
    "scaled by rows": d[:, None] * (3 * I + pt.diag(u, 1) + pt.diag(u, -1)) * d[None, :] / s,
    "L L'": lower @ lower.T,
    "tapered": kernel * TAPER + 2 * I,
    "chosen": pt.switch(TAPER > 0, kernel, 0.0) + 4 * I,
    "alone": assume(pt.constant(RW2 + np.eye(N)) * s, positive_definite=True),
}
GENERAL = {
    "three diagonals": pt.diag(d) + pt.diag(u, 1) - pt.diag(l, -1),
    "bidiagonal": lower,
    "transposed": (lower + pt.diag(w, 2)).T,
    "product": lower @ (pt.diag(d) + pt.diag(u, 1) / s),
    "wide": pt.diag(d) + pt.diag(w, 2) + pt.diag(l[:-2], -3),
    "indefinite": pt.diag(d * np.where(i % 3, 1, -1)) + pt.diag(u, 1) + pt.diag(u, -1),
    "no diagonal": pt.diag(u + 3, 1) + pt.diag(l + 3, -1),
}
PUT_TOGETHER = {
    "plus low rank": symmetric + s * pt.ones((N, N)),
    "Kronecker": kron(symmetric, 3 * pt.eye(2) + s),
    "blocks": block_diag(symmetric, s * pt.eye(2)),
    "between": pt.diag(pt.exp(d / 9)) @ kron(symmetric, s * pt.eye(1)) @ pt.diag(d),
}
FORMS = SYMMETRIC | GENERAL | PUT_TOGETHER
DENSE = ["keep", "cholesky", "cholesky_or_lu", "lu", "cg", "lanczos"]
IN_PARTS = ["kronecker", "block_diagonal", "congruence", "product"]
ON_BAND = {"rules": [{"match": {"structure": ["banded", *IN_PARTS]}, "forbid": DENSE}]}


def requests(K):
    n = K.type.shape[0]
    b = pt.tile(y, 3)[:n]
    Y = pt.constant(np.random.default_rng(1).normal(size=(n, 3)))
    return {
        "logdet": slogdet(K)[1],
        "solve": solve(K, b),
        "solve matrix": solve(K, Y),
        "solve transposed": solve(K.T, Y),
        "quadratic form": b @ inv(K) @ b,
        "sign": slogdet(K)[0],
        "inverse": inv(K),
        "inverse diagonal": pt.diagonal(inv(K)),
    }


def scaled_requests(K):
    """The determinant, whose size is not that of the others."""
    return {"determinant": det(K), "inverse times": inv(K) @ pt.tile(y, 3)[: K.type.shape[0]]}


def factor_requests(K):
    return of_factor(K, y)


def loss_of(outputs):
    rng = np.random.default_rng(3)
    numbers = [out for out in outputs if out.dtype != "bool"]
    return sum((pt.constant(rng.uniform(0.5, 1, size=out.type.shape)) * out).sum() for out in numbers)


CASES = [(form, make) for form in FORMS for make in (requests, scaled_requests)]
CASES += [(form, factor_requests) for form in SYMMETRIC]


@pytest.mark.parametrize(("form", "make"), in_turn(CASES, every=7))
def test_values(form, make):
    asked = list(make(FORMS[form]).values())
    fn = compile_with(INPUTS, asked, ON_BAND)
    assert_equal(fn(*VALUES.values()), compile_raw(INPUTS, asked)(*VALUES.values()))
    assert "banded" in strategies(fn)


@pytest.mark.parametrize("taken", ["by the user", "of what is tuned"])
@pytest.mark.parametrize(("form", "make"), in_turn(CASES, every=15))
def test_gradients(form, make, taken):
    loss = loss_of(make(FORMS[form]).values())
    value = loss if taken == "by the user" else autotune.tune(loss, ON_BAND)
    outputs, plain = ([x, *pt.grad(x, INPUTS, disconnected_inputs="ignore")] for x in (value, loss))
    fn = compile_with(INPUTS, outputs, ON_BAND)
    found, expected = fn(*VALUES.values()), compile_raw(INPUTS, plain)(*VALUES.values())
    assert_equal(found, expected, together=make is scaled_requests)
    assert "banded" in strategies(fn)


THIN = [form for form in [*SYMMETRIC, *GENERAL] if form not in ("tapered", "chosen")]


def density(K, b=y):
    return -0.5 * (slogdet(K)[1] + b @ solve(K, b))


@pytest.mark.parametrize("form", in_turn(THIN, every=3))
def test_a_density_and_its_gradient_make_nothing_square(form):
    loss = density(FORMS[form])
    fn = compile_with(INPUTS, [loss, *pt.grad(loss, INPUTS, disconnected_inputs="ignore")], ON_BAND)
    assert largest_array(fn) < N * N / 2
    assert "banded" in strategies(fn)


@pytest.mark.parametrize("form", ["RW2 + diagonal", pytest.param("three diagonals", marks=pytest.mark.slow)])
def test_numba(form):
    loss = density(FORMS[form])
    outputs = [loss, *pt.grad(loss, INPUTS, disconnected_inputs="ignore")]
    mine, plain = compile_with(INPUTS, outputs, ON_BAND, base="NUMBA"), compile_raw(INPUTS, outputs)
    assert_equal(mine(*VALUES.values()), plain(*VALUES.values()))


@pytest.mark.parametrize(("form", "said"), [("three diagonals", "tridiagonal"), ("wide", "banded")])
def test_a_solve_that_is_said_to_be_on_a_band_shares_the_factor(form, said):
    K = FORMS[form]
    asked = [solve(K, y, assume_a=said), slogdet(K)[1]]
    fn = compile_with(INPUTS, asked, ON_BAND)
    assert_equal(fn(*VALUES.values()), compile_raw(INPUTS, [solve(K, y), asked[1]])(*VALUES.values()))
    assert strategies(fn) == ["banded"]
    assert largest_array(fn) < N * N / 2


def test_a_solve_that_reads_three_diagonals_of_more_is_left_alone():
    fn = compile_with(INPUTS, [solve(FORMS["wide"], y, assume_a="tridiagonal")], ON_BAND)
    assert strategies(fn) == []


def test_second_derivatives():
    loss = density(FORMS["RW2 + diagonal"])
    outputs, plain = (
        pt.grad(pt.sqr(pt.grad(x, d)).sum(), [d, s]) for x in (autotune.tune(loss, ON_BAND), loss)
    )
    fn = compile_with(INPUTS, outputs, ON_BAND)
    assert_equal(fn(*VALUES.values()), compile_raw(INPUTS, plain)(*VALUES.values()))


def test_a_function_survives_pickling():
    fn = compile_with(INPUTS, [slogdet(3 * I + pt.diag(u, 1) + pt.diag(u, -1))[1]], ON_BAND)
    assert "banded" in strategies(fn)
    assert_equal(pickle.loads(pickle.dumps(fn))(*VALUES.values()), fn(*VALUES.values()))


# -- sizes and dtypes ------------------------------------------------------------------------------------

diagonal, beside, M = pt.vector("d"), pt.vector("e"), pt.matrix("M")
BESIDE = {"symmetric": (1, 1), "general": (1, -0.5), "bidiagonal": (1, 0)}


def of_unknown_size(form):
    above, below = BESIDE[form]
    return pt.diag(diagonal) + pt.diag(above * beside, 1) + (below and pt.diag(below * beside, -1))


def several(K):
    return slogdet(K)[1] + pt.sqr(inv(K)).sum() + pt.diagonal(inv(K)).sum() + solve(K, K[0] ** 2).sum()


@pytest.mark.parametrize("form", BESIDE)
def test_unknown_sizes(form):
    loss = several(of_unknown_size(form))
    fn = compile_with([diagonal, beside], [loss, *pt.grad(loss, [diagonal, beside])], ON_BAND)
    dense = compile_raw([M], [several(M), pt.grad(several(M), M)])
    assert "banded" in strategies(fn)
    above, below = BESIDE[form]
    for n in (1, 2, 3, 30):
        a, e = rng.uniform(3, 4, n), rng.normal(size=n - 1)
        expected, G = dense(np.diag(a) + np.diag(above * e, 1) + np.diag(below * e, -1))
        of_beside = above * np.diagonal(G, 1) + below * np.diagonal(G, -1)
        assert_equal(fn(a, e), [expected, np.diagonal(G), of_beside])


@pytest.mark.parametrize("length", [0, 1, 28, 30])
def test_a_diagonal_of_another_length_is_refused(length):
    for form in BESIDE:
        fn = compile_with([diagonal, beside], [slogdet(of_unknown_size(form))[1]], ON_BAND)
        with pytest.raises((AssertionError, IndexError, ValueError)):
            fn(np.ones(30), np.ones(length))


free = pt.vector("free")
WITH_FREE = {
    "product": (lambda L: L @ L.T)(pt.diag(free) + pt.diag(l, -1)),
    "set": pt.zeros((N, N))[i, i].set(free)[i[1:], i[:-1]].set(l),
    "scaled": free[:, None] * symmetric * free[None, :],
    "tapered": pt.exp(-pt.sqr(free[:, None] - free[None, :])) * TAPER + pt.eye(N),
}


@pytest.mark.parametrize("form", WITH_FREE)
def test_a_vector_of_another_length_is_refused_where_the_order_is_known(form):
    fn = compile_with([free, *INPUTS], [slogdet(WITH_FREE[form])[1]], ON_BAND)
    assert np.isfinite(fn(np.ones(N), *VALUES.values())).all()
    for length in (N - 1, N + 1):
        with pytest.raises((AssertionError, IndexError, ValueError)):
            fn(np.ones(length), *VALUES.values())


def test_a_right_hand_side_of_another_length_is_refused():
    b = pt.vector("b")
    fn = compile_with([d, u, b], [density(symmetric, b)])
    with pytest.raises((AssertionError, ValueError)):
        fn(VALUES[d], VALUES[u], np.ones(N + 1))


def test_integers_keep_their_dtype():
    whole = pt.vector("whole", shape=(N,), dtype="int64")
    K = pt.diag(whole) + pt.diag(u, 1) + pt.diag(u, -1)
    outputs = [slogdet(K)[1], solve(K, y), *pt.grad(density(K), [u, y])]
    values = {**VALUES, d: rng.integers(4, 8, N)}
    inputs = [whole, *INPUTS[1:]]
    fn, plain = compile_with(inputs, outputs, ON_BAND), compile_raw(inputs, outputs)
    assert_equal(fn(*values.values()), plain(*values.values()))
    assert "banded" in strategies(fn)


@pytest.mark.slow
def test_single_precision_is_as_accurate_as_a_dense_factor():
    a, b, c = (pt.vector(n, shape=(k,), dtype="float32") for n, k in (("a", N), ("b", N - 1), ("c", N)))
    K = pt.diag(a) + pt.diag(b, 1) + pt.diag(b, -1)
    outputs = [solve(K, c), solve(K.T, c), slogdet(K)[1], *pt.grad(density(K, c), [a, b, c])]
    fn, plain = compile_with([a, b, c], outputs, ON_BAND), compile_raw([a, b, c], outputs)
    wide = [pt.vector(v.name, shape=v.type.shape) for v in (a, b, c)]
    K = pt.diag(wide[0]) + pt.diag(wide[1], 1) + pt.diag(wide[1], -1)
    right = [solve(K, wide[2])] * 2 + [slogdet(K)[1], *pt.grad(density(K, wide[2]), wide)]
    exact = compile_raw(wide, right)
    assert "banded" in strategies(fn)
    for smallest in (1.0, 1e-2, 1e-4):
        values = [x.astype("float32") for x in (VALUES[d], VALUES[u], VALUES[y])]
        values[0][5] = values[1][4] ** 2 / values[0][4] + values[1][5] ** 2 / values[0][6] + smallest
        expected = exact(*values)
        for one, other, right in zip(fn(*values), plain(*values), expected, strict=True):
            assert one.dtype == "float32"
            assert relative_error(one, right) < 10 * relative_error(other, right) + 1e-6


# -- what has no factor ----------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [np.nan, 0.0, -1.0])
def test_a_cholesky_factor_that_does_not_exist_is_nan(entry):
    asked = factor_requests(symmetric)
    fn = compile_with(INPUTS, list(asked.values()), ON_BAND)
    assert "banded" in strategies(fn)
    values = {**VALUES, d: VALUES[d].copy()}
    values[d][7] = entry
    *numbers, definite = fn(*values.values())
    assert all(np.isnan(x).all() for x in numbers)
    assert not definite


@pytest.mark.parametrize("form", ["diag", "three diagonals"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_lost(form, value):
    K = FORMS[form]
    loss = density(K)
    gradients = pt.grad(loss, [d, u]) if np.isnan(value) else []
    fn = compile_with(INPUTS, [slogdet(K)[1], loss, *gradients], ON_BAND)
    values = {**VALUES, d: VALUES[d].copy()}
    values[d][7] = value
    assert not any(np.isfinite(x).all() for x in fn(*values.values()))


def test_zero_pivots_are_exchanged():
    for K in (symmetric, FORMS["three diagonals"]):
        outputs = [slogdet(K)[1], slogdet(K)[0], solve(K, y), *pt.grad(density(K), [d, u])]
        values = {**VALUES, d: 0 * VALUES[d], u: VALUES[u] + 2, l: VALUES[l] + 2}
        fn, plain = compile_with(INPUTS, outputs, ON_BAND), compile_raw(INPUTS, outputs)
        assert_equal(fn(*values.values()), plain(*values.values()))


def test_a_singular_matrix_has_the_determinant_zero():
    for K in (symmetric, FORMS["three diagonals"], lower):
        fn = compile_with(INPUTS, [*slogdet(K), det(K)], ON_BAND)
        values = {**VALUES, d: VALUES[d].copy(), u: VALUES[u].copy(), l: VALUES[l].copy()}
        values[d][7] = values[u][6] = values[u][7] = values[l][6] = values[l][7] = 0
        assert [float(x) for x in fn(*values.values())] == [0, -np.inf, 0]


# -- accuracy --------------------------------------------------------------------------------------------


def in_many_digits(values):
    """Log-determinant, solution and the entries of the inverse on the band of ``symmetric``."""
    with mpmath.workdps(50):
        K = mpmath.zeros(N)
        for j in range(N):
            K[j, j] = mpmath.mpf(float(values[d][j]))
        for j in range(N - 1):
            K[j, j + 1] = K[j + 1, j] = mpmath.mpf(float(values[u][j]))
        x = mpmath.lu_solve(K, mpmath.matrix([float(t) for t in values[y]]))
        Z = K**-1
        bars = [-0.5 * (Z[j, j] - x[j] ** 2) for j in range(N)]
        beside = [-(Z[j, j + 1] - x[j] * x[j + 1]) for j in range(N - 1)]
        found = mpmath.log(abs(mpmath.det(K))), x, bars, beside
        return [np.array([float(t) for t in part] if k else float(part)) for k, part in enumerate(found)]


@pytest.mark.parametrize("condition", [1e2, 1e12])
def test_no_more_digits_are_lost_than_by_a_dense_factor(condition):
    outputs = [
        slogdet(symmetric)[1],
        solve(symmetric, y, assume_a="pos"),
        *pt.grad(density(symmetric), [d, u]),
    ]
    L = cholesky(symmetric)
    white = solve_triangular(L, y, lower=True)
    by_factor = -0.5 * (2 * pt.log(pt.diagonal(L)).sum() + white @ white)
    dense = [-2 * by_factor - white @ white, outputs[1], *pt.grad(by_factor, [d, u])]
    fn, plain = compile_with(INPUTS, outputs, ON_BAND), compile_raw(INPUTS, dense)
    random = np.random.default_rng(7)
    mine, theirs = np.zeros(4), np.zeros(4)
    for _ in range(4):
        Q = np.geomspace(1, 1 / condition, N)[random.permutation(N)]
        off = np.sqrt(Q[:-1] * Q[1:]) * random.uniform(-0.4, 0.4, N - 1)
        values = {**VALUES, d: Q, u: off, y: random.normal(size=N) * np.sqrt(Q)}
        exact = in_many_digits(values)
        for worst, found in ((mine, fn(*values.values())), (theirs, plain(*values.values()))):
            errors = [relative_error(one, right) for one, right in zip(found, exact, strict=True)]
            worst[:] = np.maximum(worst, errors)
    assert (mine <= 10 * theirs + 1e-15).all(), (mine, theirs)


# -- laws of the operator --------------------------------------------------------------------------------


@st.composite
def bands(draw):
    n = draw(st.integers(1, 8))
    mirrored = draw(st.booleans())
    lower, upper = draw(st.integers(0, n)), draw(st.integers(0, n))
    rows = lower + 1 if mirrored else lower + upper + 1
    values = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(rows, n))
    return Banded(pt.constant(values), lower, lower if mirrored else upper, mirrored)


def dense_of(operator):
    """By the definition alone."""
    ab = operator.bands.data
    n = ab.shape[1]
    K = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if operator.mirrored and abs(i - j) <= operator.lower:
                K[i, j] = ab[abs(i - j), min(i, j)]
            elif not operator.mirrored and -operator.upper <= i - j <= operator.lower:
                K[i, j] = ab[operator.upper + i - j, j]
    return K


@settings(max_examples=8, deadline=None)
@given(bands())
def test_laws(operator):
    K = dense_of(operator)
    n = len(K)
    x, G = np.random.default_rng(1).normal(size=(n, 2)), np.random.default_rng(2).normal(size=(n, n))
    [bar] = operator.pullback(Dense(pt.constant(G)))
    asked = [
        operator.to_dense(),
        operator.matmul(pt.constant(x)),
        operator.rmatmul(pt.constant(x)),
        operator.transpose().to_dense(),
        operator.scale(pt.constant(2.5)).to_dense(),
        operator.diagonal(),
        (bar * operator.bands).sum(),
    ]
    found = compile_raw([], asked)()
    expected = [K, K @ x, K.T @ x, K.T, 2.5 * K, np.diagonal(K), (G * K).sum()]
    for one, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, right, atol=1e-12)
