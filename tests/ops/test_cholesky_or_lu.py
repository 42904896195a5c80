"""CholeskyOrLU and its solve and inverse: Cholesky where the matrix has it, else what LU gives."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import scipy.linalg
from helpers import in_turn
from hypothesis import given
from hypothesis import strategies as st
from pytensor.compile.mode import Mode
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.linalg import solve_triangular

from autotune.ops import CholeskyOrLU, CholeskyOrLUInverse, CholeskyOrLUSolve, kernels
from autotune.ops.core_cholesky_or_lu import factor

LINKERS = ["py", "numba"]
# Of a compiled function every other layout is another compilation.
LAYOUTS = [("py", "C"), ("py", "F"), ("py", "strided"), ("numba", "C")]
LAYOUTS += [pytest.param("numba", layout, marks=pytest.mark.slow) for layout in ("F", "strided")]
rng = np.random.default_rng(4)


def spd(n, condition=10.0):
    Q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    A = (Q * np.geomspace(1, condition, n)) @ Q.T if n else np.empty((0, 0))
    return (A + A.T) / 2


def indefinite(n):
    """Symmetric with a positive diagonal: potrf fails at the very last pivot."""
    A = spd(n)
    A[-1, :-1] *= 10
    A[:-1, -1] *= 10
    return A


def mixed(n):
    A = rng.normal(size=(n, n))
    A = A + A.T
    A[-1, -1] = -1 - abs(A[-1, -1])  # a small one is definite by chance
    return A


def general(n):
    return rng.normal(size=(n, n))


def outputs(A, B):
    F, pivots, is_cholesky = Blockwise(CholeskyOrLU())(A)
    solutions = [Blockwise(CholeskyOrLUSolve(transposed=t))(F, pivots, is_cholesky, B) for t in (False, True)]
    return [F, pivots, is_cholesky, *solutions, Blockwise(CholeskyOrLUInverse())(F, pivots, is_cholesky)]


@pytest.fixture(scope="module")
def run(plain):
    """``run(A, B, linker) -> F, pivots, is_cholesky, A^-1 B, A'^-1 B, A^-1``; never changes A or B."""
    functions = {}

    def call(A, B, linker="py"):
        key = (A.dtype.name, B.dtype.name, A.ndim, linker)
        if key not in functions:
            inputs = [pt.tensor(shape=(None,) * x.ndim, dtype=x.dtype) for x in (A, B)]
            mode = plain if linker == "py" else "NUMBA"
            functions[key] = pytensor.function(inputs, outputs(*inputs), mode=mode)
        before = A.copy(), B.copy()
        found = functions[key](A, B)
        np.testing.assert_array_equal(A, before[0])
        np.testing.assert_array_equal(B, before[1])
        return found

    return call


def with_layout(x, layout):
    match layout:
        case "C" | "F":
            return np.array(x, order=layout)
        case "strided":
            return np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)[::2, ::2]


KINDS = {"spd": (spd, 1), "general": (general, 0), "indefinite": (indefinite, 0), "mixed": (mixed, 0)}
SIZES = (2, 9, 33, 70)


@pytest.mark.parametrize(("linker", "layout"), LAYOUTS)
@pytest.mark.parametrize("n", in_turn(SIZES))
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_matrix_is_solved_and_inverted(run, kind, n, layout, linker):
    make, cholesky = KINDS[kind]
    A, B = with_layout(make(n), layout), rng.normal(size=(n, 3))
    F, pivots, is_cholesky, X, X_transposed, inverse = run(A, B, linker)
    assert is_cholesky == cholesky
    scale = np.linalg.norm(A) * np.linalg.norm(np.linalg.inv(A))
    for found, expected in [
        (X, scipy.linalg.solve(A, B)),
        (X_transposed, scipy.linalg.solve(A.T, B)),
        (inverse, np.linalg.inv(A)),
    ]:
        assert np.linalg.norm(found - expected) <= 1e-14 * scale * np.linalg.norm(expected)
    assert pivots.dtype == "int32"
    if cholesky:
        np.testing.assert_allclose(np.tril(F), np.linalg.cholesky(A), atol=1e-13)
        np.testing.assert_array_equal(pivots, np.arange(n))
        np.testing.assert_array_equal(inverse, inverse.T)
        assert np.isfinite(F).all()
    else:
        expected_F, expected_pivots = scipy.linalg.lu_factor(A)
        # Small ones are factorised without LAPACK under Numba.
        np.testing.assert_allclose(F, expected_F, rtol=0, atol=0 if linker == "py" else 1e-12)
        np.testing.assert_array_equal(pivots, expected_pivots)


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("n", [0, 1])
def test_empty_and_single_entry_matrices(run, n, linker):
    F, pivots, is_cholesky, X, X_transposed, inverse = run(np.full((n, n), 4.0), np.ones((n, 2)), linker)
    assert is_cholesky == 1
    assert (F.shape, pivots.shape, inverse.shape) == ((n, n), (n,), (n, n))
    np.testing.assert_array_equal(F, np.full((n, n), 2.0))
    np.testing.assert_array_equal(X, np.full((n, 2), 0.25))
    np.testing.assert_array_equal(X_transposed, X)
    assert run(np.full((1, 1), -4.0), np.ones((1, 0)), linker)[2] == 0


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize(("off", "cholesky"), [(None, 1), (1e-6, 0)], ids=["one_ulp", "one_millionth"])
def test_symmetry_is_judged_up_to_rounding(run, off, cholesky, linker):
    A = spd(40)
    A[30, 3] = np.nextafter(A[30, 3], np.inf) if off is None else A[30, 3] + off
    assert A[30, 3] != A[3, 30]
    _, _, is_cholesky, X, *_ = run(A, np.ones((40, 1)), linker)
    assert is_cholesky == cholesky
    np.testing.assert_allclose(A @ X, np.ones((40, 1)), atol=1e-13)


@pytest.mark.parametrize("linker", LINKERS)
def test_every_asymmetric_pair_is_found(run, linker):
    """Wherever it lies in the tiles."""
    A, n = np.eye(19), 19
    for i in range(n):
        for j in range(i):
            A[i, j] = 1e-3
            assert run(A, np.ones((n, 1)), linker)[2] == 0
            A[i, j] = 0.0
    assert run(A, np.ones((n, 1)), linker)[2] == 1


SINGULAR = {
    "zero": np.zeros((3, 3)),
    "rank_one": np.full((2, 2), 2.0),
    "gram": np.ones((3, 1)) @ np.ones((1, 3)),
    "nonsymmetric": np.array([[1.0, 2.0], [2.0, 4.0]]) * np.array([1.0, 3.0]),
}


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("name", SINGULAR)
def test_a_singular_matrix_keeps_its_lu_factors_and_has_no_solution(run, name, linker):
    """2 x 2 of twos: potrf alone would call it positive definite, by rounding."""
    A = SINGULAR[name]
    F, pivots, is_cholesky, *answers = run(A, np.ones((len(A), 2)), linker)
    assert is_cholesky == 0
    assert np.prod(np.diag(F)) == 0
    (getrf,) = scipy.linalg.get_lapack_funcs(("getrf",), (A,))
    np.testing.assert_array_equal(F, getrf(A)[0])
    np.testing.assert_array_equal(pivots, getrf(A)[1])
    assert all(np.isnan(answer).all() for answer in answers)


def test_potrf_alone_would_accept_a_singular_matrix():
    """Why the pivots are looked at: rounding leaves 2 - (2 / sqrt 2)^2 > 0."""
    assert kernels.potrf(np.full((2, 2), 2.0)) == 0


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("place", [(0, 0), (7, 2), (2, 7), (8, 8)])
def test_nan_and_infinity_go_to_lu(run, broken, place, linker):
    A = spd(9)
    A[place] = broken
    with np.errstate(invalid="ignore"):
        F, _, is_cholesky, X, _, _ = run(A, np.ones((9, 1)), linker)
        (getrf,) = scipy.linalg.get_lapack_funcs(("getrf",), (A,))
        assert np.isnan(np.diag(F))[np.isnan(np.diag(getrf(A)[0]))].all()
    assert is_cholesky == 0
    if np.isnan(broken):
        assert np.isnan(X).any()


@pytest.mark.parametrize("linker", ["py", pytest.param("numba", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["spd", "general", "indefinite"])
def test_float32_stays_float32(run, kind, linker):
    make, cholesky = KINDS[kind]
    A, B = make(40).astype("float32"), rng.normal(size=(40, 2)).astype("float32")
    F, _, is_cholesky, X, _, inverse = run(A, B, linker)
    assert is_cholesky == cholesky
    assert F.dtype == X.dtype == inverse.dtype == "float32"
    condition = np.linalg.cond(A.astype("float64"))
    assert np.linalg.norm(X - np.linalg.solve(A.astype("float64"), B)) <= 1e-5 * condition * np.linalg.norm(X)


def test_other_dtypes_are_cast_where_lapack_runs(run):
    A, B = np.array([[2, 1], [1, 3]]), np.array([[1.0], [2.0]], dtype="float32")
    _, _, is_cholesky, X, _, inverse = run(A, B)
    assert is_cholesky == 1
    assert X.dtype == inverse.dtype == "float64"
    np.testing.assert_allclose(A @ X, B, atol=1e-15)


@pytest.mark.parametrize("linker", ["py", pytest.param("numba", marks=pytest.mark.slow)])
def test_a_batch_decides_for_each_of_its_matrices(run, linker):
    A = np.stack([make(12) for make, _ in KINDS.values()])
    B = rng.normal(size=(4, 12, 2))
    _, _, is_cholesky, X, X_transposed, inverse = run(A, B, linker)
    np.testing.assert_array_equal(is_cholesky, [1, 0, 0, 0])
    np.testing.assert_allclose(A @ X, B, atol=1e-11)
    np.testing.assert_allclose(A.transpose(0, 2, 1) @ X_transposed, B, atol=1e-11)
    np.testing.assert_allclose(A @ inverse, np.broadcast_to(np.eye(12), (4, 12, 12)), atol=1e-11)


@pytest.mark.parametrize(
    ("linker", "transposed_input"),
    [("py", False), ("py", True), pytest.param("numba", True, marks=pytest.mark.slow)],
)
def test_a_matrix_nobody_else_needs_is_overwritten(linker, transposed_input):
    K = pt.matrix("K")
    mode = "NUMBA" if linker == "numba" else Mode(linker="py", optimizer="fast_run")
    own = pt.exp(K.T if transposed_input else K)
    F, pivots, is_cholesky = Blockwise(CholeskyOrLU())(own)
    fn = pytensor.function(
        [K], [Blockwise(CholeskyOrLUInverse())(F, pivots, is_cholesky), is_cholesky], mode=mode
    )
    ops = [getattr(node.op, "core_op", node.op) for node in fn.maker.fgraph.toposort()]
    assert CholeskyOrLU(overwrite_a=True) in ops
    assert CholeskyOrLUInverse(overwrite_f=True) in ops
    for value, cholesky in [(np.log(np.abs(spd(20)) + 20 * np.eye(20)), 1), (general(21), 0), (mixed(22), 0)]:
        before = value.copy()
        inverse, is_cholesky = fn(value)
        A = np.exp(value.T if transposed_input else value)
        assert is_cholesky == cholesky
        np.testing.assert_allclose(inverse @ A, np.eye(len(A)), atol=1e-10)
        np.testing.assert_array_equal(value, before)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", KINDS)
def test_overwriting_makes_no_copy_and_changes_no_factor(kind, order, overwrite):
    A = KINDS[kind][0](30)
    own = np.array(A, order=order)
    F, pivots, is_cholesky = factor(own, overwrite)
    assert np.shares_memory(F, own) is overwrite
    expected = factor(A, False)
    np.testing.assert_array_equal(np.tril(F), np.tril(expected[0]))
    np.testing.assert_array_equal(pivots, expected[1])
    assert is_cholesky == expected[2]


def test_a_failed_potrf_leaves_no_trace():
    """The last pivot fails, after blocked code has overwritten all the rest of the triangle."""
    A = indefinite(400)
    F, pivots, is_cholesky = factor(A, False)
    expected_F, expected_pivots = scipy.linalg.lu_factor(A)
    assert is_cholesky == 0
    np.testing.assert_array_equal(F, expected_F)
    np.testing.assert_array_equal(pivots, expected_pivots)


@pytest.mark.parametrize("linker", LINKERS)
def test_an_ill_conditioned_matrix_is_solved_as_well_as_by_lu(run, linker):
    n = 60
    A = spd(n, 1e12)
    B = rng.normal(size=(n, 1))
    _, _, is_cholesky, X, *_ = run(A, B, linker)
    assert is_cholesky == 1

    def residual(x):
        return np.linalg.norm(A @ x - B) / (np.linalg.norm(A) * np.linalg.norm(x))

    by_lu = scipy.linalg.solve(A, B, assume_a="gen")
    assert residual(X) <= 10 * max(residual(by_lu), np.finfo(float).eps)


ENTRIES = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e3, 1e3, allow_subnormal=False))


@st.composite
def matrices(draw):
    """Random square matrices: general, symmetric, Gram (singular ones too), and Gram plus a multiple of I."""
    n = draw(st.integers(1, 6))
    A = np.array(draw(st.lists(ENTRIES, min_size=n * n, max_size=n * n))).reshape(n, n)
    kind = draw(st.sampled_from(["general", "symmetric", "gram", "shifted"]))
    if kind == "symmetric":
        return A + A.T
    if kind == "gram":
        columns = draw(st.integers(1, n))
        return A[:, :columns] @ A[:, :columns].T
    return A @ A.T + draw(st.floats(1e-6, 1e3)) * np.eye(n) if kind == "shifted" else A


@given(A=matrices())
def test_the_answer_is_that_of_lu_for_any_matrix(run, A):
    """Within 1e-13 times the condition number, the bound that both algorithms share; NaN together."""
    B = np.ones((len(A), 1))
    with np.errstate(all="ignore"):
        _, _, is_cholesky, X, _, inverse = run(A, B)
        (getrf,) = scipy.linalg.get_lapack_funcs(("getrf",), (A,))
        F, pivots, info = getrf(A)
        if info > 0:
            assert is_cholesky == 0
            assert np.isnan(X).all()
            return
        expected = scipy.linalg.lu_solve((F, pivots), np.eye(len(A)))
        condition = np.linalg.norm(A) * np.linalg.norm(expected)
        for found, reference in [(inverse, expected), (X, scipy.linalg.lu_solve((F, pivots), B))]:
            if condition < 1e12:
                error = np.linalg.norm(found - reference)
                assert error <= 1e-13 * condition * np.linalg.norm(expected) * np.linalg.norm(B)


def test_static_shapes_and_refusals(run):
    A = pt.matrix("A", shape=(4, None))
    F, pivots, is_cholesky = CholeskyOrLU()(A)
    assert (F.type.shape, pivots.type.shape, is_cholesky.type.shape) == ((4, 4), (4,), ())
    assert CholeskyOrLUSolve()(F, pivots, is_cholesky, pt.matrix(shape=(None, 7))).type.shape == (4, 7)
    with pytest.raises(TypeError, match="real"):
        CholeskyOrLU()(pt.zmatrix())
    with pytest.raises(TypeError, match="integers"):
        CholeskyOrLUInverse()(F, pt.vector(), is_cholesky)
    with pytest.raises(ValueError, match="equal"):
        CholeskyOrLUSolve()(F, pivots, is_cholesky, pt.matrix(shape=(3, 1)))
    with pytest.raises(ValueError, match="square"):
        run(np.ones((2, 3)), np.ones((2, 1)))
    with pytest.raises(ValueError, match="as many rows"):
        run(np.eye(3), np.ones((2, 1)))


@pytest.mark.parametrize("linker", ["py", pytest.param("numba", marks=pytest.mark.slow)])
def test_a_pivot_outside_the_matrix_is_an_error(plain, linker):
    F, pivots, is_cholesky = pt.matrix(), pt.ivector(), pt.bscalar()
    mode = plain if linker == "py" else "NUMBA"
    fn = pytensor.function([F, pivots, is_cholesky], CholeskyOrLUInverse()(F, pivots, is_cholesky), mode=mode)
    with pytest.raises(ValueError, match="pivot"):
        fn(np.eye(3), np.array([0, 9, 2], dtype="int32"), np.int8(0))


def test_what_stands_above_the_factor_is_not_read(run):
    A = spd(6)
    F = np.tril(np.linalg.cholesky(A)) + np.triu(np.full((6, 6), 7.0), 1)
    x = [pt.matrix(), pt.ivector(), pt.bscalar()]
    fn = pytensor.function(x, CholeskyOrLUSolve()(*x, pt.eye(6)), mode=Mode(linker="py", optimizer=None))
    for order in ("C", "F"):
        found = fn(np.array(F, order=order), np.arange(6, dtype="int32"), np.int8(1))
        np.testing.assert_allclose(A @ found, np.eye(6), atol=1e-13)


def test_the_factor_serves_pytensors_own_triangular_solve():
    A = pt.matrix("A")
    F, _, _ = Blockwise(CholeskyOrLU())(A)
    fn = pytensor.function([A], solve_triangular(F, A, lower=True), mode=Mode(linker="py", optimizer=None))
    value = spd(7)
    np.testing.assert_allclose(fn(value), np.linalg.cholesky(value).T, atol=1e-13)
