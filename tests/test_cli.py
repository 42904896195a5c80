"""The command line: every command by its own words, and errors as one line without a traceback."""

import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import calibration.run
from autotune.cli import app
from cost_models import generic_profile, load_profile, profile_path, save_profile

CONFIGS = Path(__file__).parent.parent / "configs"
COMMANDS = ("calibrate", "profile show", "profile list", "profile path", "explain", "check", "demo")

SCRIPT = """
import sys
import helper_next_to_it
import pytensor, pytensor.tensor as pt

A = pt.matrix("A", shape=(300, 300))
if __name__ == "__main__":
    pytensor.function([A], [pt.linalg.inv(A), pt.linalg.slogdet(A)[1]])
    print("arguments:", sys.argv[1:])
    if "--broken" in sys.argv:
        open("/nonexistent/file")
    sys.exit(3 if "--fail" in sys.argv else 0)
"""


def run(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


@pytest.fixture
def script(tmp_path):
    (tmp_path / "helper_next_to_it.py").touch()
    path = tmp_path / "model.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"autotune {command}" in " ".join(result.stdout.split()).split("Example: ")[1]


def test_help_is_quick_and_loads_neither_pytensor_nor_numpy():
    code = (
        "import sys; from autotune.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: print([m for m in ('pytensor', 'numpy', 'pydantic') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_version():
    import autotune

    assert run("--version").stdout.strip() == autotune.__version__


def test_check_prints_ok_and_the_values_in_force(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("margin: 0.25\n")
    result = run("check", path)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{path}: ok")
    assert "margin: 0.25" in result.stdout
    assert "solve_rtol: 1.0e-10" in result.stdout


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_check_accepts_every_shipped_policy(path):
    assert run("check", path).exit_code == 0


def test_check_names_file_and_line_of_a_mistake(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\nmargn: 0.25\n")
    result = run("check", path)
    assert result.exit_code == 1
    assert f"{path}:2: key 'margn'" in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_explain_runs_the_script_as_python_would_and_prints_its_plans(script):
    result = run("explain", script, "--draws", "100")
    assert result.exit_code == 0
    assert "arguments: ['--draws', '100']" in result.stdout
    assert "function 1 of 1" in result.stdout
    assert "[0] A: inverse, logdet" in result.stdout or "[0] A: logdet, inverse" in result.stdout


def test_explain_hands_on_the_exit_code_of_the_script_and_prints_the_plans(script):
    result = run("explain", script, "--fail")
    assert result.exit_code == 3
    assert "function 1 of 1" in result.stdout


def test_explain_shows_the_traceback_of_a_script_that_fails(script):
    result = run("explain", script, "--broken")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "function 1 of 1" in result.stdout


def test_explain_follows_a_policy(script, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules:\n  - force: keep\n")
    result = run("explain", "--policy", policy, script)
    assert result.exit_code == 0
    assert "forced by the policy" in result.stdout


def test_explain_reports_a_policy_that_cannot_be_met_in_one_line(script, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules:\n  - force: woodbury\n")
    result = run("explain", "--policy", policy, script)
    assert result.exit_code == 1
    assert f"{policy}:2" in result.stderr
    assert "Traceback" not in result.output


def test_explain_of_no_file_says_so(tmp_path):
    result = run("explain", tmp_path / "nothing.py")
    assert result.exit_code == 1
    assert "is not a file" in result.stderr


def test_explain_of_a_script_without_linear_algebra_says_so(tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("")
    assert "Nothing to choose" in run("explain", path).stdout


def test_profiles_are_listed_where_they_are_stored():
    assert "No profile is stored" in run("profile", "list").stdout
    save_profile(generic_profile())
    damaged = profile_path().with_name("other.yaml")
    damaged.write_text("nothing")
    shown = run("profile", "list").stdout
    assert generic_profile().fingerprint.key() in shown
    assert "is not a profile" in shown
    assert run("profile", "path").stdout.strip() == str(profile_path())


def test_profile_show_prints_every_kernel():
    shown = run("profile", "show").stdout
    assert all(kernel in shown for kernel in generic_profile().models["float64"])


def test_profile_show_of_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "damaged.yaml"
    path.write_text("schema: 99\n")
    result = run("profile", "show", path)
    assert result.exit_code == 1
    assert "schema 99" in result.stderr
    assert "Traceback" not in result.output


def test_calibrate_passes_its_options_on_and_says_where_the_profile_is(tmp_path, monkeypatch):
    given = {}

    def calibrate(quick, dtypes, output, budget, progress):
        given.update(quick=quick, dtypes=dtypes, output=output, budget=budget)
        progress("potrf float64", 1, 2)
        save_profile(generic_profile(), output)
        return generic_profile()

    monkeypatch.setattr(calibration.run, "calibrate", calibrate)
    path = tmp_path / "mine.yaml"
    result = run(*shlex.split(f"calibrate --quick --budget 5 --dtype float32 --output {path}"))
    assert result.exit_code == 0, result.output
    assert given == {"quick": True, "dtypes": ["float32"], "output": path, "budget": 5}
    assert str(path) in result.stdout.replace("\n", "")
    assert load_profile(path)


def test_calibrate_interrupted_exits_with_130_and_says_what_became_of_the_profile(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(calibration.run, "calibrate", interrupted)
    result = run("calibrate")
    assert result.exit_code == 130
    assert "The earlier profile is untouched" in result.stderr


def test_calibrate_of_an_unknown_dtype_is_one_line():
    start = time.perf_counter()
    result = run("calibrate", "--dtype", "int8")
    assert result.exit_code == 1
    assert "int8" in result.stderr
    assert time.perf_counter() - start < 30
