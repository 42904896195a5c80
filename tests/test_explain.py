"""Plans compared, as JSON, of copies, of graphs inside; scripts against plain PyTensor and against pins."""

import contextlib
import functools
import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytensor
import pytensor.tensor as pt
import pytest
import scipy.optimize
from helpers import compile_plain, compile_with, forced, op_names, python_mode
from pytensor.assumptions import assume
from pytensor.compile.builders import OpFromGraph
from pytensor.tensor.linalg import det, inv, slogdet, solve
from typer.testing import CliRunner

import autotune
from autotune.cli import app
from autotune.plan import Plan
from autotune.plan.pins_table import agreement, load_pins
from autotune.plan.session import switched_off

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "reading-a-plan.md").read_text(encoding="utf-8")
N = 300
A, B, b = pt.matrix("A", shape=(N, N)), pt.matrix("B", shape=(N, N)), pt.vector("b", shape=(N,))


def plan(outputs, policy=None):
    return autotune.explain(compile_with([A, B, b], outputs, policy))


# -- differences ----------------------------------------------------------------------------------


def test_equal_plans_do_not_differ_and_say_so():
    diff = plan(inv(A)).diff(plan(inv(A)))
    assert not diff
    assert str(diff) == "The plans do not differ: 1 problem decided alike.\n"


def test_a_difference_names_problems_added_removed_and_decided_otherwise():
    before = plan([inv(A), slogdet(B)[1]], forced("lu"))
    after = plan([inv(A), solve(A + B, b)], forced("keep"))
    diff = before.diff(after)
    assert [(c.before.chosen, c.after.chosen) for c in diff.changed] == [("lu", "keep")]
    [removed], [added] = diff.removed, diff.added
    assert [r.kind for r in removed.problem.requests] == ["logdet"]
    assert [r.kind for r in added.problem.requests] == ["solve"]
    rows = [line.split()[0] for line in str(diff).splitlines()[1:] if line.strip()]
    assert rows == ["otherwise", "removed", "added"]


def test_other_requests_of_the_same_matrix_are_a_change():
    [change] = plan(slogdet(B)[1], forced("lu")).diff(plan(solve(B, b), forced("lu"))).changed
    assert change.what == ("asks logdet -> solve",)


def test_a_difference_in_size_or_tolerance_is_a_change():
    P = assume(A, positive_definite=True)
    loose = {"accuracy": {"solve_rtol": 1e-4}, **forced("cg")}
    assert [c.what for c in plan(solve(P, b), forced("cg")).diff(plan(solve(P, b), loose)).changed] == [
        ("solve_rtol 1e-10 -> 0.0001",)
    ]
    small = pt.matrix("A", shape=(N - 1, N - 1))
    other = autotune.explain(compile_with([small], inv(small), forced("lu")))
    assert [c.what for c in plan(inv(A), forced("lu")).diff(other).changed] == [("n 300 -> 299",)]


def test_prices_differ_only_where_both_are_known():
    before = plan(inv(A), forced("lu"))
    [decision] = before.decisions

    def priced(seconds):
        winner = replace(decision.winner, seconds=seconds)
        return Plan((replace(decision, candidates=(winner,)),))

    assert priced(1.0).diff(priced(2.0)).repriced
    assert not priced(1.0).diff(priced(1.001))
    assert not priced(None).diff(priced(1.0))


# -- JSON -----------------------------------------------------------------------------------------


def test_json_has_everything_that_the_table_shows():
    P = assume(A, positive_definite=True)
    options = {"condition_number": 50, "preconditioner": {"name": "jacobi"}}
    shown = plan([solve(P, b), inv(B)], forced("cg", match={"request": "solve"}, options=options))
    data = json.loads(shown.to_json())
    assert data["whole_function"]["seconds"] == shown.seconds
    for decision, found in zip(shown.decisions, data["decisions"], strict=True):
        assert found["chosen"] == decision.chosen
        assert found["problem"]["fingerprint"] == decision.problem.fingerprint
        assert [c["name"] for c in found["candidates"]] == [c.name for c in decision.candidates]
        assert [c["seconds"] for c in found["candidates"]] == [c.seconds for c in decision.candidates]
        assert [r["kind"] for r in found["problem"]["requests"]] == [
            r.kind for r in decision.problem.requests
        ]
    [conjugate] = [d for d in data["decisions"] if d["chosen"] == "cg"]
    assert conjugate["preconditioner"]["name"] == "jacobi"


# -- whatever calls a compiled function -----------------------------------------------------------


class Wrapper:
    """A function in an attribute, in a property and behind methods."""

    def __init__(self, fn):
        self._fn = fn

    @property
    def fn(self):
        return self._fn

    @staticmethod
    def static(x):
        return compiled_here(x)

    def method(self, x):
        return self._fn(x)

    def by_property(self, x):
        return self.fn(x)

    def __call__(self, x):
        return self.method(x)


class Slotted:
    __slots__ = ("f",)

    def __init__(self, f):
        self.f = f

    def __call__(self, point):
        return self.f(**point)


def compiled_here(x):
    """Stands for a function compiled in a module, which ``caller`` and ``Wrapper.static`` name."""
    return in_this_module["A"](x)


def caller(x):
    return float(compiled_here(x)[0, 0])


in_this_module: dict = {}


def closure(fn):
    def call(x):
        return [fn(row) for row in x]

    return call


def attribute(fn):
    def call(x):
        return x

    call.wrapped = fn
    return call


def wrapped(fn):
    @functools.wraps(fn)
    def call(x):
        return x

    call.__wrapped__ = fn
    return call


def shelved(fn):
    shelf = SimpleNamespace(problem=SimpleNamespace(fn=fn))
    return lambda x: shelf.problem.fn(x)


CALLABLES = {
    "closure": closure,
    "attribute": attribute,
    "__wrapped__": wrapped,
    "partial": lambda fn: functools.partial(fn, value=1),
    "partial of a closure": lambda fn: functools.partial(functools.partial(closure(fn)), 1),
    "argument of a partial": lambda fn: functools.partial(map, fn),
    "default": lambda fn: lambda x, fn=fn: fn(x),
    "method": lambda fn: Wrapper(fn).method,
    "property": lambda fn: Wrapper(fn).by_property,
    "static method": lambda fn: Wrapper(None).static,
    "instance": Wrapper,
    "slots": Slotted,
    "cache": lambda fn: functools.cache(closure(fn)),
    "attribute of an attribute": shelved,
    "list": lambda fn: lambda x, fns=(fn,): fns[0](x),
    "global": lambda fn: caller,
    "in a library's call": lambda fn: lambda x: scipy.optimize.minimize(lambda z: fn(z), x),
}


@pytest.mark.parametrize("wrap", CALLABLES.values(), ids=CALLABLES)
def test_whatever_calls_a_compiled_function_can_be_explained(wrap, monkeypatch):
    fn = compile_with([A], inv(A), forced("lu"))
    monkeypatch.setitem(in_this_module, "A", fn)
    for fn_or_more in (wrap(fn), closure(wrap(fn)), functools.partial(Wrapper(wrap(fn)))):
        assert autotune.explain(fn_or_more).decisions == autotune.explain(fn).decisions


def test_one_that_calls_several_compiled_functions_is_asked_which():
    first, second = (compile_with([A], f(A), forced("lu")) for f in (inv, det))
    with pytest.raises(TypeError, match=r"calls 2 compiled PyTensor functions\. Give one of them"):
        autotune.explain(lambda x: (first(x), second(x)))
    nearest = functools.partial(first, closure(second))
    assert autotune.explain(nearest).decisions == autotune.explain(first).decisions


@pytest.mark.parametrize("holder", [print, len, Wrapper, Wrapper(None), lambda x: x, pytensor.function, None])
def test_one_that_calls_none_is_told_so(holder):
    with pytest.raises(TypeError, match="holds no compiled PyTensor function"):
        autotune.explain(holder)


# -- copies and graphs inside ---------------------------------------------------------------------


def test_a_copy_of_a_function_keeps_its_plan():
    fn = compile_with([A], [inv(A), A + 1], forced("lu"))
    assert autotune.explain(fn.copy()).decisions == autotune.explain(fn).decisions


def test_a_plain_compile_of_tuned_expressions_has_no_plan():
    tuned = autotune.tune(slogdet(A)[1])
    with pytest.raises(ValueError, match="compiled without autotune"):
        autotune.explain(pytensor.function([A], tuned, mode=python_mode()))


def inside_op(x):
    inner = pt.matrix("inner", shape=(N, N))
    return OpFromGraph([inner], [slogdet(inner @ inner.T + pt.eye(N))[1]])(x)


def inside_scan(x):
    start = pt.constant(1.0, dtype="float64")
    return pytensor.scan(
        lambda s, x: slogdet(x + s)[1], outputs_info=start, non_sequences=x, n_steps=3, return_updates=False
    )[-1]


@pytest.mark.parametrize("wrapped", [inside_op, inside_scan])
def test_decisions_in_graphs_inside_are_explained(wrapped):
    outputs = [wrapped(A), inv(B)]
    shown = plan(outputs, forced("lu"))
    assert [[r.kind for r in d.problem.requests] for d in shown.decisions] == [["inverse"]]
    [inner] = shown.inner
    assert [d.chosen for d in inner.decisions] == ["lu"]
    assert "in a graph inside:" in str(shown)
    assert json.loads(shown.to_json())["inner"][0]["decisions"][0]["chosen"] == "lu"
    assert plan(inv(B), forced("lu")).inner == ()


def test_switched_off_every_compile_is_pytensors_own():
    with switched_off(), autotune.enabled(forced("lu")):
        fn = compile_with([A], autotune.tune(inv(A)), forced("lu"))
    assert autotune.explain(fn).decisions == ()
    assert op_names(fn) == op_names(compile_plain([A], inv(A)))


# -- the command ----------------------------------------------------------------------------------

SCRIPT = """
import numpy as np
import pytensor, pytensor.tensor as pt
from pytensor.compile.mode import Mode
import part

A = pt.matrix("A", shape=(60, 60))
mode = Mode(linker="py", optimizer="fast_run").excluding("inplace", "fusion")
value = np.eye(60) + 0.1
f = pytensor.function([A], [pt.linalg.inv(A), pt.linalg.slogdet(A)[1]], mode=mode)
g = pytensor.function([A], pt.linalg.det(A), mode=mode)
h = pytensor.function([A], A + 1, mode=mode)
h(value), f(A=value), part.fn(value)
print("script was here")
"""
PART = """
import pytensor, pytensor.tensor as pt
from pytensor.compile.mode import Mode

A = pt.matrix("A", shape=(60, 60))
mode = Mode(linker="py", optimizer="fast_run").excluding("inplace", "fusion")
fn = pytensor.function([A], pt.linalg.inv(A @ A.T + pt.eye(60)).sum(), mode=mode)
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "part.py").write_text(PART)
    path = tmp_path / "model.py"
    path.write_text(SCRIPT)
    return path


def run(*words):
    """The command in a process that has not yet imported ``part``."""
    sys.modules.pop("part", None)
    return CliRunner().invoke(app, [str(w) for w in words])


def test_compare_measures_what_the_script_calls_and_names_the_rest(script):
    result = run("explain", "--compare", "--seconds", 0, script)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("script was here") == 1
    notes = re.findall(r"^(?:measured|not compared): .*$", result.stdout, re.MULTILINE)
    assert len(notes) == 3
    assert [note.split(":")[0] for note in notes] == ["measured", "measured", "not compared"]
    assert notes[2] == "not compared: never called"
    for note in notes[:2]:
        assert "times as fast" in note
        assert float(note.rsplit(" ", 1)[1]) < 1e-8


def test_json_is_all_that_is_printed(script):
    result = run("explain", "--compare", "--seconds", 0, "--json", script)
    data = json.loads(result.stdout)
    assert "script was here" in result.stderr
    assert ["why_not" in f["measured"] for f in data["functions"]] == [False, False, True]
    first = data["functions"][0]
    assert first["measured"]["plain_seconds"] > 0
    assert first["decisions"][0]["candidates"]


def test_a_function_that_plain_pytensor_never_gets_is_not_compared(script):
    only_tuned = "import autotune.plan.session as s\nif s.is_switched_off(): raise SystemExit\n"
    script.write_text(SCRIPT.replace("f = ", only_tuned + "f = "))
    result = run("explain", "--compare", "--seconds", 0, script)
    assert result.exit_code == 0
    assert "not compared: the script made another function in its place" in result.stdout


def test_pins_are_compared_with_a_script(script, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules:\n  - force: lu\n")
    part = PART + "import autotune\nautotune.explain(fn).save('pins.yaml')\n"
    (tmp_path / "part.py").write_text(part.replace("'pins.yaml'", repr(str(tmp_path / "pins.yaml"))))
    assert run("explain", "--policy", policy, script).exit_code == 0
    script.write_text("import part")
    (tmp_path / "part.py").write_text(PART)
    agrees = run("explain", "--policy", policy, "--pins", tmp_path / "pins.yaml", script)
    assert agrees.exit_code == 0, agrees.output
    assert "1 of 1 decisions as pinned" in agrees.stdout
    policy.write_text("rules:\n  - force: keep\n")
    differs = run("explain", "--policy", policy, "--pins", tmp_path / "pins.yaml", script)
    assert differs.exit_code == 1
    assert "pinned to lu" in differs.stdout


def test_a_policy_without_pins_is_no_saved_plan(script, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules:\n  - force: lu\n")
    result = run("explain", "--pins", policy, script)
    assert result.exit_code == 1
    assert f"{policy}: found no pins" in result.stderr


def test_rules_beside_pins_do_not_make_a_decision_as_pinned(tmp_path):
    saved = plan(inv(A), forced("lu")).save(tmp_path / "pins.yaml")
    saved.write_text(saved.read_text() + "- force: lu\n  match: {name: B}\n")
    found = agreement(load_pins(saved), plan([inv(A), inv(B)], forced("lu")).decisions)
    assert {d.problem.name: verdict for d, verdict in found.verdicts} == {"A": "as pinned", "B": "no pin"}


@pytest.mark.parametrize("missing", ["warn", "error"])
def test_pins_in_force_that_find_nothing_in_a_whole_script_are_told(missing, script, tmp_path):
    small = pt.matrix("A", shape=(50, 50))
    pins = autotune.explain(compile_with([small], inv(small), forced("lu"))).save(tmp_path / "pins.yaml")
    pins.write_text(f"{pins.read_text()}missing_pins: {missing}\n")
    script.write_text("import part\nraise SystemExit(0)")
    result = run("explain", "--json", "--policy", pins, script)
    assert result.exit_code == (1 if missing == "error" else 0)
    assert re.search(rf"{re.escape(str(pins))}:\d+: the pin of 'lu' on inverse.*finds nothing", result.stderr)
    assert json.loads(result.stdout)["functions"]
    (tmp_path / "part.py").write_text(
        PART.replace("(60, 60)", "(50, 50)").replace("A @ A.T + pt.eye(60)", "A")
    )
    again = run("explain", "--policy", pins, script)
    assert again.exit_code == 0
    assert "finds nothing" not in again.stderr


@pytest.mark.parametrize("words", [(), ("--compare", "--seconds", 0)])
def test_every_function_of_a_script_has_the_price_that_explain_gives_it(words, script):
    result = run("explain", *words, script)
    assert result.stdout.count("\nwhole function: ") == 3
    found = json.loads(run("explain", *words, "--json", script).stdout)["functions"][1]
    again = pt.matrix("A", shape=(60, 60))
    whole = autotune.explain(compile_with([again], [inv(again), slogdet(again)[1]]))
    assert found["whole_function"]["seconds"] == pytest.approx(whole.seconds)


# -- the guide ------------------------------------------------------------------------------------

BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "block", [pytest.param(block, marks=[pytest.mark.pymc] if "pymc" in block else []) for block in BLOCKS]
)
def test_every_block_of_the_guide_runs(block, tmp_path, monkeypatch):
    if "pymc" in block:
        pytest.importorskip("pymc")
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(block, "reading-a-plan.md", "exec"), {"__name__": "guide"})


def test_links_of_the_guide_lead_somewhere():
    targets = re.findall(r"\]\(([^)#:]+)\)", GUIDE)
    assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []
