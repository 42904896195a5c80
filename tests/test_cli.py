"""The command line: every command by its own words, and errors as one line without a traceback."""

import inspect
import logging
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import calibration.client
import calibration.run
import calibration.validation
from autotune.cli import app
from cost_models import fingerprint, generic_profile, load_profile, profile_path, save_profile

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


def calibrated(**changes):
    own = {"source": "calibrated", "fingerprint": fingerprint(), "created": "2031-01-02T03:04:05+00:00"}
    return replace(generic_profile(), **(own | changes))


def test_profiles_are_listed_where_they_are_stored():
    assert "No profile is stored" in run("profile", "list").stdout
    other = replace(fingerprint(), cpu="Another CPU", threads=99)
    save_profile(calibrated())
    save_profile(calibrated(fingerprint=other))
    damaged = profile_path().with_name("zz-damaged.yaml")
    damaged.write_text("nothing")
    shown = run("profile", "list").stdout
    assert shown.count("* ") == shown.count(f"* {fingerprint().cpu}") == 1
    assert f"key {fingerprint().key()}\n" in shown
    assert "  Another CPU, " in shown
    assert "with 99 threads" in shown
    assert "calibrated 2031-01-02" in shown
    assert "zz-damaged.yaml cannot be used\n" in shown
    assert "is not a profile" in shown
    assert run("profile", "path").stdout.strip() == str(profile_path())


def test_no_listed_profile_is_in_force_while_the_generic_one_serves():
    save_profile(calibrated(fingerprint=replace(fingerprint(), threads=99)))
    result = run("profile", "list")
    assert "with 99 threads" in result.stdout
    assert "* " not in result.stdout


def test_the_list_tells_measured_dtypes_from_derived_ones_and_names_the_worst_kernel():
    def model(name, dtype, error):
        found = generic_profile().models[dtype][name]
        return replace(found, points=9, error=error, derived=dtype == "float32")

    models = {
        dtype: {name: model(name, dtype, 0.37 if name == "potri" else 0.02) for name in found}
        for dtype, found in generic_profile().models.items()
    }
    save_profile(calibrated(models=models))
    shown = run("profile", "list").stdout
    assert "float32 derived" in shown
    assert "float64 derived" not in shown
    assert "worst median error 37 % (potri float64)" in shown


def test_a_directory_that_cannot_be_a_profile_is_listed_with_the_reason():
    profile_path().mkdir(parents=True)
    result = run("profile", "list")
    assert result.exit_code == 0
    assert "directory" in result.stdout


@pytest.mark.parametrize("name", ["whole", "part", "file"])
def test_a_profile_is_shown_by_its_key_a_part_of_it_or_its_file(name):
    save_profile(calibrated(created="right one"))
    save_profile(calibrated(created="wrong one", fingerprint=replace(fingerprint(), cpu="Other")))
    key = fingerprint().key()
    chosen = {"whole": key, "part": key[-8:], "file": profile_path()}[name]
    assert "right one" in run("profile", "show", chosen).stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("name", "said"), [("nothing-like-it", "is no file nor a profile's key"), ("-", "fits 2 profiles")]
)
def test_a_name_that_fits_no_profile_or_several_is_one_line(name, said):
    save_profile(calibrated())
    save_profile(calibrated(fingerprint=replace(fingerprint(), cpu="Other")))
    result = run("profile", "show", "--", name)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.output


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


@pytest.fixture
def calibrations(monkeypatch):
    """The keywords of each call of a calibration that measures nothing."""
    calls = []

    def calibrate(**given):
        calls.append(given)
        given["progress"]("potrf float64", 1, 2)
        logging.getLogger("autotune").warning("The machine is busy.")
        profile = calibrated(fingerprint=replace(fingerprint(), threads=given["threads"] or 1))
        save_profile(profile, given["output"])
        return profile

    monkeypatch.setattr(calibration.run, "calibrate", calibrate)
    monkeypatch.setattr(calibration.client, "usable_cores", lambda: 2)
    return calls


def test_calibrate_passes_its_options_on_and_says_where_the_profile_is(tmp_path, calibrations):
    path = tmp_path / "mine.yaml"
    result = run(*shlex.split(f"calibrate --quick --fresh --budget 5 --dtype float32 --output {path}"))
    assert result.exit_code == 0, result.output
    [given] = calibrations
    del given["progress"]
    assert given == {
        "quick": True,
        "dtypes": ["float32"],
        "output": path,
        "budget": 5,
        "threads": None,
        "fresh": True,
    }
    assert str(path) in result.stdout.replace("\n", "")
    assert load_profile(path)


def test_calibrate_gives_the_options_that_the_calibration_takes():
    taken = inspect.signature(calibration.run.calibrate).parameters
    assert {"quick", "dtypes", "output", "budget", "progress", "threads", "fresh"} <= set(taken)


def test_each_thread_count_is_calibrated_once_with_its_own_profile(calibrations):
    result = run("calibrate", "--threads", "1,2,1")
    assert result.exit_code == 0, result.output
    assert [given["threads"] for given in calibrations] == [1, 2]
    for threads in (1, 2):
        assert profile_path(replace(fingerprint(), threads=threads)).is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--threads one", "Give whole numbers, such as 1,2"),
        ("--threads 1,", "Give whole numbers, such as 1,2"),
        ("--threads 1,99", "There are to be 99 BLAS threads"),
        ("--threads 0", "There are to be 0 BLAS threads"),
        ("--threads 1,2 --output one.yaml", "--output names one file for 2 thread counts"),
    ],
)
def test_thread_counts_that_cannot_be_are_refused_before_measuring(words, said, calibrations):
    result = run("calibrate", *words.split())
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert not calibrations


def test_a_warning_of_an_unstable_machine_is_one_line_on_stderr(calibrations):
    for _ in range(2):  # the second call must not write to the stream of the first
        assert run("calibrate").stderr.count("The machine is busy.\n") == 1


def test_calibrate_interrupted_exits_with_130_and_says_what_became_of_the_profile(monkeypatch):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(calibration.run, "calibrate", interrupted)
    result = run("calibrate")
    assert result.exit_code == 130
    assert "The earlier profile is untouched" in result.stderr


def test_a_worker_that_does_not_start_is_one_line(monkeypatch):
    def lost(**_):
        raise calibration.client.WorkerLost("crashes the process (exit code 1)")

    monkeypatch.setattr(calibration.run, "calibrate", lost)
    result = run("calibrate")
    assert result.exit_code == 1
    assert "crashes the process" in result.stderr
    assert "Traceback" not in result.output


def test_calibrate_of_an_unknown_dtype_is_one_line():
    result = run("calibrate", "--dtype", "int8")
    assert result.exit_code == 1
    assert "int8" in result.stderr
    assert "Traceback" not in result.output


def test_compare_names_different_machines_first_and_every_kernel():
    save_profile(calibrated())
    shown = run("profile", "compare", "generic").stdout
    assert shown.startswith("These are different machines:\n  cpu: A generic, B ")
    assert all(kernel in shown for kernel in generic_profile().models["float64"])


def test_validate_passes_its_options_on_and_prints_the_result(monkeypatch):
    given = {}

    def validate(profile, **options):
        options.pop("progress")("potrf float64", 1, 2)
        given.update(options, created=profile.created)
        return "the result"

    monkeypatch.setattr(calibration.validation, "validate", validate)
    monkeypatch.setattr(
        calibration.validation, "print_validation", lambda found, console: console.print(found)
    )
    save_profile(calibrated())
    result = run(*shlex.split("profile validate --shapes 3 --budget 5 --dtype float32 --seed 7"))
    assert result.exit_code == 0, result.output
    assert "the result" in result.stdout
    assert given == {
        "shapes": 3,
        "budget": 5,
        "dtypes": ["float32"],
        "seed": 7,
        "created": calibrated().created,
    }


def test_plot_without_measurements_says_what_leaves_them(tmp_path):
    pytest.importorskip("matplotlib")
    path = save_profile(calibrated(), tmp_path / "mine.yaml")
    result = run("profile", "plot", path)
    assert result.exit_code == 1
    assert f"no measurements beside {path}" in result.stderr


def test_plot_without_matplotlib_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "calibration.pictures", raising=False)
    result = run("profile", "plot", save_profile(calibrated(), tmp_path / "mine.yaml"))
    assert result.exit_code == 1
    assert "pip install 'pytensor-autotune[plots]'" in result.stderr
    assert "Traceback" not in result.output


def test_the_extra_that_plot_names_exists():
    import tomllib

    project = tomllib.loads((CONFIGS.parent / "pyproject.toml").read_text())["project"]
    assert "matplotlib" in project["optional-dependencies"]["plots"]
