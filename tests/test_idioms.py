"""Every way to write a request is read, at any shape, dtype and batch, and computes as plain PyTensor."""

import shutil

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import chosen, compile_plain, compile_with, op_names, python_mode, relative_error, spd
from pytensor.assumptions import assume
from pytensor.tensor.linalg import cho_solve, cholesky, det, inv, slogdet, solve, solve_triangular

import autotune

N = 30
rng = np.random.default_rng(11)
GENERAL, SPD = rng.normal(size=(N, N)), spd(N, rng)
b_value, B_value = rng.normal(size=N), rng.normal(size=(N, 4))
M = pt.matrix("M", shape=(N, N))
b, B = pt.vector("b", shape=(N,)), pt.matrix("B", shape=(N, 4))
P = assume(M, positive_definite=True)
L = cholesky(M)

GENERAL_IDIOMS = {
    "solve_vector": solve(M, b),
    "solve_matrix": solve(M, B),
    "solve_transposed": solve(M.T, b),
    "solve_scaled": solve(M, -0.5 * b),
    "inverse_times": inv(M) @ B,
    "times_inverse": B.T @ inv(M),
    "transposed_inverse_times": inv(M).T @ B,
    "inverse_of_transpose": inv(M.T) @ b,
    "vector_times_inverse": b @ inv(M),
    "quadratic_form": b @ inv(M) @ b,
    "outer_in_chain": (inv(M) @ (pt.outer(b, b) @ inv(M))).sum(axis=0),
    "inverse_itself": inv(M),
    "inverse_used_elementwise": (inv(M) * M.T).sum(),
    "inverse_diagonal": pt.diagonal(inv(M)),
    "logdet": slogdet(M)[1],
    "sign": slogdet(M)[0],
    "log_of_det": pt.log(det(M) ** 2),
    "det": det(M),
    "det_twice": det(M) + det(M.T),
}
SPD_IDIOMS = {
    "solve_pos": solve(M, b, assume_a="pos"),
    "solve_sym": solve(M, b, assume_a="sym"),
    "tagged_solve": solve(P, B),
    "tagged_inverse": inv(P),
    "tagged_logdet": slogdet(P)[1],
    "tagged_log_det": pt.log(det(P)),
    "cho_solve": cho_solve((L, True), b),
    "two_triangular_solves": solve_triangular(L.T, solve_triangular(L, B, lower=True), lower=False),
    "whitened_square": pt.sqr(solve_triangular(L, b, lower=True)).sum(),
    "whitened_squares": (solve_triangular(L, B, lower=True) ** 2).sum(axis=0),
    "whitened_rows": (solve_triangular(L, B.T, lower=True, b_ndim=1) ** 2).sum(axis=-1),
    "whitened_all": (solve_triangular(L, B, lower=True) ** 2).sum(),
    "half_logdet": pt.log(pt.diagonal(L)).sum(),
    "positive": pt.all(pt.diagonal(L) > 0),
    "factor_itself": L @ b,
    "whitened_itself": solve_triangular(L, b, lower=True),
}
CASES = [(name, out, GENERAL) for name, out in GENERAL_IDIOMS.items()]
CASES += [(name, out, SPD) for name, out in {**GENERAL_IDIOMS, **SPD_IDIOMS}.items()]
FORCES = {
    "lu": GENERAL_IDIOMS,
    "cholesky_or_lu": GENERAL_IDIOMS,
    "cholesky": SPD_IDIOMS | {"tagged": inv(P) @ b},
}


@pytest.mark.parametrize(
    ("name", "out", "value"), CASES, ids=[f"{c[0]}-{'spd' if c[2] is SPD else 'general'}" for c in CASES]
)
def test_chosen_as_plain(name, out, value):
    actual = compile_with([M, b, B], out)(value, b_value, B_value)
    expected = compile_plain([M, b, B], out)(value, b_value, B_value)
    assert actual.dtype == expected.dtype
    assert relative_error(actual, expected) < 1e-9


@pytest.mark.parametrize(
    ("strategy", "name"),
    [(strategy, name) for strategy, idioms in FORCES.items() for name in idioms if name != "solve_sym"],
)
def test_forced_as_plain(strategy, name):
    out = FORCES[strategy][name]
    fn = compile_with([M, b, B], out, {"rules": [{"force": strategy}]})
    assert chosen(fn) == [strategy]
    expected = compile_plain([M, b, B], out)(SPD, b_value, B_value)
    assert relative_error(fn(SPD, b_value, B_value), expected) < 1e-9


def test_one_problem_up_to_transpose_and_leading_ones():
    outputs = [solve(M, b), solve(M.T, b), inv(M[None])[0] @ B, *slogdet(M), inv(M.T)]
    fn = compile_with([M, b, B], outputs)
    assert len(autotune.explain(fn).decisions) == 1
    assert sum("SharedLU" in name for name in op_names(fn)) == 1


def test_equal_right_hand_sides_are_solved_once():
    quadratic = b @ inv(P) @ b
    fn = compile_with([M, b], [quadratic, *pt.grad(quadratic + slogdet(P)[1], [M])])
    [decision] = autotune.explain(fn).decisions
    assert [r.kind for r in decision.problem.requests].count("solve") == 1


def test_gaussian_process_with_gradient_has_one_factorisation():
    n = 300
    X, y = pt.matrix("X", shape=(n, 2)), pt.vector("y", shape=(n,))
    scale, noise = pt.scalars("scale", "noise")
    distance = ((X[:, None, :] - X[None, :, :]) ** 2).sum(axis=-1)
    kernel = assume(pt.exp(-0.5 * distance / scale**2) + noise**2 * pt.eye(n), positive_definite=True)
    loss = -0.5 * y @ inv(kernel) @ y - 0.5 * slogdet(kernel)[1]
    outputs = [loss, *pt.grad(loss, [scale, noise])]
    fn = compile_with([X, y, scale, noise], outputs)
    names = op_names(fn)
    assert chosen(fn) == ["cholesky"]
    assert sum("SharedCholesky" in name for name in names) == 1
    assert sum("CholeskyInverse" in name for name in names) == 1
    assert not any(
        "MatrixInverse" in name or "LU" in name or ("Dot" in name and "Blockwise" in name) for name in names
    )
    values = [rng.normal(size=(n, 2)), rng.normal(size=n), np.array(0.8), np.array(0.3)]
    for a, e in zip(fn(*values), compile_plain([X, y, scale, noise], outputs)(*values), strict=True):
        assert relative_error(a, e) < 1e-9


# -- dtypes, sizes, batches ---------------------------------------------------------------------------


def joint(matrix, rhs, **kwargs):
    return [solve(matrix, rhs, **kwargs), inv(matrix), *slogdet(matrix)]


@pytest.mark.parametrize("tagged", [False, True])
def test_float32_stays_float32(tagged):
    M32, b32 = pt.fmatrix("M", shape=(N, N)), pt.fvector("b", shape=(N,))
    outputs = joint(assume(M32, positive_definite=True) if tagged else M32, b32)
    values = SPD.astype("float32"), b_value.astype("float32")
    for a, e in zip(
        compile_with([M32, b32], outputs)(*values), compile_plain([M32, b32], outputs)(*values), strict=True
    ):
        assert a.dtype == e.dtype == "float32"
        assert relative_error(a, e) < 1e-4


def test_right_hand_sides_of_other_dtypes():
    M32 = pt.fmatrix("M", shape=(N, N))
    integer = pt.lvector("i", shape=(N,))
    P32 = assume(M32, positive_definite=True)
    outputs = [solve(P32, b), solve(P32, integer), inv(P32), slogdet(P32)[1], solve(P, integer)]
    values = SPD.astype("float32"), SPD, b_value, np.arange(N)
    inputs = [M32, M, b, integer]
    for a, e in zip(
        compile_with(inputs, outputs)(*values), compile_plain(inputs, outputs)(*values), strict=True
    ):
        assert a.dtype == e.dtype
        assert relative_error(a, e) < 1e-4


@pytest.mark.parametrize("dtype", ["int64", "complex128"])
def test_integer_and_complex_matrices_are_left_alone(dtype):
    X, y = pt.matrix("X", shape=(4, 4), dtype=dtype), pt.vector("y", shape=(4,), dtype=dtype)
    outputs = joint(X, y)
    fn, plain = compile_with([X, y], outputs), compile_plain([X, y], outputs)
    assert op_names(fn) == op_names(plain)
    values = rng.integers(-5, 5, size=(4, 4)).astype(dtype), np.arange(4).astype(dtype)
    for a, e in zip(fn(*values), plain(*values), strict=True):
        assert relative_error(np.abs(a), np.abs(e)) < 1e-12


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("strategy", ["cholesky", "cholesky_or_lu", "lu"])
def test_tiny_matrices(n, strategy):
    X, y = pt.matrix("X", shape=(n, n)), pt.vector("y", shape=(n,))
    outputs = joint(assume(X, positive_definite=True), y)
    fn = compile_with([X, y], outputs, {"rules": [{"force": strategy}]})
    values = 2 * np.eye(n), np.ones(n)
    for a, e in zip(fn(*values), compile_plain([X, y], outputs)(*values), strict=True):
        assert relative_error(a, e) < 1e-14


@pytest.mark.parametrize("strategy", ["cholesky", "cholesky_or_lu", "lu", "cg"])
def test_no_right_hand_sides(strategy):
    empty = pt.matrix("E", shape=(N, 0))
    fn = compile_with([M, empty], solve(P, empty), {"rules": [{"force": strategy}]})
    assert fn(SPD, np.empty((N, 0))).shape == (N, 0)


@pytest.mark.parametrize("strategy", ["keep", "cholesky", "cholesky_or_lu", "lu"])
def test_batches_of_matrices(strategy):
    T = pt.tensor("T", shape=(5, N, N))
    t, t2 = pt.tensor("t", shape=(5, N)), pt.tensor("t2", shape=(5, N, 3))
    tagged = assume(T, positive_definite=True)
    outputs = [
        solve(tagged, t, b_ndim=1),
        solve(tagged, t2),
        inv(tagged),
        inv(tagged) @ t2,
        pt.diagonal(inv(tagged), axis1=-2, axis2=-1),
        *slogdet(tagged),
        solve(tagged, B),
    ]
    values = (
        np.stack([spd(N, rng) for _ in range(5)]),
        rng.normal(size=(5, N)),
        rng.normal(size=(5, N, 3)),
        B_value,
    )
    inputs = [T, t, t2, B]
    fn = compile_with(inputs, outputs, {"rules": [{"force": strategy}]})
    for a, e in zip(fn(*values), compile_plain(inputs, outputs)(*values), strict=True):
        assert relative_error(a, e) < 1e-10


@pytest.mark.parametrize("strategy", ["cholesky", "cholesky_or_lu", "lu", "cg"])
def test_batches_of_right_hand_sides_become_columns(strategy):
    rows, stacks = pt.tensor("rows", shape=(6, N)), pt.tensor("stacks", shape=(2, 3, N, 4))
    outputs = [solve(P, rows, b_ndim=1), solve(P, stacks, b_ndim=2)]
    values = SPD, rng.normal(size=(6, N)), rng.normal(size=(2, 3, N, 4))
    fn = compile_with([M, rows, stacks], outputs, {"rules": [{"force": strategy}]})
    assert chosen(fn) == [strategy]
    expected = [np.linalg.solve(SPD, values[1].T).T, np.linalg.solve(SPD, values[2])]
    for a, e in zip(fn(*values), expected, strict=True):
        assert relative_error(a, e) < 1e-8


def test_unknown_shapes_take_only_what_wins_for_every_size():
    X, y = pt.matrix("X"), pt.vector("y")
    outputs = joint(X, y)
    fn = compile_with([X, y], outputs)
    [decision] = autotune.explain(fn).decisions
    assert decision.problem.n is None
    for n in (1, 3, 17):
        values = rng.normal(size=(n, n)), rng.normal(size=n)
        for a, e in zip(fn(*values), compile_plain([X, y], outputs)(*values), strict=True):
            assert relative_error(a, e) < 1e-9


def test_banded_and_triangular_solves_are_left_alone():
    T = assume(M, lower_triangular=True)
    fn, plain = compile_with([M, b], solve(T, b)), compile_plain([M, b], solve(T, b))
    assert op_names(fn) == op_names(plain)


# -- linkers and inner graphs --------------------------------------------------------------------------


LINKERS = ["vm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("numba", "cvm"))]


@pytest.mark.parametrize("linker", LINKERS)
def test_linkers(linker):
    from pytensor.compile.mode import Mode

    outputs = [*joint(P, b), pt.diagonal(inv(P))]
    with pytensor.config.change_flags(cxx=shutil.which("g++") or "" if linker == "cvm" else ""):
        fn = compile_with([M, b], outputs, base=Mode(linker=linker, optimizer="fast_run"))
    expected = [
        np.linalg.solve(SPD, b_value),
        np.linalg.inv(SPD),
        *np.linalg.slogdet(SPD),
        np.diag(np.linalg.inv(SPD)),
    ]
    for a, e in zip(fn(SPD, b_value), expected, strict=True):
        assert relative_error(a, e) < 1e-10


def test_inner_graphs_of_opfromgraph_and_scan():
    from pytensor.compile.builders import OpFromGraph

    op = OpFromGraph([M, b], [inv(P) @ b + slogdet(P)[1] * b + pt.diagonal(inv(P))])
    steps = pytensor.scan(
        lambda row, A: inv(assume(A * row[0] ** 2 + pt.eye(N), positive_definite=True)) @ row,
        sequences=[B.T],
        non_sequences=[M],
        return_updates=False,
    )
    with autotune.enabled() as session:
        fn = pytensor.function([M, b, B], [op(M, b), steps], mode=python_mode())
    assert session.plans
    inverse = np.linalg.inv(SPD)
    expected = inverse @ b_value + np.linalg.slogdet(SPD)[1] * b_value + np.diag(inverse)
    first, second = fn(SPD, b_value, B_value)
    assert relative_error(first, expected) < 1e-10
    expected = np.stack([np.linalg.solve(SPD * row[0] ** 2 + np.eye(N), row) for row in B_value.T])
    assert relative_error(second, expected) < 1e-10


def test_running_twice_changes_nothing():
    from autotune.rewrite.passes import AutotunePass, PlanFeature

    fn = compile_with([M, b], joint(P, b), {"rules": [{"force": "cholesky"}]})
    fgraph = fn.maker.fgraph.clone()
    for feature in [f for f in fgraph._features if isinstance(f, PlanFeature)]:
        fgraph.remove_feature(feature)
    before = [str(node.op) for node in fgraph.toposort()]
    AutotunePass({"rules": [{"force": "cholesky"}]}).rewrite(fgraph)
    assert [str(node.op) for node in fgraph.toposort()] == before


@pytest.mark.parametrize("inner_first", [True, False])
def test_problems_that_feed_each_other_are_all_replaced(inner_first):
    """A right-hand side, or the matrix itself, comes from another solve; nothing is computed twice."""
    other = pt.matrix("other", shape=(N, N))
    Q = assume(other, positive_definite=True)
    inner = solve(Q, B)
    nested = solve(P, inner)
    twice = solve(P, nested)
    third = assume(pt.eye(N) + inner @ inner.T, positive_definite=True)
    outputs = [nested, twice, solve(third, B), slogdet(third)[1], inv(P), inv(Q)]
    outputs = outputs if inner_first else outputs[::-1]
    inputs = [M, other, B]
    rules = {"rules": [{"force": "cholesky"}]}
    fn = compile_with(inputs, outputs, rules)
    names = op_names(fn)
    assert sum("SharedCholesky" in name for name in names) == len(autotune.explain(fn).decisions)
    assert not any(name.startswith(("Cholesky{", "Solve", "MatrixInverse", "SLogDet")) for name in names)
    values = SPD, spd(N, rng), B_value
    for a, e in zip(fn(*values), compile_plain(inputs, outputs)(*values), strict=True):
        assert relative_error(a, e) < 1e-9
