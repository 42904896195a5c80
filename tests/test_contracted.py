"""Gradients that the user took: thin graphs for low-rank matrices, with the numbers of plain PyTensor."""

import itertools

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import (
    FORCE_WOODBURY,
    INPUTS,
    STRUCTURED,
    C,
    N,
    U,
    V,
    W,
    chosen,
    compile_raw,
    compile_with,
    d,
    forced,
    in_turn,
    largest_array,
    op_names,
    relative_error,
    s,
    spd,
    structured_values,
    v,
)
from pytensor.assumptions import assume
from pytensor.compile.mode import Mode

import autotune

inv, slogdet, solve = pt.linalg.inv, pt.linalg.slogdet, pt.linalg.solve
y = pt.vector("y", shape=(N,))
Y = pt.matrix("Y", shape=(N, 2))
ALL = [*INPUTS, y, Y]


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


def values(seed=0):
    rng = np.random.default_rng(100 + seed)
    return [*structured_values(seed), rng.normal(size=N), rng.normal(size=(N, 2))]


def objectives(matrix):
    logdet = slogdet(matrix)[1]
    return {
        "inverse": -0.5 * (y @ (inv(matrix) @ y) + logdet),
        "solve": -0.5 * (y @ solve(matrix, y) + logdet),
        "quadratic_only": y @ inv(matrix) @ y,
        "logdet_only": logdet,
        "two_columns": (Y * (inv(matrix) @ Y)).sum() + 3 * logdet,
        "det": pt.log(pt.abs(pt.linalg.det(matrix))) + (Y.T @ inv(matrix) @ Y).sum(),
    }


def gradients(objective):
    grads = pt.grad(objective, ALL, disconnected_inputs="ignore", return_disconnected="None")
    return [g for g in grads if g is not None]


def check(outputs, policy=FORCE_WOODBURY, tolerance=1e-9):
    tuned, plain = compile_with(ALL, outputs, policy), compile_raw(ALL, outputs)
    for seed in (0, 1):
        for actual, expected in zip(tuned(*values(seed)), plain(*values(seed)), strict=True):
            assert relative_error(actual, expected) < tolerance
    return tuned


PRODUCTS = {
    "squared": lambda e: pt.diag(e) @ pt.diag(e),
    "of two": lambda e: pt.diag(e) @ pt.diag(d),
    "of three": lambda e: pt.diag(d) @ pt.diag(e) @ pt.diag(d),
    "elementwise": lambda e: pt.diag(e) * e[:, None] * d,
    "outer": lambda e: pt.diag(d) + (e[:, None] * d[:, None]) * (e[None, :] * d[None, :]),
}


@pytest.mark.parametrize(("name", "which"), in_turn(itertools.product(PRODUCTS, ["solve", "two_columns"]), 3))
def test_gradients_of_products_of_diagonals_stay_thin_and_right(name, which):
    e = 1 + pt.sqr(y)
    objective = objectives(PRODUCTS[name](e) + U @ U.T)[which]
    tuned = check([objective, *gradients(objective)])
    assert chosen(tuned) == ["woodbury"]
    assert largest_array(tuned) < N * N


def test_lengths_that_only_a_part_of_the_matrix_knows_leave_gradients_thin():
    """PyTensor specifies the shape of the cotangent then."""
    u, w = pt.vector("u"), pt.vector("w")
    matrix = (pt.eye(N) * s**2 + pt.outer(u, u) + w[:, None] * w[None, :]) / v**2
    outputs = [out := (pt.cos(y) * (inv(matrix) @ w)).sum(), *pt.grad(out, [u, w])]
    inputs = [u, w, y, s, v]
    tuned, plain = compile_with(inputs, outputs, FORCE_WOODBURY), compile_raw(inputs, outputs)
    assert largest_array(tuned) < N * N
    rng = np.random.default_rng(3)
    point = [*rng.normal(size=(3, N)), np.array(1.2), np.array(0.8)]
    for actual, expected in zip(tuned(*point), plain(*point), strict=True):
        assert relative_error(actual, expected) < 1e-9


@pytest.mark.parametrize("name", in_turn(STRUCTURED, 3))
def test_gradients_of_every_form_stay_thin_and_right(name):
    objective = objectives(STRUCTURED[name])["inverse"]
    tuned = check([objective, *gradients(objective)])
    assert chosen(tuned) == ["woodbury"]
    assert largest_array(tuned) < N * N


@pytest.mark.parametrize(
    ("structure", "which"),
    in_turn(
        itertools.product(
            ["gram_plus_diag", "general_factors", "column_weights", "sum_scaled"],
            objectives(STRUCTURED["gram_plus_diag"]),
        ),
        3,
    ),
)
def test_every_objective_stays_thin_and_right(structure, which):
    objective = objectives(STRUCTURED[structure])[which]
    tuned = check([objective, *gradients(objective)])
    assert largest_array(tuned) < N * N


CONTRACTIONS = {
    "thin_right": lambda G: G @ V,
    "thin_left": lambda G: W @ G,
    "vector": lambda G: G @ y,
    "transposed": lambda G: G.T @ V,
    "diagonal": lambda G: pt.diagonal(G),
    "trace": lambda G: pt.linalg.trace(G),
    "sum": lambda G: G.sum(),
    "row_sums": lambda G: G.sum(axis=1),
    "column_sums": lambda G: G.sum(axis=0),
    "sum_with_outer": lambda G: (G * y[:, None] * d[None, :]).sum(),
    "sum_with_low_rank": lambda G: (G * (U @ V.T)).sum(),
    "sum_with_identity": lambda G: (G * pt.eye(N)).sum(),
    "sum_with_low_rank_by_row": lambda G: (G * (U @ V.T)).sum(axis=1),
    "sum_with_low_rank_by_column": lambda G: (G * (U @ V.T)).sum(axis=0),
    "trace_of_product": lambda G: pt.linalg.trace(G @ (U @ V.T)),
    "sandwich": lambda G: (G @ (U @ U.T) @ G) @ V,
    "sandwich_of_diagonal": lambda G: G @ (d[:, None] * (G @ V)),
    "twice": lambda G: (G @ G) @ V,
    "scaled_sides": lambda G: (d[:, None] * G * y[None, :]) @ V,
    "divided": lambda G: (G / s**2) @ V,
    "minus": lambda G: (-G - y[:, None] * y[None, :]) @ V,
}


@pytest.mark.filterwarnings("ignore:pytensor.tensor.linalg.trace:FutureWarning")
@pytest.mark.parametrize("name", in_turn(CONTRACTIONS))
@pytest.mark.parametrize("structure", [slow("gram_plus_diag"), "general_factors"])
def test_contractions_of_inverse_minus_outer_product_are_thin(name, structure):
    x = inv(STRUCTURED[structure])
    G = 0.7 * x - v * pt.outer(x @ y, y)
    tuned = check([CONTRACTIONS[name](G)])
    assert largest_array(tuned) < N * N


def test_two_matrices_that_share_a_factor_are_contracted_together():
    first, second = U @ U.T + pt.diag(d), U @ U.T + s**2 * pt.eye(N)
    first.name, second.name = "first", "second"
    objective = objectives(first)["inverse"] + objectives(second)["inverse"]
    tuned = check([objective, *gradients(objective)])
    assert chosen(tuned) == ["woodbury", "woodbury"]
    assert largest_array(tuned) < N * N


def test_a_replacement_needs_the_answers_of_all_its_matrices():
    """One matrix is kept: what mixes both stays as PyTensor compiles it, and right."""
    first, second = U @ U.T + pt.diag(d), U @ U.T + s**2 * pt.eye(N)
    first.name = "first"
    objective = objectives(first)["inverse"] + objectives(second)["inverse"]
    policy = {"rules": [{"force": "woodbury"}, {"match": {"name": "first"}, "force": "keep"}]}
    tuned = check([objective, *gradients(objective)], policy)
    assert sorted(chosen(tuned)) == ["keep", "woodbury"]


def test_a_cotangent_that_is_needed_as_a_matrix_is_formed():
    matrix = U @ U.T + pt.diag(d)
    tuned = check([pt.grad(objectives(matrix)["inverse"], matrix), inv(matrix)[0]])
    assert largest_array(tuned) == N * N


@pytest.mark.parametrize("strategy", ["keep", "cholesky", "lu"])
def test_dense_strategies_give_the_same_gradients(strategy):
    matrix = U @ U.T + pt.diag(d)
    matrix = assume(matrix, positive_definite=True)
    objective = objectives(matrix)["inverse"]
    check([objective, *gradients(objective)], forced(strategy))


def test_the_gradient_of_a_sum_of_squares_of_the_inverse_is_right():
    """It is minus a product of three inverses: what is followed without a reading is followed on."""
    objective = pt.sqr(inv(U @ U.T + pt.diag(d))).sum()
    tuned = check([objective, *gradients(objective)])
    assert chosen(tuned) == ["woodbury"]


def test_a_solve_with_the_factor_is_asked_once():
    """``G @ U`` and ``G.T @ U`` of a symmetric matrix share everything."""
    objective = objectives(U @ U.T + pt.diag(d))["inverse"]
    tuned = check([objective, *gradients(objective)])
    solves = [name for name in op_names(tuned) if name.startswith("LowRankSolve")]
    assert sorted(solves) == ["LowRankSolveColumns", "LowRankSolve{symmetric=True, transposed=False}"]


def test_the_choice_is_by_price_and_the_price_of_keep_holds_the_inverse():
    n, k = 1000, 10
    big_U, big_d = pt.matrix("U", shape=(n, k)), pt.vector("d", shape=(n,))
    objective = slogdet(big_U @ big_U.T + pt.diag(big_d))[1]
    fn = compile_with([big_U, big_d], pt.grad(objective, [big_U, big_d]))
    assert chosen(fn) == ["woodbury"]
    assert largest_array(fn) < n * n
    [decision] = autotune.explain(fn).decisions
    dense_inverse = next(c.seconds for c in decision.candidates if c.name == "keep")
    assert dense_inverse > 20 * decision.winner.seconds


def test_core_matrices_and_float32_and_unknown_sizes():
    objective = objectives(U @ C @ U.T + pt.diag(d))["solve"]
    check([objective, *gradients(objective)])
    A, e = pt.fmatrix("A"), pt.fvector("e")
    objective = slogdet(A @ A.T + pt.diag(e))[1] + (e @ inv(A @ A.T + pt.diag(e)) @ e)
    outputs = pt.grad(objective, [A, e])
    tuned, plain = compile_with([A, e], outputs, FORCE_WOODBURY), compile_raw([A, e], outputs)
    rng = np.random.default_rng(3)
    for n, k in ((7, 2), (30, 4), (3, 5)):
        point = [rng.normal(size=(n, k)).astype("f4"), rng.uniform(1, 2, n).astype("f4")]
        for actual, expected in zip(tuned(*point), plain(*point), strict=True):
            assert actual.dtype == "float32"
            assert relative_error(actual, expected) < 2e-4


def for_numba():
    """The joint function, and its outputs; Numba compiles it when it is first called."""
    objective = objectives(U @ U.T + s**2 * pt.eye(N))["inverse"]
    outputs = [objective, *gradients(objective)]
    mode = autotune.mode(FORCE_WOODBURY)
    return pytensor.function(ALL, outputs, mode=mode, on_unused_input="ignore"), outputs


def test_under_numba_the_joint_function_is_thin():
    assert largest_array(for_numba()[0]) < N * N


@pytest.mark.slow
def test_under_numba_the_joint_function_is_right():
    tuned, outputs = for_numba()
    plain = compile_raw(ALL, outputs)
    for actual, expected in zip(tuned(*values()), plain(*values()), strict=True):
        assert relative_error(actual, expected) < 1e-9


@pytest.mark.filterwarnings("ignore:pytensor.tensor.linalg.trace:FutureWarning")
@pytest.mark.parametrize("tagged", [True, False])
def test_trace_of_an_inverse_times_a_matrix_costs_the_inverse(tagged):
    """Not a solve with n right-hand sides."""
    A, B = pt.matrix("A", shape=(N, N)), pt.matrix("B", shape=(N, N))
    matrix = assume(A, positive_definite=True) if tagged else A
    outputs = [pt.linalg.trace(inv(matrix) @ B), pt.linalg.trace(B @ inv(matrix)), slogdet(matrix)[1]]
    tuned = compile_with([A, B], outputs, forced("cholesky" if tagged else "lu"))
    plain = compile_raw([A, B], outputs)
    rng = np.random.default_rng(5)
    point = spd(N, rng), rng.normal(size=(N, N))
    for actual, expected in zip(tuned(*point), plain(*point), strict=True):
        assert relative_error(actual, expected) < 1e-11
    names = op_names(tuned)
    assert not any("Solve" in name for name in names)
    assert sum("Inverse" in name for name in names) == 1


@pytest.mark.filterwarnings("ignore:pytensor.tensor.linalg.trace:FutureWarning")
@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((5, 2), (2, 3)), ((4, 4), (4, 4))])
@pytest.mark.parametrize("static", [True, False])
def test_diagonals_of_products_that_are_not_square(shapes, static):
    left = pt.matrix("left", shape=shapes[0] if static else (None, None))
    right = pt.matrix("right", shape=shapes[1] if static else (None, None))
    A = pt.matrix("A", shape=(N, N))
    outputs = [pt.diagonal(left @ right), inv(A).sum()]
    rng = np.random.default_rng(6)
    point = rng.normal(size=shapes[0]), rng.normal(size=shapes[1]), spd(N, rng)
    actual, _ = compile_with([left, right, A], outputs)(*point)
    assert relative_error(actual, np.diagonal(point[0] @ point[1])) < 1e-13


def test_a_sparse_approximation_written_naively_stays_thin():
    """Titsias (2009): ``Kfu Kuu^-1 Kuf + s^2 I`` is low rank plus diagonal, its trace included."""
    n, m = 120, 12
    X, Z = np.linspace(0, 5, n)[:, None], np.linspace(0, 5, m)[:, None]
    target = np.sin(X[:, 0])
    length, noise = pt.scalars("length", "noise")
    kernel = lambda a, b: pt.exp(-0.5 * (a - b.T) ** 2 / length**2)  # noqa: E731
    Kuf = kernel(Z, X)
    Q = Kuf.T @ inv(kernel(Z, Z) + 1e-4 * pt.eye(m)) @ Kuf
    matrix = Q + noise**2 * pt.eye(n)
    bound = -0.5 * (target @ inv(matrix) @ target + slogdet(matrix)[1]) - 0.5 / noise**2 * (
        n - pt.diagonal(Q).sum()
    )
    outputs = [bound, *pt.grad(bound, [length, noise])]
    tuned = compile_with([length, noise], outputs, forced("woodbury", match={"structure": "low_rank"}))
    plain = compile_raw([length, noise], outputs)
    for actual, expected in zip(tuned(0.8, 0.3), plain(0.8, 0.3), strict=True):
        assert relative_error(actual, expected) < 1e-7
    assert largest_array(tuned) < n * n


@pytest.mark.parametrize("form", ["inverse", "solve"])
def test_outer_products_of_constant_data_are_not_folded_into_matrices(form):
    data = pt.constant(np.random.default_rng(8).normal(size=N))
    matrix = U @ U.T + pt.diag(d)
    x = inv(matrix) @ data if form == "inverse" else solve(matrix, data)
    objective = -0.5 * (data @ x + slogdet(matrix)[1])
    tuned = check([objective, *gradients(objective)])
    assert largest_array(tuned) < N * N


def test_an_exact_gaussian_process_holds_few_large_arrays():
    """The kernel, the matrix that becomes its factor and its inverse, and the distances; all in place."""
    n = 50
    X, target = pt.matrix("X", shape=(n, 2)), pt.vector("target", shape=(n,))
    length, scale, noise = pt.scalars("length", "scale", "noise")
    squares = (X**2).sum(axis=1)
    distances = pt.maximum(squares[:, None] + squares[None, :] - 2 * X @ X.T, 0)
    matrix = scale**2 * pt.exp(-0.5 * distances / length**2) + noise**2 * pt.eye(n)
    matrix = assume(matrix, positive_definite=True)
    objective = target @ inv(matrix) @ target + slogdet(matrix)[1]
    outputs = [objective, *pt.grad(objective, [length, scale, noise])]
    fn = compile_with([X, target, length, scale, noise], outputs, forced("cholesky"), base=Mode(linker="py"))
    made = 0
    for node in fn.maker.fgraph.toposort():
        reused = {**getattr(node.op, "destroy_map", {}), **getattr(node.op, "view_map", {})}
        made += sum(o.type.shape == (n, n) and i not in reused for i, o in enumerate(node.outputs))
    assert not any(getattr(i, "data", np.empty(0)).size == n * n for i in fn.maker.fgraph.variables)
    assert made <= 3
    rng = np.random.default_rng(7)
    point = [rng.normal(size=(n, 2)), rng.normal(size=n), 0.7, 1.3, 0.4]
    plain = compile_raw([X, target, length, scale, noise], outputs)
    for actual, expected in zip(fn(*point), plain(*point), strict=True):
        assert relative_error(actual, expected) < 1e-9


def test_a_gain_times_a_covariance_that_is_an_inverse_plus_a_diagonal():
    """Products of thin matrices with one that is thin only by its inverse."""
    X, H = pt.matrix("X", shape=(9, 9)), pt.matrix("H", shape=(4, 9))
    d, R = pt.vector("d", shape=(9,)), pt.matrix("R", shape=(4, 4))
    P = inv(X.T @ X) + pt.diag(d)
    S = H @ P @ H.T + pt.eye(4) * R + 0.5 * pt.eye(4)
    inputs, output = [X, H, d, R], solve(S, H @ P, assume_a="pos").T @ H @ P
    rng = np.random.default_rng(0)
    point = [rng.normal(size=(9, 9)), rng.normal(size=(4, 9)), rng.uniform(1, 2, 9), np.eye(4)]
    fn = compile_with(inputs, output)
    assert len(autotune.explain(fn).decisions) == 2
    assert relative_error(fn(*point), compile_raw(inputs, output)(*point)) < 1e-10


def test_a_solve_with_an_identity_is_an_inverse():
    """Of which only the trace is asked: nothing n x n is made."""
    matrix = U @ U.T + pt.diag(d)
    X = solve(matrix, pt.eye(N), b_ndim=2)
    outputs = [pt.diagonal(X).sum(), X[3].sum() + X.sum()]
    plain = compile_raw(ALL, outputs)(*values())
    trace = compile_with(ALL, outputs[0], FORCE_WOODBURY)
    np.testing.assert_allclose(trace(*values()), plain[0])
    assert largest_array(trace) < N * N
    np.testing.assert_allclose(compile_with(ALL, outputs, FORCE_WOODBURY)(*values()), plain)
