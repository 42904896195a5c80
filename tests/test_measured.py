"""`effort: measure`: times decide, once; estimate takes none."""

import json
import logging
import re
from types import SimpleNamespace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_raw, compile_with, op_names, python_mode, relative_error, spd
from measuring_helpers import MEASURE, OUTPUTS, A, Clock, K, N, b, compiled, plan

import autotune
from autotune.algebra.plain import PlainSolver
from autotune.evidence import measured, stand_ins, store, timing, trials
from autotune.strategies import STRATEGIES

U, d = pt.matrix("U", shape=(N, K)), pt.vector("d", shape=(N,))


# -- when times are taken -------------------------------------------------------------------------


def test_estimate_times_nothing_and_stores_nothing(monkeypatch):
    monkeypatch.setattr(timing, "_sample", lambda *_: pytest.fail("timed"))
    monkeypatch.setattr(stand_ins.StandIn, "function", lambda *_: pytest.fail("compiled"))
    decision = plan(compiled({"effort": "estimate"})).decisions[0]
    assert all(c.measured is None for c in decision.candidates)
    assert not store.measured_dir().exists()


def test_a_second_compile_times_nothing_and_decides_alike(monkeypatch):
    clock = Clock(monkeypatch, keep=1.0, cholesky=3.0, cholesky_or_lu=2.0)
    first = plan(compiled())
    assert len(clock.timed) == 1
    second = plan(compiled())
    assert len(clock.timed) == 1
    assert first == second
    assert first.decisions[0].chosen == "keep"


def test_times_are_really_taken_and_shown_beside_prices():
    found = plan(compiled(MEASURE | {"effort": "exhaustive"}))
    timed = {c.name: c.measured for c in found.decisions[0].candidates if c.measured is not None}
    assert set(timed) >= {"keep", "cholesky", "lu"}
    assert all(seconds > 0 for seconds in timed.values())
    assert re.search(r"algorithm +time +measured +memory +why", str(found))
    in_json = json.loads(found.to_json())["decisions"][0]["candidates"]
    assert {c["name"]: c["measured"] for c in in_json if c["measured"]} == timed


def test_a_plan_without_times_has_no_column_for_them():
    assert "measured" not in str(plan(compiled(None)))


# -- the choice -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"cholesky": 1.0, "lu": 0.9, "keep": 1.5}, "lu"),
        ({"cholesky": 1.019, "lu": 1.0, "keep": 1.5}, "cholesky"),
        ({"cholesky": 1.021, "lu": 1.0, "keep": 1.5}, "lu"),
        ({"cholesky": 1.5, "lu": 1.0, "keep": 1.019}, "keep"),
        ({"cholesky": 1.0, "lu": 1.0, "keep": 1.0}, "cholesky"),
        ({"lu": 1.0, "keep": 1.021}, "lu"),
    ],
)
def test_of_nearly_equal_times_the_choice_by_prices_stands_or_else_keep(seconds, chosen):
    assert measured.fastest(seconds, "cholesky") == chosen


def test_the_measured_choice_is_what_is_built_and_right(monkeypatch):
    Clock(monkeypatch, keep=2.0, cholesky=2.5, cholesky_or_lu=2.5, lu=1.0)
    fn = compiled(MEASURE | {"effort": "exhaustive"})
    assert any("SharedLU" in name for name in op_names(fn))
    rng = np.random.default_rng(1)
    values = spd(N, rng), rng.normal(size=N)
    for found, expected in zip(fn(*values), compile_raw([A, b], OUTPUTS)(*values), strict=True):
        assert relative_error(found, expected) < 1e-12


def test_a_candidate_that_fails_or_errs_is_out_with_its_reason(monkeypatch):
    Clock(monkeypatch)
    by_name = {s.name: s for s in STRATEGIES}

    class Wrong(PlainSolver):
        def solve(self, rhs, transposed=False):
            return 2 * super().solve(rhs, transposed)

    def fails(system, options):
        raise RuntimeError("no such routine")

    monkeypatch.setattr(by_name["lu"], "solver", lambda s, o: Wrong(s.operator.to_dense(), True, True), False)
    monkeypatch.setattr(by_name["cholesky"], "solver", fails, False)
    decision = plan(compiled(MEASURE | {"effort": "exhaustive"})).decisions[0]
    assert decision.candidate("cholesky").reason == "RuntimeError when it was tried: no such routine"
    assert decision.candidate("lu").reason.startswith("its answers differed by 1.0e+00")
    assert decision.candidate("lu").measured is None
    assert decision.chosen == "keep"


def test_a_failure_of_all_leaves_the_estimate_with_one_line(monkeypatch, caplog):
    def broken(*_):
        raise OSError("no clock")

    estimated = plan(compiled({"effort": "estimate"}))
    monkeypatch.setattr(trials, "fastest_of", broken)
    with caplog.at_level(logging.WARNING, "autotune"):
        assert plan(compiled()) == estimated
    [line] = caplog.messages
    assert line == "The matrix A (n=60) could not be timed, so prices decide: OSError: no clock"


def test_a_spent_budget_leaves_the_rest_to_the_next_compile(monkeypatch, caplog):
    B, c = pt.matrix("B", shape=(N + 9, N + 9)), pt.vector("c", shape=(N + 9,))
    outputs = [*OUTPUTS, pt.linalg.solve(B, c), pt.linalg.slogdet(B)[1]]
    clock = Clock(monkeypatch)
    ticks = SimpleNamespace(perf_counter=iter(range(0, 1000, 10)).__next__)
    monkeypatch.setattr(trials, "time", ticks)
    with caplog.at_level(logging.WARNING, "autotune"):
        compiled(outputs=outputs, inputs=[A, b, B, c])
    assert len(clock.timed) == 1
    assert caplog.messages[0].startswith("effort_budget is spent: The matrix")
    compiled(outputs=outputs, inputs=[A, b, B, c])
    assert len(clock.timed) == 2


def test_nan_and_infinity_agree_only_with_themselves():
    differ = trials.differences
    assert differ([np.array([1.0, np.nan])], [np.array([1.0, np.nan])]) == 0
    assert differ([np.array([np.nan, 1.0])], [np.array([1.0, 1.0])]) == np.inf
    assert differ([np.array([1.0, 1.0])], [np.array([1.0, np.inf])]) == np.inf
    assert differ([np.array(2.0)], [np.array([2.0])]) == np.inf
    assert differ([np.array([1.0, 3.0])], [np.array([1.0, 4.0])]) == 0.25


# -- around other compiles ------------------------------------------------------------------------


def test_trial_compiles_do_not_appear_in_a_session_nor_measure_in_turn(monkeypatch):
    clock = Clock(monkeypatch)
    with autotune.enabled(MEASURE) as session:
        pytensor.function([A, b], OUTPUTS, mode=python_mode())
    assert len(session.plans) == 1
    assert len(clock.timed) == 1


def test_before_autodiff_the_backward_pass_is_timed_too(monkeypatch):
    clock = Clock(monkeypatch, keep=3.0, cholesky=2.0, woodbury=1.0)
    structured = U @ U.T + pt.diag(d)  # not known to be positive definite
    loss = b @ pt.linalg.solve(structured, b) + pt.linalg.slogdet(structured)[1]
    monkeypatch.setattr("autotune.rewrite.passes.get_active_mode", lambda fgraph: python_mode())
    tuned = autotune.tune(loss, MEASURE | {"effort": "exhaustive"})
    gradients = pt.grad(tuned, [U, d])
    fn = compile_with([U, d, b], [tuned, *gradients])
    assert plan(fn).decisions[0].before_autodiff
    assert plan(fn).decisions[0].chosen == "woodbury"
    assert {"keep", "woodbury", "lu"} <= set(clock.timed[0])
