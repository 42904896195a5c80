"""The gradient of a Lanczos log-determinant: unbiased, as accurate as asked for, and sharing its steps."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from lanczos_helpers import EMPTY, NONE, PARTS, WELL_CONDITIONED, no_preconditioner, with_spectrum
from scipy.sparse.linalg import cg

from autotune.ops import LanczosInverse, LanczosLogdet, PartialCholesky, core_lanczos, core_preconditioner
from autotune.ops import core_lanczos_inverse as core
from autotune.ops.core_operator import SymmetricOperator, as_operator
from autotune.ops.lanczos import LanczosInverseOfParts

INDEFINITE = with_spectrum(np.r_[-3.0, np.geomspace(1, 10, 29)])


def nothing_known(A):
    return np.zeros((3, 0, as_operator(A).order))


def value_and_krylov(A, rtol, parts, budget=10**6):
    value = core_lanczos.logdet(A, rtol, budget, parts, 0, kept=10**6)
    return value[3], value[4]


@pytest.fixture
def products(monkeypatch):
    """How many vectors met the matrix so far."""
    counted, original = [0], SymmetricOperator.product

    def product(self, V):
        counted[0] += len(V) if self.dense.size else 0
        return original(self, V)

    monkeypatch.setattr(SymmetricOperator, "product", product)
    return counted


def cost(products, function, *arguments):
    before = products[0]
    result = function(*arguments)
    return result, products[0] - before


# -- sharing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 4, 9])
@pytest.mark.parametrize("name", WELL_CONDITIONED)
def test_what_is_handed_on_are_conjugate_gradients_after_as_many_steps(name, steps):
    A, Z = WELL_CONDITIONED[name], core_lanczos.signs(2, 120, 3, np.float64)
    lanczos = core_lanczos.Tridiagonal(lambda V: V @ A, Z / np.sqrt(120))
    for _ in range(steps):
        lanczos.step()
    X, R, P = lanczos.conjugate_gradients(np.sqrt(120))
    np.testing.assert_allclose(R, Z - X @ A, atol=1e-10)
    for z, x in zip(Z, X, strict=True):
        np.testing.assert_allclose(x, cg(A, z, rtol=1e-14, maxiter=steps)[0], atol=1e-9)
    # the direction is conjugate to the step before, which x and the next x differ by
    lanczos.step()
    following = lanczos.conjugate_gradients(np.sqrt(120))[0] - X
    length = (R * R).sum(1) / np.maximum((P * (P @ A)).sum(1), 1e-300)
    np.testing.assert_allclose(following, length[:, None] * P, atol=1e-9)


@pytest.mark.parametrize("name", WELL_CONDITIONED)
@pytest.mark.parametrize("rank", [NONE, 20])
def test_the_gradient_takes_no_step_that_the_value_has_taken(name, rank, products):
    A = WELL_CONDITIONED[name]
    parts = core_preconditioner.build(A, rank)
    value, of_value = cost(products, core_lanczos.estimate, A, 0.05, 10**6, parts, 0, 10**6)
    arguments = as_operator(A), 0.05, 0.005, 10**6, parts, 0
    shared, with_sharing = cost(products, core.estimate_inverse, *arguments, value[3])
    Y = core_lanczos.signs(value[2], 120, 0, np.float64)
    from_the_start = np.stack([np.zeros_like(Y), Y, Y])
    alone, without = cost(products, core.estimate_inverse, *arguments, from_the_start)
    assert len(shared.left) == len(alone.left)
    known = min(value[2], len(shared.left))
    # rows whose Krylov space is exhausted leave early, so that not every step saves a product of all
    assert without - with_sharing >= 0.9 * of_value / value[2] * known
    np.testing.assert_allclose(
        shared.to_dense(), alone.to_dense(), atol=0.02 * np.abs(alone.to_dense()).max()
    )


@pytest.mark.parametrize("name", WELL_CONDITIONED)
def test_solves_meet_their_tolerance_by_the_true_residual(name):
    A, rtol = WELL_CONDITIONED[name], 1e-7
    Y = core_lanczos.signs(8, 120, 0, np.float64)
    krylov = value_and_krylov(A, 0.05, no_preconditioner())[1][:, :8]
    X, used = core.continued(lambda V: V @ A, Y, krylov.copy(), rtol, 10**6)
    assert (np.linalg.norm(Y - X @ A, axis=1) <= rtol * np.linalg.norm(Y, axis=1)).all()
    assert used > 0


def test_a_claim_that_is_false_is_found_out():
    """A residual of zero beside a solution that is wrong."""
    A, Y = WELL_CONDITIONED["geometric"], core_lanczos.signs(8, 120, 0, np.float64)
    lie = np.stack([np.ones_like(Y), np.zeros_like(Y), np.zeros_like(Y)])
    X, _ = core.continued(lambda V: V @ A, Y, lie, 1e-9, 10**6)
    np.testing.assert_allclose(X @ A, Y, atol=1e-6)


@pytest.mark.parametrize("budget", [0, 1, 5, 12])
def test_products_stay_within_the_budget(budget, products):
    A = WELL_CONDITIONED["uniform"]
    core.estimate_inverse(as_operator(A), 0.05, 1e-6, budget, no_preconditioner(), 0, nothing_known(A))
    assert products[0] <= core_lanczos.BLOCK * budget


# -- what is estimated ----------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [NONE, 0, 10])
def test_the_inverse_is_unbiased(rank):
    """Its trace with any matrix, over many seeds, is that of the inverse within three standard errors."""
    A = with_spectrum(np.geomspace(1, 8, 30))
    parts, M = core_preconditioner.build(A, rank), np.random.default_rng(1).normal(size=(30, 30))
    M = M + M.T
    traces = []
    for seed in range(200):
        krylov = core_lanczos.logdet(A, 0.3, 500, parts, seed, kept=64)[4]
        traces.append((core.inverse(A, 0.5, 1e-10, 500, parts, seed, krylov, EMPTY) * M).sum())
    truth = (np.linalg.inv(A) * M).sum()
    assert abs(np.mean(traces) - truth) < 3 * np.std(traces) / np.sqrt(200)
    assert np.std(traces) > 0


@pytest.mark.parametrize("rtol", [0.2, 0.05])
def test_the_trace_of_the_inverse_is_as_accurate_as_asked_for(rtol):
    """With solves as inaccurate as the gradient's."""
    A = WELL_CONDITIONED["uniform"]
    truth = np.trace(np.linalg.inv(A))
    arguments = as_operator(A), rtol, 0.1 * rtol, 10**6, no_preconditioner()
    found = [core.estimate_inverse(*arguments, seed, nothing_known(A)).diagonal() for seed in range(40)]
    assert sum(abs(d.sum() - truth) <= rtol * truth for d in found) >= 34


def test_the_inverse_is_exact_where_a_factor_exists_or_the_budget_is_spent():
    A = with_spectrum(np.geomspace(1, 20, 30))
    for budget, L in ((500, core_lanczos.cholesky_factor(A)), (2, EMPTY)):
        Y = core.inverse(A, 0.5, 1e-10, budget, no_preconditioner(), 0, nothing_known(A), L)
        np.testing.assert_allclose(Y, np.linalg.inv(A), atol=1e-12)
    known = nothing_known(INDEFINITE)
    assert np.isnan(core.inverse(INDEFINITE, 0.5, 1e-10, 500, no_preconditioner(), 0, known, EMPTY)).all()


# -- matrices in parts ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("rank", [NONE, 0, 6])
@pytest.mark.parametrize("rtol", [0.3, 1e-10])
def test_parts_have_the_gradient_of_their_sum(name, rank, rtol):
    """With the same probes, or exactly where 1e-10 is asked for: then by the factor, or by a new one."""
    A, parts = PARTS[name], core_preconditioner.build(PARTS[name], rank)
    L, krylov = value_and_krylov(A, rtol, parts, 1000)
    for factor in (L, EMPTY) if L.size else (L,):
        arguments = rtol, 1e-12, 1000 if rtol == 0.3 else 0, parts, 0, krylov
        diagonal, columns = core.inverse_of_parts(A, *arguments, factor)
        formed = core.inverse(A.to_dense(), *arguments, EMPTY)
        np.testing.assert_allclose(diagonal, np.diagonal(formed), atol=1e-10)
        np.testing.assert_allclose(core.inverse(A, *arguments, factor), formed, atol=1e-10)
        assert columns.shape == (A.order, A.c.size)
        if A.c.size:
            np.testing.assert_allclose(columns, formed @ A.U, atol=1e-10)


@pytest.mark.parametrize("rtol", [0.3, 1e-10])
def test_nothing_square_is_made_for_thin_parts(rtol, monkeypatch):
    A = PARTS["thin"]
    monkeypatch.setattr(SymmetricOperator, "to_dense", None)
    L, krylov = value_and_krylov(A, rtol, no_preconditioner(), 1000)
    diagonal, _ = core.inverse_of_parts(A, rtol, 1e-3, 1000, no_preconditioner(), 0, krylov, L)
    assert np.isfinite(diagonal).all()


def test_parts_that_are_not_positive_definite_have_no_inverse():
    d = PARTS["thin"].d.copy()
    d[1] = -100
    A = as_operator(EMPTY, d, PARTS["thin"].U)
    L, krylov = value_and_krylov(A, 0.1, no_preconditioner())
    for x in core.inverse_of_parts(A, 0.1, 1e-3, 1000, no_preconditioner(), 0, krylov, L):
        assert np.isnan(x).all()


# -- the Ops --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_the_ops_run_alike_under_both_linkers(plain, dtype):
    A, d, U = pt.matrix("A", dtype=dtype), pt.vector("d", dtype=dtype), pt.matrix("U", dtype=dtype)
    rtol, c = pt.dscalar("rtol"), pt.ones(U.shape[1:], dtype=dtype)
    parts, none = PartialCholesky()(A, 5), (None,) * 3
    *numbers, factor, krylov = LanczosLogdet()(A, rtol, 200, 1, *parts, np.inf, 64)
    inverse = LanczosInverse()(A, rtol, 1e-4, 200, 1, *parts, factor, krylov)
    *thin, thin_factor, known = LanczosLogdet()(None, rtol, 200, 1, *none, 10.0, 64, d, U, c)
    of_parts = LanczosInverseOfParts()(rtol, 1e-4, 200, 1, *none, thin_factor, known, d, U, c)
    # of a factor the upper triangle means nothing
    outputs = [*numbers, pt.triu(factor), krylov, inverse, *thin, pt.tril(thin_factor), *of_parts]
    values = [
        x.astype(dtype) for x in (WELL_CONDITIONED["gaussian_process"], PARTS["thin"].d, PARTS["thin"].U)
    ]
    both = [pytensor.function([A, d, U, rtol], outputs, mode=mode) for mode in (plain, "NUMBA")]
    truth = np.linalg.slogdet(WELL_CONDITIONED["gaussian_process"])[1]
    for asked in (0.05, 1e-9):
        results = [fn(*values, asked) for fn in both]
        for python, numba in zip(*results, strict=True):
            assert python.dtype == numba.dtype
            np.testing.assert_allclose(python, numba, rtol=1e-3, atol=1e-5)
        value, error = results[0][:2]
        assert abs(value - truth) <= 2 * error + 1e-5 * abs(truth)
    assert value.dtype == dtype
