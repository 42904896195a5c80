"""The benchmark of the iterative solvers: its matrices are what they claim, and its summaries count right."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
matrices, report = map(importlib.import_module, ("iterative_matrices", "iterative_report"))


@pytest.mark.parametrize("name", matrices.SPECTRA)
def test_a_matrix_has_its_spectrum_and_a_diagonal_that_tells_nothing_of_it(name):
    """Else Jacobi's preconditioner would undo the condition number that the benchmark is about."""
    eigenvalues = np.sort(matrices.SPECTRA[name](300, 1e3))
    A = matrices.with_spectrum(eigenvalues, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.eigvalsh(A), eigenvalues, atol=1e-10 * eigenvalues[-1])
    scale = 1 / np.sqrt(np.diagonal(A))
    assert np.linalg.cond(scale[:, None] * A * scale) > 300


def solve_row(**given):
    row = {"n": 300, "condition": 10, "rhs": 1, "declared": "cg", "probed": "cholesky"}
    row |= {"expected": 10, "needed": 20, "probed expected": 30, "probed needed": 10}
    return row | {"declared regret": 1.0, "probed regret": 4.0} | given


def test_iterations_are_compared_only_where_they_are_told_and_end():
    rows = [solve_row(), solve_row(needed=-336), solve_row(**{"probed expected": None})]
    assert report.factors(rows, "declared") == [2, 2]
    assert report.factors(rows, "probed") == [3, 3]


def test_solves_are_condensed_by_order_condition_and_right_hand_sides():
    rows = [solve_row(), solve_row(**{"declared regret": 4.0}), solve_row(rhs=16, declared="cholesky")]
    one, many = report.by_size(rows)
    assert (one["declared: cg chosen"], many["declared: cg chosen"]) == ("2 of 2", "0 of 1")
    assert one["declared regret"] == pytest.approx(2)
    assert one["declared worst"] == 4
    assert "regret 1.587 in the geometric mean, worst 4.00" in report.summary_of_solves(rows)


def test_coverage_counts_draws_and_not_rows_and_leaves_out_what_was_refused():
    rows = [
        {"matrix": name, "n": 300, "rank": -1, "rtol": 0.1, "estimates": drawn}
        | {"within error reported": inside, "within rtol": drawn}
        for name, drawn, inside in (("good", 10, 10), ("bad", 5, 2), ("refused", 0, 0))
    ]
    assert "12 of 15 (80.0 %" in report.summary_of_logdets(rows)
    assert "fewest 2 of 5 of a row (bad" in report.summary_of_logdets(rows)
