"""Ops on bands: what NumPy finds of the dense matrix, in Python and through Numba, and their pullbacks."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import scipy.linalg
from helpers import in_turn
from pytensor.gradient import verify_grad

from autotune.ops import (
    BandedDot,
    BandedFactor,
    BandedLogdetPullback,
    BandedOuter,
    BandedSolve,
    core_banded,
)

SHAPES = [(1, 1), (2, 1), (0, 2), (3, 0), (3, 3), (2, 5)]
KINDS = ["definite", "indefinite", "general"]
BANDS = [(n, lower, upper, kind) for n in (1, 2, 7, 30) for lower, upper in SHAPES for kind in KINDS]


def drawn(n, lower, upper, kind, seed=0, dtype="float64"):
    """A band, its properties and the dense matrix; beyond the matrix the band holds NaN."""
    rng = np.random.default_rng(seed)
    mirrored = kind != "general"
    upper = lower if mirrored else upper
    ab = rng.normal(size=(lower + 1 if mirrored else lower + upper + 1, n))
    if kind == "definite":
        ab[0] = np.abs(ab[0]) + 2 * lower + 1
    A = np.zeros((n, n))
    for row, k in enumerate(range(lower + 1) if mirrored else range(-upper, lower + 1)):
        columns = slice(max(0, -k), max(n - max(k, 0), 0))
        outside = np.ones(n, bool)
        outside[columns] = False
        ab[row, outside] = np.nan
        if abs(k) < n:
            A += np.diag(ab[row, columns], -k)
            if mirrored and k:
                A += np.diag(ab[row, columns], k)
    return ab.astype(dtype), {"lower": lower, "upper": upper, "mirrored": mirrored}, A.astype(dtype)


def on_band(M, lower, upper, mirrored):
    """The pullback of the dense cotangent M onto the band."""
    n = len(M)
    out = np.zeros((lower + 1 if mirrored else lower + upper + 1, n), M.dtype)
    for i in range(n):
        for j in range(n):
            if mirrored and 0 <= i - j <= lower:
                out[i - j, j] = M[i, j] + (M[j, i] if i != j else 0)
            elif not mirrored and -upper <= i - j <= lower:
                out[upper + i - j, j] = M[i, j]
    return out


def outputs_of(band, definite, dtype="float64"):
    """Inputs, and all that the Ops find of them."""
    ab, B, C = (pt.matrix(name, dtype=dtype) for name in ("ab", "B", "C"))
    F, M, pivots, sign, logabsdet = BandedFactor(definite=definite, checked=False, **band)(ab)
    outputs = [
        sign,
        logabsdet,
        BandedSolve(**band)(F, M, pivots, B),
        BandedSolve(transposed=True, **band)(F, M, pivots, B),
        BandedLogdetPullback(**band)(F, M, pivots),
        BandedDot(**band)(ab, B),
        BandedDot(transposed=True, **band)(ab, B),
        BandedOuter(**band)(B, C),
    ]
    return [ab, B, C], outputs


def by_numpy(A, B, C, band):
    return [
        *np.linalg.slogdet(A),
        np.linalg.solve(A, B),
        np.linalg.solve(A.T, B),
        on_band(np.linalg.inv(A).T, **band),
        *products_by_numpy(A, B, C, band),
    ]


def products_by_numpy(A, B, C, band):
    return [A @ B, A.T @ B, on_band(B @ C.T, **band)]


def assert_close(found, expected, tolerance):
    for one, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, right, rtol=0, atol=tolerance * max(1, np.abs(right).max(initial=0)))


@pytest.mark.parametrize(("n", "lower", "upper", "kind"), BANDS)
def test_what_numpy_finds(n, lower, upper, kind):
    """A general matrix of fewer rows than diagonals may be singular: then only products are compared."""
    ab, band, A = drawn(n, lower, upper, kind)
    B, C = np.random.default_rng(1).normal(size=(2, n, 3))
    products = [
        core_banded.dot(ab, *band.values(), B, False),
        core_banded.dot(ab, *band.values(), B, True),
        core_banded.outer(B, C, *band.values()),
    ]
    assert_close(products, products_by_numpy(A, B, C, band), 1e-9)
    if np.linalg.cond(A) > 1e8:
        return
    F, M, pivots, sign, logabsdet = core_banded.factor(ab, *band.values(), kind == "definite", False)
    found = [
        sign,
        logabsdet,
        core_banded.solve(F, M, pivots, B, False),
        core_banded.solve(F, M, pivots, B, True),
        core_banded.logdet_pullback(F, M, pivots, *band.values()),
        *products,
    ]
    assert_close(found, by_numpy(A, B, C, band), 1e-9)


@pytest.mark.parametrize("dtype", in_turn(["float64", "float32"]))
@pytest.mark.parametrize(
    ("lower", "upper", "kind"), [(1, 1, "definite"), (3, 3, "definite"), (2, 5, "general")]
)
def test_compiled_loops_find_the_same(lower, upper, kind, dtype):
    """By the Ops' ``perform``, which runs the compiled loops."""
    n = 30
    ab, band, A = drawn(n, lower, upper, kind, dtype=dtype)
    B, C = np.random.default_rng(1).normal(size=(2, n, 3)).astype(dtype)
    inputs, outputs = outputs_of(band, kind == "definite", dtype)
    fn = pytensor.function(inputs, outputs, mode=pytensor.compile.mode.Mode("py", None))
    found = fn(ab, B, C)
    assert {x.dtype for x in found} == {np.dtype(dtype)}
    assert_close(
        found, by_numpy(*(x.astype("float64") for x in (A, B, C)), band), 1e-9 if dtype == "float64" else 1e-2
    )


@pytest.mark.parametrize("kind", ["definite", pytest.param("general", marks=pytest.mark.slow)])
def test_numba_gives_what_python_does(kind):
    ab, band, _ = drawn(30, 2, 2, kind)
    B, C = np.random.default_rng(1).normal(size=(2, 30, 3))
    inputs, outputs = outputs_of(band, kind == "definite")
    python = pytensor.function(inputs, outputs, mode=pytensor.compile.mode.Mode("py", None))
    numba = pytensor.function(inputs, outputs, mode="NUMBA")
    assert_close(numba(ab, B, C), python(ab, B, C), 1e-12)
    with pytest.raises(ValueError, match=r"length|shape"):
        numba(ab, B[:-1], C)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("lower", "upper", "kind"), [(2, 2, "definite"), (1, 2, "general")])
def test_pullbacks_of_products(lower, upper, kind, transposed):
    ab, band, _ = drawn(5, lower, upper, kind)
    ab = np.nan_to_num(ab)
    rng = np.random.default_rng(3)
    mode = pytensor.compile.mode.Mode("py", "fast_compile")
    B, C = rng.normal(size=(2, 5, 2))
    verify_grad(BandedDot(transposed=transposed, **band), [ab, B], rng=rng, mode=mode)
    verify_grad(BandedOuter(**band), [B, C], rng=rng, mode=mode)


def test_a_matrix_without_a_factor_is_nan_where_one_is_asked_for():
    for entry in (np.nan, -1.0, 0.0):
        ab, band, _ = drawn(9, 1, 1, "definite")
        ab[0, 4] = entry
        F, *_, sign, logabsdet = core_banded.factor(ab, *band.values(), True, True)
        assert np.isnan(F).all()
        assert np.isnan([sign, logabsdet]).all()


def test_a_singular_matrix_has_the_determinant_zero():
    ab, band, _ = drawn(9, 2, 1, "general")
    ab[:] = 0
    assert core_banded.factor(ab, *band.values(), False, False)[3:] == (0.0, -np.inf)


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("condition", [1e2, 1e8])
def test_residuals_are_those_of_lapack(width, condition):
    """``||b - A x|| / (n eps ||A|| ||x||)``, as in LAPACK's tests, which ask for less than 30."""
    n = 60
    scales = np.geomspace(1, condition**-0.5, n)[np.random.default_rng(5).permutation(n)]
    for kind in ("definite", "general"):
        ab, band, A = drawn(n, width, width, kind, seed=2)
        first = 0 if band["mirrored"] else -width
        for row, k in enumerate(range(first, width + 1)):
            columns = slice(max(0, -k), n - max(k, 0))
            rows = slice(max(0, k), n - max(-k, 0))
            ab[row, columns] *= scales[columns] * scales[rows]
        A = scales[:, None] * A * scales
        b = np.random.default_rng(6).normal(size=(n, 1))
        F, M, pivots, *_ = core_banded.factor(ab, *band.values(), kind == "definite", False)
        for transposed, K in ((False, A), (True, A.T)):
            x = core_banded.solve(F, M, pivots, b, transposed)
            norm = scipy.linalg.norm(K, 1) * scipy.linalg.norm(x, 1)
            assert scipy.linalg.norm(b - K @ x, 1) / (n * np.finfo(float).eps * norm) < 30
