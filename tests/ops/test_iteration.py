"""The compiled iteration is the one in Python."""

import numpy as np
import pytest

from autotune.ops import core_cg, core_iteration, core_preconditioner
from autotune.ops._compiled_iteration import iterate as compiled
from autotune.ops.core_operator import as_operator

N, K, M = 60, 7, 6
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 2 * N))
DENSE, D, U = X @ X.T / N + np.eye(N), RNG.uniform(1, 2, N), RNG.normal(size=(N, K))
MATRICES = {
    "dense": as_operator(DENSE),
    "fortran": as_operator(np.asfortranarray(DENSE)),
    "all parts": as_operator(DENSE, D, U),
    "thin": as_operator(np.zeros((0, 0)), D, U),
}
RANKS = {"none": -1, "jacobi": 0, "partial cholesky": 9}
B = RNG.normal(size=(M, N)) * np.geomspace(1e-3, 1e3, M)[:, None]


def both(A, B, preconditioner, rtol, budget):
    arguments = A.parts, B, core_cg.iteration_parts(preconditioner, B.dtype), rtol * core_cg.norms(B), budget
    with np.errstate(all="ignore"):
        return core_iteration.iterate(*arguments), compiled(*arguments)


@pytest.mark.parametrize("m", [1, 4, M])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_counts_is_the_triangle_that_a_factorisation_reads(order, m):
    """Where the other one differs, a block may take steps for nothing, but never claims to have solved."""
    A = np.asarray(np.tril(DENSE), order=order)
    for x, solved, _ in both(as_operator(A), B[:m], core_preconditioner.build(A, -1), 1e-10, 100):
        assert solved.all() == (m <= 4)
        np.testing.assert_allclose(x[solved] @ DENSE, B[:m][solved], atol=1e-6)
    X, *_ = core_cg.block_cg(A, B[:m].T, 1e-10, 100, core_preconditioner.build(A, -1), np.zeros((0, 0)))
    np.testing.assert_allclose(DENSE @ X, B[:m].T, atol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
def test_products_are_those_of_the_lower_triangle(order):
    A = as_operator(np.asarray(np.tril(DENSE), order=order))
    assert not A.is_symmetric
    assert as_operator(DENSE).is_symmetric
    np.testing.assert_allclose(A.product(B), B @ DENSE, atol=1e-9)


@pytest.mark.parametrize("m", [1, M])
@pytest.mark.parametrize("kind", RANKS)
@pytest.mark.parametrize("name", MATRICES)
def test_it_iterates_alike(name, kind, m):
    A = MATRICES[name]
    (x, solved, used), (y, also_solved, also_used) = both(
        A, B[:m], core_preconditioner.build(A, RANKS[kind]), 1e-9, 100
    )
    assert solved.all()
    assert also_solved.all()
    assert abs(used - also_used) <= 1 + used / 10  # the last digits may decide
    np.testing.assert_allclose(y / core_cg.norms(x)[:, None], x / core_cg.norms(x)[:, None], atol=1e-8)


def test_it_takes_an_inverse_that_the_user_gives():
    inverse = as_operator(np.linalg.inv(DENSE + 0.1 * np.eye(N)), D / 100)
    (x, *_, used), (y, *_, also_used) = both(as_operator(DENSE), B, inverse, 1e-9, 100)
    assert abs(used - also_used) <= 1
    assert used < 12
    np.testing.assert_allclose(y, x, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("budget", [0, 1, 5])
def test_it_ends_with_the_budget(budget):
    (x, solved, used), (y, also_solved, also_used) = both(
        as_operator(DENSE), B, core_preconditioner.build(DENSE, -1), 1e-12, budget
    )
    assert used == also_used <= budget
    assert not solved.any()
    assert not also_solved.any()
    np.testing.assert_allclose(y, x, rtol=1e-9)


def test_an_indefinite_matrix_and_nan_end_it():
    for value in (-1.0, np.nan):
        A = as_operator(np.diag(np.r_[value, np.ones(N - 1)]))
        for _, solved, used in both(A, B, core_preconditioner.build(DENSE, -1), 1e-9, 50):
            assert not solved.any()
            assert used <= 3


@pytest.mark.slow
def test_single_precision_and_memory_that_must_not_be_written():
    A, b = DENSE.astype(np.float32), B.astype(np.float32)
    for array in (A, b):
        array.setflags(write=False)
    for x, solved, _ in both(as_operator(A), b, core_preconditioner.build(A, 0), 1e-4, 60):
        assert x.dtype == np.float32
        assert solved.all()
        np.testing.assert_allclose(x @ A, b, atol=1e-2 * np.abs(b).max())


@pytest.mark.parametrize("size", [1e-200, 1e-160, 1e160, 1e200])
def test_numbers_near_the_ends_of_the_range_are_no_error(size):
    A, inverse = as_operator(DENSE), as_operator(size * np.eye(N))
    for x, solved, _ in both(A, B, inverse, 1e-9, 100):
        if solved.all():
            np.testing.assert_allclose(x @ DENSE, B, atol=1e-6)
