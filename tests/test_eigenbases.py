"""Gaussian densities written in eigenvectors: as plain PyTensor computes them, with the gradient of the dense
matrix, also where eigenvalues repeat."""

from functools import reduce

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import compile_raw, compile_with, in_turn, relative_error
from pytensor.tensor.linalg import eigh, kron, slogdet, solve

import autotune

P, Q = 4, 3
HERE, THERE = np.linspace(0, 1, P), np.arange(Q)
r, s, m = pt.scalar("r"), pt.scalar("s"), pt.scalar("m")
INPUTS = [r, s, m]
VALUES = (0.4, 0.7, 0.3)
SMOOTH = pt.exp(-0.5 * (HERE[:, None] - HERE) ** 2 / r**2) + 0.1 * pt.eye(P)
EXCHANGEABLE = (1 - r) * pt.eye(Q) + r * pt.ones((Q, Q))  # one eigenvalue Q - 1 times
FIXED = np.exp(-abs(THERE[:, None] - THERE))
FACTORS = {
    "two": [SMOOTH, EXCHANGEABLE],
    "swapped": [EXCHANGEABLE, SMOOTH],
    "one": [EXCHANGEABLE],
    "three": [EXCHANGEABLE, SMOOTH, FIXED],
    "the same twice": [EXCHANGEABLE, EXCHANGEABLE],
    "a constant": [FIXED, EXCHANGEABLE],
}


def eigenvalues_and_rotation(factors, Y):
    """``w_1 kron ...`` and ``(Q_1 kron ...)' Y`` for columns Y."""
    spectra = [eigh(pt.as_tensor(A)) for A in factors]
    w = reduce(lambda a, b: pt.outer(a, b).ravel(), [w for w, _ in spectra])
    orders = [int(V.type.shape[0]) for _, V in spectra]
    for place, (_, V) in enumerate(spectra):
        tensor = Y.reshape((int(np.prod(orders[:place])), orders[place], -1))
        Y = pt.einsum("ij,aib->ajb", V, tensor).reshape((int(np.prod(orders)), -1))
    return w, Y


def written(factors, noise, rows):
    """The log-density of rows, in eigenvectors."""
    w, z = eigenvalues_and_rotation(factors, (pt.as_tensor(rows) - m).T)
    e = w if noise is None else w + noise
    return -0.5 * (pt.sqr(z / pt.sqrt(e[:, None])).sum(axis=0) + pt.log(e).sum()).sum()


def dense(factors, noise, rows):
    K = reduce(kron, map(pt.as_tensor, factors))
    K = K if noise is None else K + noise * pt.eye(K.type.shape[0])
    Y = pt.as_tensor(rows) - m
    return -0.5 * ((Y.T * solve(K, Y.T)).sum() + len(rows) * slogdet(K)[1])


def rows_of(factors, count):
    n = int(np.prod([pt.as_tensor(A).type.shape[0] for A in factors]))
    return np.random.default_rng(0).normal(size=(count, n))


def with_gradient(value):
    return [value, *pt.grad(value, INPUTS, disconnected_inputs="ignore")]


CASES = [
    (name, count, taken)
    for name in FACTORS
    for count in (1, 2)
    for taken in ("by the user", "of what is tuned")
]


@pytest.mark.parametrize(("name", "count", "taken"), in_turn(CASES, every=9))
def test_values_and_gradients_are_those_of_the_dense_matrix(name, count, taken):
    factors = FACTORS[name]
    arguments = factors, s**2, rows_of(factors, count)
    value = written(*arguments)
    fn = compile_with(INPUTS, with_gradient(value if taken == "by the user" else autotune.tune(value)))
    right = compile_raw(INPUTS, with_gradient(dense(*arguments)))(*VALUES)
    for found, expected in zip(fn(*VALUES), right, strict=True):
        assert relative_error(found, expected) < 1e-10
    assert len(autotune.explain(fn).decisions) == 1


def test_pytensors_own_gradient_is_wrong():
    """If this fails PyTensor has mended it, and there is less to do."""
    arguments = FACTORS["two"], s**2, rows_of(FACTORS["two"], 1)
    [wrong, right] = (
        compile_raw(INPUTS, with_gradient(make(*arguments)))(*VALUES) for make in (written, dense)
    )
    assert relative_error(wrong[0], right[0]) < 1e-12
    assert not relative_error(wrong[1], right[1]) < 1e-3


def test_without_noise():
    arguments = FACTORS["two"], None, rows_of(FACTORS["two"], 1)
    fn = compile_with(INPUTS, with_gradient(written(*arguments)))
    right = compile_raw(INPUTS, with_gradient(dense(*arguments)))(*VALUES)
    assert all(relative_error(a, b) < 1e-10 or a == b for a, b in zip(fn(*VALUES), right, strict=True))
    assert autotune.explain(fn).decisions[0].problem.structure == ("kronecker",)


def other_forms():
    rows = rows_of(FACTORS["two"], 1)
    w, z = eigenvalues_and_rotation(FACTORS["two"], pt.as_tensor(rows).T)
    e = (w + s**2)[:, None]
    return {
        "no weights": pt.sqr(z).sum(),
        "not squared": (z / pt.sqrt(e)).sum(),
        "other weights": (pt.sqr(z) / pt.sqr(e)).sum(),
        "a weighted sum": (pt.sqr(z) / e * np.arange(len(rows[0]))[:, None]).sum(),
        "no sum": pt.log(e[0]).sum(),
    }


OTHER_FORMS = ["no weights", "not squared", "other weights", "a weighted sum", "no sum"]


@pytest.mark.parametrize("form", in_turn(OTHER_FORMS, every=2))
def test_other_forms_are_left_alone(form):
    arguments = FACTORS["two"], s**2, rows_of(FACTORS["two"], 1)
    w, _ = eigenvalues_and_rotation(FACTORS["two"], pt.as_tensor(arguments[2]).T)
    value = other_forms()[form] + pt.log(w + s**2).sum()
    fn, plain = compile_with(INPUTS, value), compile_raw(INPUTS, value)
    assert relative_error(fn(*VALUES), plain(*VALUES)) < 1e-12
    assert not autotune.explain(fn).decisions


def test_where_there_is_no_density_there_is_none():
    """Of negative eigenvalues the logarithm is NaN, and so is the log-determinant by a factor."""
    value = written([SMOOTH, s * EXCHANGEABLE], None, rows_of(FACTORS["two"], 1))
    fn, plain = compile_with(INPUTS, value), compile_raw(INPUTS, value)
    assert np.isnan(fn(0.4, -0.7, 0.3))
    assert np.isnan(plain(0.4, -0.7, 0.3))


def test_single_precision():
    x, y = pt.scalar("x", dtype="float32"), np.random.default_rng(0).normal(size=(1, Q)).astype("float32")
    K = (1 - x) * pt.eye(Q, dtype="float32") + x * pt.ones((Q, Q), dtype="float32")
    w, V = eigh(K)
    e = w + np.float32(0.5)
    value = pt.sqr((V.T @ y[0]) / pt.sqrt(e)).sum() + pt.log(e).sum()
    fn = compile_with([x], [value, pt.grad(value, x)])
    dense = K + np.float32(0.5) * pt.eye(Q, dtype="float32")
    right = y[0] @ solve(dense, y[0]) + slogdet(dense)[1]
    expected = compile_raw([x], [right, pt.grad(right, x)])(np.float32(0.4))
    assert all(relative_error(a, b) < 1e-4 for a, b in zip(fn(np.float32(0.4)), expected, strict=True))
