"""Pins reproduce a compile on any machine, without a profile, and say when they no longer can."""

import logging
from dataclasses import dataclass, field

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import compile_with, forced, in_turn, op_names, python_mode
from pytensor.assumptions import assume
from pytensor.tensor.linalg import inv, slogdet, solve

import autotune
import cost_models
from autotune.plan.feature import compiled_plan
from autotune.plan.pins import pins_of
from autotune.plan.pins_table import agreement
from autotune.policy import PolicyError
from autotune.policy.files import load_policy
from cost_models import generic_profile

N = 400
U, d, b = pt.matrix("U", shape=(N, 3)), pt.vector("d", shape=(N,)), pt.vector("b", shape=(N,))
M = pt.matrix("M", shape=(N, N))
K = U @ U.T + pt.diag(d)
P = assume(M @ M.T, positive_definite=True)
INPUTS = [U, d, b, M]
OUTPUTS = [solve(K, b), slogdet(K)[1], solve(P, b), slogdet(P)[1], inv(M)]


@dataclass
class OtherMachine:
    """The generic profile with some kernels a million times as dear."""

    dear: tuple[str, ...]
    source: str = "other"
    generic: object = field(default_factory=generic_profile)

    def seconds(self, call, dtype):
        return self.generic.seconds(call, dtype) * (1e6 if call.kernel.startswith(self.dear) else 1)

    def uncertainty(self, call, dtype):
        return 0.0

    def __getattr__(self, name):
        raise AssertionError(f"a pinned compile asked the profile for {name}")


MACHINES = {
    "no structure pays": OtherMachine(("low_rank",)),
    "nothing but structure pays": OtherMachine(("potr", "getr", "gesv", "inv", "slogdet", "sysv")),
    "slow iterations": OtherMachine(("cg", "trsm", "gemm")),
}


def plan(fn):
    return compiled_plan(getattr(fn, "_pytensor_function", fn).maker.fgraph)


def on(machine, monkeypatch, compiled, *args):
    with monkeypatch.context() as patch:
        patch.setattr(cost_models, "find_profile", lambda: machine)
        return compiled(*args)


def without_profile(monkeypatch, compiled, *args):
    def refuse():
        raise AssertionError("a pinned compile looked for a profile")

    with monkeypatch.context() as patch:
        patch.setattr(cost_models, "find_profile", refuse)
        return compiled(*args)


def compiled(policy=None):
    return compile_with(INPUTS, OUTPUTS, policy)


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="autotune")
    return caplog


@pytest.mark.parametrize("saved_on", MACHINES)
def test_pins_of_one_machine_give_the_same_graph_on_others_and_with_no_profile(
    saved_on, monkeypatch, tmp_path, said
):
    original = on(MACHINES[saved_on], monkeypatch, compiled)
    pins = plan(original).save(tmp_path / "pins.yaml")
    again = [on(machine, monkeypatch, compiled, pins) for machine in MACHINES.values()]
    again.append(without_profile(monkeypatch, compiled, pins))
    for fn in again:
        assert op_names(fn) == op_names(original)
        assert [d.assignment for d in plan(fn).decisions] == [d.assignment for d in plan(original).decisions]
        assert not plan(original).diff(plan(fn))
    assert "pin" not in said.text


def test_the_machines_of_these_tests_choose_differently(monkeypatch):
    graphs = {tuple(op_names(on(machine, monkeypatch, compiled))) for machine in MACHINES.values()}
    assert len(graphs) >= 2


def test_pins_carry_what_an_iteration_was_built_with(monkeypatch, tmp_path):
    options = {"condition_number": 50, "preconditioner": {"name": "pivoted_cholesky", "rank": 7}}
    policy = {
        "accuracy": {"solve_rtol": 1e-7, "logdet_rtol": 1e-2},
        "rules": [
            {"match": {"request": "solve", "positive_definite": True}, "force": "cg", "options": options}
        ],
    }
    original = compiled(policy)
    pins = plan(original).save(tmp_path / "pins.yaml")
    again = without_profile(monkeypatch, compiled, pins)
    assert op_names(again) == op_names(original)
    for before, after in zip(plan(original).decisions, plan(again).decisions, strict=True):
        built = ("assignment", "solve_rtol", "logdet_rtol")
        assert [getattr(before, key) for key in built] == [getattr(after, key) for key in built]
        if "cg" in before.assignment:
            keys = ("condition_number", "max_iterations", "preconditioner")
            assert [getattr(before, key) for key in keys] == [getattr(after, key) for key in keys]


def test_pins_carry_the_hints_they_were_chosen_by(monkeypatch, tmp_path, said):
    X = pt.matrix("X")
    out = slogdet(X @ X.T + 0.1 * pt.eye(X.shape[0]))[1]
    original = compile_with([X], out, {"sizes": {"X[0]": 5000, "X[1]": 4}})
    assert plan(original).decisions[0].problem.n == 5000
    pins = plan(original).save(tmp_path / "pins.yaml")
    again = without_profile(monkeypatch, compile_with, [X], out, pins)
    assert op_names(again) == op_names(original)
    assert "pin" not in said.text


def test_equal_problems_keep_their_own_pins(monkeypatch, tmp_path):
    A, B = pt.matrix(shape=(N, N)), pt.matrix(shape=(N, N))
    outputs = [inv(A), inv(B)]
    rules = [{"force": "cholesky_or_lu"}, {"match": {"fingerprint": "*[#]2"}, "force": "lu"}]
    original = compile_with([A, B], outputs, {"rules": rules})
    assert [d.chosen for d in plan(original).decisions] == ["cholesky_or_lu", "lu"]
    pins = plan(original).save(tmp_path / "pins.yaml")
    again = without_profile(monkeypatch, compile_with, [A, B], outputs, pins)
    assert op_names(again) == op_names(original)
    assert [d.chosen for d in plan(again).decisions] == ["cholesky_or_lu", "lu"]


def test_pins_leave_the_rest_of_the_policy_to_lower_layers(tmp_path):
    saved = load_policy(plan(compiled()).save(tmp_path / "pins.yaml"), layers=False)
    assert saved.given().keys() <= {"version", "accuracy", "rules", "sizes"}
    assert saved.pins == saved.rules == pins_of(plan(compiled())).rules


# -- what pins cannot do --------------------------------------------------------------------------


def test_a_pin_that_finds_nothing_is_said_with_its_place_or_an_error(tmp_path, said):
    pins = plan(compiled()).save(tmp_path / "pins.yaml")
    compile_with([M], inv(M), pins)
    assert "finds nothing" in said.text
    assert f"{pins}:" in said.text
    pins.write_text(pins.read_text() + "missing_pins: error\n")
    with pytest.raises(PolicyError, match="finds nothing"):
        compile_with([M], inv(M), pins)


def test_another_size_is_another_problem(tmp_path, said):
    def sized(n, policy=None):
        A = pt.matrix("A", shape=(n, n))
        return compile_with([A], inv(A), policy)

    sized(31, plan(sized(30)).save(tmp_path / "pins.yaml"))
    assert "finds nothing" in said.text


def test_pins_for_every_compile_are_looked_for_where_one_of_them_is_found(tmp_path, said):
    pins = plan(compiled()).save(tmp_path / "pins.yaml")
    with autotune.enabled(pins):
        A = pt.matrix("A", shape=(30, 30))
        compile_with([A], slogdet(A)[1])
        assert "finds nothing" not in said.text
        compile_with(INPUTS, OUTPUTS[2:])
    assert "finds nothing" in said.text


def test_a_pin_that_cannot_apply_is_an_error_that_names_it(tmp_path):
    A, rhs = pt.matrix("A", shape=(N, N)), pt.vector("rhs", shape=(N,))
    tagged = solve(assume(A, positive_definite=True), rhs)
    pins = plan(compile_with([A, rhs], tagged, forced("cholesky"))).save(tmp_path / "pins.yaml")
    with pytest.raises(PolicyError, match=r"pins\.yaml:\d+: the policy forces 'cholesky'.*positive definite"):
        compile_with([A, rhs], solve(A, rhs), pins)


def test_agreement_names_what_is_pinned_otherwise_what_has_no_pin_and_what_is_lost(tmp_path):
    saved = load_policy(plan(compile_with(INPUTS, OUTPUTS[:4])).save(tmp_path / "pins.yaml"), layers=False)
    same = agreement(saved, plan(compile_with(INPUTS, OUTPUTS[:4])).decisions)
    assert same
    assert {verdict for _, verdict in same.verdicts} == {"as pinned"}
    other = compile_with(INPUTS, [*OUTPUTS[:2], OUTPUTS[4]], {"rules": [{"force": "keep"}]})
    found = agreement(saved, plan(other).decisions)
    assert not found
    assert {verdict for _, verdict in found.verdicts} == {"pinned to woodbury", "no pin"}
    assert [rule.match.structure for rule in found.lost] == [("dense",)]


# -- before autodiff ------------------------------------------------------------------------------


@pytest.mark.pymc
@pytest.mark.parametrize("saved_on", in_turn(MACHINES, 3))
def test_pins_hold_before_autodiff_too(saved_on, monkeypatch, tmp_path, said):
    pm = pytest.importorskip("pymc")

    def model(policy=None):
        with autotune.enabled(policy), pm.Model() as m:
            W, psi = pm.Normal("W", shape=(N, 2)), pm.HalfNormal("psi", shape=N)
            pm.MvNormal("y", 0, cov=W @ W.T + pt.diag(psi), observed=np.ones((3, N)))
            return m.logp_dlogp_function(ravel_inputs=True, mode=python_mode())

    original = on(MACHINES[saved_on], monkeypatch, model)
    pins = plan(original).save(tmp_path / "pins.yaml")
    for again in (
        on(MACHINES["no structure pays"], monkeypatch, model, pins),
        on(MACHINES["nothing but structure pays"], monkeypatch, model, pins),
        without_profile(monkeypatch, model, pins),
    ):
        assert op_names(again._pytensor_function) == op_names(original._pytensor_function)
    assert "pin" not in said.text
