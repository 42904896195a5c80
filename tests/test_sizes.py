"""Sizes at compile time: hints reach every matrix that is made of what they name."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_with, python_mode
from pytensor.assumptions import assume

import autotune

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
    assert (decision.problem.n, decision.problem.rank) == (3000, 5)
    assert decision.chosen == "woodbury"
