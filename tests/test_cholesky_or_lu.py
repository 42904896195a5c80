"""The strategy for matrices that nobody tagged: chosen, and exact for whatever matrix arrives."""

import pickle

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import chosen, compile_raw, compile_with, forced, op_names, python_mode, relative_error, spd
from pytensor.assumptions import assume
from pytensor.compile.mode import Mode
from pytensor.link.vm import VMLinker
from pytensor.tensor.linalg import det, inv, slogdet, solve

import autotune

N = 300
rng = np.random.default_rng(21)
M, b = pt.matrix("M", shape=(N, N)), pt.vector("b", shape=(N,))
SPD, GENERAL = spd(N, rng), rng.normal(size=(N, N)) / N**0.5
INDEFINITE = SPD - 5 * np.outer(SPD[0], SPD[0]) / (SPD[0] @ SPD[0])
VALUES = {"spd": SPD, "general": GENERAL, "indefinite": INDEFINITE}
b_value = rng.normal(size=N)


def gaussian_process():
    """Inputs, loss, and what to differentiate by: an RBF kernel and noise, untagged."""
    X, y = pt.matrix("X", shape=(N, 2)), pt.vector("y", shape=(N,))
    scale, noise = pt.scalars("scale", "noise")
    distance = ((X[:, None, :] - X[None, :, :]) ** 2).sum(axis=-1)
    kernel = pt.exp(-0.5 * distance / scale**2) + noise**2 * pt.eye(N)
    return [X, y, scale, noise], -0.5 * y @ inv(kernel) @ y - 0.5 * slogdet(kernel)[1], [scale, noise]


GP_VALUES = [rng.normal(size=(N, 2)), rng.normal(size=N), np.array(0.8), np.array(0.3)]


def with_gradient(loss, wrt, tuned):
    loss = autotune.tune(loss) if tuned else loss
    return [loss, *pt.grad(loss, wrt)]


@pytest.mark.parametrize("form", ["value", "user_gradient", "tuned"])
def test_an_untagged_gaussian_process_is_factorised_once_and_agrees(form):
    inputs, loss, wrt = gaussian_process()
    outputs = [loss] if form == "value" else with_gradient(loss, wrt, tuned=form == "tuned")
    plain = [loss] if form == "value" else with_gradient(loss, wrt, tuned=False)
    fn = compile_with(inputs, outputs)
    names = op_names(fn)
    assert chosen(fn) == ["cholesky_or_lu"]
    assert sum("CholeskyOrLU{" in name for name in names) == 1
    assert not any("MatrixInverse" in name or "SLogDet" in name or "LUFactor" in name for name in names)
    for a, e in zip(fn(*GP_VALUES), compile_raw(inputs, plain)(*GP_VALUES), strict=True):
        assert relative_error(a, e) < 1e-9


@pytest.mark.slow
def test_a_gaussian_process_with_gradient_agrees_under_numba():
    inputs, loss, wrt = gaussian_process()
    fn = pytensor.function(inputs, with_gradient(loss, wrt, tuned=False), mode=autotune.mode(base="NUMBA"))
    assert chosen(fn) == ["cholesky_or_lu"]
    expected = compile_raw(inputs, with_gradient(loss, wrt, tuned=False))(*GP_VALUES)
    for a, e in zip(fn(*GP_VALUES), expected, strict=True):
        assert relative_error(a, e) < 1e-9


REQUESTS = [solve(M, b), solve(M.T, b), b @ inv(M) @ b, inv(M), pt.diagonal(inv(M)), det(M), *slogdet(M)]


@pytest.mark.parametrize("linker", ["py", pytest.param("numba", marks=pytest.mark.slow)])
def test_one_function_is_right_for_every_kind_of_matrix(linker):
    base = python_mode() if linker == "py" else "NUMBA"
    fn = compile_with([M, b], REQUESTS, base=base)
    assert chosen(fn) == ["cholesky_or_lu"]
    for value in (SPD, GENERAL, INDEFINITE, SPD):
        inverse = np.linalg.inv(value)
        expected = [
            np.linalg.solve(value, b_value),
            np.linalg.solve(value.T, b_value),
            b_value @ inverse @ b_value,
            inverse,
            np.diag(inverse),
            np.linalg.det(value),
            *np.linalg.slogdet(value),
        ]
        before = value.copy()
        for a, e in zip(fn(value, b_value), expected, strict=True):
            assert relative_error(a, e) < 1e-9
        np.testing.assert_array_equal(value, before)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_tiny_matrices(n):
    X, y = pt.matrix("X", shape=(n, n)), pt.vector("y", shape=(n,))
    outputs = [solve(X, y), inv(X), det(X), *slogdet(X)]
    fn = compile_with([X, y], outputs, forced("cholesky_or_lu"))
    for value in (2 * np.eye(n), -3 * np.eye(n)):
        expected = compile_raw([X, y], outputs)(value, np.ones(n))
        for a, e in zip(fn(value, np.ones(n)), expected, strict=True):
            assert relative_error(a, e) < 1e-14


@pytest.mark.parametrize("name", ["zero_row", "rank_one"])
def test_a_singular_matrix_is_answered_as_by_lu(name):
    value = {"zero_row": np.diag([1.0, 0.0, 2.0]), "rank_one": np.full((3, 3), 2.0)}[name]
    A = pt.matrix("A", shape=(3, 3))
    outputs = [det(A), *slogdet(A), inv(A), solve(A, pt.ones(3))]
    with np.errstate(divide="ignore"):
        by_lu, found = (compile_with([A], outputs, forced(name))(value) for name in ("lu", "cholesky_or_lu"))
    for a, e in zip(found, by_lu, strict=True):
        np.testing.assert_array_equal(a, e)
    assert found[0] == 0
    assert found[2] == -np.inf


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batches_decide_for_each_matrix_and_keep_their_dtype(dtype):
    T, t = pt.tensor("T", shape=(3, 20, 20), dtype=dtype), pt.tensor("t", shape=(3, 20, 2), dtype=dtype)
    outputs = [solve(T, t), inv(T), *slogdet(T), det(T)]
    fn = compile_with([T, t], outputs, forced("cholesky_or_lu"))
    value = np.stack([spd(20, rng), rng.normal(size=(20, 20)), spd(20, rng) - 3 * np.eye(20)]).astype(dtype)
    rhs = rng.normal(size=(3, 20, 2)).astype(dtype)
    for a, e in zip(fn(value, rhs), compile_raw([T, t], outputs)(value, rhs), strict=True):
        assert a.dtype == e.dtype == dtype
        assert relative_error(a, e) < (1e-3 if dtype == "float32" else 1e-10)


@pytest.mark.parametrize("kind", VALUES)
def test_gradients_chosen_before_autodiff_hold_for_every_kind_of_matrix(kind):
    # Small: with 128 row exchanges or more, PyTensor's own sign overflows under the Python linker.
    n = 40
    A, y = pt.matrix("A", shape=(n, n)), pt.vector("y", shape=(n,))
    loss = (solve(A, y) * np.arange(n)).sum() + slogdet(A)[1] + (inv(A) * np.eye(n)[::-1]).sum()
    tuned = autotune.tune(loss, forced("cholesky_or_lu"))
    fn = compile_with([A, y], [tuned, *pt.grad(tuned, [A, y])])
    values = VALUES[kind][:n, :n], b_value[:n]
    expected = compile_raw([A, y], [loss, *pt.grad(loss, [A, y])])(*values)
    for a, e in zip(fn(*values), expected, strict=True):
        assert relative_error(a, e) < 1e-8


def test_a_known_positive_definite_matrix_takes_cholesky():
    P = assume(M, positive_definite=True)
    fn = compile_with([M, b], [solve(P, b), slogdet(P)[1], inv(P)])
    [decision] = autotune.explain(fn).decisions
    assert decision.chosen == "cholesky"
    assert decision.candidate("cholesky_or_lu").reason == "cholesky does the same with less work"


def test_two_different_factors_are_priced_as_lu():
    U, V = pt.matrix("U", shape=(N, N)), pt.matrix("V", shape=(N, N))
    K = U @ V.T + pt.eye(N)
    fn = compile_with([U, V], [slogdet(K)[1], inv(K)])
    [decision] = autotune.explain(fn).decisions
    asked, lu = (decision.candidate(name).seconds for name in ("cholesky_or_lu", "lu"))
    assert lu < asked < 1.5 * lu  # the look comes on top


def test_batches_are_priced_as_general_matrices():
    A = pt.tensor("A", shape=(20, 8, 8))
    fn = compile_with([A], [solve(A, pt.ones((20, 8, 2))), slogdet(A)[1]])
    [decision] = autotune.explain(fn).decisions
    assert decision.candidate("lu").seconds == decision.candidate("cholesky_or_lu").seconds


def test_functions_travel_through_pickle():
    fn = compile_with([M, b], [solve(M, b), slogdet(M)[1]])
    assert chosen(fn) == ["cholesky_or_lu"]
    again = pickle.loads(pickle.dumps(fn))
    for value in (SPD, GENERAL):
        for a, e in zip(again(value, b_value), fn(value, b_value), strict=True):
            np.testing.assert_array_equal(a, e)


def test_in_place_a_factor_and_the_inverse_beside_it_stay_plain_operations():
    """Where a view and what overwrites its origin meet, PyTensor gives up unwrapping the former."""
    spd_value, weights = SPD[:9, :9].copy(), pt.matrix("weights", shape=(9, 9))
    K = pt.matrix("K", shape=(9, 9)) * 1.0
    factor = pt.linalg.cholesky(K)
    outputs = [pt.log(pt.diagonal(factor)).sum(), (inv(K) * weights).sum(), factor]
    base = Mode(linker=VMLinker(use_cloop=False, c_thunks=False), optimizer="fast_run").excluding("fusion")
    mode = autotune.mode(forced("cholesky_or_lu"), base=base)
    inputs = [K.owner.inputs[0], weights]
    fn = pytensor.function(inputs, outputs, mode=mode)
    assert not [name for name in op_names(fn) if "Blockwise" in name]
    values = [spd_value, rng.normal(size=(9, 9))]
    expected = compile_raw(inputs, outputs)(*values)
    for again in (fn, pickle.loads(pickle.dumps(fn))):
        for a, e in zip(again(*values), expected, strict=True):
            assert relative_error(a, e) < 1e-9


def test_running_twice_changes_nothing():
    from autotune.rewrite.passes import AutotunePass, PlanFeature

    fgraph = compile_with([M, b], REQUESTS).maker.fgraph.clone()
    for feature in [f for f in fgraph._features if isinstance(f, PlanFeature)]:
        fgraph.remove_feature(feature)
    before = [str(node.op) for node in fgraph.toposort()]
    AutotunePass().rewrite(fgraph)
    assert [str(node.op) for node in fgraph.toposort()] == before
