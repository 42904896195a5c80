"""Which candidates `effort: measure` times: those near the best and `keep`, or all that apply."""

import pytensor.tensor as pt
import pytest
from helpers import compile_with, diagonal_plus_low_rank, forced
from measuring_helpers import DENSE, MEASURE, OUTPUTS, A, Clock, b, compiled, plan

from autotune.choose import choose
from autotune.evidence import measured
from autotune.plan.pins import pins_of
from autotune.policy import Policy
from autotune.problem import Problem, Request, dense
from cost_models import generic_profile


def decision_on(problem, **policy):
    return choose(problem, Policy.model_validate(policy), generic_profile())


def wanted(problem, effort="measure", **policy):
    in_force = Policy.model_validate({"effort": effort, **policy})
    return measured._wanted(choose(problem, in_force, generic_profile()), in_force)


GENERAL = Problem((Request("solve", 1, form="gen"), Request("logdet", form="lu")), dense(500))
WIDE = Problem(GENERAL.requests, diagonal_plus_low_rank(500, 5), positive_definite=True)


def test_measure_times_what_is_near_the_best_and_keep():
    assert set(wanted(WIDE)) == {"woodbury", "keep"}
    assert set(wanted(DENSE)) == {"cholesky", "keep"}
    assert set(wanted(GENERAL)) == {"lu", "cholesky_or_lu", "keep"}


def test_exhaustive_times_all_that_applies_and_fits():
    assert set(wanted(DENSE, "exhaustive")) == {"cholesky", "cholesky_or_lu", "lu", "keep"}
    assert set(wanted(WIDE, "exhaustive")) >= {"woodbury", "cholesky", "lu", "keep"}
    assert wanted(DENSE, "exhaustive", memory_limit=500 * 500 * 8 * 3) == ()


def test_forbidden_candidates_are_not_timed():
    assert set(wanted(DENSE, "exhaustive", rules=[{"forbid": ["lu", "keep"]}])) == {
        "cholesky",
        "cholesky_or_lu",
    }


def test_conjugate_gradients_are_not_timed_without_a_reason():
    solves = Problem((Request("solve", 1, form="pos"),), term=dense(4000), positive_definite=True)
    assert "cg" not in wanted(solves, "exhaustive")
    assert "cg" in wanted(solves, "exhaustive", rules=[{"options": {"condition_number": 10}}])
    assert "lanczos" not in wanted(DENSE, "exhaustive", rules=[{"options": {"condition_number": 10}}])


def test_a_budget_leaves_out_the_slowest_by_price():
    seconds = {c.name: c.seconds for c in decision_on(DENSE).candidates}
    just_two = 1.01 * (measured.ROUNDS[0] + 2) * (seconds["cholesky"] + seconds["cholesky_or_lu"])
    assert wanted(DENSE, "exhaustive", effort_budget=just_two) == ("cholesky", "cholesky_or_lu")
    assert len(wanted(DENSE, "exhaustive", effort_budget=just_two / 3)) < 2


@pytest.mark.parametrize(
    "policy", [forced("lu"), {"rules": [{"match": {"request": "solve"}, "force": "keep"}]}]
)
def test_what_is_forced_is_not_timed(policy, monkeypatch):
    clock = Clock(monkeypatch)
    compiled(MEASURE | policy)
    assert clock.timed == []


def test_unknown_sizes_are_estimated(monkeypatch):
    clock = Clock(monkeypatch)
    M, v = pt.matrix("M"), pt.vector("v")
    compiled(outputs=[pt.linalg.solve(M, v), pt.linalg.slogdet(M)[1]], inputs=[M, v])
    assert clock.timed == []


def test_a_pinned_choice_is_the_measured_one_and_needs_no_times(monkeypatch):
    clock = Clock(monkeypatch, keep=2.0, cholesky=2.5, cholesky_or_lu=2.5, lu=1.0)
    found = plan(compiled(MEASURE | {"effort": "exhaustive"}))
    assert found.decisions[0].chosen == "lu"
    pinned = plan(compile_with([A, b], OUTPUTS, pins_of(found)))
    assert pinned.decisions[0].chosen == "lu"
    compile_with([A, b], OUTPUTS, {"effort": "measure", **pins_of(found).model_dump(exclude_unset=True)})
    assert len(clock.timed) == 1
