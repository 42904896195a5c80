"""The whole chain can fail: wrong answers are found, made small, and shown by a script."""

import subprocess
import sys

import pytest
from pytensor.graph.traversal import ancestors, toposort

from fuzz import checks, shrink, trial
from fuzz.choices import Choices
from fuzz.compiling import RAW, function
from fuzz.script import script
from fuzz.trial import run_seed
from fuzz.values import KINDS, draw

pytestmark = pytest.mark.filterwarnings("ignore")
TRIED = 30  # seeds, of which many solve


def solves(variable):
    nodes = [v.owner for v in ancestors([variable]) if v.owner is not None]
    return any(type(getattr(node.op, "core_op", node.op)).__name__ == "Solve" for node in nodes)


def wrong_where_it_solves(case, *_, **__):
    """In place of the tuned function: one that is wrong wherever a `Solve` has a part in an output."""
    outs = [1.5 * o if o.dtype == "float64" and solves(o) else o for o in case.outputs]
    return function(case.variables, outs, RAW)


def found():
    """The first trial that meets the wrong answers, and its outcome."""
    for seed in range(TRIED):
        kept = []
        outcome = run_seed(seed, linker="py", keep=kept)
        assert not outcome.status.startswith("error"), outcome.facts["fuzzer"]
        if outcome.faults and len(list(toposort(kept[0].case.outputs))) > 20:
            return kept[0], outcome
    raise AssertionError("no fault was found")


@pytest.fixture(scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "tuned_function", wrong_where_it_solves)
        patch.setattr(shrink, "tuned_function", wrong_where_it_solves)
        patch.setattr(checks, "explanation", lambda fn: (None, []))
        one, outcome = found()
        kind = outcome.faults[0].kind
        assert kind == "value"
        return shrink.shrunk(next(p for p in shrink.programs(one, kind) if shrink.still_fails(p)))


def test_a_wrong_answer_is_found_and_made_small(small):
    assert len(list(toposort(list(small.values), blockers=list(small.variables)))) <= 2
    assert solves(small.values[0])


def test_the_script_says_pass_for_what_is_right_and_fail_for_what_is_wrong(small, tmp_path):
    text = script(small, 0, "some text")
    spoilt = text.replace("derived(outs)", "derived([2 * out for out in outs])")
    assert text != spoilt
    for body, said in ((text, "PASS value"), (spoilt, "FAIL value")):
        path = tmp_path / "case.py"
        path.write_text(body)
        done = subprocess.run([sys.executable, path], capture_output=True, text=True)
        assert said in done.stdout, done.stdout + done.stderr


def test_decisions_and_numbers_are_those_of_any_machine():
    c = Choices("some", 1)
    assert [c.integer(0, 100) for _ in range(5)] == [38, 32, 4, 22, 28]
    assert float(draw(c.numbers(), (), "normal")) == pytest.approx(-0.571224, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_number_has_every_size(kind):
    for n in (0, 1, 2, 5):
        assert draw(Choices(kind).numbers(), (3, n, n), kind).shape == (3, n, n)


def test_a_trial_is_a_function_of_its_seed():
    one, other = (run_seed(6, linker="py").as_dict() for _ in range(2))
    del one["seconds"], other["seconds"]
    assert one == other
