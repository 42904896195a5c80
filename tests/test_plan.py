"""The table says what was chosen and why; its pins reproduce the choices."""

import re
from dataclasses import replace

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import chosen, compile_with, op_names
from pytensor.assumptions import assume
from pytensor.tensor.linalg import inv, slogdet, solve

import autotune
from autotune.plan import Plan
from autotune.plan.pins_table import agreement, renderable
from autotune.plan.table import as_text, render, whole_function
from autotune.policy.files import load_policy
from autotune.pricing.whole import NodePrice, Price
from autotune.problem.formats import counted, format_bytes, format_seconds, three_digits

N = 400
U, d, b = pt.matrix("U", shape=(N, 3)), pt.vector("d", shape=(N,)), pt.vector("b", shape=(N,))
M, X = pt.matrix("M", shape=(N, N)), pt.matrix("X")
K = U @ U.T + pt.diag(d)
K.name = "K_lowrank*"
P = assume(M, positive_definite=True)
OUTPUTS = [solve(K, b), slogdet(K)[1], inv(P), solve(P, b), inv(X)]


def test_table_shows_every_problem_candidate_and_reason():
    fn = compile_with([U, d, b, M, X], OUTPUTS)
    plan = autotune.explain(fn)
    text = str(plan)
    assert "3 problems" in text
    assert "K_lowrank*" in text
    assert "diagonal + low rank, n=400, k=3" in text
    assert "dense, n=400, positive definite, float64" in text
    assert "n=?" in text
    for decision in plan.decisions:
        assert decision.winner.reason
        for candidate in decision.candidates:
            assert candidate.name in text
            assert candidate.reason
    assert max(map(len, text.splitlines())) <= 110
    assert "<pre" in plan._repr_html_()


def test_numbers_on_decisions():
    fn = compile_with([U, d, b], OUTPUTS[:2])
    [decision] = autotune.explain(fn).decisions
    assert decision.chosen == "woodbury"
    assert decision.winner.seconds > 0
    assert decision.winner.peak_bytes > 0
    assert decision.candidate("keep").seconds > decision.winner.seconds


def test_pins_reproduce_the_graph_against_other_preferences(tmp_path):
    inputs = [U, d, b, M, X]
    free = compile_with(inputs, OUTPUTS)
    path = autotune.explain(free).save(tmp_path / "pins.yaml")
    pinned = compile_with(inputs, OUTPUTS, path)
    assert op_names(pinned) == op_names(free)
    assert all(d.winner.reason.startswith("pinned by") for d in autotune.explain(pinned).decisions)
    other = compile_with(inputs, OUTPUTS, {"rules": [{"forbid": ["woodbury", "cholesky"]}]})
    assert chosen(other) != chosen(free)
    again = autotune.explain(other).save(tmp_path / "other.yaml")
    assert op_names(compile_with(inputs, OUTPUTS, again)) == op_names(other)


def test_pins_of_cg_carry_what_it_was_built_with(tmp_path):
    policy = {
        "accuracy": {"solve_rtol": 1e-7},
        "rules": [{"match": {"request": "solve"}, "force": "cg", "options": {"condition_number": 50}}],
    }
    plan = autotune.explain(compile_with([M, b], [solve(P, b), slogdet(P)[1]], policy))
    pins = load_policy(plan.save(tmp_path / "pins.yaml"), layers=False)
    assert pins.accuracy.solve_rtol == 1e-7
    [rule] = [rule for rule in pins.rules if rule.force == "cg"]
    assert rule.options.condition_number == 50
    assert rule.match.request == ("solve",)


def test_size_hints_decide_and_are_seen():
    Z = pt.matrix("Z")
    thin = pt.matrix("thin")
    k = thin @ thin.T + 0.1 * pt.eye(thin.shape[0])
    fn = compile_with([thin], slogdet(k)[1], {"sizes": {"thin[0]": 5000, "thin[1]": 4}})
    [decision] = autotune.explain(fn).decisions
    assert (decision.problem.n, decision.problem.sizes["rank"]) == (5000, 4)
    assert decision.chosen == "woodbury"
    value = np.random.default_rng(0).normal(size=(20, 30))
    expected = np.linalg.slogdet(value @ value.T + 0.1 * np.eye(20))[1]
    assert abs(fn(value) - expected) < 1e-9
    assert chosen(compile_with([Z], slogdet(Z @ Z.T + pt.eye(Z.shape[0]))[1])) != ["woodbury"]


def test_sizes_of_shared_variables():
    import pytensor

    data = pytensor.shared(np.ones((3000, 4)), name="data")
    fn = compile_with([], slogdet(data @ data.T + 0.1 * pt.eye(data.shape[0]))[1])
    [decision] = autotune.explain(fn).decisions
    assert (decision.problem.n, decision.problem.sizes["rank"]) == (3000, 4)


def test_sizes_by_the_name_of_a_dim():
    length = pt.lscalar("city")
    thin = pt.ones((length, 3)) * pt.vector("v", shape=(3,))
    v = thin.owner.inputs[1].owner.inputs[0] if thin.owner.inputs[1].owner else thin.owner.inputs[1]
    outputs = slogdet(thin @ thin.T + 0.1 * pt.eye(length))[1]
    fn = compile_with([length, v], outputs, {"sizes": {"city": 4000}})
    [decision] = autotune.explain(fn).decisions
    assert decision.problem.n == 4000


def test_empty_plan_says_so():
    assert "Nothing to choose" in str(Plan())


def test_formats():
    assert [format_seconds(x) for x in (None, 0.0, 1.5e-6, 2.5e-3, 30.0)] == [
        "-",
        "0 us",
        "1.5 us",
        "2.5 ms",
        "30 s",
    ]
    assert [format_bytes(x) for x in (None, 12, 2048, 3 * 2**20, 2**31)] == [
        "-",
        "12 B",
        "2 KiB",
        "3 MiB",
        "2 GiB",
    ]


@pytest.mark.parametrize(
    ("shown", "least"), [(three_digits, 2e-3), (format_seconds, 2e-6), (format_bytes, 100)]
)
def test_no_number_below_a_million_units_has_an_exponent_and_three_digits_are_right(shown, least):
    sizes = {"us": 1e-6, "ms": 1e-3, "s": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
    for value in np.geomspace(least, 9e5, 4001):
        number, *unit = shown(value).split()
        assert "e" not in number
        assert len(number.replace(".", "")) <= (6 if not unit or unit == ["s"] else 4)
        assert float(number) * sizes[(*unit, "B")[0]] == pytest.approx(value, rel=5.1e-3)


def test_units_change_where_a_thousand_would_be_written():
    assert [format_seconds(x) for x in (999.4e-6, 999.7e-6, 0.9998)] == ["999 us", "1 ms", "1 s"]
    assert [format_bytes(x) for x in (1014 * 2**10, 1023.9 * 2**10)] == ["1014 KiB", "1 MiB"]
    assert three_digits(4520.4) == "4520"


def test_memory_that_is_over_the_limit_is_told_in_a_unit_that_shows_it():
    plan = autotune.explain(compile_with([M], inv(P), {"memory_limit": "1MiB"}))
    reasons = [c.reason for c in plan.decisions[0].candidates if "memory_limit" in c.reason]
    assert reasons
    assert all(re.fullmatch(r"needs [1-9][\d.]* MiB, memory_limit is 1 MiB", reason) for reason in reasons)


def test_no_line_ends_in_spaces():
    plan = autotune.explain(compile_with([U, d, b, M, X], OUTPUTS))
    for text in (str(plan), str(plan.diff(Plan())), str(plan.diff(plan))):
        assert [line for line in text.splitlines() if line != line.rstrip()] == []


def test_a_title_that_is_wrapped_keeps_its_indent():
    [decision] = autotune.explain(compile_with([U, d, b], OUTPUTS[:2])).decisions
    named = replace(decision.problem, name="long name " * 20)
    title = render(Plan((replace(decision, problem=named),))).split("algorithm")[0].splitlines()[2:-1]
    assert len(title) > 2
    assert [line[:4] for line in title] == ["[0] "] + ["    "] * (len(title) - 1)


def test_one_of_a_thing_is_in_the_singular(tmp_path):
    assert (counted(1, "node"), counted(2, "node"), counted(0, "node")) == ("1 node", "2 nodes", "0 nodes")
    assert "not counted: 1 node, such" in whole_function(Price(1.0, 1.0, (NodePrice("Odd", reason="odd"),)))
    pins = load_policy(autotune.explain(compile_with([M], inv(M))).save(tmp_path / "pins.yaml"), layers=False)
    assert ", 1 pin without a problem" in as_text(renderable(agreement(pins, [])))


LARGE = 3000
IDIOMS = {
    "solve": lambda K, y: solve(K, y),
    "solve_pos": lambda K, y: solve(K, y, assume_a="pos"),
    "inverse_times": lambda K, y: inv(K) @ y,
    "slogdet": lambda K, y: slogdet(K)[1],
    "cho_solve": lambda K, y: pt.linalg.cho_solve((pt.linalg.cholesky(K), True), y),
}


@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize("idiom", IDIOMS)
@pytest.mark.parametrize(("rank", "woodbury"), [(5, True), (50, True), (3600, False)])
def test_rank_decides_whatever_the_idiom_and_the_tags(idiom, rank, woodbury, tagged):
    thin, y = pt.matrix("thin", shape=(LARGE, rank)), pt.vector("y", shape=(LARGE,))
    noise = pt.vector("noise", shape=(LARGE,))
    K = thin @ thin.T + pt.diag(noise)
    K = assume(K, positive_definite=True) if tagged else K
    [choice] = chosen(compile_with([thin, y, noise], IDIOMS[idiom](K, y)))
    assert (choice == "woodbury") == woodbury
