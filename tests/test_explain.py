"""Plans compared, as JSON, of whatever calls a compiled function, of copies, of graphs inside."""

import functools
import json
from dataclasses import replace
from types import SimpleNamespace

import pytensor
import pytensor.tensor as pt
import pytest
import scipy.optimize
from helpers import compile_plain, compile_with, forced, op_names, python_mode
from pytensor.assumptions import assume
from pytensor.compile.builders import OpFromGraph
from pytensor.tensor.linalg import det, inv, slogdet, solve

import autotune
from autotune.plan import Plan
from autotune.plan.pins_table import agreement, load_pins
from autotune.plan.session import switched_off

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


def test_rules_beside_pins_do_not_make_a_decision_as_pinned(tmp_path):
    saved = plan(inv(A), forced("lu")).save(tmp_path / "pins.yaml")
    saved.write_text(saved.read_text() + "- force: lu\n  match: {name: B}\n")
    found = agreement(load_pins(saved), plan([inv(A), inv(B)], forced("lu")).decisions)
    assert {d.problem.name: verdict for d, verdict in found.verdicts} == {"A": "as pinned", "B": "no pin"}


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
