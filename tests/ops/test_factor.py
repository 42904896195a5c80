"""SharedCholesky: PyTensor's Cholesky by another triangle, in both linkers, whatever the memory order."""

import pickle

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.linalg.decomposition.cholesky import cholesky

from autotune.ops import SharedCholesky, core_cholesky


def positive_definite(n, dtype="float64"):
    A = np.random.default_rng(n).normal(size=(n, n))
    return (A @ A.T + n * np.eye(n)).astype(dtype)


def with_layout(x, layout):
    if layout == "strided":
        return np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)[::2, ::2]
    return np.array(x, order=layout)


@pytest.fixture(scope="module")
def factorise(plain):
    functions = {}

    def run(A, linker, *, in_place=False):
        key = (A.dtype, linker, in_place)
        if key not in functions:
            x = pt.matrix(dtype=A.dtype)
            # Of `2 * x` nobody else has any use, so that PyTensor lets the factor take its memory.
            out = Blockwise(SharedCholesky())(2 * x if in_place else x)
            mode = plain if linker == "py" else "NUMBA"
            functions[key] = pytensor.function([x], out, mode=mode)
        return functions[key](A / 2 if in_place else A)

    return run


CASES = [("py", n, dtype, "C") for n in (0, 1, 33) for dtype in ("float64", "float32")]
CASES += [("numba", n, "float64", "C") for n in (0, 1, 7, 8, 33, 70)]
CASES += [pytest.param("numba", n, "float64", "F", marks=pytest.mark.slow) for n in (0, 1, 7, 8, 33, 70)]
FLOAT32 = pytest.param("numba", 33, "float32", "C", marks=pytest.mark.slow)


@pytest.mark.parametrize(("linker", "n", "dtype", "layout"), [*CASES, FLOAT32])
def test_the_factor_is_numpys(factorise, linker, n, dtype, layout):
    K = with_layout(positive_definite(n, dtype), layout)
    before = K.copy()
    L = factorise(K, linker)
    assert L.dtype == dtype
    np.testing.assert_allclose(L, np.linalg.cholesky(K), rtol=1e-5 if dtype == "float32" else 1e-13)
    np.testing.assert_array_equal(np.triu(L, 1), 0)
    np.testing.assert_array_equal(K, before)


@pytest.mark.parametrize("n", [0, 1, 9, 40])
def test_the_factor_takes_the_memory_of_what_nobody_needs(factorise, n):
    K = positive_definite(n)
    np.testing.assert_allclose(factorise(K, "numba", in_place=True), np.linalg.cholesky(K), rtol=1e-12)


def test_pytensor_hands_over_the_memory_in_a_graph():
    x = pt.matrix("x")
    fn = pytensor.function([x], Blockwise(SharedCholesky())(2 * x), mode="NUMBA")
    [node] = [n for n in fn.maker.fgraph.apply_nodes if isinstance(n.op, SharedCholesky)]
    assert node.op.overwrite_a
    assert node.op.destroy_map == {0: [0]}


@pytest.mark.parametrize("linker", ["py", "numba"])
@pytest.mark.parametrize("n", [5, 8, 19])
def test_only_the_lower_triangle_is_read(factorise, linker, n):
    K = positive_definite(n)
    garbage = np.tril(K) + np.triu(np.full((n, n), np.nan), 1)
    np.testing.assert_allclose(factorise(garbage, linker), np.linalg.cholesky(K), rtol=1e-13)
    in_place = factorise(np.asfortranarray(garbage), linker, in_place=True)
    np.testing.assert_allclose(in_place, np.linalg.cholesky(K), rtol=1e-13)


@pytest.mark.parametrize("linker", ["py", "numba"])
@pytest.mark.parametrize("in_place", [False, True])
def test_what_has_no_factor_gives_nan_everywhere(factorise, linker, in_place):
    for bad in (-np.eye(9), np.full((9, 9), np.nan), np.ones((9, 9)) - np.eye(9)):
        assert np.isnan(factorise(bad, linker, in_place=in_place)[np.tril_indices(9)]).all()


def test_a_matrix_that_is_not_square_is_refused(factorise):
    for linker in ("py", "numba"):
        with pytest.raises(ValueError, match="square"):
            factorise(np.ones((3, 4)), linker)


def test_complex_matrices_are_refused():
    with pytest.raises(TypeError, match="real matrices"):
        SharedCholesky()(pt.zmatrix())


@pytest.mark.parametrize("linker", ["py", pytest.param("numba", marks=pytest.mark.slow)])
def test_integers_are_taken_as_floating_point_numbers(factorise, linker):
    np.testing.assert_allclose(factorise(np.array([[4, 2], [2, 5]]), linker), [[2, 0], [1, 2]])


@pytest.mark.parametrize("layout", ["C", "F", "strided"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_algorithm_in_python_is_the_same(layout, overwrite):
    K = positive_definite(13)
    A = with_layout(K, layout)
    L = core_cholesky.factor(A, overwrite)
    np.testing.assert_allclose(L, np.linalg.cholesky(K), rtol=1e-13)
    assert L.flags.f_contiguous
    assert np.shares_memory(L, A) == (overwrite and layout == "C")


def test_a_pickled_factorisation_is_the_same():
    for op in (SharedCholesky(), SharedCholesky(overwrite_a=True)):
        copy = pickle.loads(pickle.dumps(op))
        assert copy == op
        assert copy.lower
        assert copy.destroy_map == op.destroy_map


def test_its_gradient_is_that_of_pytensors_cholesky(plain):
    x = pt.matrix()
    K = positive_definite(6)
    ours, theirs = (
        pytensor.function([x], pt.grad(pt.sin(factor(x)).sum(), x), mode=plain)(K)
        for factor in (SharedCholesky(), cholesky)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
