"""The commands `profile list`, `show`, `path`, `compare`, `validate` and `plot`."""

import shlex
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from cli_helpers import calibrated, run

import calibration.validation
from cost_models import fingerprint, generic_profile, profile_path, save_profile

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


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


def test_profile_show_leaves_derived_prices_out_unless_they_are_asked_for():
    models = {
        dtype: {name: replace(model, derived=dtype == "float32") for name, model in found.items()}
        for dtype, found in generic_profile().models.items()
    }
    save_profile(calibrated(models=models))
    everything, asked = run("profile", "show").stdout, run("profile", "show", "--dtype", "float32").stdout
    assert [everything.count(f"{name}: error is") for name in ("float64", "float32")] == [1, 0]
    assert [asked.count(f"{name}: error is") for name in ("float64", "float32")] == [0, 1]
    assert everything.splitlines()[-1] == "Derived from other dtypes, shown by --dtype: float32"
    assert "Known are: float64, float32." in run("profile", "show", "--dtype", "int8").stderr


def test_profile_show_of_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "damaged.yaml"
    path.write_text("schema: 99\n")
    result = run("profile", "show", path)
    assert result.exit_code == 1
    assert "schema 99" in result.stderr
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
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    assert "matplotlib" in project["optional-dependencies"]["plots"]
