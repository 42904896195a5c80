"""The benchmarks of whole functions: problems repeat, every node of them has a price, memory is predicted."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytensor
import pytest
from helpers import compile_with, python_mode

import autotune
from autotune.pricing import ExampleSizes, price
from cost_models import generic_profile

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
footprint, memory, whole_functions, whole_nodes, whole_problems = map(
    importlib.import_module, ("footprint", "memory", "whole_functions", "whole_nodes", "whole_problems")
)
KINDS = range(len(whole_problems.KINDS))


@pytest.fixture
def in_python(monkeypatch):
    """The scripts compile with the Python linker."""

    def compile_quickly(case, policy=None):
        outputs = [*getattr(case, "loss", ()), *getattr(case, "outputs", ())]
        return compile_with(case.inputs, outputs, policy)

    for made in (memory.Case, whole_problems.Problem):
        monkeypatch.setattr(made, "compile", compile_quickly)


@pytest.mark.parametrize("index", KINDS)
def test_a_problem_is_the_same_every_time_and_has_no_unknown_node(index, in_python):
    first, second = (whole_problems.problem(index, 3, largest=30) for _ in range(2))
    assert first.label == second.label
    for a, b in zip(first.values, second.values, strict=True):
        np.testing.assert_array_equal(a, b)
    fn = first.compile({})
    assert all(np.isfinite(out).all() for out in fn(*first.values))
    found = price(fn.maker.fgraph, ExampleSizes(fn.maker.fgraph, first.values), generic_profile())
    assert not found.unknown
    assert found.seconds > 0


def test_seeds_differ():
    assert len({whole_problems.problem(0, seed).label for seed in range(8)}) > 1


@pytest.mark.parametrize("name", whole_problems.CORRELATIONS)
def test_every_correlation_is_positive_definite(name):
    """A factorisation that fails stops early: its time would say nothing."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    D = np.square(X[:, None] - X[None, :]).sum(axis=-1) / 0.7**2
    K = whole_problems.CORRELATIONS[name](whole_problems.pt.constant(np.maximum(D, 1e-6))).eval(
        mode=python_mode()
    )
    assert np.linalg.eigvalsh(K).min() > -1e-2


def test_rounds_keep_the_least_time():
    first = {"index": 0, "measured": 2.0, "reference": 1.0, "predicted": 1.0}
    second = {"index": 0, "measured": 3.0, "reference": 0.5, "predicted": 1.0}
    assert whole_functions.least(None, first) is first
    assert whole_functions.least(first, second) == second | {"measured": 2.0}


def test_the_worst_functions_err_most_in_either_direction():
    rows = [{"index": i, "predicted": p, "measured": 1.0} for i, p in enumerate([1.1, 0.2, 2.0, 1.0])]
    assert whole_functions.worst(rows, 2) == [1, 2]


@pytest.mark.slow
def test_nodes_are_timed_one_by_one_on_the_values_that_reach_them():
    X = whole_problems.pt.matrix("X")
    outputs = whole_problems.pt.exp(X @ X.T) + whole_problems.pt.eye(X.shape[0])
    fn = pytensor.function([X], outputs, mode="NUMBA")
    rows = list(whole_nodes.by_node(fn, [np.ones((9, 3))], generic_profile()))
    assert len(rows) == len(fn.maker.fgraph.apply_nodes)
    assert any(name == "Dot" and predicted > 0 for name, predicted, _ in rows)
    assert all(measured >= 0 for _, _, measured in rows)


def test_errors_are_relative_to_what_was_measured():
    rows = [{"predicted": p, "measured": 2.0, "reference": 1.0, "unknown": []} for p in (1.0, 2.0, 2.5, 4.0)]
    summary = whole_functions.summarise(rows)
    assert summary["median_error"] == pytest.approx(0.375)
    assert summary["bias"] == pytest.approx((0.5 * 1 * 1.25 * 2) ** 0.25)


def test_a_row_is_measured_and_written(in_python, tmp_path):
    row = whole_functions.measure(0, 1, 30, budget=0.01)
    assert row["measured"] > 0
    assert not row["unknown"]
    path = tmp_path / "rows.json"
    whole_functions.save([row], 1, path)
    assert json.loads(path.read_text())["summary"]["problems"] == 1


@pytest.mark.parametrize("case", memory.CASES)
def test_cases_are_priced_for_every_algorithm(case, in_python):
    names = memory.algorithms(case, gradient=False)
    assert "keep" in names
    assert len(names) > 1


@pytest.mark.parametrize("case", ["dense", "general"])
def test_memory_of_a_case_is_predicted_in_bytes(case, in_python, monkeypatch):
    monkeypatch.setattr(memory, "peak_of_call", lambda call: call() and 1)
    sizes = memory.footprint(case, 50, False, "keep")
    assert sizes["candidate"] >= 50 * 50 * 8
    assert sizes["whole"] >= 50 * 50 * 8
    assert autotune.explain(memory.CASES[case](50, gradient=False).compile({})).peak_bytes


@pytest.mark.slow
@pytest.mark.skipif(not footprint.CLEAR_REFS.exists(), reason="the high-water mark cannot be reset")
@pytest.mark.parametrize("algorithm", ["keep", "cholesky"])
def test_predicted_bytes_are_those_of_a_call(algorithm):
    sizes = footprint.in_child(memory.__file__, "--peak", "dense", 1000, 0, algorithm)
    assert sizes["whole"] == pytest.approx(sizes["measured"], rel=0.2)
    assert sizes["candidate"] == pytest.approx(sizes["measured"], rel=0.2)
