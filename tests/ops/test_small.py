"""Plain loops on small matrices: what LAPACK gives, in place, for both triangles; in Python as in Numba."""

import numpy as np
import pytest

from autotune.ops import kernels, small

rng = np.random.default_rng(3)
SIZES = [0, 1, 2, 3, 7, 8]


def general(n):
    return rng.normal(size=(n, n))


def definite(n):
    A = general(n)
    return A @ A.T + np.eye(n)


def lu(A):
    T, pivots = np.array(A.T, order="C"), np.empty(len(A), np.int32)
    return T, pivots, small.getrf(T, pivots, 0)


@pytest.mark.parametrize("n", SIZES)
def test_lu_factors_solutions_and_inverses_are_lapacks(n):
    A, B = general(n), rng.normal(size=(n, 3))
    T, pivots, info = lu(A)
    expected, exchanges = np.array(A.T, order="C"), np.empty(n, np.int32)
    assert info == kernels.getrf(expected, exchanges) == 0
    np.testing.assert_allclose(T, expected, atol=1e-12)
    np.testing.assert_array_equal(pivots + 1, exchanges)
    for transposed in (False, True):
        rows = np.array(B.T, order="C")
        small.getrs(T, pivots, 0, rows, transposed)
        np.testing.assert_allclose((A.T if transposed else A) @ rows.T, B, atol=1e-10)
    assert small.getri(T, pivots, 0) == 0
    np.testing.assert_allclose(A @ T.T, np.eye(n), atol=1e-10)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("upper", [False, True])
def test_cholesky_factors_solutions_and_inverses_are_lapacks(n, upper):
    A, B = definite(n), rng.normal(size=(n, 3))
    F = A.copy()
    assert small.potrf(F, upper) == 0
    L = np.triu(F).T if upper else np.tril(F)
    np.testing.assert_allclose(L @ L.T, A, atol=1e-12)
    other = np.tril_indices(n, -1) if upper else np.triu_indices(n, 1)
    np.testing.assert_array_equal(F[other], A[other])
    rows = np.array(B.T, order="C")
    small.potrs(F, upper, rows)
    np.testing.assert_allclose(A @ rows.T, B, atol=1e-10)
    assert small.potri(F, upper) == 0
    np.testing.assert_allclose(A @ F, np.eye(n), atol=1e-10)
    np.testing.assert_array_equal(F, F.T)


@pytest.mark.parametrize("upper", [False, True])
def test_what_has_no_factor_is_told(upper):
    for bad in (-np.eye(3), np.full((3, 3), np.nan), np.diag([1.0, 1.0, 0.0]), np.ones((3, 3)) - np.eye(3)):
        assert small.potrf(bad.copy(), upper) != 0
    assert small.potri(np.diag([1.0, 0.0, 2.0]), upper) != 0


def test_a_singular_matrix_keeps_its_factors():
    A = np.array([[0.0, 1, 2], [0, 3, 4], [0, 5, 7]])
    T, pivots, info = lu(A)
    assert info == 1
    assert np.prod(np.diag(T)) == 0
    before = T.copy()
    assert small.getri(T, pivots, 0) != 0
    np.testing.assert_array_equal(T, before)


def test_nan_is_never_lost():
    A = general(4)
    A[2, 1] = np.nan
    T, *_ = lu(A)
    assert np.isnan(np.diag(T)).any()


def test_a_tiny_pivot_is_divided_by():
    """Its reciprocal would be infinite."""
    T, _, info = lu(np.array([[4e-320, 1.0], [2e-320, 1.0]]))
    assert info == 0
    np.testing.assert_allclose(T, [[4e-320, 0.5], [1.0, 0.5]])
