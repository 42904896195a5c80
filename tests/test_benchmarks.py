"""The benchmarks compare like with like: their ways to compute one thing agree, memory is counted right."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_raw, compile_with, forced, in_turn, python_mode
from pytensor.compile.builders import OpFromGraph

import autotune

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
analytic, by_hand, footprint, low_rank_gradient, parts, peers, tables = map(
    importlib.import_module,
    ("analytic", "by_hand", "footprint", "low_rank_gradient", "parts", "peers", "tables"),
)
N, K = 70, 3  # more than one panel of columns, the last one narrow


@pytest.fixture
def pymc_models():
    pytest.importorskip("pymc")
    return importlib.import_module("pymc_models")


@pytest.fixture
def in_python(monkeypatch):
    """The scripts compile with the Python linker: seconds instead of minutes."""
    for script in (analytic, low_rank_gradient):
        monkeypatch.setattr(
            script.Case,
            "compile",
            lambda case, way="": (
                getattr(case, way, None)
                if way in ("hand", "textbook")
                else compile_with(case.inputs, case.outputs)
            ),
        )


@pytest.mark.parametrize("kernel", in_turn(analytic.KERNELS))
def test_the_gradient_by_hand_is_that_of_the_graph(kernel):
    case = analytic.KERNELS[kernel](N)
    expected = case.hand(*case.values)
    for fn in (
        compile_raw(case.inputs, case.outputs),
        compile_with(case.inputs, case.outputs, forced("cholesky")),
        compile_with(case.inputs, case.outputs),
    ):
        assert analytic.difference(fn(*case.values), expected) < 1e-10


@pytest.mark.parametrize("gradient", in_turn([True, False]))
def test_kronecker_by_hand_is_the_graph(gradient):
    case = parts.kronecker(4, 5, gradient)
    expected = case.hand(*case.values)
    for fn in (case.compile(python_mode()), case.compile_tuned(autotune.mode(base=python_mode()))):
        assert parts.difference(fn(*case.values), expected) < 1e-10


@pytest.mark.parametrize("title", low_rank_gradient.CASES)
def test_low_rank_by_hand_is_the_graph(title):
    case = low_rank_gradient.CASES[title](N, K)
    expected = case.hand(*case.values)
    for fn in (
        compile_raw(case.inputs, case.outputs),
        compile_with(case.inputs, case.outputs, forced("woodbury")),
    ):
        assert low_rank_gradient.difference(fn(*case.values), expected) < 1e-10


@pytest.mark.parametrize("name", peers.MATRICES)
def test_peers_by_hand_and_dense_are_the_reference_in_extended_precision(name):
    matrix, case = peers.MATRICES[name], peers.CASES[name](40, np.random.default_rng(0))
    values = tuple(case.inputs.values())
    exact = peers.reference(matrix, case)
    assert len(exact) == 1 + len(values)
    assert peers.error_of(case.by_hand(*values), exact) < 1e-11
    assert peers.error_of(peers.dense(matrix, case, True, *values), exact) < 1e-11


@pytest.mark.parametrize("n", [1, 63, 64, 65, 130, 300])
def test_two_triangles_lie_in_one_array_side_by_side(n):
    times_used = np.zeros((n, n + 2 * by_hand.PANEL), int)
    for below, slot in by_hand.panels_of(n):
        assert times_used[below].shape == times_used[slot].shape
        times_used[below] += 1
        times_used[slot] += 1
    assert times_used.max() == 1
    assert (times_used[np.tril_indices(n)] == 1).all()


@pytest.mark.parametrize("kernel", by_hand.PANELS)
@pytest.mark.parametrize("n", [1, 64, 129])
def test_any_size_has_the_gradient_of_central_differences(kernel, n):
    rng = np.random.default_rng(n)
    data, parameters = (rng.normal(size=(n, 2)), rng.normal(size=n)), np.array([0.7, 1.2, 0.5])
    found, *gradient = by_hand.stationary(kernel, *data, *parameters)
    assert by_hand.textbook(kernel, *data, *parameters) == pytest.approx((found, *gradient), rel=1e-9)
    for i, step in enumerate(1e-6 * np.eye(3)):
        up, down = (by_hand.stationary(kernel, *data, *(parameters + h))[0] for h in (step, -step))
        assert gradient[i] == pytest.approx((up - down) / 2e-6, rel=1e-6, abs=1e-6)


def test_the_inverse_by_hand_takes_the_place_of_the_matrix():
    K = np.asfortranarray(np.diag(np.arange(1.0, 5)))
    posterior = by_hand.DensePosterior(K, np.ones(4))
    assert np.shares_memory(posterior.inverse, K)
    assert np.diagonal(K) == pytest.approx(1 / np.arange(1.0, 5))


def test_by_hand_refuses_a_matrix_that_is_not_positive_definite():
    with pytest.raises(np.linalg.LinAlgError, match="not positive"):
        by_hand.DensePosterior(np.asfortranarray(-np.eye(3)), np.ones(3))


def test_views_and_small_arrays_are_not_counted():
    A, b = pt.matrix("A", shape=(N, N)), pt.matrix("b", shape=(N, 2))
    constant = pt.constant(np.random.default_rng(0).normal(size=(N, N)))
    outputs = [pt.exp(A) @ b, A.T[::2], A + constant]
    fn = compile_raw([A, b], outputs)
    assert footprint.square_arrays(fn, N) == (2, 1)
    assert footprint.square_arrays(fn, N + 1) == (0, 0)


def test_inner_graphs_are_counted_and_unknown_lengths_are_not():
    A, B = pt.matrix("A", shape=(N, N)), pt.matrix("B")
    inner = OpFromGraph([A], [pt.exp(A) @ A], inline=False)
    assert footprint.square_arrays(compile_raw([A], [inner(A).sum()]), N) == (2, 0)
    assert footprint.square_arrays(compile_raw([B], [pt.exp(B)]), N) == (0, 0)


def test_what_is_inside_a_fused_loop_is_not_counted():
    A, b = pt.matrix("A", shape=(N, N)), pt.vector("b", shape=(N,))
    fn = pytensor.function([A, b], [pt.exp(pt.tanh(A) * b).sum(), pt.tanh(A) + b])
    assert any("Fused" in type(node.op).__name__ for node in fn.maker.fgraph.apply_nodes)
    assert footprint.square_arrays(fn, N) == (1, 0)


@pytest.mark.skipif(not footprint.CLEAR_REFS.exists(), reason="the high-water mark cannot be reset")
def test_the_peak_of_a_call_is_what_it_holds_at_once():
    million = 1_000_000

    def call():
        np.ones(16 * million).sum()
        np.ones(8 * million).sum()

    assert footprint.peak_of_call(call) == pytest.approx(128 * million, rel=0.05)


def test_a_peak_is_measured_in_a_process_of_its_own():
    n = 500
    peak = footprint.in_child(str(BENCHMARKS / "analytic.py"), "--peak", "rbf", n, "hand")
    assert peak == pytest.approx(1 + 2 * by_hand.PANEL / n, abs=0.5)  # the kernel counts pages in batches


def test_a_child_that_fails_says_why():
    with pytest.raises(RuntimeError, match="KeyError: 'nothing'"):
        footprint.in_child(str(BENCHMARKS / "analytic.py"), "--peak", "nothing", 3, "hand")


def test_rows_fit_their_header(in_python, monkeypatch):
    monkeypatch.setattr(analytic, "in_child", lambda *arguments: 1.0)
    assert len(analytic.measure("rbf", 20, rounds=1)) == len(analytic.COLUMNS)
    title = next(iter(low_rank_gradient.CASES))
    row = low_rank_gradient.beside_plain(title, 20, 2, rounds=1)
    assert len(row) == len(low_rank_gradient.BESIDE_PLAIN)
    table = tables.MarkdownTable("a", "b")
    with pytest.raises(ValueError, match="3 cells"):
        table.add_row("1", "2", "3")


@pytest.mark.parametrize("title", low_rank_gradient.CASES)
def test_a_large_graph_runs_only_without_square_arrays(title, in_python, monkeypatch):
    monkeypatch.setattr(low_rank_gradient, "square_arrays", lambda fn, n: (0, 0))
    figures = low_rank_gradient.alone(title, N, K, rounds=1)
    assert tuple(figures) == low_rank_gradient.ALONE
    assert figures["differs from hand"] < 1e-10
    monkeypatch.setattr(low_rank_gradient, "square_arrays", lambda fn, n: (1, 2))
    assert low_rank_gradient.alone(title, N, K, rounds=1) == {"n x n arrays": 3}


@pytest.mark.pymc
@pytest.mark.parametrize("name", in_turn(["mvnormal", "marginal", "factor_analysis"], 3))
def test_pymc_plain_and_tuned_agree(name, pymc_models):
    def make():
        return (
            pymc_models.factor_analysis(40, rows=3)
            if name == "factor_analysis"
            else getattr(pymc_models, name)(40)
        )

    functions, point = pymc_models.compile_both(make, mode=python_mode()), pymc_models.point_of(make())
    found, expected = functions["autotune"](point), functions["plain"](point)
    assert pymc_models.difference(found[0], expected[0]) < 1e-10
    assert pymc_models.difference(found[1], expected[1]) < 1e-9


@pytest.mark.pymc
def test_z_is_standard_normal_for_draws_of_one_distribution_and_large_for_two(pymc_models):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 2, 200, 60))
    assert 0.7 < np.sqrt(np.mean(pymc_models.z_scores(a, b) ** 2)) < 1.4
    assert np.abs(pymc_models.z_scores(a, b + 1)).min() > 5


@pytest.mark.pymc
@pytest.mark.parametrize("script", ["analytic", "low_rank_gradient", "pymc_models"])
def test_help_shows_an_example(script, pymc_models, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(script).main()
    assert stop.value.code == 0
    assert f"python benchmarks/{script}.py --" in capsys.readouterr().out
