"""The table says what was chosen and why; its pins reproduce the choices."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import chosen, compile_with, op_names
from pytensor.assumptions import assume
from pytensor.tensor.linalg import inv, slogdet, solve

import autotune
from autotune.plan import Plan
from autotune.plan.table import format_bytes, format_seconds
from autotune.policy.files import load_policy

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
    assert (decision.problem.n, decision.problem.rank) == (5000, 4)
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
    assert (decision.problem.n, decision.problem.rank) == (3000, 4)


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
