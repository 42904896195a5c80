"""The command line: every command by its own words, and errors as one line without a traceback."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import run

CONFIGS = Path(__file__).parent.parent / "configs"
PROFILE = ("show", "list", "path", "compare", "plot", "validate")
COMMANDS = (
    "calibrate",
    *(f"profile {name}" for name in PROFILE),
    "policy show",
    "policy schema",
    "measured list",
    "measured clear",
    "explain",
    "check",
    "map",
    "demo",
)

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


@pytest.mark.parametrize("group", [(), ("profile",), ("policy",), ("measured",)])
def test_no_summary_of_a_command_is_cut_off_in_80_columns(group, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    commands = run(*group, "--help").stdout.split("Commands:")[1].splitlines()
    assert len(commands) > 2
    assert [line for line in commands if line.endswith("...")] == []


def test_the_package_runs_as_a_module():
    words = [sys.executable, "-m", "autotune", "--help"]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("Usage: autotune [OPTIONS]")


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


def test_explain_shows_the_plans_of_a_script_that_fails(script):
    result = run("explain", script, "--broken")
    assert result.exit_code == 1
    assert "function 1 of 1" in result.stdout


@pytest.mark.parametrize("command", ["explain", "check"])
@pytest.mark.parametrize(
    ("fault", "frames"),
    [
        ("open('/nonexistent')", ["model.py"]),
        ("import broken", ["model.py", "broken.py"]),
        ("1 +", ["model.py"]),
    ],
)
def test_the_traceback_of_a_script_that_fails_begins_with_the_script(command, fault, frames, tmp_path):
    path, policy = tmp_path / "model.py", tmp_path / "policy.yaml"
    policy.touch()
    path.write_text(f"{fault}\n")
    (tmp_path / "broken.py").write_text("raise KeyError\n")
    result = run(*((command, path) if command == "explain" else (command, policy, path)))
    assert result.exit_code == 1
    shown = re.findall(r'^  File "([^"]*)", line', result.stderr, re.MULTILINE)
    ours = [Path(name).name for name in shown if "importlib" not in name]
    assert ours == frames


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
