"""Each request keeps the meaning that its own idiom has, whatever else is asked of the same matrix and
whatever serves it: values, NaN, signs, triangles, dtypes.

What is asked of a Cholesky factor reads the lower triangle and is NaN where there is no such factor; anything
else is asked of the whole matrix. The references are NumPy's, since PyTensor takes the promise of one solve
for a fact about the others.
"""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import compile_plain, compile_with, forced, in_turn, spd
from pytensor.assumptions import assume
from pytensor.compile.mode import Mode
from pytensor.tensor.linalg import cho_solve, cholesky, det, inv, slogdet, solve, solve_triangular

import autotune
from autotune.read.matrices import recognise

pytestmark = pytest.mark.filterwarnings("ignore:An ill-conditioned matrix")  # that of NaN

N, K = 12, 3
rng = np.random.default_rng(20)
A, b = pt.matrix("A", shape=(N, N)), pt.vector("b", shape=(N,))
b_value = rng.normal(size=N)
G = rng.normal(size=(N, N))
MATRICES = {
    "definite": spd(N, rng),
    "indefinite": G + G.T,
    "lower triangle of a definite one": np.tril(spd(N, rng)) + np.triu(rng.normal(size=(N, N)), 1),
    "negative definite": -spd(N, rng),
    "NaN": np.where(np.eye(N) > 0, np.nan, G + G.T),
}


def factor_of(M):
    """L of the lower triangle of M, NaN where there is none."""
    symmetric = np.tril(M) + np.tril(M, -1).T
    try:
        return np.linalg.cholesky(symmetric)
    except np.linalg.LinAlgError:
        return np.full_like(M, np.nan)


def general(M, f):
    return f(M) if np.isfinite(M).all() else np.nan * f(np.eye(N))


def of_factor(matrix):
    """What is asked of the Cholesky factor of ``matrix``."""
    L = cholesky(matrix)
    return {
        "cho_solve": cho_solve((L, True), b),
        "solve pos": solve(matrix, b, assume_a="pos"),
        "logdet of factor": pt.log(pt.diagonal(L)).sum(),
        "whitened": pt.sqr(solve_triangular(L, b, lower=True)).sum(),
        "is definite": pt.all(pt.diagonal(L) > 0),
        "factor": L,
    }


OF_FACTOR = of_factor(A)
OF_FACTOR_VALUES = {
    "cho_solve": lambda L: np.linalg.solve(L.T, np.linalg.solve(L, b_value)),
    "solve pos": lambda L: np.linalg.solve(L.T, np.linalg.solve(L, b_value)),
    "logdet of factor": lambda L: np.log(np.diag(L)).sum(),
    "whitened": lambda L: (np.linalg.solve(L, b_value) ** 2).sum(),
    "is definite": lambda L: not np.isnan(L).any(),
    "factor": lambda L: L,
}


def of_matrix(matrix):
    """What is asked of ``matrix`` itself."""
    return {
        "solve": solve(matrix, b),
        "transposed solve": solve(matrix.T, b),
        "logdet": slogdet(matrix)[1],
        "sign": slogdet(matrix)[0],
        "determinant": det(matrix),
        "inverse diagonal": pt.diagonal(inv(matrix)),
        "quadratic form": b @ inv(matrix) @ b,
    }


OF_MATRIX = of_matrix(A)
OF_MATRIX_VALUES = {
    "solve": lambda M: np.linalg.solve(M, b_value),
    "transposed solve": lambda M: np.linalg.solve(M.T, b_value),
    "logdet": lambda M: np.linalg.slogdet(M)[1],
    "sign": lambda M: np.linalg.slogdet(M)[0],
    "determinant": np.linalg.det,
    "inverse diagonal": lambda M: np.diag(np.linalg.inv(M)),
    "quadratic form": lambda M: b_value @ np.linalg.solve(M, b_value),
}


def only(*names):
    left = [s.name for s in autotune.strategies.STRATEGIES if s.name not in names]
    return {"margin": 0, "rules": [{"forbid": left}]}


def assert_meanings(fn, plain, asked, values=MATRICES, **given):
    """Each result is right, or what PyTensor makes of it by itself."""
    for name, M in values.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            L, inputs = factor_of(M), (*given.get(name, (M,)), b_value)
            for request, result, own in zip(asked, fn(*inputs), plain(*inputs), strict=True):
                if request in OF_FACTOR_VALUES:
                    right = OF_FACTOR_VALUES[request](L)
                else:
                    right = general(M, OF_MATRIX_VALUES[request])
                close = [np.allclose(result, v, rtol=1e-8, atol=1e-10, equal_nan=True) for v in (right, own)]
                assert any(close), f"{request}, {name}: {result}, right {right}, PyTensor {own}"


@pytest.mark.parametrize("request_of_matrix", OF_MATRIX)
@pytest.mark.parametrize("request_of_factor", OF_FACTOR)
def test_one_request_on_the_factor_beside_one_on_the_matrix(request_of_factor, request_of_matrix):
    asked = [request_of_factor, request_of_matrix]
    outputs = [OF_FACTOR[request_of_factor], OF_MATRIX[request_of_matrix]]
    fn = compile_with([A, b], outputs, {"margin": 0, "rules": [{"forbid": "keep"}]})
    assert_meanings(fn, compile_plain([A, b], outputs), asked)


@pytest.mark.parametrize("door", ["mode", "tune"])
@pytest.mark.parametrize(
    "policy",
    [
        None,
        only("cholesky_or_lu"),
        only("cholesky"),
        only("lu"),
        only("lu", "cholesky"),
        only("woodbury", "cg"),
    ],
    ids=["default", "cholesky_or_lu", "cholesky", "lu", "lu and cholesky", "none that could"],
)
@pytest.mark.parametrize("asked", ["factor", "matrix", "both"])
def test_any_policy_leaves_the_meaning(asked, policy, door):
    wanted = {"factor": OF_FACTOR, "matrix": OF_MATRIX, "both": OF_FACTOR | OF_MATRIX}[asked]
    outputs = list(wanted.values())
    fn = compile_with([A, b], autotune.tune(outputs, policy) if door == "tune" else outputs, policy)
    assert_meanings(fn, compile_plain([A, b], outputs), list(wanted))


FALLBACKS = {"inverse": lambda M, y: inv(M) @ y, "solve": solve, "transposed": lambda M, y: solve(M.T, y)}


@pytest.mark.parametrize("door", ["mode", "tune"])
@pytest.mark.parametrize("policy", [{"rules": [{"force": "keep"}]}, only("woodbury")], ids=["forced", "left"])
@pytest.mark.parametrize("fallback", FALLBACKS)
def test_pytensors_own_lowering_promises_nothing(fallback, policy, door):
    """Where the graph has no ``assume_a="pos"``, what it becomes has none: PyTensor would believe it of
    the fallback too. Of unknown sizes, which `tune` leaves to the compile."""
    free, y = pt.matrix("free"), pt.vector("y")
    matrix = assume(free, symmetric=True)
    by_factor = cho_solve((cholesky(matrix), True), y)
    out = pt.switch(pt.any(pt.isnan(by_factor)), FALLBACKS[fallback](matrix, y), by_factor)
    fn = compile_with([free, y], autotune.tune(out, policy) if door == "tune" else out, policy)
    for name in ("definite", "indefinite", "negative definite"):
        x = fn(MATRICES[name], b_value)
        np.testing.assert_allclose(x, np.linalg.solve(MATRICES[name], b_value), rtol=1e-8)


# -- diagonal plus low rank ---------------------------------------------------------------------------

d, U, c, C = (
    pt.vector("d", shape=(N,)),
    pt.matrix("U", shape=(N, K)),
    pt.vector("c", shape=(K,)),
    pt.matrix("C", shape=(K, K)),
)
STRUCTURED = {"weights": pt.diag(d) + (U * c) @ U.T, "core matrix": pt.diag(d) + U @ C @ U.T}
d_value, U_value = rng.uniform(1, 2, N), rng.normal(size=(N, K))
PARTS = {
    "definite": (d_value, [1.0, 2.0, 3.0]),
    "definite with a negative weight": (d_value, [1.0, -1e-3, 3.0]),
    "indefinite by a weight": (d_value, [1.0, -2.0, 3.0]),
    "indefinite by the diagonal": (d_value - 3 * (np.arange(N) % 2), [1.0, 2.0, 3.0]),
    "definite with a negative diagonal": (d_value - (d_value + 1e-3) * (np.arange(N) == 0), [1.0, 2.0, 3.0]),
    "a zero on the diagonal": (d_value * (np.arange(N) > 0), [1.0, 2.0, 3.0]),
    "negative definite": (-d_value, [-1.0, -2.0, -3.0]),
}


@pytest.mark.parametrize("door", ["mode", "tune"])
@pytest.mark.parametrize(
    "policy", [None, only("woodbury"), only("woodbury", "lu")], ids=["default", "1", "2"]
)
@pytest.mark.parametrize("asked", ["factor", "matrix", "both"])
@pytest.mark.parametrize("form", in_turn(STRUCTURED))
def test_structured_matrices_of_any_sign(form, asked, policy, door):
    if form == "core matrix" and asked != "matrix" and policy is not None:
        policy = only("woodbury", "cholesky_or_lu")  # alone it declines, and PyTensor would be left
    matrix = STRUCTURED[form]
    factor, whole = of_factor(matrix), of_matrix(matrix)
    del factor["factor"]
    wanted = {"factor": factor, "matrix": whole, "both": factor | whole}[asked]
    inputs, outputs = [d, U, C if form == "core matrix" else c, b], list(wanted.values())
    fn = compile_with(inputs, autotune.tune(outputs, policy) if door == "tune" else outputs, policy)
    values, given = {}, {}
    for name, (d_of, c_of) in PARTS.items():
        values[name] = np.diag(d_of) + (U_value * c_of) @ U_value.T
        given[name] = (d_of, U_value, np.diag(c_of) if form == "core matrix" else np.array(c_of))
    assert_meanings(fn, compile_plain(inputs, outputs), list(wanted), values, **given)


# -- facts --------------------------------------------------------------------------------------------

X, Y = pt.matrix("X", shape=(N, 2)), pt.matrix("Y", shape=(N, 2))
SEMIDEFINITE = {
    "gram": X @ X.T,
    "multiple": 2 * (X @ X.T),
    "sum": X @ X.T + Y @ Y.T,
    "transposed": (X @ X.T).T,
    "elementwise": (X @ X.T) * (Y @ Y.T),
    "congruence": X @ (Y.T @ Y) @ X.T,
    "block": pt.linalg.block_diag(X @ X.T, Y @ Y.T),
    "kron": pt.linalg.kron(X.T @ X, Y @ Y.T),
}


@pytest.mark.parametrize("form", SEMIDEFINITE)
def test_a_gram_product_is_no_more_than_semidefinite(form):
    matrix = SEMIDEFINITE[form]
    fn = compile_with([X, Y], [det(matrix), slogdet(matrix)[1]], {"margin": 0, "rules": [{"forbid": "keep"}]})
    value, logabs = fn(rng.normal(size=(N, 2)), rng.normal(size=(N, 2)))
    assert abs(value) < 1e-10
    assert logabs < -20  # of zero up to rounding; a Cholesky factor would leave NaN


@pytest.mark.parametrize(
    "matrix", [X @ X.T + 0.1 * pt.eye(N), assume(A, positive_definite=True) + X @ X.T], ids=["eye", "tagged"]
)
def test_a_sum_with_a_definite_term_is_definite(matrix):
    fn = compile_with([A, X], slogdet(matrix)[1])
    assert autotune.explain(fn).decisions[0].problem.positive_definite


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("assume_a", ["sym", "her"])
def test_a_symmetric_solve_reads_the_triangle_it_is_given(assume_a, lower):
    outputs = [solve(A, v, assume_a=assume_a, lower=lower) for v in (b, pt.sin(b))]
    S = MATRICES["indefinite"]
    given = np.tril(S) if lower else np.triu(S)
    right = [np.linalg.solve(S, v) for v in (b_value, np.sin(b_value))]
    for result, expected in zip(compile_with([A, b], outputs)(given, b_value), right, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-9)


@pytest.mark.parametrize("door", ["mode", "tune"])
@pytest.mark.parametrize("assume_a", ["sym", "her"])
def test_the_gradient_of_a_symmetric_solve_reads_that_triangle_too(assume_a, door):
    s = pt.scalar("s")
    found = solve(s[None, None, None] * A[None], b[None], assume_a=assume_a, b_ndim=1).sum()
    found = autotune.tune(found) if door == "tune" else found
    S = MATRICES["indefinite"]
    fn = compile_with([s, A, b], pt.grad(found, b))
    np.testing.assert_allclose(fn(0.5, np.triu(S), b_value), np.linalg.solve(0.5 * S, np.ones(N)), rtol=1e-9)


# -- dtypes of pieces ---------------------------------------------------------------------------------

S_VALUE, COUNTS = 2.7, np.arange(N) % 5 + 100
DIAGONALS = {
    "eye / s": lambda i, e, s: e / s,
    "diag / s": lambda i, e, s: pt.diag(i) / s,
    "s * diag": lambda i, e, s: s * pt.diag(i),
    "sum": lambda i, e, s: pt.diag(i) + pt.diag(i) + pt.diag(i),
    "sum / s": lambda i, e, s: (pt.diag(i) + pt.diag(i)) / s,
    "product": lambda i, e, s: pt.diag(i) * pt.diag(i),
    "minus": lambda i, e, s: s * pt.eye(N) - e,
    "difference": lambda i, e, s: (e - pt.diag(i)) * s,
    "negated": lambda i, e, s: -pt.diag(i) / s,
    "over a row": lambda i, e, s: e / (i + 1)[None, :],
}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool", "float32"])
@pytest.mark.parametrize("form", DIAGONALS)
def test_pieces_keep_the_dtype_that_numpy_gives(form, dtype):
    if dtype == "bool" and form in ("negated", "difference", "minus"):
        return  # NumPy and PyTensor have no difference of bools
    i, s = pt.vector("i", shape=(N,), dtype=dtype), pt.scalar("s")
    matrix = U @ U.T + DIAGONALS[form](i, pt.eye(N, dtype=dtype), s)
    inputs, values = [U, i, s], (U_value, COUNTS.astype(dtype), S_VALUE)
    read = recognise(matrix)
    assert read.structure == ("diagonal", "low_rank")
    # as written: PyTensor's rewrites change some of these
    as_written = compile_plain(inputs, [matrix, read.to_dense()], Mode(linker="py", optimizer=None))
    plain, mine = as_written(*values)
    np.testing.assert_allclose(mine, plain, rtol=1e-6)


# -- diagonals ----------------------------------------------------------------------------------------

E, F = pt.matrix("E"), pt.matrix("F")  # (N, 4) and (N, 3)
e = pt.vector("e")
RECTANGULAR = {
    "fill_diagonal": pt.fill_diagonal(pt.zeros((E.shape[1], F.shape[1])), 2.0),
    "eye": pt.eye(E.shape[1], F.shape[1]),
    "mask": pt.eye(E.shape[1], F.shape[1]) * e,
    "constant": pt.constant(np.eye(4, 3)),
}


@pytest.mark.parametrize(
    "policy", [None, {"margin": 0, "rules": [{"forbid": "keep"}]}], ids=["default", "acts"]
)
@pytest.mark.parametrize("form", RECTANGULAR)
def test_a_rectangular_diagonal_is_not_taken_for_a_square_one(form, policy):
    matrix = pt.diag(d) + E @ RECTANGULAR[form] @ F.T
    inputs, outputs = [d, E, F, e, b], [solve(matrix, b), slogdet(matrix)[1], pt.diagonal(inv(matrix))]
    values = d_value, rng.normal(size=(N, 4)), rng.normal(size=(N, 3)), np.arange(1.0, 4), b_value
    for mine, plain in zip(
        compile_with(inputs, outputs, policy)(*values), compile_plain(inputs, outputs)(*values), strict=True
    ):
        np.testing.assert_allclose(mine, plain, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "float32"])
def test_the_dtype_of_a_divisor_costs_no_digits(dtype):
    i = pt.scalar("i", dtype=dtype)
    matrix = U @ U.T + pt.eye(N) / (i + 2)
    value = U_value @ U_value.T + np.eye(N) / 7
    fn = compile_with([U, i], slogdet(matrix)[1], only("woodbury"))
    np.testing.assert_allclose(fn(U_value, np.array(5, dtype)), np.linalg.slogdet(value)[1], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
def test_identities_of_any_dtype_stay_in_a_sum(dtype):
    """PyTensor 3.3 drops terms of another dtype where it makes a sum with a product one Gemm."""
    backwards, s = pt.arange(N)[::-1], pt.scalar("s")
    K = pt.eye(N, dtype=dtype) * s + F @ F.T + pt.eye(N) * d[:, None]
    fn = compile_with([s, F, d, b], solve(K[backwards][:, backwards], b))
    F_value = rng.normal(size=(N, 3))
    value = 0.7 * np.eye(N) + F_value @ F_value.T + np.diag(d_value)
    right = np.linalg.solve(value[::-1, ::-1], b_value)
    np.testing.assert_allclose(fn(0.7, F_value, d_value, b_value), right, rtol=1e-9)


@pytest.mark.parametrize("shape", [(2, 3), (1, 3), (4, 1)])
def test_quadratic_forms_of_stacked_vectors_keep_their_axes(shape):
    B = pt.tensor("B", shape=(*shape, N))
    L = cholesky(A)
    whitened = solve_triangular(L, B, lower=True, b_ndim=1)
    outputs = [(whitened**2).sum(axis=-1), pt.log(pt.diagonal(L)).sum()]
    fn = compile_with([A, B], outputs, only("cholesky"))
    values = rng.normal(size=(*shape, N))
    right = (values * np.linalg.solve(MATRICES["definite"], values[..., None])[..., 0]).sum(axis=-1)
    np.testing.assert_allclose(fn(MATRICES["definite"], values)[0], right, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["bool", "int8", "float64"])
def test_columns_of_whole_numbers_keep_their_weights(dtype):
    """Also where the number of columns is not known, and one weight is that of all."""
    B, p, X = pt.matrix("B", dtype=dtype), pt.vector("p", shape=(1,)), pt.matrix("X", shape=(N, 2))
    U = B * p[None, :]
    loss = slogdet(pt.eye(N) + U @ U.T + X @ X.T)[1]
    rng = np.random.default_rng(0)
    values = (rng.random((N, 1)) < 0.5).astype(dtype), np.array([0.7]), rng.normal(size=(N, 2))
    outputs = [loss, *pt.grad(loss, [p, X])]
    mine = compile_with([B, p, X], outputs, forced("woodbury"))
    for found, right in zip(mine(*values), compile_plain([B, p, X], outputs)(*values), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-10, atol=1e-12)
