"""The command `calibrate`, with a calibration that measures nothing."""

import inspect
import logging
import shlex
from dataclasses import replace

import pytest
from cli_helpers import calibrated, run

import calibration.client
import calibration.run
from cost_models import fingerprint, load_profile, profile_path, save_profile


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
