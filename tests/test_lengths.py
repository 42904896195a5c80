"""Lengths that differ are refused as PyTensor's unoptimised graph refuses them, however they got lost."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import chosen, compile_plain, compile_with
from pytensor.compile.mode import Mode
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.traversal import ancestors
from pytensor.tensor.linalg import solve

import autotune

RAW = Mode(linker="py", optimizer=None)
WOODBURY = {"rules": [{"forbid": ["keep", "cholesky", "cholesky_or_lu", "lu", "cg", "lanczos"]}], "margin": 0}
d, e, U, b = pt.vector("d"), pt.vector("e"), pt.matrix("U"), pt.vector("b")
LOW_RANK = U @ U.T
MATRICES = {
    "sum with a multiple of the identity": LOW_RANK + pt.diag(d) + 0.5 * pt.eye(e.shape[0]),
    "sum with ones like another": LOW_RANK + pt.diag(d) + pt.diag(pt.ones_like(e)),
    "identity times a row": LOW_RANK + pt.eye(e.shape[0]) * d[None, :],
    "identity divided by a column": LOW_RANK + pt.eye(e.shape[0]) / d[:, None],
    "identity as a mask": LOW_RANK + pt.eye(e.shape[0]) * (d[:, None] + d[None, :]) + pt.diag(d),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_length_that_only_a_filled_vector_has(name):
    rng = np.random.default_rng(0)
    out = solve(MATRICES[name], b, b_ndim=1)
    values = [rng.uniform(1, 2, 6), np.ones(6), rng.normal(size=(6, 2)), rng.normal(size=6)]
    inputs = [d, e, U, b]
    plain, tuned = compile_plain(inputs, out, RAW), compile_with(inputs, out, WOODBURY)
    np.testing.assert_allclose(tuned(*values), plain(*values))
    for length in (5, 8):
        values[1] = np.ones(length)
        for f in (plain, tuned):
            with pytest.raises((ValueError, AssertionError)):
                f(*values)


V, W, w = pt.matrix("V"), pt.matrix("W", shape=(None, 2)), pt.vector("w")
COLUMNS = {
    "of two factors": U @ V.T + V @ U.T,
    "of two factors, one of them known": U @ W.T + W @ U.T,
    "of a weighted factor": (U * w) @ V.T + (V * w) @ V.T,
    "of weights that are cut": (U * w[:2]) @ U.T + (V * w[2:]) @ V.T,
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_that_low_rank_terms_have_only_together(name):
    rng = np.random.default_rng(0)
    out = solve(COLUMNS[name] + pt.diag(d), b, b_ndim=1)
    values = {d: rng.uniform(1, 2, 6), b: rng.normal(size=6), w: rng.uniform(1, 2, 4 if "cut" in name else 2)}
    values |= {X: rng.normal(size=(6, 2)) for X in (U, V, W)}
    inputs = [d, b, U, V, W, w]
    plain, tuned = compile_plain(inputs, out, RAW), compile_with(inputs, out, WOODBURY)
    np.testing.assert_allclose(*(f(*[values[i] for i in inputs]) for f in (tuned, plain)))
    for var in (U, V, w):
        for columns in (1, 3):
            wrong = values | {var: rng.normal(size=(*values[var].shape[:-1], columns))}
            if var in ancestors([out]):
                for f in (plain, tuned):
                    with pytest.raises((ValueError, AssertionError)):
                        f(*[wrong[i] for i in inputs])


SPECIFIED = {
    "a product": pt.specify_shape(U @ U.T, (6, 6)) + pt.diag(d),
    "rows of a product of two": pt.specify_shape(U @ V.T, (6, None)) + pt.diag(d),
    "a diagonal": U @ V.T + pt.specify_shape(pt.diag(d), (None, 6)),
    "all": pt.specify_shape(U @ U.T + pt.diag(d), (6, 6)),
}


@pytest.mark.parametrize("name", SPECIFIED)
def test_a_shape_that_is_specified_of_a_structured_matrix(name):
    rng = np.random.default_rng(0)
    out = solve(SPECIFIED[name], b, b_ndim=1)
    inputs = [d, b, U, V]
    plain, tuned = compile_plain(inputs, out, RAW), compile_with(inputs, out, WOODBURY)
    assert chosen(tuned) == ["woodbury"]
    for n in (6, 5, 7):
        values = [rng.uniform(1, 2, n), rng.normal(size=n), rng.normal(size=(n, 2)), rng.normal(size=(n, 2))]
        if n == 6:
            np.testing.assert_allclose(tuned(*values), plain(*values))
            continue
        for f in (plain, tuned):
            with pytest.raises((ValueError, AssertionError)):
                f(*values)


A = pt.matrix("A", shape=(None, 6))


@pytest.mark.parametrize("wrong", [5, 7])
def test_rows_of_a_matrix_that_a_diagonal_masks(wrong):
    rng = np.random.default_rng(0)
    out = solve(LOW_RANK + pt.diag(d) * A, b, b_ndim=1)
    plain, tuned = compile_plain([d, A, U, b], out, RAW), compile_with([d, A, U, b], out, WOODBURY)
    values = [rng.uniform(1, 2, 6), rng.uniform(1, 2, (6, 6)), rng.normal(size=(6, 2)), rng.normal(size=6)]
    np.testing.assert_allclose(tuned(*values), plain(*values))
    values[1] = np.ones((wrong, 6))
    for f in (plain, tuned):
        with pytest.raises((ValueError, AssertionError)):
            f(*values)


@pytest.mark.parametrize("axis", [0, 1, None])
def test_lengths_that_a_sum_hides(axis):
    rng = np.random.default_rng(0)
    matrix = LOW_RANK + pt.diag(d)
    summed = (V @ U.T - pt.outer(solve(matrix, b, b_ndim=1), b) + pt.linalg.inv(matrix) * pt.diag(e)).sum(
        axis
    )
    inputs = [d, e, U, V, b]
    plain, tuned = compile_plain(inputs, summed, RAW), compile_with(inputs, summed, WOODBURY)
    values = [rng.uniform(1, 2, 6), np.ones(6), *rng.normal(size=(2, 6, 2)), rng.normal(size=6)]
    np.testing.assert_allclose(tuned(*values), plain(*values))
    values[3] = rng.normal(size=(5, 2))
    for f in (plain, tuned):
        with pytest.raises((ValueError, AssertionError)):
            f(*values)


def test_what_is_tuned_at_unknown_lengths_makes_a_batch():
    rng = np.random.default_rng(0)
    inputs = [d, e, U, b]
    out = solve(LOW_RANK + pt.eye(d.shape[0]) * e[None, :], d, b_ndim=1)
    tuned = autotune.tune(out, WOODBURY)
    ds = pt.matrix("ds")
    batches = [vectorize_graph(one, {d: ds}) for one in (out, tuned)]
    values = [rng.uniform(1, 2, (3, 6)), np.ones(6), rng.normal(size=(6, 2)), np.ones(6)]
    plain, of_tuned = (compile_plain([ds, *inputs[1:]], batch, RAW) for batch in batches)
    np.testing.assert_allclose(of_tuned(*values), plain(*values))
    values[0] = rng.uniform(1, 2, (3, 5))
    with pytest.raises((ValueError, AssertionError)):
        of_tuned(*values)
