"""Matrices in parts: products, rows and diagonals without the matrix, and CG on them as on the matrix."""

import itertools

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from autotune.ops import (
    BlockCG,
    PartialCholesky,
    constants,
    core_cg,
    core_direct,
    core_preconditioner,
    kernels,
)
from autotune.ops.core_operator import SymmetricOperator, as_operator

N, K = 40, 6
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 2 * N))
DENSE, D, U, C = X @ X.T / N, RNG.uniform(1, 2, N), RNG.normal(size=(N, K)), RNG.uniform(1, 3, K)
B = RNG.normal(size=(N, 3))
NONE = np.zeros((0, 0)), np.zeros(0), np.zeros((0, 0)), np.zeros(0)
PARTS = {
    "dense": (DENSE, *NONE[1:]),
    "dense_diagonal": (DENSE, D, *NONE[2:]),
    "dense_low_rank": (DENSE, NONE[1], U, C),
    "all": (DENSE, D, U, C),
    "diagonal_low_rank": (NONE[0], D, U, C),
    "diagonal": (NONE[0], D, *NONE[2:]),
}
EMPTY = np.zeros((0, 0))


def matrix_of(parts):
    dense, d, columns, c = parts
    A = dense.copy() if dense.size else np.zeros((N, N))
    return A + (np.diag(d) if d.size else 0) + ((columns * c) @ columns.T if c.size else 0)


def identity():
    return core_preconditioner.build(np.eye(1), constants.NONE)


def chebyshev_bound(A, preconditioner, rtol):
    """Iterations that suffice for ``|b - A x| <= rtol |b|``, by ``|e_k|_A <= 2 q^k |e_0|_A``.

    How far below it the count is, rounding decides: by several where few eigenvalues stand apart.
    """
    root = core_preconditioner.apply_root(preconditioner, np.eye(N))
    values, ratio = np.linalg.eigvalsh(root.T @ A @ root), np.sqrt(np.linalg.cond(A))
    spread = np.sqrt(values[-1] / values[0])
    return np.ceil(np.log(2 * ratio / rtol) / np.log((spread + 1) / max(spread - 1, 1e-9)))


@pytest.mark.parametrize("name", PARTS)
def test_what_is_asked_of_the_parts_is_that_of_the_matrix(name):
    operator, A = SymmetricOperator(*PARTS[name]), matrix_of(PARTS[name])
    for m in (1, 5):
        np.testing.assert_allclose(operator.product(B[:, :1].T.repeat(m, 0)), B[:, :1].T.repeat(m, 0) @ A)
    np.testing.assert_allclose(operator.diagonal(), np.diag(A))
    np.testing.assert_allclose(operator.rows([3, 0, 17]), A[[3, 0, 17]])
    np.testing.assert_allclose(operator.to_dense(), A)
    assert operator.order == N


@pytest.mark.parametrize("rank", [-1, 0, 8])
@pytest.mark.parametrize("name", PARTS)
def test_preconditioners_and_iterations_are_those_of_the_matrix(name, rank):
    operator, A = SymmetricOperator(*PARTS[name]), matrix_of(PARTS[name])
    parts, same = (core_preconditioner.build(M, rank) for M in (operator, A))
    X, used, _ = core_cg.block_cg(operator, B, 1e-10, 400, parts, EMPTY)
    Y, also_used, _ = core_cg.block_cg(A, B, 1e-10, 400, same, EMPTY)
    assert min(used, also_used) > 0
    assert max(used, also_used) <= chebyshev_bound(A, same, 1e-10)
    np.testing.assert_allclose(X, np.linalg.solve(A, B), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(X, Y, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["all", "diagonal_low_rank"])
def test_the_fallback_is_exact_and_hands_its_factor_on(name, monkeypatch):
    operator, A = SymmetricOperator(*PARTS[name]), matrix_of(PARTS[name])
    X, iterations, factor = core_cg.block_cg(operator, B, 1e-10, 0, identity(), EMPTY)
    assert iterations == -1
    np.testing.assert_allclose(X, np.linalg.solve(A, B), rtol=1e-11)
    assert factor.shape == ((N, N) if name == "all" else (K + 1, N))
    monkeypatch.setattr(core_direct, "cholesky_factor", None)
    monkeypatch.setattr(core_direct.lowrank, "factorise", None)
    again = core_cg.block_cg(operator, B[:, :1], 1e-10, 50, identity(), factor)[0]
    np.testing.assert_allclose(again, X[:, :1], rtol=1e-11)


@pytest.mark.parametrize("parts", [(EMPTY, D[:-1]), (DENSE[:-1, :-1],)])
def test_a_preconditioner_of_another_order_is_an_error(parts):
    given = as_operator(*parts)
    arrays = given.dense, given.d, given.U, given.c
    with pytest.raises(ValueError, match="order 39, the matrix of order 40"):
        core_cg.block_cg_arrays(DENSE, B, 1e-8, 9, *identity(), EMPTY, *NONE[1:], *arrays)


def test_the_fallback_of_a_diagonal_alone_divides():
    operator = SymmetricOperator(*PARTS["diagonal"])
    X, iterations, factor = core_cg.block_cg(operator, B, 1e-10, 0, identity(), EMPTY)
    assert iterations == -1
    np.testing.assert_allclose(X, B / D[:, None], rtol=1e-15)
    np.testing.assert_array_equal(core_cg.block_cg(operator, B, 1e-10, 50, identity(), factor)[0], X)


def test_thin_parts_never_become_a_matrix(monkeypatch):
    monkeypatch.setattr(SymmetricOperator, "to_dense", None)
    operator = SymmetricOperator(*PARTS["diagonal_low_rank"])
    for budget, rank in ((0, -1), (100, 8)):
        X = core_cg.block_cg(operator, B, 1e-10, budget, core_preconditioner.build(operator, rank), EMPTY)[0]
        np.testing.assert_allclose(matrix_of(PARTS["diagonal_low_rank"]) @ X, B, atol=1e-8)


def test_a_fallback_with_ill_scaled_diagonals_is_as_accurate():
    d = D.copy()
    d[:3] = 1e-14
    operator = as_operator(EMPTY, d, U, C)
    X, iterations, factor = core_cg.block_cg(operator, B, 1e-13, 5, identity(), EMPTY)
    assert iterations < 0
    assert factor.size == 0
    A = np.diag(d) + (U * C) @ U.T
    assert np.abs(A @ X - B).max() < 1e-11


@pytest.mark.parametrize("c", [-np.ones(K), np.full(K, np.nan), np.full(K, np.inf)])
def test_parts_that_are_not_positive_definite_give_nan(c):
    operator = as_operator(EMPTY, D, 3 * U, c)
    with np.errstate(all="ignore"):
        X, iterations, factor = core_cg.block_cg(operator, B, 1e-9, 50, identity(), EMPTY)
        zero = core_cg.block_cg(operator, 0 * B, 1e-9, 50, identity(), EMPTY)[0]
    assert np.isnan(X).all()
    assert iterations < 0
    assert np.isnan(factor).all()
    assert np.isnan(zero).all() == (not np.isfinite(c).all())


def test_a_known_inverse_is_a_preconditioner_and_a_wrong_one_does_no_harm():
    A = matrix_of(PARTS["all"])
    A[0, 0] *= 1e5
    exact = np.linalg.solve(A, B)
    inverses = {True: [np.linalg.inv(A + 0.01 * DENSE)], False: [-np.eye(N), np.full_like(A, np.nan)]}
    for reached, inverse in ((key, M) for key, matrices in inverses.items() for M in matrices):
        preconditioner = as_operator(inverse)
        X, used, _ = core_cg.block_cg(A, B, 1e-10, 200, preconditioner, EMPTY)
        assert (0 < used < 10) if reached else used < 0
        np.testing.assert_allclose(X, exact, rtol=1e-6, atol=1e-9)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        as_operator(DENSE, D[:-1])
    with pytest.raises(ValueError, match="do not fit"):
        SymmetricOperator(EMPTY, D, U, C[:-1])
    with pytest.raises(ValueError, match="as many rows"):
        core_cg.block_cg_arrays(EMPTY, B[:-1], 1e-8, 9, *identity(), EMPTY, D, U, C, *NONE)


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_the_operations_take_parts_under_both_linkers(plain, dtype):
    d, c = (pt.vector(name, dtype=dtype) for name in "dc")
    columns, rhs = (pt.matrix(name, dtype=dtype) for name in "UB")
    parts = PartialCholesky()(None, 4, d, columns, c)
    rtol = 1e-9 if dtype == "float64" else 1e-4
    outputs = [*parts, *BlockCG()(None, rhs, rtol, 100, *parts, None, d, columns, c)[:2]]
    values = [value.astype(dtype) for value in (D, U, C, B)]
    both = [pytensor.function([d, columns, c, rhs], outputs, mode=m)(*values) for m in (plain, "NUMBA")]
    for *built, x, used in both:
        assert {x.dtype, *(part.dtype for part in built)} == {np.dtype(dtype)}
        assert [part.shape for part in built] == [(N,), (N, 4), (4,)]
        assert used > 0
        np.testing.assert_allclose(matrix_of(PARTS["diagonal_low_rank"]) @ x, B, atol=100 * rtol)
    for python, numba in zip(both[0][:3], both[1][:3], strict=True):
        np.testing.assert_array_equal(python, numba)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 3), (1, 1, 1), (1, 5, 4), (4, 5, 1), (6, 7, 8)])
def test_products_by_scipys_blas_are_numpys_in_any_memory_order(dtype, shape):
    m, k, n = shape
    rng = np.random.default_rng(m + k + n)
    X, Y = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    orders = (np.ascontiguousarray, np.asfortranarray, lambda M: np.repeat(M, 2, axis=1)[:, ::2])
    for left, right in itertools.product(orders, orders):
        found = kernels.matmul(left(X), right(Y))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, X @ Y, rtol=1e-4 if dtype == "float32" else 1e-13, atol=1e-6)
