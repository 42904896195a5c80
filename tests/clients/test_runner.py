"""`make test-clients`: what fails with autotune only is a documented exception, and these are needed."""

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TREE = """
import pytest
from autotune.plan.session import enabled_policies

def test_passes():
    pass

def test_fails_anyway():
    assert False

@pytest.mark.parametrize("n", [1, 2])
def test_fails_with_autotune(n):
    assert not enabled_policies

@pytest.fixture
def broken():
    yield
    assert not enabled_policies

def test_fails_in_its_tear_down(broken):
    pass
"""
FILE = "tests/test_some.py"
BY_US = {f"{FILE}::test_fails_with_autotune[1]", f"{FILE}::test_fails_with_autotune[2]"}
BY_US |= {f"{FILE}::test_fails_in_its_tear_down"}


@pytest.fixture(scope="module")
def runner():
    spec = importlib.util.spec_from_file_location("runner", ROOT / "scripts" / "test_clients.py")
    module = sys.modules["runner"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["runner"]


@pytest.mark.slow
def test_what_fails_runs_again_without_autotune(runner, tmp_path):
    tests = tmp_path / "tree" / "tests"
    tests.mkdir(parents=True)
    (tests / "test_some.py").write_text(TREE)
    (tests / "test_not_collected.py").write_text("import no_such_module")
    outcome = runner.run(tmp_path / "tree", ["tests"], ["-p", "no:cacheprovider"])
    assert outcome.passed == {f"{FILE}::test_passes"}
    assert outcome.by_us == BY_US
    assert outcome.fail_anyway == {f"{FILE}::test_fails_anyway", "tests/test_not_collected.py"}


def test_exceptions_are_allowed_as_long_as_they_are_needed(runner, capsys):
    outcome = runner.Outcome(frozenset({f"{FILE}::test_passes"}), frozenset(BY_US))
    needed = {f"{FILE}::test_fails_with_autotune": "why", f"{FILE}::test_fails_in_its_tear_down": "why"}
    assert runner.report("some", outcome, needed | {f"{FILE}::test_of_another_version": "did not run"})
    assert "3 are documented exceptions" in capsys.readouterr().out
    needed_elsewhere = runner.Outcome(outcome.passed, frozenset(BY_US), frozenset(BY_US))
    assert runner.report("some", needed_elsewhere, needed)
    assert not runner.report("some", outcome, {f"{FILE}::test_fails_with_autotune": "why"})
    assert f"fails with autotune only: {FILE}::test_fails_in_its_tear_down" in capsys.readouterr().out
    assert not runner.report("some", outcome, needed | {f"{FILE}::test_passes": "why"})
    assert f"needs no exception any more: {FILE}::test_passes" in capsys.readouterr().out
    assert not runner.report("some", runner.Outcome(frozenset(), frozenset()), {})


def test_every_exception_has_a_reason_and_names_a_test_once(runner):
    listed = yaml.safe_load(runner.EXCEPTIONS.read_text(encoding="utf-8"))
    assert set(listed) <= set(runner.TESTS)
    for library, entries in listed.items():
        tests = [test for entry in entries for test in entry["tests"]]
        assert len(set(tests)) == len(tests)
        assert all(entry["reason"].strip().endswith(".") for entry in entries)
        assert runner.exceptions(library).keys() == set(tests)
