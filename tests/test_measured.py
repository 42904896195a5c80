"""`effort: measure`: times decide, once; estimate takes none; a store that is damaged is refused."""

import json
import logging
import re
from types import SimpleNamespace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_plain, compile_with, forced, op_names, python_mode, relative_error, spd
from pytensor.assumptions import assume

import autotune
from autotune.choose import choose
from autotune.measuring import choice, graphs, store, timing, trials
from autotune.measuring.store import Entry
from autotune.plan.feature import compiled_plan
from autotune.plan.pins import pins_of
from autotune.policy import Policy
from autotune.problem import Problem, Request
from autotune.strategies import STRATEGIES
from autotune.strategies.keep import PlainSolver
from cost_models import generic_profile
from cost_models.fingerprint import Fingerprint

N, K = 60, 2
A, b = pt.matrix("A", shape=(N, N)), pt.vector("b", shape=(N,))
U, d = pt.matrix("U", shape=(N, K)), pt.vector("d", shape=(N,))
P = assume(A, positive_definite=True)
OUTPUTS = [pt.linalg.solve(P, b), pt.linalg.slogdet(P)[1]]
MEASURE = {"effort": "measure", "effort_budget": 0.05}


class Clock:
    """Stands for `fastest_of`: counts, notes what is timed, and gives the times it is told."""

    def __init__(self, monkeypatch, **seconds):
        self.seconds, self.timed = seconds, []
        monkeypatch.setattr(trials, "fastest_of", self)

    def __call__(self, functions, arguments, budget):
        self.timed.append(tuple(functions))
        return {name: self.seconds.get(name, 1.0) for name in functions}


def plan(fn):
    return compiled_plan(fn.maker.fgraph)


def compiled(policy=MEASURE, outputs=OUTPUTS, inputs=(A, b)):
    return compile_with(list(inputs), outputs, policy)


def stored_files():
    return sorted(store.measured_dir().glob("*/*.json"))


# -- when times are taken -------------------------------------------------------------------------


def test_estimate_times_nothing_and_stores_nothing(monkeypatch):
    monkeypatch.setattr(timing, "_sample", lambda *_: pytest.fail("timed"))
    monkeypatch.setattr(graphs.StandIn, "function", lambda *_: pytest.fail("compiled"))
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
    assert all(0 < seconds < 1 for seconds in timed.values())
    assert re.search(r"algorithm +time +measured +memory +why", str(found))
    in_json = json.loads(found.to_json())["decisions"][0]["candidates"]
    assert {c["name"]: c["measured"] for c in in_json if c["measured"]} == timed


def test_a_plan_without_times_has_no_column_for_them():
    assert "measured" not in str(plan(compiled(None)))


@pytest.mark.parametrize(
    "change",
    [
        {"n": 61},
        {"dtype": "float32"},
        {"batch": 3},
        {"linker": "perform"},
        {"differentiated": True},
        {"requests": (Request("solve", 2), Request("logdet"))},
        {"requests": (Request("solve", form="pos"), Request("logdet"))},
        {"positive_definite": False},
        {"given": True},
    ],
)
def test_what_changes_the_work_changes_the_key(change):
    problem = Problem((Request("solve"), Request("logdet")), n=60, positive_definite=True)
    changed = Problem(**{"requests": problem.requests, "n": 60, "positive_definite": True, **change})
    paths = {store.path_of(store.key_of(p, {}, "NumbaLinker")) for p in (problem, changed)}
    assert len(paths) == 2
    named = Problem(problem.requests, n=60, positive_definite=True, name="K", source="x.py:1")
    assert store.key_of(named, {}, "NumbaLinker") == store.key_of(problem, {}, "NumbaLinker")


@pytest.mark.parametrize("attribute", ["fingerprint", "installed_version", "_code"])
def test_another_machine_library_or_code_is_timed_anew(attribute, monkeypatch):
    clock = Clock(monkeypatch)
    compiled()
    others = {
        "fingerprint": lambda: Fingerprint("other", 1, "b", "0", 1, "numba", 1),
        "installed_version": lambda name: "0.0",
        "_code": lambda: "changed",
    }
    monkeypatch.setattr(store, attribute, others[attribute])
    compiled()
    assert len(clock.timed) == 2


# -- which candidates -----------------------------------------------------------------------------


def decision_on(problem, **policy):
    return choose(problem, Policy.model_validate(policy), generic_profile())


def wanted(problem, effort="measure", **policy):
    in_force = Policy.model_validate({"effort": effort, **policy})
    return choice._wanted(choose(problem, in_force, generic_profile()), in_force)


DENSE = Problem(
    (Request("solve", 1, form="gen"), Request("logdet", form="lu")), n=500, positive_definite=True
)
GENERAL = Problem((Request("solve", 1, form="gen"), Request("logdet", form="lu")), n=500)
WIDE = Problem(GENERAL.requests, n=500, structure=("diagonal", "low_rank"), rank=5, positive_definite=True)


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
    solves = Problem((Request("solve", 1, form="pos"),), n=4000, positive_definite=True)
    assert "cg" not in wanted(solves, "exhaustive")
    assert "cg" in wanted(solves, "exhaustive", rules=[{"options": {"condition_number": 10}}])
    assert "lanczos" not in wanted(DENSE, "exhaustive", rules=[{"options": {"condition_number": 10}}])


def test_a_budget_leaves_out_the_slowest_by_price():
    seconds = {c.name: c.seconds for c in decision_on(DENSE).candidates}
    just_two = 1.01 * (choice.ROUNDS[0] + 2) * (seconds["cholesky"] + seconds["cholesky_or_lu"])
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
    assert choice.fastest(seconds, "cholesky") == chosen


def test_the_measured_choice_is_what_is_built_and_right(monkeypatch):
    Clock(monkeypatch, keep=2.0, cholesky=2.5, cholesky_or_lu=2.5, lu=1.0)
    fn = compiled(MEASURE | {"effort": "exhaustive"})
    assert any("SharedLU" in name for name in op_names(fn))
    rng = np.random.default_rng(1)
    values = spd(N, rng), rng.normal(size=N)
    for found, expected in zip(fn(*values), compile_plain([A, b], OUTPUTS)(*values), strict=True):
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
    monkeypatch.setattr("autotune.rewriting.get_active_mode", lambda fgraph: python_mode())
    tuned = autotune.tune(loss, MEASURE | {"effort": "exhaustive"})
    gradients = pt.grad(tuned, [U, d])
    fn = compile_with([U, d, b], [tuned, *gradients])
    assert plan(fn).decisions[0].before_autodiff
    assert plan(fn).decisions[0].chosen == "woodbury"
    assert {"keep", "woodbury", "lu"} <= set(clock.timed[0])


# -- stand-ins ------------------------------------------------------------------------------------


def answers(problem, name):
    inputs = graphs.stand_in(problem)
    decision = choose(problem, Policy(), generic_profile())
    return inputs.function(decision, name, python_mode())(*inputs.values)


STAND_INS = {
    "PD": Problem((Request("solve", 3), Request("logdet", form="lu")), n=7, positive_definite=True),
    "by a factor": Problem(
        tuple(Request(kind, 2, form="cholesky") for kind in ("solve", "inv_quad", "logdet")),
        n=7,
        positive_definite=True,
        symmetric=True,
    ),
    "symmetric": Problem(
        (Request("solve", 1, form="sym"), Request("inverse", form="inverse")), n=6, symmetric=True
    ),
    "general": Problem(
        (Request("solve", 2), Request("solve", 2, True), Request("determinant", form="lu")), n=6
    ),
    "inverse": Problem(
        (Request("solve", 2, form="inverse"), Request("inverse_diagonal", form="inverse")), n=6
    ),
    "batch": Problem((Request("solve", 2), Request("logdet", form="lu")), n=4, batch=3),
    "given": Problem((Request("solve"), Request("logdet", form="lu")), n=5, given=True),
    "single": Problem((Request("solve", 2, form="pos"),), n=5, positive_definite=True, dtype="float32"),
    "low rank": Problem(
        (Request("solve", 1, form="pos"), Request("logdet", form="lu")),
        n=8,
        rank=2,
        structure=("diagonal", "low_rank"),
        positive_definite=True,
        symmetric=True,
    ),
    "low rank, general": Problem(
        (Request("solve", 2), Request("logdet", form="lu")),
        n=8,
        rank=1,
        structure=("low_rank", "diagonal"),
        symmetric_terms=False,
        nonnegative_weights=False,
    ),
    "shared": Problem(
        (Request("solve", 1),), n=8, rank=2, structure=("diagonal", "low_rank"), shared=True, symmetric=True
    ),
}


@pytest.mark.parametrize("differentiated", [False, True], ids=["value", "gradient"])
@pytest.mark.parametrize("name", STAND_INS)
def test_every_candidate_agrees_on_the_stand_in(name, differentiated):
    given = STAND_INS[name]
    problem = Problem(**{**vars(given), "differentiated": differentiated, "linker": "perform"})
    assert graphs.has_stand_in(problem)
    decision = choose(problem, Policy(), generic_profile())
    applicable = [c.name for c in decision.candidates if c.seconds is not None]
    candidates = dict.fromkeys(applicable, decision)
    functions, ruled_out = trials._agreeing(graphs.stand_in(problem), candidates, python_mode())
    assert ruled_out == {}
    assert set(functions) == set(applicable) >= {"keep"}


def test_keep_on_a_stand_in_solves_in_the_form_that_was_written():
    ops = {}
    for form in ("gen", "sym", "inverse", "cholesky"):
        problem = Problem((Request("solve", 1, form=form),), n=5, positive_definite=form == "cholesky")
        inputs = graphs.stand_in(problem)
        fn = inputs.function(choose(problem, Policy(), generic_profile()), "keep", python_mode())
        ops[form] = " ".join(op_names(fn))
    assert "Cholesky" in ops["cholesky"]
    assert "MatrixInverse" in ops["inverse"]
    assert "assume_a='sym'" in ops["sym"]
    assert "assume_a='gen'" in ops["gen"]


@pytest.mark.parametrize(("matrix", "given"), [(A, True), (P, True), (A.T, True), (A + 1, False)])
def test_a_matrix_that_is_computed_may_be_overwritten(matrix, given):
    fn = compile_with([A, b], [pt.linalg.solve(matrix, b), pt.linalg.slogdet(matrix)[1]])
    [decision] = plan(fn).decisions
    assert decision.problem.given is given


def test_there_is_no_stand_in_for_what_is_not_known():
    unknown = Problem((Request("solve"),), n=None)
    jax = Problem((Request("solve"),), n=5, linker=None)
    other = Problem((Request("solve"),), n=5, structure=("banded",))
    assert not any(map(graphs.has_stand_in, (unknown, jax, other)))


# -- the store ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    {
        "truncated": lambda text: text[: len(text) // 2],
        "empty": lambda text: "",
        "not an object": lambda text: "[1, 2]",
        "binary": lambda text: "\0\1",
        "another schema": lambda text: text.replace('"schema": 1', '"schema": 99'),
        "of another machine": lambda text: text.replace('"cpu": "', '"cpu": "other '),
        "negative seconds": lambda text: re.sub(r'"keep": [0-9.e+-]+', '"keep": -1.0', text),
        "seconds as text": lambda text: re.sub(r'"keep": [0-9.e+-]+', '"keep": "soon"', text),
        "NaN seconds": lambda text: re.sub(r'"keep": [0-9.e+-]+', '"keep": NaN', text),
        "no seconds": lambda text: text.replace('"seconds"', '"second"'),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_damaged_or_foreign_file_is_refused_with_one_line_and_rebuilt(damage, monkeypatch, caplog):
    clock = Clock(monkeypatch)
    compiled()
    [path] = stored_files()
    whole = path.read_text()
    path.write_text(damage[1](whole))
    assert path.read_text() != whole
    with caplog.at_level(logging.WARNING, "autotune"):
        compiled()
    [line] = set(caplog.messages)
    assert line.startswith(f"{path} cannot be used (")
    assert line.endswith("; the candidates are timed again.")
    assert len(clock.timed) == 2
    caplog.clear()
    compiled()
    assert caplog.messages == []
    assert len(clock.timed) == 2


def test_a_home_that_cannot_be_written_costs_one_line_and_no_choice(monkeypatch, caplog, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("AUTOTUNE_HOME", str(blocked))
    Clock(monkeypatch, keep=2.0, cholesky=1.0)
    with caplog.at_level(logging.WARNING, "autotune"):
        assert plan(compiled()).decisions[0].chosen == "cholesky"
    assert any("cannot be stored" in line for line in caplog.messages)


def test_entries_survive_a_round_through_the_store():
    key = store.key_of(DENSE, {}, "NumbaLinker")
    assert store.load(key) is None
    entry = Entry({"keep": 1e-3, "lu": 2e-3}, {"cholesky": "failed"}, 0.5)
    store.save(key, entry)
    found = store.load(key)
    assert (found.seconds, found.ruled_out, found.spent) == (entry.seconds, entry.ruled_out, 0.5)
    assert store.outdated(key) == ""
    assert store.clear() == 1
    assert store.load(key) is None
