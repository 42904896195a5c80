"""BlockCG: right to the tolerance asked for, or as right as Cholesky, for bounded work."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import in_turn

from autotune.ops import (
    BlockCG,
    PartialCholesky,
    core_cg,
    core_direct,
    core_iteration,
    core_operator,
    core_preconditioner,
)
from autotune.ops.core_operator import as_operator


def with_spectrum(eigenvalues, seed=0):
    n = len(eigenvalues)
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]
    K = Q * eigenvalues @ Q.T
    return (K + K.T) / 2


def positive_definite(n, condition=100.0, seed=0):
    return with_spectrum(np.geomspace(1, condition, n), seed)


def residuals(A, B, X):
    """True residuals of all columns, relative, in extended precision."""
    A, B, X = (M.astype(np.longdouble) for M in (A, B, X))
    return np.sqrt(((A @ X - B) ** 2).sum(axis=0) / (B**2).sum(axis=0)).astype(float)


@pytest.fixture(scope="module", params=["py", "numba"])
def solve(request, plain):
    A, B, rtol, limit = pt.matrix(), pt.matrix(), pt.scalar(), pt.lscalar()
    mode = plain if request.param == "py" else "NUMBA"
    return pytensor.function([A, B, rtol, limit], BlockCG()(A, B, rtol, limit)[:2], mode=mode)


@pytest.fixture(scope="module")
def direct(plain):
    """What PyTensor's own positive definite solve gives."""
    A, B = pt.matrix(), pt.matrix()
    return pytensor.function([A, B], pt.linalg.solve(A, B, assume_a="pos"), mode=plain)


def precondition(A, rank):
    return core_preconditioner.build(A, rank)


def iterations_of(A, B, rank=-1, rtol=1e-8, budget=2000):
    nothing = np.zeros((0, 0))
    return core_cg.block_cg(A, B, rtol, budget, precondition(A, rank), nothing)[1]


@pytest.mark.parametrize(("n", "m"), in_turn([(50, 4), (50, 1), (3, 8), (50, 7), (1, 1), (1, 3)]))
def test_every_column_reaches_the_tolerance(solve, n, m):
    A, B = positive_definite(n), np.random.default_rng(1).normal(size=(n, m)) * np.geomspace(1, 1e6, m)
    before = A.copy(), B.copy()
    X, iterations = solve(A, B, 1e-9, 500)
    assert 0 < iterations <= 500
    assert (residuals(A, B, X) <= 1.01e-9).all()
    np.testing.assert_array_equal(A, before[0])
    np.testing.assert_array_equal(B, before[1])


@pytest.mark.parametrize("rank", [-1, 0, 5])
@pytest.mark.parametrize("condition", [10, 1e4, 1e7])
def test_the_residual_reported_is_the_true_one(condition, rank):
    """Where it says that it converged, extended precision agrees: also near what the precision allows."""
    A, B = positive_definite(80, condition), np.random.default_rng(1).normal(size=(80, 3))
    for rtol in (1e-6, 1e-9, 1e-11):
        X, iterations, _ = core_cg.block_cg(A, B, rtol, 5000, precondition(A, rank), np.zeros((0, 0)))
        if iterations > 0:
            assert (residuals(A, B, X) <= 1.05 * rtol).all()
        else:
            assert rtol < 1e-8
            assert (residuals(A, B, X) <= 1e-8).all()


def test_columns_may_converge_at_different_times(solve):
    A = positive_definite(60, 1e4)
    _, vectors = np.linalg.eigh(A)
    B = np.stack([vectors[:, 0], np.random.default_rng(0).normal(size=60)], 1)
    X, iterations = solve(A, B, 1e-8, 2000)
    assert iterations > 1
    assert (residuals(A, B, X) <= 1.01e-8).all()


def test_a_finished_column_costs_no_more_products(monkeypatch):
    A = positive_definite(60, 1e3)
    B = np.stack([np.linalg.eigh(A)[1][:, 0], np.random.default_rng(0).normal(size=60)], 1)
    widths, product = [], core_iteration.product_into
    monkeypatch.setattr(
        core_iteration,
        "product_into",
        lambda A, V, Q, certain: widths.append(len(V)) or product(A, V, Q, certain),
    )
    assert iterations_of(A, B) > 10
    assert widths[0] == 2
    assert widths.count(2) < 5


def test_norms_that_differ_by_many_orders_are_no_matter(solve, direct):
    A = positive_definite(30, 50)
    B = np.random.default_rng(0).normal(size=(30, 5)) * np.array([1e-140, 1e-20, 1, 1e20, 1e140])
    X, iterations = solve(A, B, 1e-10, 500)
    assert iterations > 0
    np.testing.assert_allclose(X / np.abs(X).max(axis=0), direct(A, B) / np.abs(X).max(axis=0), atol=1e-8)


def test_zero_rhs_gives_zero(solve):
    X, iterations = solve(positive_definite(5), np.zeros((5, 2)), 1e-10, 100)
    assert (X == 0).all()
    assert iterations == 0
    B = np.ones((5, 3)) * [1, 0, 2]
    X, _ = solve(positive_definite(5), B, 1e-10, 100)
    assert (X[:, 1] == 0).all()
    np.testing.assert_allclose(positive_definite(5) @ X, B, atol=1e-9)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 2), (4, 0)])
def test_nothing_to_solve(solve, n, m):
    X, iterations = solve(np.eye(n), np.empty((n, m)), 1e-10, 100)
    assert X.shape == (n, m)
    assert iterations == 0


@pytest.mark.parametrize("limit", [0, 3, -5])
def test_over_budget_falls_back_to_cholesky(solve, limit):
    A, B = positive_definite(40, 1e6), np.random.default_rng(0).normal(size=(40, 2))
    X, iterations = solve(A, B, 1e-12, limit)
    assert -1 - max(limit, 0) <= iterations < 0
    np.testing.assert_allclose(A @ X, B, atol=1e-9)


def test_a_tolerance_out_of_reach_falls_back_to_cholesky(solve):
    A, B = positive_definite(30), np.random.default_rng(0).normal(size=(30, 1))
    X, iterations = solve(A, B, 0.0, 5000)
    assert -100 < iterations < 0
    np.testing.assert_allclose(A @ X, B, atol=1e-12)


def test_it_leaves_early_when_the_budget_will_not_do():
    A, B = positive_definite(300, 1e8), np.random.default_rng(0).normal(size=(300, 1))
    assert 20 <= -iterations_of(A, B, budget=60) <= 35


@pytest.mark.parametrize("clusters", [3, 12])
def test_it_does_not_leave_early_when_convergence_comes_at_once(clusters):
    """With few distinct eigenvalues the residual falls only in the last of as many iterations."""
    values = np.repeat(np.geomspace(1, 1e4, clusters), 240 // clusters)
    A, B = with_spectrum(values), np.random.default_rng(0).normal(size=(240, 2))
    assert 0 < iterations_of(A, B, budget=60) <= 2 * clusters + 2


def test_the_better_answer_is_returned():
    A, B = positive_definite(40), np.random.default_rng(0).normal(size=(3, 40))
    exact = np.linalg.solve(A, B.T).T
    wrong = exact + 1e-3
    for first, second in [(exact, wrong), (wrong, exact)]:
        X = core_cg.better_of(as_operator(A), B, first, second, 1e-8 * core_cg.norms(B))
        np.testing.assert_array_equal(X, exact)
    target = np.full(3, np.inf)
    np.testing.assert_array_equal(core_cg.better_of(as_operator(A), B, exact, wrong, target), wrong)


def test_a_factor_that_exists_is_used(monkeypatch):
    A, B = positive_definite(20), np.random.default_rng(0).normal(size=(20, 2))
    L = core_direct.cholesky_factor(A)
    monkeypatch.setattr(core_direct, "cholesky_factor", None)
    X, iterations, used = core_cg.block_cg(A, B, 1e-9, 100, precondition(A, -1), L)
    assert iterations == -1
    assert used is L
    np.testing.assert_allclose(A @ X, B, atol=1e-12)


def indefinite_in_a_corner():
    """Indefinite, with a positive diagonal."""
    A = positive_definite(12)
    A[0, 1] = A[1, 0] = 2 * np.sqrt(A[0, 0] * A[1, 1])
    return A


@pytest.mark.parametrize("A", [np.diag([1.0, -1.0, 2.0]), np.diag([1.0, 0.0]), indefinite_in_a_corner()])
def test_what_is_not_positive_definite_gives_what_the_direct_path_gives(solve, direct, A):
    B = np.stack([np.eye(len(A))[0], np.random.default_rng(0).normal(size=len(A))], 1)
    X, iterations = solve(A, B, 1e-10, 50)
    assert np.isnan(direct(A, B)).all()
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
    X, iterations, _ = BlockCG()(A, B, 1e-5, 200)
    assert X.type.dtype == "float32"
    f = pytensor.function([A, B], [X, iterations], mode=plain)
    a, b = positive_definite(30).astype("float32"), np.ones((3, 30), dtype="float32").T
    for layout in (np.asfortranarray(a), np.repeat(a, 2, axis=0)[::2], a):
        x, used = f(layout, b)
        assert x.dtype == np.float32
        assert used > 0
        np.testing.assert_allclose(a @ x, b, atol=1e-3)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("m", [0, 1, 3, 4, 5, 9])
def test_products_are_products(m, order):
    A = np.asarray(positive_definite(11), order=order)
    V = np.random.default_rng(0).normal(size=(m, 11))
    np.testing.assert_allclose(core_operator.product(A, V), V @ A, atol=1e-11)


def test_a_preconditioner_in_the_graph_is_used(plain):
    A, B, rank = pt.matrix(), pt.matrix(), pt.lscalar()
    X, iterations, _ = BlockCG()(A, B, 1e-9, 500, *PartialCholesky()(A, rank))
    a = positive_definite(60, 3)
    a += 1e4 * np.outer(a[0], a[0])
    b = np.random.default_rng(0).normal(size=(60, 2))
    f = pytensor.function([A, B, rank], [X, iterations], mode=plain)
    (x, few), (_, many) = f(a, b, 8), f(a, b, -1)
    assert (residuals(a, b, x) < 1.01e-9).all()
    assert 0 < few < many


def test_static_shapes_and_refusals():
    X, iterations, factor = BlockCG()(pt.matrix(shape=(None, 5)), pt.matrix(shape=(None, 2)), 1e-8, 10)
    assert X.type.shape == (5, 2)
    assert iterations.type.dtype == "int64"
    assert factor.type.shape == (None, None)
    with pytest.raises(TypeError, match="real"):
        BlockCG()(pt.zmatrix(), pt.matrix(), 1e-8, 10)
    with pytest.raises(TypeError, match="max_iterations"):
        BlockCG()(pt.matrix(), pt.matrix(), 1e-8, 10.5)
