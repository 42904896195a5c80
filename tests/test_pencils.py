"""Constants with two scalars that change: read in every spelling, served by their spectrum, exactly."""

import mpmath
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import in_turn, op_names, python_mode, relative_error
from pytensor.assumptions import assume

import autotune
from autotune.read.spectra import spectrum, symmetric_values

N = 12
rng = np.random.default_rng(4)
X = rng.normal(size=(N, 2 * N))
A = X @ X.T / N
R = np.corrcoef(X)
W = np.triu(rng.random((N, N)) < 0.4, 1).astype(float)
W[np.arange(N - 1), np.arange(1, N)] = 1
W = W + W.T
D = np.diag(W.sum(axis=1))
s, t = pt.scalars("s", "t")
y, Y = pt.vector("y", shape=(N,)), pt.matrix("Y", shape=(N, 3))
VALUES = {s: 1.3, t: 0.4, y: rng.normal(size=N), Y: rng.normal(size=(N, 3))}
IDENTITY = pt.eye(N)

SPELLINGS = {
    "s A + t I": s * A + t * IDENTITY,
    "s² A + diag(t)": s**2 * A + pt.diag(pt.full((N,), t)),
    "A / s + t I": A / s + t * pt.eye(N),
    "t I - -s A": t * IDENTITY - (-s * A),
    "s (A + t I)": s * (A + t * IDENTITY),
    "s A": s * A,
    "A + s A": A + s * A,
    "shrunk": t * R + (1 - t) * IDENTITY,
    "compound": s * ((1 - t) * IDENTITY + t * R),
    "car": s * (D - t / 2 * W),
    "s A + t D": s * A + t * D,
    "s A + t diag(d)": s * A + pt.diag(t * np.arange(1.0, N + 1)),
    "integers": s * W.astype(int) + (5 + t) * IDENTITY,
    "transposed": (s * A.T).T + t * IDENTITY,
    "two matrices": s / 200 * W + t * A,
    "difference of two": s * (R - t / 40 * W),
    "tagged": assume(s * A + t * IDENTITY, positive_definite=True),
}
NOT_PENCILS = {
    "two indefinite matrices": s * W + t * W[::-1, ::-1],
    "three matrices": s * W + t * A + R,
    "two matrices and I": s * W + t * A + IDENTITY,
    "singular D": s * W + t * np.ones((N, N)),
    "not symmetric": s * np.tril(A) + t * IDENTITY,
    "D and I": s * A + t * D + IDENTITY,
    "negative D": s * A - t * np.diag(np.arange(N) - 3.0),
    "no constant": s * pt.outer(y, y) * A + t * IDENTITY,
    "NaN": s * np.where(np.eye(N) > 0, np.nan, A) + t * IDENTITY,
}


def cholesky_idiom(K):
    L = pt.linalg.cholesky(K)
    z = pt.linalg.solve_triangular(L, y, lower=True)
    return (z**2).sum() + 2 * pt.log(pt.diag(L)).sum()


REQUESTS = {
    "solve": lambda K: (pt.linalg.solve(K, Y) ** 2).sum(),
    "logdet": lambda K: pt.linalg.slogdet(K)[1],
    "quadratic": lambda K: y @ pt.linalg.solve(K, y, assume_a="sym"),
    "inverse": lambda K: (pt.linalg.inv(K) ** 2).sum() + pt.linalg.slogdet(K)[1],
    "inverse diagonal": lambda K: (pt.diag(pt.linalg.inv(K)) ** 2).sum() + pt.linalg.slogdet(K)[1],
    "determinant": lambda K: pt.linalg.det(K) / 1e5,
    "cholesky": cholesky_idiom,
}


def compiled(outputs, policy=None, mode=None):
    mode = python_mode() if mode is None else mode
    options = {"on_unused_input": "ignore"}
    plain = pytensor.function(list(VALUES), outputs, mode=mode, **options)
    tuned = pytensor.function(list(VALUES), outputs, mode=autotune.mode(policy, base=mode), **options)
    return tuned, plain


def gradient(value):
    return [value, *pt.grad(value, list(VALUES), disconnected_inputs="ignore")]


BY_SPECTRUM = {"rules": [{"match": {"structure": "pencil"}, "force": "spectrum"}]}


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("spelling", in_turn(list(SPELLINGS), 8))
def test_value_and_gradient_are_plain_ones(spelling, request_):
    outputs = gradient(REQUESTS[request_](SPELLINGS[spelling]))
    tuned, plain = compiled(outputs, BY_SPECTRUM)
    assert [d.chosen for d in autotune.explain(tuned).decisions] == ["spectrum"]
    for found, expected in zip(tuned(*VALUES.values()), plain(*VALUES.values()), strict=True):
        scale = np.abs(expected).max(initial=0) or 1.0
        assert np.abs(found - expected).max(initial=0) < (1e-6 if request_ == "inverse" else 1e-9) * scale


@pytest.mark.parametrize("name", NOT_PENCILS)
def test_other_matrices_are_none(name):
    tuned, _ = compiled(REQUESTS["logdet"](NOT_PENCILS[name]))
    assert all(d.problem.structure != ("pencil",) for d in autotune.explain(tuned).decisions)


def test_a_gradient_through_tune_and_numba():
    value = autotune.tune(cholesky_idiom(SPELLINGS["s (A + t I)"]))
    outputs = gradient(value)
    modes = autotune.mode(base="NUMBA"), python_mode()
    options = {"on_unused_input": "ignore"}
    tuned, plain = (pytensor.function(list(VALUES), outputs, mode=mode, **options) for mode in modes)
    for found, expected in zip(tuned(*VALUES.values()), plain(*VALUES.values()), strict=True):
        assert relative_error(found, expected) < 1e-12 if np.any(expected) else not np.any(found)


def test_a_second_derivative():
    value = cholesky_idiom(SPELLINGS["car"])
    outputs = [pt.grad(pt.grad(value, s), t), pt.grad(pt.grad(autotune.tune(value), s), t)]
    plain, tuned = pytensor.function([s, t, y], outputs, mode=autotune.mode(base=python_mode()))(
        1.3, 0.4, VALUES[y]
    )
    assert relative_error(tuned, plain) < 1e-10


def test_what_is_not_positive_definite_is_nan_where_a_cholesky_factor_would_be():
    tuned, plain = compiled(gradient(cholesky_idiom(SPELLINGS["s A + t I"])), BY_SPECTRUM)
    for fn in (tuned, plain):
        assert np.isnan(fn(1.0, -1e3, VALUES[y], VALUES[Y])[0])


def test_an_indefinite_pencil_has_its_sign():
    sign, logabsdet = pt.linalg.slogdet(SPELLINGS["s A + t I"])
    tuned, plain = compiled([sign, logabsdet], BY_SPECTRUM)
    for value in (-0.3, -1.0, -5.0):
        found, expected = (fn(1.0, value, VALUES[y], VALUES[Y]) for fn in (tuned, plain))
        assert found[0] == expected[0]
        assert relative_error(found[1], expected[1]) < 1e-10


def test_a_spectrum_that_takes_too_long_is_not_looked_for():
    tuned, _ = compiled(REQUESTS["logdet"](SPELLINGS["s A"]), {"compile_budget": 1e-9})
    assert autotune.explain(tuned).decisions[0].problem.structure == ("dense",)


def test_values_that_may_change_are_no_constants():
    shared = pytensor.shared(A, shape=(N, N))
    fn = pytensor.function(
        [s, t], pt.linalg.slogdet(s * shared + t * IDENTITY)[1], mode=autotune.mode(base=python_mode())
    )
    assert all(d.problem.structure == ("dense",) for d in autotune.explain(fn).decisions)


def test_a_density_given_its_precision_multiplies_without_forming_it():
    Q = SPELLINGS["car"]
    value = pt.linalg.slogdet(Q)[1] - y @ Q @ y
    tuned, plain = compiled(gradient(value), BY_SPECTRUM)
    for found, expected in zip(tuned(*VALUES.values()), plain(*VALUES.values()), strict=True):
        assert np.abs(found - expected).max() < 1e-12 * max(np.abs(expected).max(), 1)
    square = [
        out
        for node in tuned.maker.fgraph.apply_nodes
        for out in node.outputs
        if getattr(out.type, "shape", ()) == (N, N)
    ]
    assert not square


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_is_that_of_the_graph(dtype):
    scalar = pt.scalar("a", dtype=dtype)
    K = scalar * A.astype(dtype) + pt.eye(N, dtype=dtype)
    fn = pytensor.function(
        [scalar], pt.linalg.slogdet(K)[1], mode=autotune.mode(BY_SPECTRUM, base=python_mode())
    )
    found = fn(np.asarray(0.7, dtype))
    assert found.dtype == dtype
    assert relative_error(found, np.linalg.slogdet(0.7 * A + np.eye(N))[1]) < 100 * np.finfo(dtype).eps


@pytest.mark.parametrize("transposed", [False, True])
def test_a_constant_that_is_not_symmetric_is_factorised_when_it_is_compiled(transposed):
    M = pt.constant(np.tril(A) + np.eye(N) + 0.1 * W)
    x = pt.linalg.solve(M.T if transposed else M, y)
    outputs = [x, pt.grad((x**2).sum(), y)]
    tuned, plain = compiled(outputs)
    for found, expected in zip(tuned(*VALUES.values()), plain(*VALUES.values()), strict=True):
        assert relative_error(found, expected) < 1e-12
    assert {name.split("{")[0] for name in op_names(tuned)}.isdisjoint({"SharedLU", "CholeskyOrLU", "Solve"})


# -- accuracy ------------------------------------------------------------------------------------------


def degenerate(n):
    """Rank n / 3 with equal eigenvalues: a design of groups."""
    Z = np.eye(n // 3)[np.arange(n) % (n // 3)]
    return Z @ Z.T


def covariance(n):
    """Rank n / 2, but for the rounding of its entries."""
    return np.cov(np.random.default_rng(1).normal(size=(n, n // 2)))


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no extended precision on this machine")
@pytest.mark.parametrize("make", [degenerate, covariance, lambda n: R])
def test_corrected_eigenvalues_are_right_to_the_last_digits(make):
    """Those that rounding alone keeps from being equal are so together."""
    matrix = symmetric_values(make(30))
    values, Q = spectrum(matrix)
    with mpmath.workdps(50):
        exact = sorted(mpmath.eigsy(mpmath.matrix(matrix.tolist()), eigvals_only=True))
        pairs = [(mpmath.mpf(v), e) for v, e in zip(sorted(values), exact, strict=True)]
        tiny = [(v, e) for v, e in pairs if abs(e) < 1e-9 * exact[-1]]
        assert all(abs(v - e) <= 4e-16 * abs(e) for v, e in pairs if (v, e) not in tiny)
        assert abs(sum(v - e for v, e in tiny)) <= 1e-17 * exact[-1]
    assert np.abs(Q.T @ Q - np.eye(len(matrix))).max() < 1e-14


@pytest.mark.parametrize("noise", [1.0, 1e-4, 1e-8, 1e-12])
def test_no_less_exact_than_cholesky_for_little_noise(noise):
    n = 30
    matrix = degenerate(n)
    b = np.random.default_rng(2).normal(size=n)
    rhs = pt.vector("b", shape=(n,))
    K = s * matrix + t * pt.eye(n)
    outputs = [pt.linalg.slogdet(K)[1], pt.linalg.solve(K, rhs, assume_a="pos")]
    with mpmath.workdps(50):
        exact = mpmath.matrix(matrix.tolist()) + noise * mpmath.eye(n)
        logdet = float(mpmath.log(mpmath.det(exact)))
        x = np.array([float(v) for v in mpmath.lu_solve(exact, mpmath.matrix(b.tolist()))])
    errors = []
    for mode in (autotune.mode(BY_SPECTRUM, base=python_mode()), python_mode()):
        value, solution = pytensor.function([s, t, rhs], outputs, mode=mode)(1.0, noise, b)
        errors.append((abs(value - logdet) / abs(logdet), relative_error(solution, x)))
    (of_logdet, of_solution), (plain_logdet, plain_solution) = errors
    assert of_logdet <= max(10 * plain_logdet, 1e-14)
    assert of_solution <= max(10 * plain_solution, 1e-14)


@pytest.mark.parametrize("condition", [1, 10, 90])
@pytest.mark.parametrize("weight", [1.0, 1e-4, 1e-8, 1e-12])
def test_no_less_exact_than_cholesky_for_two_matrices(weight, condition):
    n = 20
    Q = np.linalg.qr(np.random.default_rng(3).normal(size=(n, n)))[0]
    second = (Q * np.geomspace(1, condition, n)) @ Q.T + 1e-3 * np.diag(np.arange(n))
    second = (second + second.T) / 2
    Z = np.eye(n // 2)[np.arange(n) % (n // 2)]
    K, b = s * (Z @ Z.T) + t * second, np.random.default_rng(2).normal(size=n)
    rhs = pt.vector("b", shape=(n,))
    logdet = pt.linalg.slogdet(K)[1]
    outputs = [logdet, pt.linalg.solve(K, rhs, assume_a="pos"), pt.grad(logdet, s)]
    with mpmath.workdps(50):
        one, two = (mpmath.matrix(x.tolist()) for x in (Z @ Z.T, second))
        exact = one + mpmath.mpf(weight) * two
        right = [float(mpmath.log(mpmath.det(exact)))]
        right.append(np.array([float(v) for v in mpmath.lu_solve(exact, mpmath.matrix(b.tolist()))]))
        slope = exact**-1 * one
        right.append(float(sum(slope[i, i] for i in range(n))))
    modes = autotune.mode(BY_SPECTRUM, base=python_mode()), python_mode()
    tuned, plain = (pytensor.function([s, t, rhs], outputs, mode=mode) for mode in modes)
    assert autotune.explain(tuned).decisions[0].chosen == "spectrum"
    found, by_cholesky = (fn(1.0, weight, b) for fn in (tuned, plain))
    for ours, theirs, expected in zip(found, by_cholesky, right, strict=True):
        error, plain_error = (relative_error(x, expected) for x in (ours, theirs))
        assert error <= max(10 * plain_error, 1e-14)


# -- constant columns beside a multiple of the identity ------------------------------------------------------

GROUP = np.arange(N) % 4
Z = np.eye(4)[GROUP]
C = rng.normal(size=(N, 3))
w = pt.vector("w", shape=(4,))
COLUMNS = {
    "weights of groups": (Z * pt.exp(w)) @ Z.T + t * IDENTITY,
    "diagonal between": Z @ pt.diag(w) @ Z.T + t * IDENTITY,
    "groups compared": s * pt.eq(GROUP[:, None], GROUP[None, :]) + t * IDENTITY,
    "one weight": s * pt.dot(C, C.T) + t * IDENTITY,
    "folded": s * (C @ C.T) + t * IDENTITY,
    "scalar added": t * IDENTITY + s,
    "compound": (1 - t) * IDENTITY + t,
}
BY_COLUMNS = {"rules": [{"match": {"structure": "low_rank"}, "force": "spectrum"}]}
POINT = {**VALUES, w: np.array([0.3, 1.1, 0.6, 0.2])}


def of_columns(outputs, policy, mode=None):
    mode = python_mode() if mode is None else mode
    options = {"on_unused_input": "ignore"}
    plain = pytensor.function(list(POINT), outputs, mode=mode, **options)
    return pytensor.function(list(POINT), outputs, mode=autotune.mode(policy, base=mode), **options), plain


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("name", in_turn(list(COLUMNS), 4))
def test_constant_columns_beside_the_identity(name, request_):
    value = REQUESTS[request_](COLUMNS[name])
    tuned, plain = of_columns([value, *pt.grad(value, list(POINT), disconnected_inputs="ignore")], BY_COLUMNS)
    assert [d.chosen for d in autotune.explain(tuned).decisions] == ["spectrum"]
    for found, expected in zip(tuned(*POINT.values()), plain(*POINT.values()), strict=True):
        assert np.abs(found - expected).max() < 1e-10 * (np.abs(expected).max() or 1.0)


@pytest.mark.parametrize(
    "K",
    [
        C @ pt.diag(w[:3]) @ C.T + t * IDENTITY,
        s * pt.dot(C, C.T) + pt.diag(y**2),
        s * pt.dot(pytensor.shared(C, shape=C.shape), C.T) + t * IDENTITY,
    ],
    ids=["weights", "diagonal", "shared"],
)
def test_other_columns_stay_as_they_are(K):
    tuned, _ = of_columns(REQUESTS["logdet"](K), None)
    assert all(d.chosen != "spectrum" for d in autotune.explain(tuned).decisions)


def test_columns_that_depend_on_each_other():
    twice = np.hstack([C, C])
    value = cholesky_idiom(s * pt.dot(twice, twice.T) + t * IDENTITY)
    tuned, plain = of_columns([value, *pt.grad(value, [s, t])], BY_COLUMNS)
    for found, expected in zip(tuned(*POINT.values()), plain(*POINT.values()), strict=True):
        assert relative_error(found, expected) < 1e-11
    assert autotune.explain(tuned).decisions[0].problem.sizes["rank"] == 3


@pytest.mark.parametrize("noise", [1.0, 1e-6, 1e-12])
def test_columns_are_no_less_exact_than_cholesky_for_little_noise(noise):
    b = C @ np.ones(3) + 1e-3 * VALUES[y]
    outputs = [
        pt.linalg.slogdet(COLUMNS["one weight"])[1],
        pt.linalg.solve(COLUMNS["one weight"], y, assume_a="pos"),
    ]
    with mpmath.workdps(50):
        U = mpmath.matrix(C.tolist())
        exact = U * U.T + mpmath.mpf(noise) * mpmath.eye(N)
        logdet = float(mpmath.log(mpmath.det(exact)))
        x = np.array([float(v) for v in mpmath.lu_solve(exact, mpmath.matrix(b.tolist()))])
    of_logdet, of_solution = zip(
        *(
            (abs(value - logdet) / abs(logdet), relative_error(solution, x))
            for fn in of_columns(outputs, BY_COLUMNS)
            for value, solution in [fn(1.0, noise, b, VALUES[Y], POINT[w])]
        ),
        strict=True,
    )
    assert of_logdet[0] <= max(10 * of_logdet[1], 1e-13)
    assert of_solution[0] <= max(10 * of_solution[1], 1e-13)
