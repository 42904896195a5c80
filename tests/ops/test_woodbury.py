"""Low rank plus diagonal: the same answers as dense algebra, whatever the values, the shapes and the
memory order."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import in_turn
from hypothesis import given, settings
from hypothesis import strategies as st
from pytensor.compile.mode import Mode

from autotune.ops import FACTOR_FIELDS, LowRankFactor, LowRankSolve, SymmetricRoot
from autotune.ops.core_factor import CAPACITANCE_LU, CHOLESKY, DENSE_LU, FAILED

TOLERANCE = {"float64": 1e-9, "float32": 5e-3}


def problem(n, k, m=2, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.5, 2, n), rng.normal(size=(n, k)), rng.uniform(0.5, 2, k), rng.normal(size=(n, m))
    return [value.astype(dtype) for value in values]


def check(function, d, U, last, B, transposed=False, tolerance=1e-9):
    """Compare with dense algebra; returns the factor's mode."""
    inputs = [x.copy() for x in (d, U, last, B)]
    solution, diagonal, sign, logabsdet, mode = function(d, U, last, B)
    for value, before in zip((d, U, last, B), inputs, strict=True):
        np.testing.assert_array_equal(value, before)
    K = np.diag(d).astype(float) + ((U * last) @ U.T if last.ndim == 1 else U @ last.T)
    assert solution.dtype == diagonal.dtype == sign.dtype == logabsdet.dtype == B.dtype
    assert solution.shape == B.shape
    scale = np.abs(np.linalg.inv(K)).max(initial=1.0)
    expected = np.linalg.solve(K.T if transposed else K, B.astype(float))
    np.testing.assert_allclose(solution, expected, atol=tolerance * scale, rtol=tolerance)
    np.testing.assert_allclose(diagonal, np.diag(np.linalg.inv(K)), atol=tolerance * scale, rtol=tolerance)
    assert (sign, pytest.approx(logabsdet, abs=100 * tolerance, rel=tolerance)) == np.linalg.slogdet(K)
    return mode


LINKERS = [("py", "float64"), ("py", "float32"), ("numba", "float64")]
LINKERS += [pytest.param("numba", "float32", marks=pytest.mark.slow)]


@pytest.mark.parametrize(("linker", "dtype"), LINKERS)
@pytest.mark.parametrize(
    ("n", "k", "m"),
    in_turn([(30, 3, 2), (1, 1, 1), (5, 0, 1), (5, 5, 2), (4, 9, 2), (6, 2, 0), (400, 60, 3)]),
)
def test_every_shape_is_right(low_rank, linker, dtype, n, k, m):
    f = low_rank.function(True, True, dtype=dtype, linker=linker)
    assert check(f, *problem(n, k, m, dtype=dtype), tolerance=TOLERANCE[dtype]) == CHOLESKY


@pytest.mark.parametrize("linker", ["py", pytest.param("numba", marks=pytest.mark.slow)])
def test_no_columns_and_no_signature(low_rank, linker, capfd):
    """A diagonal of both signs alone is thin too: LAPACK is not asked for a matrix of no size."""
    d, *rest = problem(5, 0)
    f = low_rank.function(True, False, linker=linker)
    assert check(f, np.where(np.arange(5) % 2, d, -d), *rest) == CAPACITANCE_LU
    assert "illegal value" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("linker", ["py", "numba"])
def test_no_rows_at_all(low_rank, linker):
    solution, diagonal, sign, logabsdet, _ = low_rank.function(True, True, linker=linker)(*problem(0, 3))
    assert solution.shape == (0, 2)
    assert diagonal.shape == (0,)
    assert (sign, logabsdet) == (1, 0)


@pytest.mark.parametrize("linker", ["py", "numba"])
def test_up_to_k_zero_or_negative_diagonal_entries_are_eliminated_last(low_rank, linker):
    d, U, c, B = problem(40, 4)
    for small in (0.0, 1e-300, 1e-14, -1e-3):
        d[:4] = small
        assert check(low_rank.function(True, True, linker=linker), d, U, c, B) == CHOLESKY


@pytest.mark.parametrize("linker", ["py", "numba"])
@pytest.mark.parametrize(
    "spoil", ["many negative", "very negative", "NaN in d", "NaN in U", "-inf in d", "NaN in c"]
)
def test_not_positive_definite_gives_nan_everywhere(low_rank, linker, spoil):
    d, U, c, B = problem(20, 3)
    match spoil:
        case "many negative":
            d[:4] = -1e-3
        case "very negative":
            d[0] = -1e3
        case "NaN in d":
            d[3] = np.nan
        case "NaN in U":
            U[3, 1] = np.nan
        case "-inf in d":
            d[3:5] = np.inf, -np.inf
        case "NaN in c":
            c[0] = np.nan
    *results, mode = low_rank.function(True, True, linker=linker)(d, U, c, B)
    assert mode == FAILED
    assert all(np.isnan(result).all() for result in results)


@pytest.mark.parametrize("linker", ["py", "numba"])
@pytest.mark.parametrize(("k", "scale"), [(3, 1.0), (25, 1.0), (3, 1e3)])
def test_infinite_noise_drops_its_row(low_rank, linker, k, scale):
    """As a dense factorisation has it, and a user means who has not observed the row."""
    d, U, c, B = problem(20, k)
    U, B = scale * U, U @ np.ones((k, 2)) if scale > 1 else B
    seen = np.arange(20) != 3
    expected = np.linalg.solve((np.diag(d) + U * c @ U.T)[np.ix_(seen, seen)], B[seen])
    d[3] = np.inf
    X, diagonal, sign, logabsdet, _ = low_rank.function(True, True, linker=linker)(d, U, c, B)
    np.testing.assert_allclose(X[seen], expected, rtol=1e-6)
    np.testing.assert_array_equal(X[3], 0)
    assert diagonal[3] == 0
    assert (diagonal[seen] > 0).all()
    assert (sign, logabsdet) == (1, np.inf)


@pytest.mark.parametrize("positive_definite", [True, False])
def test_negative_weights_are_a_downdate(low_rank, positive_definite):
    d, U, c, B = problem(30, 3)
    f = low_rank.function(True, positive_definite)
    assert check(f, d, 0.05 * U, -c, B) == CAPACITANCE_LU
    c[0] *= -1
    assert check(f, d, 0.05 * U, c, B) == CAPACITANCE_LU


def test_an_indefinite_downdate_is_nan_only_if_it_was_said_to_be_definite(low_rank):
    d, U, c, B = problem(30, 2)
    # Two negative eigenvalues: the determinant is positive all the same.
    assert check(low_rank.function(True, False), d, U, -c, B) == CAPACITANCE_LU
    assert np.isnan(low_rank.function(True, True)(d, U, -c, B)[3])


@pytest.mark.parametrize(("linker", "transposed"), [("py", False), ("py", True), ("numba", True)])
def test_general_matrices_and_their_transposes(low_rank, linker, transposed):
    d, U, _, B = problem(30, 3)
    d[::3] *= -1
    V = np.random.default_rng(1).normal(size=U.shape)
    f = low_rank.function(False, transposed=transposed, linker=linker)
    assert check(f, d, U, V, B, transposed) == CAPACITANCE_LU
    d[0] = 0
    assert check(f, d, U, V, B, transposed) == DENSE_LU


def test_a_singular_matrix_has_determinant_zero(low_rank):
    U = np.array([[1.0], [0.0]])
    solution, _, sign, logabsdet, _ = low_rank.function(False)(np.zeros(2), U, U, np.ones((2, 1)))
    assert (sign, logabsdet) == (0, -np.inf)
    assert np.isnan(solution).all()


@pytest.mark.parametrize("linker", ["py", pytest.param("numba", marks=pytest.mark.slow)])
def test_any_memory_order_will_do(low_rank, linker):
    d, U, c, B = problem(24, 3)
    f = low_rank.function(True, True, linker=linker)
    assert check(f, d, np.asfortranarray(U), c, np.asfortranarray(B)) == CHOLESKY
    if linker == "py":
        assert check(f, np.repeat(d, 2)[::2], np.repeat(U, 2, axis=1)[:, ::2], c[::-1], B[::-1]) == CHOLESKY


def test_compiled_code_and_python_take_the_same_decision(low_rank):
    rng = np.random.default_rng(3)
    for scale in (1.0, 1e-3, 1e-7, 0.0):
        d, U, c, B = rng.uniform(0.5, 2, 50), rng.normal(size=(50, 3)), np.ones(3), rng.normal(size=(50, 1))
        d[:2] *= scale
        plain, compiled = (
            low_rank.function(True, True, linker=linker)(d, U, c, B) for linker in ("py", "numba")
        )
        for a, b in zip(plain, compiled, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


shapes = st.tuples(st.integers(1, 12), st.integers(0, 6), st.integers(0, 3), st.integers(0, 10_000))


@settings(max_examples=60, deadline=None)
@given(shapes)
def test_woodbury_is_dense_algebra(low_rank, shape):
    n, k, m, seed = shape
    check(low_rank.function(True, True), *problem(n, k, m, seed), tolerance=1e-8)


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_permuting_the_rows_permutes_the_answer(low_rank, shape):
    n, k, m, seed = shape
    d, U, c, B = problem(n, k, m, seed)
    d[: min(k, n) // 2] = 0
    order = np.random.default_rng(seed).permutation(n)
    f = low_rank.function(True, True)
    straight, permuted = f(d, U, c, B), f(d[order], U[order], c, B[order])
    scale = np.abs(straight[0]).max(initial=1.0)
    np.testing.assert_allclose(straight[0][order], permuted[0], atol=1e-7 * scale, rtol=1e-6)
    assert permuted[3] == pytest.approx(straight[3], abs=1e-6)


def test_static_shapes_dtypes_and_refusals():
    d, U, c = pt.vector(shape=(7,), dtype="float32"), pt.matrix(dtype="float32"), pt.vector(dtype="int64")
    factor = LowRankFactor(symmetric=True)(d, U, c)
    assert factor[1].type.shape == (7,)
    assert factor[1].type.dtype == factor[-1].type.dtype == "float64"
    x = LowRankSolve(symmetric=True)(d, U, c, *factor[: len(FACTOR_FIELDS)], pt.matrix(shape=(None, 2)))
    assert x.type.shape == (7, 2)
    assert LowRankSolve(symmetric=True, transposed=True) == LowRankSolve(symmetric=True)
    with pytest.raises(TypeError, match="real"):
        LowRankFactor(symmetric=True)(pt.zvector(), U, c)
    with pytest.raises(TypeError, match="dimensions"):
        LowRankFactor(symmetric=False)(d, U, c)
    with pytest.raises(TypeError, match="something else"):
        LowRankSolve(symmetric=True)(d, U, c, *factor[1:7], pt.matrix())
    with pytest.raises(TypeError, match="8 inputs"):
        LowRankSolve(symmetric=True)(d, U, c, *factor[1:], pt.matrix())


@pytest.mark.parametrize("linker", ["py", "numba"])
def test_lengths_that_do_not_fit_are_an_error(low_rank, linker):
    d, U, c, B = problem(5, 2)
    f = low_rank.function(True, True, linker=linker)
    for arguments in ((d[:4], U, c, B), (d, U, c[:1], B), (d, U, c, B[:4])):
        with pytest.raises(ValueError, match=r"fit|length"):
            f(*arguments)


def test_shapes_are_inferred_without_solving():
    d, U, c, B = pt.vector(), pt.matrix(), pt.vector(), pt.matrix()
    factor = LowRankFactor(symmetric=True)(d, U, c)[: len(FACTOR_FIELDS)]
    x = LowRankSolve(symmetric=True)(d, U, c, *factor, B)
    f = pytensor.function([d, U, c, B], x.shape, on_unused_input="ignore")
    assert not any(isinstance(node.op, LowRankFactor | LowRankSolve) for node in f.maker.fgraph.apply_nodes)


def test_outliers_that_the_bulk_outweighs_are_not_eliminated():
    """Standardised data have a few rows of large norm; they must not send every call down the rare path."""
    from autotune.ops.core_factor import ill_scaled_rows

    norms = np.ones(1000)
    norms[:3] = 50.0
    d = np.ones(1000)
    assert ill_scaled_rows(d, norms, 8).size == 0
    norms[:3] = 1e9
    assert ill_scaled_rows(d, norms, 8).tolist() == [0, 1, 2]
    d[5] = 0.0
    with np.errstate(divide="ignore"):
        assert ill_scaled_rows(d, norms, 8).tolist() == [0, 1, 2, 5]


MIDDLES = {
    "definite": np.diag([2.0, 1.0, 3.0]) + 0.5,
    "zero": np.zeros((3, 3)),
    "of rank one": np.outer([1.0, 2, 3], [1.0, 2, 3]),
    "indefinite": np.diag([1.0, -1.0, 2.0]) + 0.1,
}


@pytest.mark.parametrize("linker", ["py", "numba"])
@pytest.mark.parametrize("name", MIDDLES)
def test_a_symmetric_matrix_is_what_its_root_makes(name, linker):
    M, value = pt.matrix("M"), MIDDLES[name]
    f = pytensor.function([M], SymmetricRoot()(M), mode=Mode(linker=linker, optimizer=None))
    B, c, inverse = f(value)
    np.testing.assert_allclose((B * c) @ B.T, value, atol=1e-14)
    np.testing.assert_allclose(B @ inverse, np.eye(3), atol=1e-14)
    assert (c >= 0).all() == (name != "indefinite")
    assert np.isnan(f(value * np.nan)[0]).all()
