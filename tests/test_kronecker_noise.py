"""Kronecker products of symmetric matrices plus a multiple of the identity, by spectra of the factors."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import in_turn, python_mode, relative_error
from pytensor.assumptions import assume
from pytensor.tensor.linalg import cholesky, inv, kron, slogdet, solve, solve_triangular

import autotune

P, Q = 4, 6
rng = np.random.default_rng(5)
X, Z = rng.normal(size=P), rng.normal(size=Q)
s, t, r = pt.scalars("s", "t", "r")
B = pt.matrix("B", shape=(Q, Q))
VALUES = {s: 1.3, t: 0.7, r: 0.9, B: rng.normal(size=(Q, Q))}
SMOOTH = pt.exp(-0.5 * (X[:, None] - X) ** 2 / r**2)
ROUGH = s * pt.exp(-pt.abs(Z[:, None] - Z) / r)
EXCHANGEABLE = (1 - s / 2) * pt.eye(Q) + s / 2  # one eigenvalue Q - 1 times
FORMS = {
    "kernels": kron(SMOOTH, ROUGH) + t * pt.eye(P * Q),
    "repeated eigenvalues": kron(SMOOTH, EXCHANGEABLE) + t**2 * pt.eye(P * Q),
    "multiple": s * kron(SMOOTH, ROUGH) + pt.diag(pt.full((P * Q,), t)),
    "assumed": kron(assume(B @ B.T, symmetric=True), SMOOTH) + t * pt.eye(P * Q),
    "three": kron(SMOOTH, kron(EXCHANGEABLE, pt.eye(2) * s + t)) + t * pt.eye(2 * P * Q),
    "quotient": (kron(ROUGH, SMOOTH) + t * pt.eye(P * Q)) / s,
}
OTHERS = {
    "other noise": kron(SMOOTH, ROUGH) + pt.diag(pt.exp(r * np.arange(P * Q))),
    "no symmetry": kron(SMOOTH, B) + t * pt.eye(P * Q),
    "no noise": kron(SMOOTH, ROUGH),
    "two products": kron(SMOOTH, ROUGH) + kron(SMOOTH, pt.exp(ROUGH)) + t * pt.eye(P * Q),
}


def y_of(K, columns=1):
    y = np.random.default_rng(1).normal(size=(K.type.shape[0], columns))
    return pt.as_tensor(y[:, 0] if columns == 1 else y)


def density(K):
    L = cholesky(K)
    return (solve_triangular(L, y_of(K), lower=True) ** 2).sum() + 2 * pt.log(pt.diag(L)).sum()


REQUESTS = {
    "density": density,
    "solve": lambda K: (solve(K, y_of(K, 3)) ** 2).sum(),
    "logdet": lambda K: slogdet(K)[1],
    "inverse": lambda K: (inv(K) ** 2).sum(),
    "inverse diagonal": lambda K: (pt.diag(inv(K)) ** 2).sum(),
}
BY_SPECTRUM = {"rules": [{"match": {"structure": "kronecker_noise"}, "force": "spectrum"}]}


def functions(outputs, policy=None, mode=None):
    mode = python_mode() if mode is None else mode
    options = {"on_unused_input": "ignore"}
    plain = pytensor.function(list(VALUES), outputs, mode=mode, **options)
    return pytensor.function(list(VALUES), outputs, mode=autotune.mode(policy, base=mode), **options), plain


def gradient(value):
    return [value, *pt.grad(value, list(VALUES), disconnected_inputs="ignore")]


def check(tuned, plain, tolerance=1e-11):
    for found, expected in zip(tuned(*VALUES.values()), plain(*VALUES.values()), strict=True):
        assert np.abs(found - expected).max() < tolerance * (np.abs(expected).max() or 1.0)


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("form", in_turn(list(FORMS), 6))
def test_value_and_gradient_are_plain_ones(form, request_):
    tuned, plain = functions(gradient(REQUESTS[request_](FORMS[form])), BY_SPECTRUM)
    assert [d.chosen for d in autotune.explain(tuned).decisions] == ["spectrum"]
    check(tuned, plain)


@pytest.mark.slow
def test_repeated_eigenvalues_through_numba():
    check(*functions(gradient(density(FORMS["repeated eigenvalues"])), BY_SPECTRUM, "NUMBA"))


@pytest.mark.slow
def test_numba_gives_what_python_gives():
    outputs = [slogdet(FORMS["repeated eigenvalues"])[1]]
    modes = (autotune.mode(BY_SPECTRUM, base=mode) for mode in ("NUMBA", python_mode()))
    fns = [pytensor.function([s, t, r], outputs, mode=mode) for mode in modes]
    found, expected = (fn(1.3, 0.7, 0.9)[0] for fn in fns)
    assert relative_error(found, expected) < 1e-12


@pytest.mark.parametrize("form", OTHERS)
def test_other_matrices_are_served_otherwise(form):
    tuned, plain = functions(gradient(slogdet(OTHERS[form])[1]))
    assert all(d.problem.structure != ("kronecker_noise",) for d in autotune.explain(tuned).decisions)
    check(tuned, plain, 1e-9)


def test_a_larger_one_is_chosen_and_makes_no_square_array():
    n = 400
    x, z = np.linspace(0, 3, 20), np.linspace(0, 2, 20)
    K = kron(pt.exp(-((x[:, None] - x) ** 2) / r), s * pt.exp(-pt.abs(z[:, None] - z))) + t * pt.eye(n)
    tuned, plain = functions(gradient(density(K)))
    assert [d.chosen for d in autotune.explain(tuned).decisions] == ["spectrum"]
    nodes = tuned.maker.fgraph.apply_nodes
    assert not [out for node in nodes for out in node.outputs if getattr(out.type, "shape", ()) == (n, n)]
    check(tuned, plain, 1e-9)


def test_what_is_not_positive_definite_is_nan():
    tuned, plain = functions([density(FORMS["kernels"])], BY_SPECTRUM)
    for fn in (tuned, plain):
        assert np.isnan(fn(1.0, -5.0, 0.9, VALUES[B])[0])


@pytest.mark.parametrize("policy", [BY_SPECTRUM, {"margin": 0}], ids=["forced", "chosen"])
@pytest.mark.parametrize("request_", [lambda K: slogdet(K)[1], inv], ids=["logdet", "inverse"])
def test_unknown_orders(request_, policy, caplog):
    F, G, noise = pt.matrix("F"), pt.matrix("G"), pt.scalar("noise")
    K = kron(assume(F, symmetric=True), assume(G, symmetric=True))
    value = request_(K + noise * pt.eye(K.shape[0]))
    tuned = autotune.tune(value, policy)
    fn = pytensor.function([F, G, noise], tuned, mode=autotune.mode(policy, base=python_mode()))
    plain = pytensor.function([F, G, noise], value, mode=python_mode())
    assert "left the graph" not in caplog.text
    for p, q in ((2, 3), (1, 4), (5, 1)):
        a, b = (M + M.T for M in (rng.normal(size=(p, p)), rng.normal(size=(q, q))))
        assert relative_error(fn(a, b, 0.3), plain(a, b, 0.3)) < 1e-10


def test_a_second_derivative():
    value = density(FORMS["kernels"])
    twice = [pt.grad(pt.grad(v, r), s) for v in (value, autotune.tune(value, BY_SPECTRUM))]
    fn = pytensor.function([s, t, r], twice, mode=autotune.mode(base=python_mode()))
    plain, tuned = fn(1.3, 0.7, 0.9)
    assert relative_error(tuned, plain) < 1e-9


# -- noise of each factor, or of another product ---------------------------------------------------------

EACH, OTHER = pt.vector("each", shape=(P,)), pt.vector("other", shape=(Q,))
TASKS = {
    "of the first": (kron(SMOOTH, ROUGH) + kron(pt.diag(EACH), pt.eye(Q))),
    "of both": kron(pt.diag(EACH), pt.diag(OTHER)) * 2 + kron(SMOOTH, EXCHANGEABLE),
    "scaled": s * (kron(SMOOTH, ROUGH) + kron(pt.eye(P), t * pt.diag(OTHER))),
    "two products": kron(SMOOTH, ROUGH) + kron(SMOOTH + s * pt.eye(P), EXCHANGEABLE),
    "two products, the first definite": kron(
        assume(SMOOTH + pt.diag(EACH), positive_definite=True), assume(EXCHANGEABLE, positive_definite=True)
    )
    + kron(SMOOTH, ROUGH),
    "one diagonal": kron(SMOOTH, ROUGH) + s * kron(SMOOTH + pt.diag(EACH), pt.diag(OTHER)),
    "equal": kron(SMOOTH, ROUGH) + kron(t * pt.eye(P), pt.eye(Q)),
}
OF_TASKS = {**VALUES, EACH: rng.uniform(0.5, 2, P), OTHER: rng.uniform(0.5, 2, Q)}
IN_PARTS = {
    "rules": [
        {
            "match": {"structure": ["congruence", "kronecker_noise"]},
            "forbid": ["keep", "cholesky", "cholesky_or_lu", "lu"],
        }
    ]
}


def functions_of_tasks(value, taken):
    inputs, options = list(OF_TASKS), {"on_unused_input": "ignore", "mode": python_mode()}
    tuned = autotune.tune(value, IN_PARTS) if taken == "of what is tuned" else value
    outputs, mine = ([x, *pt.grad(x, inputs, disconnected_inputs="ignore")] for x in (value, tuned))
    plain = pytensor.function(inputs, outputs, **options)
    options["mode"] = autotune.mode(IN_PARTS, base=python_mode())
    return pytensor.function(inputs, mine, **options), plain


CASES = [(f, r, t) for f in TASKS for r in REQUESTS for t in ("by the user", "of what is tuned")]


@pytest.mark.parametrize(("form", "request_", "taken"), in_turn(CASES, every=17))
def test_noise_of_each_factor(form, request_, taken):
    fn, plain = functions_of_tasks(REQUESTS[request_](TASKS[form]), taken)
    structures = {decision.problem.structure for decision in autotune.explain(fn).decisions}
    assert structures & {("kronecker_noise",), ("congruence",)}
    for found, expected in zip(fn(*OF_TASKS.values()), plain(*OF_TASKS.values()), strict=True):
        assert np.abs(found - expected).max() < 1e-7 * (np.abs(expected).max() or 1.0)


@pytest.mark.parametrize("form", ["of the first", "one diagonal"])
@pytest.mark.parametrize("smallest", [0.0, 1e-9])
def test_noise_that_cannot_be_scaled_takes_the_dense_way(form, smallest):
    of = EACH if form == "of the first" else OTHER
    uneven = OF_TASKS[of].copy()
    uneven[1] = smallest
    value = slogdet(TASKS[form])[1]
    fn, plain = functions_of_tasks(value, "of what is tuned")
    values = {**OF_TASKS, of: uneven}.values()
    for found, expected in zip(fn(*values), plain(*values), strict=True):
        assert np.abs(found - expected).max() < 1e-9 * (np.abs(expected).max() or 1.0)


def test_what_is_not_finite_is_nan_and_no_error():
    tuned, plain = functions(gradient(density(FORMS["kernels"])), BY_SPECTRUM)
    for fn in (tuned, plain):
        assert np.isnan(fn(np.nan, 0.7, 0.9, VALUES[B])[0])
