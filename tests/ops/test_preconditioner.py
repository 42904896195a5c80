"""Partial Cholesky preconditioners: the law, and what they are worth."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from autotune.ops import PartialCholesky, core_cg, core_preconditioner
from autotune.ops.constants import JACOBI, NONE
from autotune.ops.core_operator import as_operator


def rbf(n, lengthscale, noise, seed=0):
    X = np.random.default_rng(seed).uniform(size=(n, 2))
    return np.exp(-0.5 * ((X[:, None] - X[None]) ** 2).sum(-1) / lengthscale**2) + noise * np.eye(n)


def dense(parts, n):
    scale, U, s = parts
    if not scale.size:
        return np.eye(n)
    return (np.eye(n) + U * s @ U.T) / np.outer(scale, scale)


def iterations(A, parts, rtol=1e-8):
    B = np.random.default_rng(1).normal(size=(len(A), 2))
    return core_cg.block_cg(A, B, rtol, 3000, parts, np.zeros((0, 0)))[1]


@pytest.mark.parametrize("rank", [NONE, JACOBI, 1, 7, 40, 99])
def test_inverse_factor_and_determinant_are_those_of_one_matrix(rank):
    A = rbf(40, 0.2, 0.05)
    parts = core_preconditioner.build(A, rank)
    P, X = dense(parts, 40), np.random.default_rng(0).normal(size=(3, 40))
    np.testing.assert_allclose(core_preconditioner.apply_inverse(parts, X) @ P, X, atol=1e-9)
    inverse = core_preconditioner.dense_inverse(parts, 40, np.float64)
    np.testing.assert_allclose(inverse @ P, np.eye(40), atol=1e-9)
    root = core_preconditioner.apply_root(parts, np.eye(40))  # rows are G e_i: this is G'
    np.testing.assert_allclose(root @ root.T, np.linalg.inv(P), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(core_preconditioner.apply_root_transposed(parts, np.eye(40)), root.T)
    back = core_preconditioner.apply_root(parts, core_preconditioner.apply_factor(parts, X))
    np.testing.assert_allclose(back, X, atol=1e-9)
    assert core_preconditioner.logdet(parts) == pytest.approx(np.linalg.slogdet(P)[1], abs=1e-9)


def test_full_rank_is_the_matrix():
    A = rbf(25, 0.1, 0.1)
    np.testing.assert_allclose(dense(core_preconditioner.build(A, 25), 25), A, atol=1e-10)


def test_jacobi_is_the_diagonal():
    A = rbf(10, 0.2, 0.1) * np.outer(np.arange(1, 11), np.arange(1, 11))
    np.testing.assert_allclose(dense(core_preconditioner.build(A, JACOBI), 10), np.diag(np.diag(A)))


@pytest.mark.parametrize("noise", [1e-3, 1e-1])
def test_noise_is_found_without_being_told(noise):
    """So a rank as high as the kernel's leaves the noise alone, and next to nothing to iterate."""
    A = rbf(300, 0.4, noise)
    _, rest = core_preconditioner.split(as_operator(A), np.diag(A).copy(), 40)
    assert noise * (1 - 1e-6) <= rest.min() <= 1.05 * noise
    assert 0 < iterations(A, core_preconditioner.build(A, 40)) < 12
    assert iterations(A, core_preconditioner.build(A, NONE)) > 30


def test_noise_is_never_below_the_smallest_eigenvalue():
    """An upper bound of it: the matrix less the noise is semidefinite on fewer rows than all."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        n = int(rng.integers(2, 30))
        G = rng.normal(size=(n, n + 1))
        A = G @ G.T
        _, _, pivots = core_preconditioner.pivoted_cholesky(as_operator(A), np.diag(A).copy(), n // 2)
        if pivots:
            noise = core_preconditioner.noise_level(as_operator(A), np.diag(A), pivots)
            assert noise >= np.linalg.eigvalsh(A)[0] * (1 - 1e-6) - 1e-12


def test_pivots_are_those_with_most_left():
    """Of a block-diagonal matrix, one of each block before a second one of any."""
    A = np.kron(np.diag([5.0, 3.0, 2.0]), np.ones((4, 4))) + 1e-3 * np.eye(12)
    rows, rest, pivots = core_preconditioner.pivoted_cholesky(as_operator(A), np.diag(A).copy(), 3)
    assert [p // 4 for p in pivots] == [0, 1, 2]
    np.testing.assert_allclose(rows.T @ rows + np.diag(rest), np.where(A < 1e-3, 0, A), atol=6e-3)


@pytest.mark.parametrize("A", [np.zeros((3, 3)), np.diag([1.0, -1.0]), np.diag([1.0, np.nan]), np.eye(0)])
def test_an_impossible_diagonal_gives_the_identity(A):
    scale, U, s = core_preconditioner.build_arrays(A, 2)
    assert scale.size == U.size == s.size == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_entries_that_are_not_finite_leave_the_diagonal(value):
    A = rbf(8, 0.2, 0.1)
    A[1, 2] = A[2, 1] = value
    scale, U, _ = core_preconditioner.build_arrays(A, 8)
    assert np.isfinite(scale).all()
    assert U.shape == (8, 0)


def test_indefinite_under_a_false_tag_is_preconditioned_by_something_positive():
    A = np.array([[1.0, 5.0, 0.0], [5.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    P = dense(core_preconditioner.build_arrays(A, 2), 3)
    assert (np.linalg.eigvalsh(P) > 0).all()


def test_the_op_keeps_its_dtype(plain):
    A, rank = pt.fmatrix(), pt.lscalar()
    outs = PartialCholesky()(A, rank)
    assert [out.type.dtype for out in outs] == ["float32"] * 3
    found = pytensor.function([A, rank], outs, mode=plain)(rbf(20, 0.3, 0.1).astype("float32"), 5)
    assert [x.shape for x in found] == [(20,), (20, 5), (5,)]
    with pytest.raises(TypeError, match="rank"):
        PartialCholesky()(A, 2.5)
