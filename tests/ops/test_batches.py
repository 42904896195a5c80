"""Batches under Numba: each matrix has what it would have alone, however many threads work."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import scipy.linalg
from helpers import in_turn
from pytensor.tensor.blockwise import Blockwise
from threadpoolctl import threadpool_limits

from autotune.ops import (
    CholeskyInverse,
    CholeskyOrLU,
    CholeskyOrLUInverse,
    CholeskyOrLUSolve,
    FactorSlogdet,
    LUInverse,
    SharedCholesky,
    SharedLU,
)

EPS = np.finfo(float).eps
SIZES = [0, 1, 2, 3, 7, 8, 40, 64]
rng = np.random.default_rng(8)


def definite(batch, n):
    A = rng.normal(size=(*batch, n, n))
    return A @ A.mT + np.eye(n)


def general(batch, n):
    return rng.normal(size=(*batch, n, n))


def answers(A, B):
    """All that is asked of a batch, by each of its factorisations."""
    one, zero = (pt.constant(kind, dtype="int8") for kind in (1, 0))
    none = pt.zeros(A.shape[-1:], dtype="int32")
    L = Blockwise(SharedCholesky())(A)
    LU, pivots = Blockwise(SharedLU())(A)
    either = Blockwise(CholeskyOrLU())(A)
    ways = {"cholesky": (L, none, one), "lu": (LU, pivots, zero), "either": tuple(either)}
    inverses = {
        "cholesky": Blockwise(CholeskyInverse())(L),
        "lu": Blockwise(LUInverse())(LU, pivots),
        "either": Blockwise(CholeskyOrLUInverse())(*either),
    }
    found = {"is_cholesky": either[2], "L": L}
    for way, factor in ways.items():
        for transposed in (False, True):
            solve = Blockwise(CholeskyOrLUSolve(transposed=transposed))
            found[way, "solve", transposed] = solve(*factor, B)
        found[way, "sign"], found[way, "logabsdet"] = Blockwise(FactorSlogdet())(*factor)
        found[way, "inverse"] = inverses[way]
    return found


@pytest.fixture(scope="module")
def run():
    """``run(A, B) -> {what: values}``, compiled once for each rank, dtype and pattern of single items."""
    functions = {}

    def call(A, B, mode="NUMBA"):
        single = tuple(tuple(length == 1 for length in x.shape[:-2]) for x in (A, B))
        key = (A.ndim, B.ndim, A.dtype.name, single, mode)
        if key not in functions:
            inputs = [
                pt.tensor(dtype=x.dtype, shape=(*(1 if one else None for one in ones), None, None))
                for x, ones in zip((A, B), single, strict=True)
            ]
            found = answers(*inputs)
            functions[key] = list(found), pytensor.function(inputs, list(found.values()), mode=mode)
        names, function = functions[key]
        return dict(zip(names, function(A, B), strict=True))

    return call


def error(found, expected):
    """Of each matrix, relative to its largest entry."""
    gaps = np.abs(found - expected).max(axis=(-2, -1), initial=0)
    return gaps / np.abs(expected).max(axis=(-2, -1), initial=1)


def condition(A):
    return np.array([np.linalg.cond(a) if a.size else 1.0 for a in A])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("make", [definite, general])
def test_every_matrix_has_its_own_answers(run, make, n):
    A, B = make((5,), n), rng.normal(size=(5, n, 3))
    found = run(A, B)
    ways = ("cholesky", "lu", "either") if make is definite else ("lu", "either")
    definite_ones = [make is definite or n == 0 or (n == 1 and a[0, 0] > 0) for a in A]
    np.testing.assert_array_equal(found["is_cholesky"], definite_ones)
    sign, logabsdet = np.linalg.slogdet(A)
    bound = 10 * (n + 1) * EPS * condition(A)
    for way in ways:
        assert (error(found[way, "solve", False], np.linalg.solve(A, B)) <= bound).all()
        assert (error(found[way, "solve", True], np.linalg.solve(A.mT, B)) <= bound).all()
        assert (error(found[way, "inverse"], np.linalg.inv(A)) <= bound).all()
        np.testing.assert_array_equal(found[way, "sign"], sign)
        np.testing.assert_allclose(found[way, "logabsdet"], logabsdet, atol=bound.max())
    if make is definite:
        np.testing.assert_allclose(found["L"] @ found["L"].mT, A, atol=1e-12)
        np.testing.assert_array_equal(np.triu(found["L"], 1), 0)
        np.testing.assert_array_equal(found["cholesky", "inverse"], found["cholesky", "inverse"].mT)


@pytest.mark.parametrize("n", [3, 64])
def test_backward_errors_are_those_of_lapack(run, n):
    """By LAPACK's own ratio, of ill-conditioned matrices too."""
    Q = np.linalg.qr(rng.normal(size=(2, n, n)))[0]
    spread = np.geomspace(1, 1e12, n)
    A, B = (Q * spread) @ Q.mT, rng.normal(size=(2, n, 1))
    A = (A + A.mT) / 2
    found = run(A, B)
    for way in ("cholesky", "lu", "either"):
        X = found[way, "solve", False]
        residual = np.abs(A @ X - B).sum(axis=(1, 2))
        ratio = residual / (np.abs(A).sum(axis=1).max(axis=1) * np.abs(X).sum(axis=(1, 2)) * n * EPS)
        assert (ratio < 30).all()


@pytest.mark.parametrize("layout", in_turn(["strided", "transposed", "read-only"], every=3))
def test_any_layout_is_read(run, layout):
    A, B = definite((6,), 5), rng.normal(size=(6, 5, 2))
    expected = run(A, B)
    if layout == "strided":
        A, B = (np.repeat(np.repeat(x, 2, axis=0), 2, axis=2)[::2, :, ::2] for x in (A, B))
    elif layout == "transposed":
        A, B = (np.ascontiguousarray(x.mT).mT for x in (A, B))
    else:
        A.flags.writeable = B.flags.writeable = False
    before = A.copy()
    for what, values in run(A, B).items():
        np.testing.assert_allclose(values, expected[what], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(A, before)


@pytest.mark.parametrize("single", in_turn(["right-hand side", "matrix", "matrices", "none"], 4))
def test_a_batch_has_any_axes_and_one_side_may_be_single(single):
    A, B = definite((2, 3), 4), rng.normal(size=(2, 3, 4, 2))
    a = A[:1, :1] if single == "matrix" else A[:1] if single == "matrices" else A
    b = B[:1, :1] if single == "right-hand side" else B
    inputs = [
        pt.tensor(shape=(*(1 if length == 1 else None for length in x.shape[:2]), None, None)) for x in (a, b)
    ]
    solution = Blockwise(CholeskyOrLUSolve())(*Blockwise(CholeskyOrLU())(inputs[0]), inputs[1])
    fn = pytensor.function(inputs, solution, mode="NUMBA")
    np.testing.assert_allclose(fn(a, b), np.linalg.solve(a, b), atol=1e-12)


def test_a_batch_or_its_right_hand_sides_may_be_empty(run):
    assert run(np.empty((0, 4, 4)), np.empty((0, 4, 2)))["lu", "solve", False].shape == (0, 4, 2)
    assert run(definite((3,), 4), np.empty((3, 4, 0)))["cholesky", "solve", False].shape == (3, 4, 0)


@pytest.mark.parametrize("n", [3, 40])
def test_a_bad_matrix_spoils_no_other(run, n):
    A, B = definite((6,), n), rng.normal(size=(6, n, 2))
    A[1], A[2], A[3, 0, 0], A[4, 1, 2] = 0, -A[2], np.nan, np.inf
    good = [0, 5]
    with np.errstate(all="ignore"):
        found = run(A, B)
    np.testing.assert_array_equal(found["is_cholesky"], [1, 0, 0, 0, 0, 1])
    for way in ("cholesky", "lu", "either"):
        solution = found[way, "solve", False]
        np.testing.assert_allclose(solution[good], np.linalg.solve(A[good], B[good]), atol=1e-10)
        for singular in [1, 3] if way != "cholesky" else [1, 2, 3]:
            assert np.isnan(solution[singular]).all()
            assert np.isnan(found[way, "inverse"][singular]).all()
    assert (found["lu", "sign"][1], found["lu", "logabsdet"][1]) == (0, -np.inf)
    np.testing.assert_allclose(found["lu", "solve", False][2], np.linalg.solve(A[2], B[2]), atol=1e-10)
    assert np.isnan(found["L"][[1, 2, 3]]).all()


@pytest.mark.slow
def test_float32_stays_float32(run):
    A, B = definite((4,), 8).astype("float32"), rng.normal(size=(4, 8, 2)).astype("float32")
    found = run(A, B)
    for what, values in found.items():
        assert values.dtype == ("int8" if what == "is_cholesky" else "float32")
    np.testing.assert_allclose(found["either", "solve", False], np.linalg.solve(A, B), rtol=1e-2, atol=1e-3)


def test_determinants_beyond_the_largest_number_have_logarithms(run):
    A = np.stack([np.eye(40) * 1e200, np.eye(40) * 1e-200, np.eye(40)[::-1] * 1e60])
    found = run(A, np.ones((3, 40, 1)))
    sign, logabsdet = np.linalg.slogdet(A)
    for way in ("lu", "either"):
        np.testing.assert_array_equal(found[way, "sign"], sign)
        np.testing.assert_allclose(found[way, "logabsdet"], logabsdet, rtol=1e-14)


@pytest.mark.parametrize("n", [8, 64])
def test_results_do_not_depend_on_threads(run, n):
    A, B = general((400,), n), rng.normal(size=(400, n, 1))
    A[::2] = definite((200,), n)
    with threadpool_limits(1):
        alone = run(A, B)
    with threadpool_limits(4):
        together = run(A, B)
    for what, values in alone.items():
        np.testing.assert_array_equal(together[what], values)


def test_batches_of_different_lengths_are_an_error(run):
    with pytest.raises(ValueError, match="lengths"):
        run(definite((3,), 4), rng.normal(size=(2, 4, 2)))
    with pytest.raises(ValueError, match="rows"):
        run(definite((3,), 4), rng.normal(size=(3, 5, 2)))
    with pytest.raises(ValueError, match="square"):
        run(np.ones((3, 4, 5)), rng.normal(size=(3, 4, 2)))


def test_python_answers_alike(run):
    A, B = definite((4,), 6), rng.normal(size=(4, 6, 2))
    A[1], A[2] = -A[1], general((), 6)
    mode = pytensor.compile.mode.Mode(linker="py", optimizer=None)
    with np.errstate(all="ignore"):
        expected = run(A, B, mode)
    for what, values in run(A, B).items():
        np.testing.assert_allclose(values, expected[what], rtol=1e-10, atol=1e-12, err_msg=str(what))


def test_pivots_are_those_of_lapack():
    A = pt.tensor3("A")
    fn = pytensor.function([A], Blockwise(SharedLU())(A), mode="NUMBA")
    value = general((9,), 12)
    for F, pivots, a in zip(*fn(value), value, strict=True):
        expected, exchanges = scipy.linalg.lu_factor(a)
        np.testing.assert_allclose(F, expected, atol=1e-12)
        np.testing.assert_array_equal(pivots, exchanges)


def in_a_process(function, A, queue):
    queue.put(np.isfinite(function(A)[0]).all())


@pytest.fixture(scope="module")
def factorise():
    A = pt.tensor3("A")
    return pytensor.function([A], Blockwise(SharedLU())(A), mode="NUMBA")


def test_several_callers_share_the_threads(factorise):
    matrices = [general((300,), 20 + i) for i in range(4)]
    expected = [factorise(A)[0] for A in matrices]
    copies = [factorise.copy(share_memory=False) for _ in matrices]
    with threadpool_limits(4), ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = pool.map(lambda fn, A: fn(A)[0], copies, matrices)
            for ours, wanted in zip(found, expected, strict=True):
                np.testing.assert_array_equal(ours, wanted)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="Windows does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_process_may_fork_after_a_call(factorise):
    A = general((2000,), 8)
    with threadpool_limits(4):
        factorise(A)
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=in_a_process, args=(factorise, A, queue))
        child.start()
        assert queue.get(timeout=60)
        child.join(60)
    assert child.exitcode == 0
