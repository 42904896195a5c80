"""BlockCG: right to the tolerance asked for, or as right as Cholesky."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from autotune.ops import BlockCG


def positive_definite(n, condition=100.0, seed=0):
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]
    K = Q * np.geomspace(1, condition, n) @ Q.T
    return (K + K.T) / 2


@pytest.fixture(scope="module", params=["py", "numba"])
def solve(request, plain):
    A, B, rtol, limit = pt.matrix(), pt.matrix(), pt.scalar(), pt.lscalar()
    mode = plain if request.param == "py" else "NUMBA"
    return pytensor.function([A, B, rtol, limit], BlockCG()(A, B, rtol, limit), mode=mode)


@pytest.mark.parametrize(("n", "m"), [(50, 1), (50, 4), (1, 1)])
def test_every_column_reaches_the_tolerance(solve, n, m):
    A, B = positive_definite(n), np.random.default_rng(1).normal(size=(n, m)) * np.geomspace(1, 1e6, m)
    before = A.copy(), B.copy()
    X, iterations = solve(A, B, 1e-9, 500)
    assert 0 < iterations <= 500
    assert (np.linalg.norm(A @ X - B, axis=0) <= 1.1e-9 * np.linalg.norm(B, axis=0)).all()
    np.testing.assert_array_equal(A, before[0])
    np.testing.assert_array_equal(B, before[1])


def test_columns_may_converge_at_different_times(solve):
    A = positive_definite(60, 1e4)
    _, vectors = np.linalg.eigh(A)
    B = np.stack([vectors[:, 0], np.random.default_rng(0).normal(size=60)], 1)
    X, iterations = solve(A, B, 1e-8, 2000)
    assert iterations > 1
    assert (np.linalg.norm(A @ X - B, axis=0) <= 1.1e-8 * np.linalg.norm(B, axis=0)).all()


def test_zero_rhs_gives_zero(solve):
    X, iterations = solve(positive_definite(5), np.zeros((5, 2)), 1e-10, 100)
    assert (X == 0).all()
    assert iterations == 0


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 2), (4, 0)])
def test_nothing_to_solve(solve, n, m):
    X, iterations = solve(np.eye(n), np.empty((n, m)), 1e-10, 100)
    assert X.shape == (n, m)
    assert iterations == 0


@pytest.mark.parametrize("limit", [0, 3, -5])
def test_over_budget_falls_back_to_cholesky(solve, limit):
    A, B = positive_definite(40, 1e6), np.random.default_rng(0).normal(size=(40, 2))
    X, iterations = solve(A, B, 1e-12, limit)
    assert iterations == -1 - max(limit, 0)
    np.testing.assert_allclose(A @ X, B, atol=1e-9)


def test_a_tolerance_out_of_reach_falls_back_to_cholesky(solve):
    A, B = positive_definite(30), np.random.default_rng(0).normal(size=(30, 1))
    X, iterations = solve(A, B, 0.0, 50)
    assert iterations < 0
    np.testing.assert_allclose(A @ X, B, atol=1e-12)


def test_indefinite_gives_nan(solve):
    X, iterations = solve(np.diag([1.0, -1.0, 2.0]), np.ones((3, 1)), 1e-10, 50)
    assert np.isnan(X).all()
    assert iterations < 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_gives_nan(solve, value):
    A, B = positive_definite(6), np.ones((6, 2))
    B[2, 0] = value
    X, _ = solve(A, B, 1e-10, 100)
    assert np.isnan(X[:, 0]).all()
    np.testing.assert_allclose(A @ X[:, 1], B[:, 1])
    A[1, 2] = A[2, 1] = value
    assert np.isnan(solve(A, np.ones((6, 1)), 1e-10, 100)[0]).all()
    assert np.isnan(solve(A, np.zeros((6, 1)), 1e-10, 100)[0]).all()


def test_single_precision_and_any_memory_order(plain):
    A, B = pt.fmatrix(), pt.fmatrix()
    X, iterations = BlockCG()(A, B, 1e-5, 200)
    assert X.type.dtype == "float32"
    f = pytensor.function([A, B], [X, iterations], mode=plain)
    a, b = positive_definite(30).astype("float32"), np.ones((3, 30), dtype="float32").T
    x, used = f(np.asfortranarray(a), b)
    assert x.dtype == np.float32
    assert used > 0
    np.testing.assert_allclose(a @ x, b, atol=1e-3)


def test_static_shapes_and_refusals():
    X, iterations = BlockCG()(pt.matrix(shape=(None, 5)), pt.matrix(shape=(None, 2)), 1e-8, 10)
    assert X.type.shape == (5, 2)
    assert iterations.type.dtype == "int64"
    with pytest.raises(TypeError, match="real"):
        BlockCG()(pt.zmatrix(), pt.matrix(), 1e-8, 10)
    with pytest.raises(TypeError, match="max_iterations"):
        BlockCG()(pt.matrix(), pt.matrix(), 1e-8, 10.5)
