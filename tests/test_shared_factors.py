"""What every test is watched by notices a matrix that is factorised twice."""

import pytensor.tensor as pt
from cubic import factorisations, factorised_again
from pytensor.graph.fg import FunctionGraph
from pytensor.tensor.linalg import cholesky, slogdet

from autotune.ops import SharedCholesky


def test_a_second_factor_of_one_matrix_is_noticed():
    A = pt.matrix("A")
    kept = cholesky(A)
    graph = FunctionGraph([A], [kept, SharedCholesky()(A), slogdet(A.T @ A)[1]], clone=False)
    before = {kept.owner}
    assert factorised_again(before, factorisations(graph)) == ["A"]
    assert factorised_again(set(), [kept.owner]) == []
