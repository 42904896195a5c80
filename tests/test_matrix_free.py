"""Conjugate gradients on matrices in parts, through choice and compile: shared, thin and differentiated."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from cubic import core_of
from helpers import (
    chosen,
    compile_plain,
    compile_with,
    diagonal_plus_low_rank,
    forced,
    python_mode,
    relative_error,
)
from pytensor.assumptions import assume

import autotune
from autotune.algebra.low_rank import low_rank_term
from autotune.algebra.marks import SpecifyPreconditioner
from autotune.algebra.symmetric_parts import Parts, parts_of
from autotune.choose import choose, seconds, strategy
from autotune.ops import BlockCG
from autotune.policy.files import load_policy
from autotune.problem import Options, Problem, Request, Term, dense
from cost_models import generic_profile

PROFILE = generic_profile()
N, K = 60, 5
A, U, d, b = (
    pt.matrix("A", shape=(N, N)),
    pt.matrix("U", shape=(N, K)),
    pt.vector("d", shape=(N,)),
    pt.vector("b", shape=(N,)),
)
M = pt.matrix("M", shape=(N, N))
_rng = np.random.default_rng(0)
VALUES = {
    A: np.cov(_rng.normal(size=(N, 4 * N))),
    U: _rng.normal(size=(N, K)) / 4,
    d: _rng.uniform(1, 2, N),
    b: _rng.normal(size=N),
}
VALUES[M] = np.linalg.inv(VALUES[A])
_V = d[:, None] * U
# The matrix, its inputs, and which parts an operation gets: dense, diagonal, columns.
MATRICES = {
    "diagonal_low_rank": (U @ U.T + pt.diag(d), [U, d], (0, N, N)),
    "two_low_ranks": (U @ U.T + _V @ _V.T / 2 + 0.5 * pt.eye(N), [U, d], (0, N, N)),
    "dense_sum": (A + U @ U.T + pt.diag(d), [A, U, d], (N, N, N)),
    "scaled_sum": (2.5 * (A + 3 * U @ U.T), [A, U], (N, 0, N)),
    "dense": (A + pt.diag(d), [A, d], (N, 0, 0)),
}
LOW_RANK = Problem(
    requests=(Request("solve", 1, form="pos"),),
    term=diagonal_plus_low_rank(12000, 6000),
    positive_definite=True,
    symmetric=True,
)


def quadratic(matrix):
    return b @ pt.linalg.solve(assume(matrix, positive_definite=True), b)


def iterations_of(fn):
    return [node for node in fn.maker.fgraph.toposort() if isinstance(node.op, BlockCG)]


def compared(loss, wrt, policy, *, tuned=True):
    """The compiled function and the largest error of value and gradients beside PyTensor's own."""
    ours = autotune.tune(loss, policy) if tuned else loss
    inputs = list(VALUES)
    fn = compile_with(inputs, [ours, *pt.grad(ours, wrt)], policy)
    plain = compile_plain(inputs, [loss, *pt.grad(loss, wrt)])
    errors = [
        relative_error(*pair) for pair in zip(fn(*VALUES.values()), plain(*VALUES.values()), strict=True)
    ]
    return fn, max(errors)


@pytest.mark.parametrize("name", MATRICES)
def test_a_quadratic_form_and_its_gradient_are_one_solve_with_the_parts(name):
    matrix, wrt, lengths = MATRICES[name]
    fn, error = compared(quadratic(matrix), [*wrt, b], forced("cg"))
    [node] = iterations_of(fn)
    assert [node.inputs[i].type.shape[0] for i in (0, 8, 9)] == list(lengths)
    assert error < 1e-8


@pytest.mark.parametrize("scale", [1.0, -0.5])
def test_a_solve_with_a_multiple_of_the_same_vector_is_not_done_again(scale):
    loss = scale * (b * pt.linalg.solve(assume(A, positive_definite=True), b)).sum()
    fn, error = compared(loss, [A, b], forced("cg"))
    assert len(iterations_of(fn)) == 1
    assert error < 1e-8


def test_diagonal_plus_low_rank_makes_no_square_array():
    fn, _ = compared(quadratic(MATRICES["diagonal_low_rank"][0]), [U, d], forced("cg"))
    shapes = {out.type.shape for node in fn.maker.fgraph.apply_nodes for out in node.outputs}
    assert (N, N) not in shapes


@pytest.mark.parametrize(
    ("rules", "iterations"),
    [
        ([{"force": "lanczos"}], 0),
        (
            [
                {"force": "cg", "match": {"request": ["solve"]}},
                {"force": "lanczos", "match": {"request": ["logdet"]}},
            ],
            1,
        ),
    ],
)
def test_one_factor_gives_the_gradient_of_a_marginal_likelihood(rules, iterations):
    """And the solves, where they are not forced to iterate."""
    noise, kernel = pt.scalar("noise"), MATRICES["dense"][0]
    K = assume(kernel + noise * pt.eye(N), positive_definite=True)
    policy = {"accuracy": {"logdet_rtol": 0.05}, "rules": rules}
    value = -0.5 * b @ pt.linalg.solve(K, b) - 0.5 * pt.linalg.slogdet(K)[1]
    loss = autotune.tune(value, policy)
    fn = compile_with([A, d, b, noise], [loss, *pt.grad(loss, [noise, d])], policy)
    count = Counter(type(core_of(node.op)).__name__ for node in fn.maker.fgraph.apply_nodes)
    assert (count["LanczosLogdet"], count["SharedCholesky"], count["CholeskyInverse"]) == (1, 1, 1)
    assert count["BlockCG"] == iterations


def test_what_is_formed_beside_columns_is_formed_with_them():
    """As matrix_parts does, so that it is priced as such."""
    blocks = Term("block_diagonal", children=(dense(6), dense(6)), order="total")
    assert parts_of(diagonal_plus_low_rank(12, 2, beside=[blocks])) == Parts(True, False, None)
    assert parts_of(diagonal_plus_low_rank(12, 2, beside=[dense(12)])) == Parts(True, True, 2)


# -- prices ---------------------------------------------------------------------------------------


def told(problem, **policy):
    return choose(problem, load_policy(policy, layers=False), PROFILE)


def test_near_half_the_order_columns_are_cheaper_multiplied_than_factorised():
    rules = [{"options": {"condition_number": 5}}]
    assert told(LOW_RANK, rules=rules).chosen == "cg"
    assert told(replace(LOW_RANK, term=diagonal_plus_low_rank(12000, 10)), rules=rules).chosen == "woodbury"


def test_what_is_multiplied_by_its_parts_is_not_priced_as_a_matrix():
    work = strategy("cg").work(LOW_RANK, Options(condition_number=5.0))
    assert {c.kernel for c in work.calls} == {"gemm", "stream", "cg_iteration"}
    assert max(n for c in work.calls if c.kernel == "cg_iteration" for n in c.dims) < 100
    assert work.peak_bytes < 0.7 * 8 * 12000**2
    beside = replace(LOW_RANK, term=diagonal_plus_low_rank(12000, 50, beside=[dense(12000)]))
    assert strategy("cg").work(beside, Options(condition_number=5.0)).peak_bytes > 8 * 12000**2
    assert strategy("woodbury").declines(beside, Options()) is not None


def test_the_guard_of_thin_parts_is_set_by_the_thin_direct_way():
    decision = told(LOW_RANK, rules=[{"options": {"condition_number": 5}}])
    woodbury = seconds(LOW_RANK, ("woodbury",), Options(), PROFILE)[0]
    _, step = strategy("cg").guarded(LOW_RANK, Options())
    assert decision.max_iterations * sum(PROFILE.seconds(c, "float64") for c in step) <= 0.3 * woodbury * 1.01


# -- a preconditioner that the user knows ---------------------------------------------------------


def test_a_known_inverse_reaches_every_solve_and_changes_no_result():
    marked = autotune.precondition(A, M)
    c = pt.vector("c", shape=(N,))
    x = pt.linalg.solve(assume(marked, positive_definite=True), b)
    loss = (x * c).sum()
    ours = autotune.tune(loss, forced("cg"))
    fn = compile_with([A, M, b, c], [ours, *pt.grad(ours, [A, b])], forced("cg"))
    nodes = iterations_of(fn)
    assert len(nodes) == 2
    assert all(node.inputs[11].type.shape == (N, N) for node in nodes)
    counts = pytensor.function(
        fn.maker.fgraph.inputs, [node.outputs[1] for node in nodes], mode=python_mode()
    )
    values = [VALUES[A], VALUES[M], VALUES[b], np.ones(N)]
    assert max(counts(*values)) <= 2
    z = np.linalg.solve(VALUES[A], np.ones(N))
    expected = [VALUES[b] @ z, -np.outer(z, np.linalg.solve(VALUES[A], VALUES[b])), z]
    for found, right in zip(fn(*values), expected, strict=True):
        assert relative_error(found, right) < 1e-8


def test_a_diagonal_inverse_is_multiplied_as_a_vector():
    matrix = assume(autotune.precondition(MATRICES["dense_sum"][0], pt.diag(1 / d)), positive_definite=True)
    fn, error = compared(b @ pt.linalg.solve(matrix, b), [A, U], forced("cg"))
    [node] = iterations_of(fn)
    assert [node.inputs[i].type.shape[0] for i in (0, 8, 9, 11, 12)] == [N, N, N, 0, N]
    assert error < 1e-8


@pytest.mark.parametrize("policy", [None, forced("cholesky")])
def test_without_iterations_the_mark_leaves_the_graph(policy):
    loss = quadratic(autotune.precondition(assume(A, positive_definite=True), M))
    make = compile_plain if policy is None else lambda i, o: compile_with(i, o, policy)
    fn = make([A, M, b], [loss, *pt.grad(loss, [A])])
    assert not any(isinstance(node.op, SpecifyPreconditioner) for node in fn.maker.fgraph.apply_nodes)
    plain = compile_plain([A, b], [quadratic(A), *pt.grad(quadratic(A), [A])])
    for found, expected in zip(
        fn(VALUES[A], np.full((N, N), np.nan), VALUES[b]), plain(VALUES[A], VALUES[b]), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_is_no_matrix_is_refused():
    with pytest.raises(TypeError, match=r"preconditioner has 1 dimensions"):
        autotune.precondition(A, d)


def test_a_preconditioner_has_its_price():
    options = Options(condition_number=5.0)
    problem = replace(LOW_RANK, term=dense(12000))
    prices = [
        seconds(replace(problem, inverse=inverse), ("cg",), options, PROFILE)[0]
        for inverse in (None, low_rank_term(12000, 50), dense(12000))
    ]
    assert prices == sorted(prices)
    assert prices[0] < prices[1] < prices[2]


def test_the_choice_iterates_where_it_is_told_that_few_do():
    policy = {"rules": [{"options": {"condition_number": 2}}]}
    big = pt.matrix("big", shape=(3000, 3000))
    x = pt.linalg.solve(
        assume(autotune.precondition(big, pt.eye(3000)), positive_definite=True), pt.ones(3000)
    )
    assert chosen(compile_with([big], x, policy)) == ["cg"]
