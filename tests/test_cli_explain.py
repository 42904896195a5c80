"""The command line: scripts explained, against plain PyTensor and against pins."""

import json
import re
import sys

import pytensor.tensor as pt
import pytest
from helpers import compile_with, forced
from pytensor.tensor.linalg import inv, slogdet
from typer.testing import CliRunner

import autotune
from autotune.cli import app

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


@pytest.mark.parametrize("missing", ["warn", "error"])
def test_pins_in_force_that_find_nothing_in_a_whole_script_are_told(missing, script, tmp_path):
    small = pt.matrix("A", shape=(50, 50))
    pins = autotune.explain(compile_with([small], inv(small), forced("lu"))).save(tmp_path / "pins.yaml")
    pins.write_text(f"{pins.read_text()}missing_pins: {missing}\n")
    script.write_text("import part\nraise SystemExit(0)")
    result = run("explain", "--json", "--policy", pins, script)
    assert result.exit_code == (1 if missing == "error" else 0)
    assert re.search(
        rf"{re.escape(str(pins))}:\d+: the pin of 'lu' on matrix 'A'.*finds nothing", result.stderr
    )
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
