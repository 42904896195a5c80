"""Ridge regression: on the smaller side, of a Gram product, as exact as extended precision says."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_plain, compile_with, forced, in_turn
from pytensor.compile.mode import Mode
from pytensor.graph.traversal import explicit_graph_inputs
from pytensor.tensor.linalg import inv, solve
from pytensor.tensor.math import Dot

import autotune
from autotune.ops import Gram, LowRankFactor, LowRankSolveInRange


def gram(X, lam):
    return X.T @ X + lam * pt.eye(X.shape[1], dtype=lam.dtype)


def weighted(X, lam):
    return X.T @ (pt.arange(1, X.shape[0] + 1)[:, None] ** 2 * X) + pt.diag(lam * pt.ones(X.shape[1]))


# Coefficients as users write them: of X, y and lam.
FORMS = {
    "inverse first": lambda X, y, lam: inv(gram(X, lam)) @ X.T @ y,
    "inverse last": lambda X, y, lam: inv(gram(X, lam)) @ (X.T @ y),
    "row": lambda X, y, lam: y @ (X @ inv(gram(X, lam))),
    "solve": lambda X, y, lam: solve(gram(X, lam), X.T @ y),
    "solve of columns": lambda X, y, lam: solve(gram(X, lam), X.T) @ y,
    "definite": lambda X, y, lam: solve(gram(X, lam), X.T @ y, assume_a="pos"),
    "fitted": lambda X, y, lam: X.T @ (X @ inv(gram(X, lam)) @ X.T @ y),
    "two columns": lambda X, y, lam: (solve(gram(X, lam), X.T) @ pt.stack([y, 2 * y], 1))[:, 1] / 2,
}
SHAPES = [(20, 60), (60, 20), (12, 12), (9, 1), (1, 9), (7, 3)]


def values(n, p, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)), rng.normal(size=n), np.array(0.8)


def variables(n, p, *, static=True, dtype="float64"):
    lengths = (n, p) if static else (None, None)
    return (
        pt.tensor("X", shape=lengths, dtype=dtype),
        pt.tensor("y", shape=lengths[:1], dtype=dtype),
        pt.scalar("lam", dtype=dtype),
    )


def compiled(outputs, by=compile_with, *options):
    """The function of X, y and lam."""
    given = {v.name: v for v in explicit_graph_inputs(outputs if isinstance(outputs, list) else [outputs])}
    return by([given[name] for name in ("X", "y", "lam")], outputs, *options)


def ops(fn):
    return [type(getattr(node.op, "core_op", node.op)) for node in fn.maker.fgraph.apply_nodes]


def solved(A, B):
    """``A^-1 B`` by Gauss and Jordan's elimination, in the precision of A."""
    n, both = len(A), np.concatenate([A, B], axis=1)
    for j in range(n):
        pivot = j + np.argmax(np.abs(both[j:, j]))
        both[[j, pivot]] = both[[pivot, j]]
        both[j] /= both[j, j]
        others = np.arange(n) != j
        both[others] -= both[others, j : j + 1] * both[j]
    return both[:, n:]


def reference(X, y, lam):
    """Coefficients b, and the gradient of ``|b|^2`` by X and lam, in extended precision."""
    X, y, lam = (np.asarray(array, np.longdouble) for array in (X, y, lam))
    A = X.T @ X + lam * np.eye(X.shape[1])
    b = solved(A, (X.T @ y)[:, None])[:, 0]
    v = solved(A, 2 * b[:, None])[:, 0]
    return b, np.outer(y - X @ b, v) - np.outer(X @ v, b), -(v @ b)


def assert_close(found, expected, tolerance):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max(initial=0) <= tolerance * np.abs(expected).max(initial=0)


EMPTY, BOTH = [(0, 4), (4, 0)], [(20, 60), (60, 20)]
CASES = [(form, *shape, static) for form in FORMS for shape in SHAPES for static in (True, False)]


@pytest.mark.parametrize(("form", "n", "p", "static"), in_turn(CASES, every=7))
def test_value_and_gradient_are_those_of_extended_precision(form, n, p, static):
    X, y, lam = variables(n, p, static=static)
    b = FORMS[form](X, y, lam)
    value = pt.sqr(b).sum()
    given = values(n, p)
    found = compiled([b, *pt.grad(value, [X, lam])])(*given)
    expected = reference(*given)
    if form == "fitted":
        expected = [np.asarray(given[0].T @ given[0] @ expected[0], float)]
    for own, exact in zip(found, expected, strict=False):
        assert_close(own, exact, 1e-12)


@pytest.mark.parametrize("form", [name for name in FORMS if name != "fitted"])
def test_the_smaller_side_is_factored_and_one_column_is_solved_with(form):
    wide, tall = (compiled(FORMS[form](*variables(n, p))) for n, p in ((200, 3000), (3000, 200)))
    assert {LowRankFactor, LowRankSolveInRange} <= set(ops(wide))
    assert all(r.columns <= 2 for d in autotune.explain(wide).decisions for r in d.problem.requests)
    [matrix] = {node.outputs[0].type.shape for node in tall.maker.fgraph.apply_nodes if type(node.op) is Gram}
    assert matrix == (200, 200)
    assert all(r.columns <= 2 for d in autotune.explain(tall).decisions for r in d.problem.requests)


@pytest.mark.parametrize(("n", "p"), [(200, 3000), (3000, 200)])
def test_a_gradient_multiplies_with_x_only_as_with_vectors(n, p):
    X, y, lam = variables(n, p)
    value = pt.sqr(FORMS["inverse first"](X, y, lam)).sum()
    fn = compiled([value, *pt.grad(value, [X, lam])])
    products = [node for node in fn.maker.fgraph.apply_nodes if isinstance(node.op, Dot)]
    assert all(1 in node.outputs[0].type.shape for node in products)


@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_weights_between_the_factors(n, p):
    X, y, lam = variables(n, p)
    fn = compiled(solve(weighted(X, lam), X.T @ y))
    Xv, yv, lv = values(n, p)
    W = np.diag(np.arange(1, n + 1) ** 2).astype(float)
    expected = np.linalg.solve(Xv.T @ W @ Xv + lv * np.eye(p), Xv.T @ yv)
    np.testing.assert_allclose(fn(Xv, yv, lv), expected, rtol=1e-8)


@pytest.mark.parametrize("sign", [1, -1])
def test_weights_of_unknown_sign_make_no_gram_product(sign):
    X, y, lam = variables(60, 20)
    w = pt.vector("w", shape=(60,))
    b = solve(X.T @ (w[:, None] * X) + lam * pt.eye(20), X.T @ y)
    fn = compile_with([X, y, lam, w], b, forced("cholesky_or_lu"))
    assert Gram not in ops(fn)
    (Xv, yv, lv), wv = values(60, 20), sign * np.arange(1.0, 61)
    expected = np.linalg.solve((Xv.T * wv) @ Xv + lv * np.eye(20), Xv.T @ yv)
    np.testing.assert_allclose(fn(Xv, yv, lv, wv), expected, rtol=1e-8)


@pytest.mark.filterwarnings("ignore:An ill-conditioned matrix")
@pytest.mark.parametrize("form", ["inverse first", "solve", "definite"])
@pytest.mark.parametrize(("n", "p"), [(20, 60), (60, 20)])
@pytest.mark.parametrize("lam", [-0.7, 0.0, 1e-13])
def test_a_matrix_that_is_not_definite_is_as_plain_pytensor_has_it(form, n, p, lam):
    """Singular ones have no solution: neither gives the one of least norm."""
    Xv, yv, _ = values(n, p)
    b = FORMS[form](*variables(n, p))
    own, plain = (compiled(b, by)(Xv, yv, lam) for by in (compile_with, compile_plain))
    if p < n or lam < 0:
        np.testing.assert_allclose(own, plain, rtol=1e-8)
    elif lam == 0:
        least = np.linalg.lstsq(Xv, yv)[0]
        assert np.isnan(own).any() or np.abs(own - least).max() > 1e-3 * np.abs(least).max()


@pytest.mark.parametrize(
    ("form", "n", "p"), in_turn([(f, *shape) for f in FORMS for shape in EMPTY], every=3)
)
def test_no_rows_and_no_columns(form, n, p):
    found = compiled(FORMS[form](*variables(n, p)))(*values(n, p))
    np.testing.assert_array_equal(found, np.zeros(p))


@pytest.mark.parametrize(("form", "n", "p"), in_turn([(f, *shape) for f in FORMS for shape in BOTH], every=5))
def test_single_precision_stays_single(form, n, p):
    given = [array.astype("float32") for array in values(n, p)]
    found = compiled(FORMS[form](*variables(n, p, dtype="float32")))(*given)
    assert found.dtype == np.float32
    expected, *_ = reference(*given)
    if form == "fitted":
        expected = given[0].T.astype(float) @ given[0] @ expected.astype(float)
    assert_close(found, expected, 1e-3)


@pytest.mark.parametrize("form", ["inverse first", "solve", "fitted"])
@pytest.mark.parametrize(("n", "p"), [(20, 60), (60, 20)])
def test_integer_data(form, n, p):
    X, y, lam = pt.matrix("X", shape=(n, p), dtype="int64"), *variables(n, p)[1:]
    Xv, yv, lv = values(n, p)
    Xv = np.round(3 * Xv).astype("int64")
    expected, *_ = reference(Xv, yv, lv)
    if form == "fitted":
        expected = Xv.T @ Xv @ expected.astype(float)
    assert_close(compiled(FORMS[form](X, y, lam))(Xv, yv, lv), expected, 1e-10)


@pytest.mark.parametrize(("n", "p"), [(5, 9), (9, 5)])
def test_batches_are_right(n, p):
    X, y, lam = pt.tensor3("X"), pt.matrix("y"), pt.scalar("lam")
    A = X.mT @ X + lam * pt.eye(p)
    fn = compiled((inv(A) @ X.mT @ y[..., None])[..., 0])
    given = [values(n, p, seed) for seed in range(3)]
    found = fn(np.stack([g[0] for g in given]), np.stack([g[1] for g in given]), 0.8)
    for own, one in zip(found, given, strict=True):
        assert_close(own, reference(*one)[0], 1e-11)


@pytest.mark.parametrize("linker", ["py", pytest.param("numba", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_gram_product_is_symmetric_and_that_of_numpy(linker, dtype):
    X = pt.matrix("X", dtype=dtype)
    fn = pytensor.function(
        [X], [Gram()(X), Gram()(X.T)], mode=Mode(linker, None) if linker == "py" else "NUMBA"
    )
    for shape in [(30, 20), (5, 40), (1, 3), (0, 3), (3, 0)]:
        x = np.random.default_rng(0).normal(size=shape).astype(dtype)
        for found, expected in zip(fn(x), (x @ x.T, x.T @ x), strict=True):
            assert found.dtype == dtype
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(found, found.T)


def test_what_is_kept_by_a_policy_is_formed_as_pytensor_does():
    b = FORMS["solve"](*variables(3000, 200))
    assert Gram not in ops(compiled(b, compile_with, forced("keep")))
