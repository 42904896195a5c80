"""Toeplitz and circulant matrices: read in many spellings, values and gradients as of the dense matrix."""

import mpmath
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import scipy.linalg
from helpers import chosen, compile_raw, compile_with, in_turn, largest_array, relative_error
from pytensor.tensor.linalg import cholesky, inv, kron, slogdet, solve, solve_triangular

import autotune
from autotune.ops import core_toeplitz
from autotune.read.matrices import recognise

N = 12
rng = np.random.default_rng(3)
i = np.arange(N)
LAG, STEPS_BACK = np.abs(i[:, None] - i), (i[:, None] - i) % N
x = np.linspace(0, 3, N)
y = pt.vector("y", shape=(N,))
c = pt.vector("c", shape=(N,))
a, ls, s = pt.scalars("a", "ls", "s")
INPUTS = [c, a, ls, s, y]
VALUES = {c: 0.5**i + 0.1 * np.cos(i), a: 1.2, ls: 0.7, s: 0.6, y: rng.normal(size=N)}
NOISE = s**2 * pt.eye(N)
FORCED = {"rules": [{"match": {"structure": one}, "force": one} for one in ("toeplitz", "circulant")]}


def difference(points=x):
    return pt.constant(points)[:, None] - pt.constant(points)[None, :]


def squares(points):
    """As PyMC computes them."""
    sq = pt.sqr(points)
    return pt.clip(-2 * pt.dot(points[:, None], points[None, :]) + sq[:, None] + sq[None, :], 0, np.inf)


TOEPLITZ = {
    "gather": c[LAG] + NOISE,
    "ranges": c[pt.abs(pt.arange(N)[:, None] - pt.arange(N))] + NOISE,
    "taken": a * pt.take(c, LAG) + NOISE,
    "squared exponential": a**2 * pt.exp(-0.5 * difference() ** 2 / ls**2) + NOISE,
    "squares of points": pt.exp(-0.5 * squares(pt.constant(x) / ls)) + NOISE,
    "periodic": pt.exp(-2 * (pt.sin(np.pi * difference() / a) / ls) ** 2) + NOISE,
    "rational": a * (1 + difference() ** 2 / (2 * ls**2)) ** (-1.5) + c[LAG] / 3 + 2 * NOISE,
    "decreasing points": pt.exp(-(difference(x[::-1].copy()) ** 2) / ls) + NOISE,
    "constant entries": pt.exp(-a * LAG**2.0) * ls + NOISE,
}
CIRCULANT = {
    "symmetric": c[np.minimum(LAG, N - LAG)] + NOISE,
    "kernel on a circle": pt.exp(-(np.sin(np.pi * LAG / N) ** 2) / ls) + NOISE,
    "from both ends": a * c[np.minimum(STEPS_BACK, STEPS_BACK.T)] + 2 * NOISE,
}
GENERAL = {
    "steps back": c[STEPS_BACK] + NOISE,
    "below zero": a * c[i[:, None] - i] + NOISE,
    "transposed": (c[STEPS_BACK] + a * scipy.linalg.circulant(rng.normal(size=N)) / 10).T,
}
EXACT = {**TOEPLITZ, **CIRCULANT}


def requests(K):
    L = cholesky(K)
    return {
        "density": pt.sqr(solve_triangular(L, y, lower=True)).sum() + pt.log(pt.diagonal(L)).sum(),
        "solve": solve(K, y, assume_a="pos"),
        "unknown definiteness": y @ inv(K) @ y + slogdet(K)[1],
        "inverse diagonal": pt.diagonal(inv(K)),
        "is definite": pt.all(pt.diagonal(L) > 0),
    }


def check(K, request, tolerance=1e-9, values=VALUES):
    out = requests(K)[request]
    total = pt.dot(np.arange(1, N + 1), out) if out.type.ndim else out
    used = [v for v in INPUTS if v in pytensor.graph.traversal.explicit_graph_inputs([out])]
    smooth = out.type.dtype != "bool"
    arguments = [values[v] for v in used]
    plain = compile_raw(used, [out, *(pt.grad(total, used) if smooth else ())])(*arguments)
    taken = compile_with(used, [out, *(pt.grad(total, used) if smooth else ())], FORCED)
    results = [taken(*arguments)]
    if smooth:
        tuned = autotune.tune(total, FORCED)
        results.append(compile_with(used, [out, *pt.grad(tuned, used)], FORCED)(*arguments))
    for result in results:
        for found, expected in zip(result, plain, strict=True):
            assert relative_error(found, expected) < tolerance
    return taken


@pytest.mark.parametrize("request_name", list(requests(pt.eye(N))))
@pytest.mark.parametrize("form", in_turn(EXACT, every=9))
def test_values_and_gradients_are_those_of_the_dense_matrix(form, request_name):
    fn = check(EXACT[form], request_name)
    assert ("toeplitz" if form in TOEPLITZ else "circulant") in str(autotune.explain(fn))
    if request_name == "density" and form in CIRCULANT:
        assert largest_array(fn) < N * N


@pytest.mark.parametrize("noise", [1e-11, 1e-8, 1.0])
def test_log_determinants_are_as_right_as_those_of_cholesky(noise):
    """Near-singular matrices are given to dense routines: the recursion is right in fewer digits."""
    n, width = 60, 0.005
    lags = np.abs(np.arange(n)[:, None] - np.arange(n))
    c = np.exp(-width * np.arange(n) ** 2.0)
    K = pt.exp(-a * np.arange(n) ** 2.0)[lags] + s * pt.eye(n)
    logdet = 2 * pt.log(pt.diagonal(cholesky(K))).sum()
    fn = compile_with([a, s], logdet, FORCED)
    assert "toeplitz" in chosen(fn)
    with mpmath.workdps(50):
        exact = mpmath.matrix(c[lags].tolist()) + mpmath.mpf(noise) * mpmath.eye(n)
        L = mpmath.cholesky(exact)
        right = 2 * sum(mpmath.log(L[i, i]) for i in range(n))
        ours, plain = (abs(float(f(width, noise) - right)) for f in (fn, compile_raw([a, s], logdet)))
    assert ours <= 10 * plain + 1e-12 * abs(float(right))


@pytest.mark.parametrize("request_name", ["unknown definiteness", "inverse diagonal"])
@pytest.mark.parametrize("form", in_turn(GENERAL))
def test_general_circulant_matrices(form, request_name):
    fn = check(GENERAL[form], request_name)
    assert "circulant" in str(autotune.explain(fn))


def structure(K) -> tuple[str, ...]:
    return recognise(K).structure


v = pt.vector("v")
SIZE = v.shape[0]
UNKNOWN = pt.arange(SIZE)
LAG_OF_UNKNOWN = UNKNOWN[:, None] - UNKNOWN[None, :]
OTHERS = {
    "an unknown order": (v[pt.abs(LAG_OF_UNKNOWN)], "toeplitz"),
    "an unknown order, steps back": (v[LAG_OF_UNKNOWN % SIZE], "circulant"),
    "uneven points": (pt.exp(-(difference(x**1.1) ** 2) / ls) + NOISE, "dense"),
    "points almost even": (pt.exp(-(difference(x + 1e-13 * i**2) ** 2) / ls) + NOISE, "dense"),
    "not symmetric": (pt.exp(-ls * difference()), "dense"),
    "other steps": (c[(i[:, None] - i) % 7], "dense"),
    "a diagonal that varies": (c[LAG] + pt.diag(c), "dense"),
    "scaled rows": (c[LAG] * x[:, None], "product"),
    "points that change": (pt.exp(-((c[:, None] - c[None, :]) ** 2)), "dense"),
    "few rows": (c[LAG[:5, :5]], "dense"),
    "Markov": (pt.exp(-np.abs(x[:, None] - x) / ls) + NOISE, "quasiseparable"),
}


@pytest.mark.parametrize("form", OTHERS)
def test_what_else_is_read(form):
    matrix, kind = OTHERS[form]
    assert structure(matrix) == (kind,)


def test_low_rank_beside_one_and_a_kronecker_product():
    K = EXACT["squared exponential"]
    assert structure(K + pt.outer(y, y)) == ("low_rank", "toeplitz")
    S = pt.matrix("S", shape=(3, 3))
    loss = slogdet(kron(K, S @ S.T + pt.eye(3)))[1]
    inputs, values = [a, ls, s, S], [1.2, 0.7, 0.6, rng.normal(size=(3, 3))]
    policy = {"rules": [*FORCED["rules"], {"match": {"structure": "kronecker"}, "force": "kronecker"}]}
    fn = compile_with(inputs, [loss, *pt.grad(loss, inputs)], policy)
    assert "toeplitz" in str(autotune.explain(fn))
    plain = compile_raw(inputs, [loss, *pt.grad(loss, inputs)])
    for found, expected in zip(fn(*values), plain(*values), strict=True):
        assert relative_error(found, expected) < 1e-9


@pytest.mark.parametrize("request_name", ["density", "solve", "unknown definiteness", "is definite"])
@pytest.mark.parametrize("form", ["gather", "symmetric"])
def test_indefinite_matrices_are_answered_as_plain_pytensor_does(form, request_name):
    values = VALUES | {c: np.r_[0.1, rng.normal(size=N - 1)], s: 0.0}
    if request_name in ("density", "is definite", "solve"):
        out = requests(EXACT[form])[request_name]
        used = [w for w in INPUTS if w in pytensor.graph.traversal.explicit_graph_inputs([out])]
        found = compile_with(used, [out], FORCED)(*(values[w] for w in used))[0]
        assert not found.any() if request_name == "is definite" else np.isnan(found).all()
    else:
        check(EXACT[form], request_name, values=values)


def smooth(n, noise):
    lag = np.arange(n)
    column = np.exp(-0.5 * (lag / 10) ** 2)
    column[0] += noise
    return column


@pytest.mark.parametrize("noise", [1e-2, 1e-7, 1e-11])
def test_residuals_of_solves_are_at_rounding(noise):
    n = 300
    column = smooth(n, noise)
    T = scipy.linalg.toeplitz(column)
    x, _, logdet = core_toeplitz.core_schur.factor(column)
    for b in (T @ np.sin(np.arange(n) / 20), rng.normal(size=n)):
        found = core_toeplitz.solve(column, x, b[:, None])[:, 0].astype(np.longdouble)
        residual = np.linalg.norm(b - T @ found) / (np.linalg.norm(T, 2) * np.linalg.norm(found))
        assert residual < 5e-16
    u = np.linalg.slogdet(T)[1]
    assert abs(logdet - u) < 3e-16 * n * np.linalg.cond(T)


def test_log_determinant_and_first_column_of_the_inverse_against_fifty_digits():
    column = smooth(40, 1e-6)
    with mpmath.workdps(50):
        T = mpmath.matrix(scipy.linalg.toeplitz(column).tolist())
        expected = float(mpmath.log(mpmath.det(T)))
        inverse = np.array((T**-1).tolist(), float)
    x, _, logdet = core_toeplitz.core_schur.factor(column)
    assert abs(logdet - expected) < 1e-7
    assert relative_error(x, inverse[:, 0]) < 1e-8


@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 13])
def test_all_orders_and_dtypes(n):
    column = 0.3 ** np.arange(n)
    T, C = np.zeros((2, n, n))
    if n:
        T, C = scipy.linalg.toeplitz(column), scipy.linalg.circulant(column)
    B = rng.normal(size=(n, 2))
    for dtype, tolerance in (("float64", 1e-13), ("float32", 1e-5)):
        one, rhs = column.astype(dtype), B.astype(dtype)
        x, *_ = core_toeplitz.core_schur.factor(one)
        found = {
            "product": (core_toeplitz.dot(one, rhs), T @ B),
            "solve": (core_toeplitz.solve(one, x, rhs), np.linalg.solve(T, B)),
            "sweep": (core_toeplitz.core_schur.solve(one, rhs), np.linalg.solve(T, B)),
            "circulant": (core_toeplitz.circulant_dot(one, rhs, True), C.T @ B),
            "circulant solve": (core_toeplitz.circulant_solve(one, rhs, False), np.linalg.solve(C, B)),
        }
        for out, expected in found.values():
            assert out.dtype == dtype
            assert out.shape == B.shape
            assert np.allclose(out, expected, atol=tolerance)


@pytest.mark.parametrize("column", [[0.0, 0.0], [-1.0, 0.5], [1.0, 1.0], [1.0, 2.0, 0.0], [np.nan, 1.0]])
def test_no_factor_of_what_is_not_definite(column):
    x, sign, logdet = core_toeplitz.core_schur.factor(np.array(column))
    assert np.isnan([*x, sign, logdet]).all()


def test_numba_gives_what_python_gives():
    inputs = [a, ls, s, y]
    total = requests(EXACT["squared exponential"])["density"]
    ring = requests(EXACT["kernel on a circle"])["density"]
    outputs = [total, ring, pt.grad(total + ring, ls)]
    taken = compile_with(inputs, outputs, FORCED, base="NUMBA")
    values = [VALUES[w] for w in inputs]
    for found, expected in zip(taken(*values), compile_raw(inputs, outputs)(*values), strict=True):
        assert relative_error(found, expected) < 1e-9
