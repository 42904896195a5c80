"""The demo: what it compares, that it notices a disagreement, and that its examples agree."""

import io

import numpy as np
import pytest
from rich.console import Console

import autotune.report.demo as demo
from autotune.plan import Plan
from autotune.report.demo import examples
from autotune.report.demo.compare import TOLERANCE, Case, Times, compare, difference
from autotune.report.demo.examples import EXAMPLES, Example

EXPECTED = (2.0, np.array([1.0, -4.0]))


def case(found, expected=EXPECTED):
    return Case(lambda: expected, lambda: found, (), Plan())


def run_with(monkeypatch, *chosen):
    monkeypatch.setattr(examples, "EXAMPLES", chosen)
    console = Console(width=110, file=io.StringIO())
    agree = demo.run(console, seconds=0)
    return agree, console.file.getvalue()


def test_the_difference_is_relative_to_the_largest_entry():
    assert difference([1.0, 102.0], [1.0, 100.0]) == pytest.approx(0.02)
    assert difference(0.0, 0.0) == 0
    assert difference(np.nan, 1.0) == np.inf


def test_values_and_gradients_are_compared_apart():
    found = compare("x", case((2.0, np.array([1.0, -4.04]))), seconds=0)
    assert found.values_differ == 0
    assert found.gradients_differ == pytest.approx(0.01)
    assert not found.agrees


def test_without_gradients_there_is_no_difference_of_gradients():
    found = compare("x", case((2.0,), (2.0,)), seconds=0)
    assert found.gradients_differ is None
    assert found.agrees


def test_times_have_a_median_and_a_minimum():
    times = Times((3.0, 1.0, 2.0))
    assert (times.median, times.minimum) == (2.0, 1.0)


def test_a_disagreement_is_said_and_returned(monkeypatch):
    wrong = Example("wrong", "an example", lambda: case((2.0, np.array([1.0, -4.1]))))
    right = Example("right", "an example", lambda: case((2.0, np.array([1.0, -4.0]))))
    agree, text = run_with(monkeypatch, right, wrong)
    assert not agree
    assert "DISAGREE" in text
    assert run_with(monkeypatch, right)[0]


def test_without_pymc_it_says_how_to_install_it_and_goes_on(monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    plain = Example("plain", "an example", lambda: case((2.0, np.array([1.0, -4.0]))))
    absent = Example("absent", "an example", lambda: pytest.fail("compiled"), needs_pymc=True)
    agree, text = run_with(monkeypatch, absent, plain)
    assert agree
    assert "pip install" in text
    assert "plain" in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Cannot cache compiled function")  # PyTensor folds eye(n) into a constant
@pytest.mark.parametrize(
    "example",
    [pytest.param(e, marks=[pytest.mark.pymc] if e.needs_pymc else [], id=e.title) for e in EXAMPLES],
)
def test_every_example_agrees_with_plain_pytensor(example, monkeypatch):
    if example.needs_pymc:
        pytest.importorskip("pymc")
    load = examples.digits
    monkeypatch.setattr(examples, "digits", lambda: tuple(a[:400] for a in load()))
    found = example.compile()
    assert found.plan.decisions
    expected, tuned = found.plain(*found.arguments), found.tuned(*found.arguments)
    assert max(difference(t, e) for t, e in zip(tuned, expected, strict=True)) <= TOLERANCE
    expected_choice = "cholesky" if "Gaussian" in example.title else "woodbury"
    assert found.plan.decisions[0].chosen == expected_choice
