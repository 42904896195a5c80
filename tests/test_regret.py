"""The regret benchmark: its problems, its rivals' rules, sharing of timings, resuming, and the summary."""

import importlib
import json
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import compile_raw, diagonal_plus_low_rank, in_turn, python_mode, relative_error

import autotune
from autotune.choose import choose
from autotune.policy import Policy
from autotune.problem import Candidate, Decision, Problem, Request, dense
from calibration.grids import grid
from cost_models import KERNELS, generic_profile

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
regret, problems, report, rivals, timing = map(
    importlib.import_module, ("regret", "regret_problems", "regret_report", "rivals", "timing")
)
SETTINGS = {"seed": 0}


# -- problems -------------------------------------------------------------------------------------


def tiny(kind, dtype="float64"):
    sizes = {"n": 12, "k": 2, "m": 3, "condition": 10, "batch": 2}
    return problems.Case(kind, dtype, {name: sizes[name] for name in problems.KINDS[kind].sizes}, seed=1)


@pytest.mark.parametrize("kind", in_turn(problems.KINDS, 4))
def test_free_forced_and_plain_agree(kind):
    case = tiny(kind)
    graph = problems.build(case)
    decision, functions = regret.candidates(case, graph, python_mode())
    assert {"plain", decision.chosen, *rivals.priced(decision)} <= set(functions)
    assert decision.problem.n == 12
    expected = functions["plain"](*graph.values)
    for name, fn in functions.items():
        for found, value in zip(fn(*graph.values), expected, strict=True):
            assert relative_error(found, value) < 1e-9, name


@pytest.mark.parametrize("kind", problems.KINDS)
def test_a_kind_keeps_its_dtype(kind):
    graph = problems.build(tiny(kind, "float32"))
    assert {v.dtype for v in (*graph.inputs, *graph.outputs)} == {"float32"}
    assert {str(value.dtype) for value in graph.values} == {"float32"}


@pytest.mark.parametrize("condition", [1.0, 50.0])
def test_a_matrix_has_the_eigenvalues_asked_for(condition):
    found = np.linalg.eigvalsh(problems.with_condition(np.random.default_rng(0), 9, condition))
    assert found == pytest.approx(np.geomspace(1, condition, 9))


def test_every_kind_and_dtype_gets_its_share_of_at_least_150_problems():
    cases = list(problems.draw(5, seed=0))
    assert len(cases) >= 150
    assert len({case.seed for case in cases}) == len(cases)
    for kind in problems.KINDS:
        for dtype in problems.DTYPES:
            assert sum((case.kind, case.dtype) == (kind, dtype) for case in cases) == 5
    first = len(problems.KINDS) * len(problems.DTYPES)
    assert len({(case.kind, case.dtype) for case in cases[:first]}) == first


def test_orders_are_spread_over_their_range_and_never_calibrated():
    timed = {side for kernel in KERNELS for dims in grid(kernel.name, quick=False) for side in dims}
    repeats = 8
    for kind, dtype in (("GP", "float32"), ("low rank", "float64")):
        low, high = problems.KINDS[kind].sizes["n"]
        cases = [c for c in problems.draw(repeats, seed=3) if (c.kind, c.dtype) == (kind, dtype)]
        orders = sorted(case.sizes["n"] for case in cases)
        assert not timed.intersection(orders)
        edges = low * (high / low) ** (np.arange(repeats + 1) / repeats)
        moved = 4  # a size on the grid is moved up
        assert all(edges[i] - 1 <= n <= edges[i + 1] + moved for i, n in enumerate(orders))
        assert all(0 < case.sizes.get("k", 1) < case.sizes["n"] for case in cases)


def test_no_order_exceeds_the_largest_by_more_than_a_step():
    assert max(case.sizes["n"] for case in problems.draw(1, seed=0, largest=70)) <= 75


# -- rules ----------------------------------------------------------------------------------------


def decided(problem, chosen="keep", names=("keep", "cholesky", "cholesky_or_lu", "lu")):
    """A decision made by hand, all its candidates priced but for cg."""
    priced = tuple(Candidate(name, 1.0, 1.0, "") for name in names)
    cg = Candidate("cg", None, None, "no condition number")
    return Decision(problem, chosen, (chosen,) * len(problem.requests), (*priced, cg))


SOLVE, LOGDET = Request("solve", form="pos"), Request("logdet", form="lu")
PD = Problem((SOLVE, LOGDET), dense(500), positive_definite=True, symmetric=True)
ONLY_SOLVES = replace(PD, requests=(SOLVE,))
LOW_RANK = replace(PD, term=diagonal_plus_low_rank(500, 400))
GENERAL = Problem((Request("solve"), LOGDET), dense(500))


@pytest.mark.parametrize(
    ("problem", "gpytorch", "cola"),
    [
        (replace(PD, term=dense(800)), "cholesky", "cholesky"),
        (replace(PD, term=dense(801)), None, "cholesky"),
        (replace(ONLY_SOLVES, term=dense(800)), "cholesky", "cholesky"),
        (replace(ONLY_SOLVES, term=dense(801)), "cg", "cholesky"),
        (replace(ONLY_SOLVES, term=dense(1000)), "cg", "cholesky"),
        (replace(ONLY_SOLVES, term=dense(1001)), "cg", "cg"),
        (replace(ONLY_SOLVES, term=dense(1001), batch=3), None, None),
        (replace(PD, term=dense(1001)), None, None),
        (LOW_RANK, "woodbury", "cholesky"),
        (replace(LOW_RANK, term=diagonal_plus_low_rank(5000, 400)), "woodbury", None),
        (GENERAL, None, "lu"),
        (replace(GENERAL, term=dense(1001)), None, None),
    ],
)
def test_thresholds_are_those_of_the_libraries(problem, gpytorch, cola):
    decision = decided(problem)
    assert rivals.gpytorch(decision) == gpytorch
    assert rivals.cola(decision) == cola


def test_fewest_flops_sees_no_prices():
    both = replace(GENERAL, requests=(Request("inverse"), LOGDET))
    # getrf and getri are 2 n^3 in all, where keep runs an inverse and a determinant apart: 8/3 n^3
    assert rivals.fewest_flops(decided(both, names=("keep", "lu"))) == "lu"
    # n^3/3 against 2/3 n^3
    assert rivals.fewest_flops(decided(PD, names=("lu", "cholesky"))) == "cholesky"
    # equal: the first
    assert rivals.fewest_flops(decided(PD, names=("keep", "cholesky"))) == "keep"
    # k = 400 of n = 500: two n k^2 and more against n^3/3 and the product that forms the matrix
    assert rivals.flops(decided(LOW_RANK), "cholesky") > rivals.flops(decided(ONLY_SOLVES), "cholesky")


@pytest.mark.parametrize("problem", [PD, LOW_RANK, GENERAL])
def test_the_generic_rule_is_the_choice_by_the_generic_profile(problem):
    expected = choose(problem, Policy(), generic_profile()).chosen
    assert rivals.generic(decided(problem, chosen="lu")) == expected
    assert rivals.calibrated(decided(problem, chosen="lu")) == "lu"


def test_inexact_strategies_are_not_among_the_priced():
    problem = replace(ONLY_SOLVES, term=dense(1001))
    told = Policy(rules=({"options": {"condition_number": 5.0, "max_iterations": 100}},))
    decision = choose(problem, told, generic_profile())
    assert decision.candidate("cg").seconds is not None
    assert "cg" not in rivals.priced(decision)


# -- timing ---------------------------------------------------------------------------------------


def test_graphs_that_are_equal_are_found_alike():
    A = pt.matrix("A")
    same = [compile_raw([A], [pt.exp(A) @ A]) for _ in range(2)]
    other = compile_raw([A], [pt.exp(A) @ A.T])
    more = compile_raw([A], [pt.exp(A) @ A, A.T])
    functions = {"plain": same[0], "keep": same[1], "lu": other, "cholesky": more}
    alike = {"plain": "plain", "keep": "plain", "lu": "lu", "cholesky": "cholesky"}
    assert regret.first_alike(functions) == alike


@pytest.fixture
def timings(monkeypatch):
    """What `alternate` answers, call by call; gives the list of what it was asked."""

    def use(*answers):
        asked = []

        def alternate(functions, values, **settings):
            asked.append(list(functions))
            return {name: answers[len(asked) - 1][name] for name in functions}

        monkeypatch.setattr(regret, "alternate", alternate)
        monkeypatch.setattr(regret, "same_graph", lambda f, g: f == g)
        return asked

    return use


def test_what_is_alike_is_timed_once_and_shares_the_figure(timings):
    asked = timings({"plain": 1.0, "lu": 3.0})
    found = regret.time_all({"plain": "graph", "keep": "graph", "lu": "another"}, [], "keep")
    assert asked == [["plain", "lu"]]
    assert found["times"] == {"plain": 1.0, "keep": 1.0, "lu": 3.0}
    assert not found["timed_again"]


def test_a_choice_that_looks_slow_is_timed_again_for_all(timings):
    asked = timings({"plain": 1.0, "lu": 1.06, "cg": 0.1}, {"plain": 1.1, "lu": 1.0, "cg": 0.2})
    found = regret.time_all({"plain": "a", "lu": "b", "cg": "c"}, [], "lu")
    assert len(asked) == 2
    assert found["times"] == {"plain": 1.1, "lu": 1.0, "cg": 0.2}
    assert found["timed_again"]


def test_an_inexact_rival_does_not_make_a_choice_look_slow(timings):
    asked = timings({"plain": 1.0, "lu": 1.0, "cg": 0.1})
    regret.time_all({"plain": "a", "lu": "b", "cg": "c"}, [], "lu")
    assert len(asked) == 1


def test_fast_functions_are_called_several_times_a_sample_and_slow_ones_once(monkeypatch):
    clock, calls = SimpleNamespace(now=0.0), Counter()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    seconds = {"fast": timing.SHORTEST_SAMPLE / 50, "slow": 2 * timing.SHORTEST_SAMPLE}

    def spend(name):
        calls[name] += 1
        clock.now += seconds[name]

    times = timing.alternate({name: partial(spend, name) for name in seconds}, [], rounds=(3, 3))
    assert times == pytest.approx(seconds)
    assert calls["slow"] == 2 + 3  # to compile, to count the loops, then three rounds
    assert calls["fast"] >= 3 * 50


@pytest.mark.parametrize(("iterations", "gave_up"), [(100, False), (2, True)])
def test_a_fallback_of_conjugate_gradients_is_noticed(iterations, gave_up):
    graph = problems.build(tiny("PD solves"))
    policy = {"rules": [{"force": "cg", "options": {"max_iterations": iterations}}]}
    assert regret.fell_back(regret.compile_graph(graph, policy, python_mode()), graph.values) == gave_up


def test_a_rule_that_wants_cg_has_it_compiled(monkeypatch):
    monkeypatch.setattr(rivals, "GPYTORCH_MAX_CHOLESKY_SIZE", 5)
    case = tiny("PD solves", "float32")
    graph = problems.build(case)
    _, functions = regret.candidates(case, graph, python_mode())
    assert autotune.explain(functions["cg"]).decisions[0].chosen == "cg"
    assert not regret.fell_back(functions["cg"], graph.values)


# -- resuming -------------------------------------------------------------------------------------


def row_of(case, **times):
    times = {"plain": 2.0, "lu": 1.0, **times}
    picks = dict.fromkeys(rivals.RULES, "lu") | {"GPyTorch's rule": None, "plain PyTensor": "plain"}
    return {
        "case": {"kind": case.kind, "dtype": case.dtype, "sizes": case.sizes, "seed": case.seed},
        "label": case.label,
        "chosen": "lu",
        "predicted": 1.0,
        "exact": [name for name in times if name != "cg"],
        "picks": picks,
        "differs": 1e-12,
        "times": times,
        "timed_again": False,
    }


def test_an_interrupted_run_resumes_where_it_stopped(tmp_path, monkeypatch):
    path, cases = tmp_path / "regret.json", list(problems.draw(1, seed=0))[:5]
    measured = []

    def measure(case):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(case.label)
        return row_of(case)

    monkeypatch.setattr(regret, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        regret.run(cases, [], path, SETTINGS)
    rows = regret.resumed(path, SETTINGS)
    assert [row["label"] for row in rows] == measured == [case.label for case in cases[:3]]
    monkeypatch.setattr(regret, "measure", lambda case: measured.append(case.label) or row_of(case))
    regret.run(regret.left(cases, rows), rows, path, SETTINGS)
    assert measured == [case.label for case in cases]
    assert json.loads(path.read_text())["summary"]["problems"] == 5


def test_a_run_with_other_settings_is_not_resumed(tmp_path):
    path = tmp_path / "regret.json"
    assert regret.resumed(path, SETTINGS) == []
    regret.save(path, SETTINGS, [row_of(tiny("GP"))])
    with pytest.raises(SystemExit, match="Leave out --resume"):
        regret.resumed(path, {"seed": 1})
    path.write_text('{"rows": []}')
    with pytest.raises(SystemExit, match="earlier version"):
        regret.resumed(path, SETTINGS)
    path.write_text("{")
    with pytest.raises(SystemExit, match="cannot be read"):
        regret.load(path)


# -- summary, tables, picture ---------------------------------------------------------------------


def test_the_summary_is_geometric_means_worsts_and_shares():
    rows = [row_of(tiny("GP")), row_of(tiny("general"), cholesky=0.25), row_of(tiny("general"), plain=0.5)]
    found = report.summarise(rows)["rules"]["calibrated"]
    assert found["answered"] == 3
    assert found["regret_geometric_mean"] == pytest.approx((1 * 4 * 2) ** (1 / 3))
    assert found["regret_worst"] == 4
    assert found["right_within_5_percent"] == pytest.approx(1 / 3)
    assert found["against_plain_geometric_mean"] == pytest.approx((0.5 * 0.5 * 2) ** (1 / 3))
    assert found["against_plain_worst"] == 2
    assert report.summarise(rows)["rules"]["GPyTorch's rule"] == {"answered": 0}
    assert report.summarise(rows)["kinds"]["general"]["answered"] == 2


def test_conjugate_gradients_are_a_pick_but_never_the_best():
    row = row_of(tiny("PD solves"), cg=0.5)
    row["picks"]["CoLA's rule"], row["cg_fell_back"] = "cg", True
    assert report.regret(row) == 1
    assert report.regret(row, "CoLA's rule") == 0.5
    assert report.figures([row], "CoLA's rule")["cg_fell_back"] == 1


def test_the_report_has_every_rule_and_kind(capsys):
    report.print_report({"settings": SETTINGS, "rows": [row_of(tiny(kind)) for kind in problems.KINDS]})
    printed = capsys.readouterr().out
    for name in (*rivals.RULES, *problems.KINDS):
        assert f"| {name} |" in printed
    assert "| GPyTorch's rule | 0 | - |" in printed


def test_the_picture_draws_every_rule_that_answers(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "regret.svg"
    report.draw_picture([row_of(tiny("GP")), row_of(tiny("general"), cholesky=0.25)], path)
    assert "<svg" in path.read_text()
    assert len(report.LINES) == len(rivals.RULES)


def test_without_matplotlib_the_picture_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pytensor-autotune\[plots\]"):
        report.draw_picture([], tmp_path / "regret.png")


def test_help_shows_an_example(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["regret", "--help"])
    with pytest.raises(SystemExit) as stop:
        regret.main()
    assert stop.value.code == 0
    assert "python benchmarks/regret.py --report" in capsys.readouterr().out
