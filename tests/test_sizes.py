"""Sizes at compile time: hints reach every matrix that is made of what they name."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_with, diagonal_plus_low_rank, python_mode
from pytensor.assumptions import assume

import autotune
from autotune.policy import PolicyError
from autotune.problem import dense

HINTS = {"sizes": {"U[0]": 3000, "U[1]": 5, "d[0]": 3000, "A[0]": 3000, "A[1]": 3000}}
U, d, A = pt.matrix("U"), pt.vector("d"), pt.matrix("A")


@pytest.mark.parametrize(
    "matrix",
    [U @ U.T + pt.diag(d), pt.diag(d) + U @ U.T, A + pt.diag(d), A.T, 2 * A, A @ A.T],
    ids=["low rank", "diagonal first", "dense and diagonal", "transposed", "scaled", "product"],
)
def test_hints_on_the_parts_give_the_size_of_the_whole(matrix):
    K = assume(matrix, positive_definite=True)
    fn = compile_with([U, d, A], [pt.linalg.slogdet(K)[1]], HINTS)
    [decision] = autotune.explain(fn).decisions
    assert decision.problem.n == 3000
    assert not decision.undecided


def test_sizes_of_examples_are_hints():
    inputs = {"U": np.ones((3000, 5)), "d": np.ones(3000)}
    mode = autotune.mode(base=python_mode(), example_inputs=inputs)
    fn = pytensor.function([U, d], pt.linalg.slogdet(U @ U.T + pt.diag(d))[1], mode=mode)
    [decision] = autotune.explain(fn).decisions
    assert (decision.problem.n, decision.problem.sizes["rank"]) == (3000, 5)
    assert decision.chosen == "woodbury"


def test_a_hint_of_one_matrix_leaves_a_batch_what_it_is():
    stack, noise = pt.tensor3("stack", shape=(None, 9, 2)), pt.tensor3("noise", shape=(None, 1, 1))
    K = stack @ stack.mT + pt.exp(noise) * pt.eye(9)
    x = pt.linalg.solve(K, np.ones(9), b_ndim=1, assume_a="pos")
    policy = {"sizes": {"stack[0]": 1, "noise[0]": 1}, "rules": [{"forbid": ["keep"]}]}
    fn = pytensor.function([stack, noise], x, mode=autotune.mode(policy, base=python_mode()))
    assert autotune.explain(fn).decisions
    for batch in (1, 3):
        columns = np.random.default_rng(batch).normal(size=(batch, 9, 2))
        matrices = columns @ columns.swapaxes(1, 2) + np.eye(9)
        expected = np.linalg.solve(matrices, np.ones((batch, 9, 1)))[..., 0]
        np.testing.assert_allclose(fn(columns, np.zeros((batch, 1, 1))), expected, rtol=1e-12)


# -- what must be square ---------------------------------------------------------------------------

K, y = pt.matrix("K"), pt.vector("y")


def order_of(matrix, sizes, examples=None):
    """What is known of n when ``matrix``, of K or of a shared variable, is solved with."""
    mode = autotune.mode({"sizes": sizes}, base=python_mode(), example_inputs=examples)
    x = pt.linalg.solve(assume(matrix, positive_definite=True), y)
    [decision] = autotune.explain(pytensor.function([K, y], x, mode=mode, on_unused_input="ignore")).decisions
    return decision.problem.n


@pytest.mark.parametrize("matrix", [K, K.T, K + pt.eye(K.shape[0])], ids=["input", "transposed", "sum"])
@pytest.mark.parametrize("sizes", [{"K[0]": 5000}, {"K[1]": 5000}, {"y[0]": 5000}], ids=str)
def test_a_hint_on_either_axis_gives_the_order_of_a_matrix_that_is_solved_with(matrix, sizes):
    assert order_of(matrix, sizes) == 5000


def test_hints_that_make_a_matrix_that_is_solved_with_not_square_are_an_error():
    with pytest.raises(PolicyError, match=r"sizes: .* 'K' 5000 rows and 3000 columns.*square"):
        order_of(K, {"K[0]": 5000, "K[1]": 3000})


def test_a_hint_on_one_axis_comes_before_the_other_of_an_example_or_a_shared_value():
    small = np.eye(300)
    assert order_of(K, {"K[0]": 5000}, {"K": small}) == 5000
    assert order_of(pytensor.shared(small, name="S"), {"S[0]": 5000}) == 5000
    fixed = pytensor.shared(small, name="S", shape=(300, None))
    assert order_of(fixed, {"S[1]": 5000}) == 300  # a static shape is a fact


def test_an_example_that_is_not_square_gives_no_order():
    assert order_of(K, {}, {"K": np.ones((220, 7))}) is None


def test_the_order_of_one_term_is_that_of_all():
    term = diagonal_plus_low_rank(None, 3, beside=[dense(7)])
    assert [part.n for part in term.summands] == [7, 7, 7]
    assert term.sizes() == {"n": 7, "rank": 3}
