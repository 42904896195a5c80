"""CholeskyInverse and LUInverse: inverses from factors, in both linkers, whatever the memory order."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import scipy.linalg
from pytensor.compile.mode import Mode
from pytensor.tensor.blockwise import Blockwise

from autotune.ops import CholeskyInverse, CholeskySolveMany, LUInverse

TOLERANCE = {"float64": 1e-10, "float32": 2e-3}


def positive_definite(n, dtype="float64"):
    A = np.random.default_rng(n).normal(size=(n, n))
    return (A @ A.T + n * np.eye(n)).astype(dtype)


def with_layout(x, layout):
    match layout:
        case "C" | "F":
            return np.array(x, order=layout)
        case "strided":
            return np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)[::2, ::2]


@pytest.fixture(scope="module")
def inverse_functions(plain):
    functions = {}

    def build(op, dtype, linker):
        key = (type(op), dtype, linker)
        if key not in functions:
            inputs = [pt.matrix(dtype=dtype)] + ([pt.ivector()] if isinstance(op, LUInverse) else [])
            mode = plain if linker == "py" else "NUMBA"
            functions[key] = pytensor.function(inputs, Blockwise(op)(*inputs), mode=mode)
        return functions[key]

    return build


SIZES, LAYOUTS = (0, 1, 2, 33, 70), ("C", "F", "strided")
CASES = [("py", n, dtype, layout) for n in SIZES for dtype in ("float64", "float32") for layout in LAYOUTS]
# Every type is another compilation of several seconds.
CASES += [("numba", n, "float64", "C") for n in (0, 1, 70)]
CASES += [pytest.param("numba", n, "float64", "F", marks=pytest.mark.slow) for n in (0, 1, 70)]
FLOAT32 = pytest.param("numba", 33, "float32", "C", marks=pytest.mark.slow)


@pytest.mark.parametrize(("linker", "n", "dtype", "layout"), [*CASES, FLOAT32])
def test_cholesky_inverse_is_the_inverse_and_exactly_symmetric(inverse_functions, linker, n, dtype, layout):
    K = positive_definite(n, dtype)
    L = with_layout(np.linalg.cholesky(K) if n else K, layout)
    before = L.copy()
    inverse = inverse_functions(CholeskyInverse(), dtype, linker)(L)
    assert inverse.dtype == dtype
    np.testing.assert_allclose(inverse @ K, np.eye(n), atol=TOLERANCE[dtype])
    np.testing.assert_array_equal(inverse, inverse.T)
    np.testing.assert_array_equal(L, before)


@pytest.mark.parametrize(("linker", "n", "dtype", "layout"), CASES)
def test_lu_inverse_is_the_inverse(inverse_functions, linker, n, dtype, layout):
    A = positive_definite(n, dtype)[::-1].copy()
    LU, pivots = scipy.linalg.lu_factor(A) if n else (A, np.empty(0))
    LU, pivots = with_layout(LU, layout), pivots.astype("int32")
    before = LU.copy(), pivots.copy()
    inverse = inverse_functions(LUInverse(), dtype, linker)(LU, pivots)
    np.testing.assert_allclose(inverse @ A, np.eye(n), atol=TOLERANCE[dtype])
    np.testing.assert_array_equal(LU, before[0])
    np.testing.assert_array_equal(pivots, before[1])


def test_only_the_lower_triangle_of_the_factor_is_read(inverse_functions):
    K = positive_definite(5)
    L = np.linalg.cholesky(K)
    inverse = inverse_functions(CholeskyInverse(), "float64", "py")(L + np.triu(np.full((5, 5), 7.0), 1))
    np.testing.assert_allclose(inverse @ K, np.eye(5), atol=1e-12)


@pytest.mark.parametrize("linker", ["py", "numba"])
@pytest.mark.parametrize("broken", [np.nan, 0.0])
def test_a_failed_factor_gives_nan_everywhere(inverse_functions, linker, broken):
    factor = np.eye(3) + np.tril(np.ones((3, 3)), -1)
    factor[1, 1] = broken
    assert np.isnan(inverse_functions(CholeskyInverse(), "float64", linker)(factor)).all()
    assert np.isnan(
        inverse_functions(LUInverse(), "float64", linker)(factor, np.arange(3, dtype="int32"))
    ).all()


@pytest.mark.parametrize("linker", ["py", "numba"])
def test_a_pivot_outside_the_matrix_is_an_error(inverse_functions, linker):
    with pytest.raises(ValueError, match="pivot"):
        inverse_functions(LUInverse(), "float64", linker)(np.eye(3), np.array([0, 9, 2], dtype="int32"))


BATCHES = [("py", "float64"), ("py", "int64")]
BATCHES += [pytest.param("numba", dtype, marks=pytest.mark.slow) for dtype in ("float64", "int64")]


@pytest.mark.parametrize(("linker", "dtype"), BATCHES)
def test_batches_and_integers(plain, linker, dtype):
    L = pt.tensor("L", shape=(None, 2, 2), dtype=dtype)
    mode = plain if linker == "py" else "NUMBA"
    value = np.array([[[1, 0], [2, 1]], [[2, 0], [0, 2]]], dtype=dtype)
    inverse = pytensor.function([L], Blockwise(CholeskyInverse())(L), mode=mode)(value)
    np.testing.assert_allclose(inverse, np.linalg.inv(value @ value.transpose(0, 2, 1)))


@pytest.mark.parametrize("linker", ["py", pytest.param("numba", marks=pytest.mark.slow)])
def test_a_factor_nobody_else_needs_is_overwritten(linker):
    K = pt.matrix("K")
    mode = "NUMBA" if linker == "numba" else Mode(linker="py", optimizer="fast_run")
    f = pytensor.function([K], Blockwise(CholeskyInverse())(pt.linalg.cholesky(K)), mode=mode)
    assert f.maker.fgraph.outputs[0].owner.op.overwrite_a
    value = positive_definite(40)
    np.testing.assert_allclose(f(value) @ value, np.eye(40), atol=1e-12)
    np.testing.assert_array_equal(value, positive_definite(40))


def test_a_factor_used_twice_is_kept():
    K = pt.matrix("K")
    L = pt.linalg.cholesky(K)
    mode = Mode(linker="py", optimizer="fast_run")
    f = pytensor.function([K], [Blockwise(CholeskyInverse())(L), L], mode=mode)
    assert not f.maker.fgraph.outputs[0].owner.op.overwrite_a
    value = positive_definite(6)
    np.testing.assert_allclose(f(value)[1], np.linalg.cholesky(value))


def test_static_shapes_and_refusals():
    L = pt.matrix("L", shape=(4, None))
    assert CholeskyInverse()(L).type.shape == (4, 4)
    assert LUInverse()(pt.matrix(), pt.ivector(shape=(3,))).type.shape == (3, 3)
    with pytest.raises(TypeError, match="real"):
        CholeskyInverse()(pt.zmatrix())
    with pytest.raises(TypeError, match="integers"):
        LUInverse()(pt.matrix(), pt.vector())
    with pytest.raises(ValueError, match="equal"):
        CholeskyInverse()(pt.matrix(shape=(3, 4)))


@pytest.mark.parametrize(
    ("dtype", "linker"),
    [
        ("float64", "py"),
        ("float32", "py"),
        ("float64", "numba"),
        pytest.param("float32", "numba", marks=pytest.mark.slow),
    ],
)
def test_many_right_hand_sides_are_solved_as_few_are(dtype, linker):
    L, B = pt.matrix("L", dtype=dtype), pt.matrix("B", dtype=dtype)
    f = pytensor.function([L, B], Blockwise(CholeskySolveMany())(L, B), mode=Mode(linker, None))
    K = positive_definite(6, dtype)
    for m in (0, 1, 2, 11, 12, 60):
        for order in "CF":
            factor = np.linalg.cholesky(K)
            b = np.random.default_rng(m).normal(size=(6, m)).astype(dtype)
            x = f(np.asarray(factor, order=order), np.asarray(b, order=order))
            assert x.shape == (6, m)
            assert x.dtype == dtype
            np.testing.assert_allclose(
                x, scipy.linalg.cho_solve((factor, True), b), rtol=0, atol=1e3 * np.finfo(dtype).eps
            )
    factor[2, 2] = np.nan
    assert all(np.isnan(f(factor, np.ones((6, m), dtype))).any(axis=0).all() for m in (1, 20))
    assert f(np.zeros((0, 0), dtype), np.zeros((0, 3), dtype)).shape == (0, 3)
