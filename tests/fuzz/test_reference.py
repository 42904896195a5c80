"""The reference is exact to long double: against mpmath with 40 digits."""

import mpmath
import numpy as np
import pytensor.tensor as pt
import pytest
from pytensor.tensor import linalg as pl

from fuzz.reference import evaluate

N = 5
EPS = float(np.finfo(np.longdouble).eps)


@pytest.fixture
def numbers():
    r = np.random.RandomState(7)
    return r.normal(size=(N, N)) + 2 * np.eye(N), r.normal(size=N)


@pytest.fixture
def exact(numbers):
    with mpmath.workdps(40):
        yield mpmath.matrix(numbers[0].tolist()), mpmath.matrix(numbers[1].tolist())


def reference(make, numbers):
    A, b = pt.matrix("A", shape=(N, N)), pt.vector("b", shape=(N,))
    return evaluate([A, b], [make(A, b)], numbers)[0]


def error(value, right):
    """Relative to the largest entry, with the digits of the long doubles kept."""
    value = np.asarray(value, dtype=np.longdouble).ravel()
    high = value.astype(float)
    low = (value - high).astype(float)
    right = [right] if not isinstance(right, mpmath.matrix) else list(right)
    off = [abs(mpmath.mpf(h) + mpmath.mpf(e) - x) for h, e, x in zip(high, low, right, strict=True)]
    return float(max(off) / max(map(abs, right)))


def _gram(A):
    return A @ A.T


GRAPHS = {
    "solve": (lambda A, b: pl.solve(A, b), lambda A, b: mpmath.lu_solve(A, b)),
    "inverse": (lambda A, b: pl.inv(A), lambda A, b: A**-1),
    "determinant": (lambda A, b: pl.det(A), lambda A, b: mpmath.det(A)),
    "log-determinant": (lambda A, b: pl.slogdet(A)[1], lambda A, b: mpmath.log(abs(mpmath.det(A)))),
    "factor": (lambda A, b: pl.cholesky(_gram(A)), lambda A, b: mpmath.cholesky(_gram(A))),
    "definite solve": (
        lambda A, b: pl.cho_solve((pl.cholesky(_gram(A)), True), b),
        lambda A, b: mpmath.lu_solve(_gram(A), b),
    ),
    "gradient of a quadratic form": (
        lambda A, b: pt.grad(b @ pl.inv(_gram(A)) @ b, b),
        lambda A, b: 2 * mpmath.lu_solve(_gram(A), b),
    ),
}


@pytest.mark.skipif(EPS > 1e-18, reason="no long doubles longer than doubles here")
@pytest.mark.parametrize("name", GRAPHS)
def test_the_reference_is_exact_to_long_double(name, numbers, exact):
    graph, right = GRAPHS[name]
    assert error(reference(graph, numbers), right(*exact)) < 5000 * EPS


def test_one_triangle_is_read_where_one_is_given(numbers):
    A, b = numbers
    S = A + A.T
    for lower, given in ((True, np.tril(S)), (False, np.triu(S))):
        value = reference(lambda A, b, lower=lower: pl.solve(A, b, assume_a="sym", lower=lower), (given, b))
        np.testing.assert_allclose(value.astype(float), np.linalg.solve(S, b), rtol=1e-12)


def test_a_matrix_that_is_not_definite_has_a_factor_of_nan(numbers):
    value = reference(lambda A, b: pl.cholesky(A), (-np.eye(N), numbers[1]))
    assert np.isnan(value).all()


def test_a_definite_solve_of_another_matrix_is_nan_in_the_shape_of_its_right_hand_side(numbers):
    value = reference(lambda A, b: pl.solve(A, b, assume_a="pos"), (-np.eye(N), numbers[1]))
    assert value.shape == (N,)
    assert np.isnan(value).all()


def test_an_operation_that_is_not_known_is_performed(numbers):
    value = reference(lambda A, b: pt.sort(b), numbers)
    np.testing.assert_array_equal(value.astype(float), np.sort(numbers[1]))
