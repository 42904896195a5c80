"""The right profile is found, and a wrong one is never used silently."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

from cost_models import (
    Fingerprint,
    call,
    find,
    find_profile,
    fingerprint,
    generic_profile,
    load_profile,
    profile_path,
    save_profile,
)

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("AUTOTUNE_HOME", str(tmp_path))
    _forget()
    yield tmp_path
    _forget()


def _forget() -> None:
    for cached in (find._once, find._checked, find._report_missing):
        cached.cache_clear()


def mine(**changes: object) -> object:
    own = {"fingerprint": fingerprint(), "source": "calibrated", "library_versions": {}}
    return replace(generic_profile(), **(own | changes))


def test_calibrated_profile_is_found(caplog: pytest.LogCaptureFixture) -> None:
    save_profile(mine())
    assert find_profile() == mine()
    assert not caplog.records


def test_without_calibration_the_generic_one_serves_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "autotune"):
        assert find_profile() is find_profile() is generic_profile()
    [record] = caplog.records
    assert "autotune calibrate" in record.message


def test_a_new_calibration_is_seen_at_once() -> None:
    assert find_profile().source == "generic"
    save_profile(mine())
    assert find_profile().source == "calibrated"
    path = save_profile(mine(created="later"))
    os.utime(path, ns=(1, 1))
    assert find_profile().created == "later"


@pytest.mark.parametrize("damage", ["", "schema: 99", "{{{"])
def test_damaged_profile_is_reported_once_and_not_used(damage: str, caplog: pytest.LogCaptureFixture) -> None:
    save_profile(mine()).write_text(damage)
    assert find_profile() is find_profile() is generic_profile()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "autotune calibrate" in record.message
    assert str(profile_path()) in record.message


def test_copied_profile_of_another_machine_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    save_profile(mine(fingerprint=replace(fingerprint(), threads=99)), profile_path())
    assert find_profile() is generic_profile()
    [record] = caplog.records
    assert "another machine" in record.message


@pytest.mark.parametrize(
    ("counts", "named"),
    [((98, 99), "98, 99 BLAS threads"), ((98,), "98 BLAS threads"), ((1,), "1 BLAS thread")],
)
def test_profile_of_other_threads_is_named(
    counts: tuple[int, ...], named: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = replace(fingerprint(), threads=2)
    monkeypatch.setattr("cost_models.find.fingerprint", lambda: machine)
    for threads in counts:
        save_profile(mine(fingerprint=replace(fingerprint(), threads=threads)))
    save_profile(mine(fingerprint=replace(fingerprint(), cpu="Other", threads=97)))
    assert find_profile() is find_profile() is generic_profile()
    [record] = caplog.records
    assert f"for {named}; the count in force is 2." in record.message
    assert "autotune calibrate --threads 2`" in record.message


def test_more_threads_than_cores_are_to_be_calibrated_as_they_are(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_profile(mine())
    crowded = replace(fingerprint(), threads=fingerprint().cores + 1)
    monkeypatch.setattr(find, "fingerprint", lambda: crowded)
    assert find_profile() is generic_profile()
    [record] = caplog.records
    assert "Run `autotune calibrate`;" in record.message


def test_many_profiles_of_other_machines_are_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    for number in range(12):
        save_profile(mine(fingerprint=replace(fingerprint(), cpu=f"CPU {number}")))
    assert find_profile() is generic_profile()
    [record] = caplog.records
    assert record.message.startswith("None of the 12 profiles in")
    assert len(record.message) < 500


def test_the_profile_follows_the_thread_count_in_force() -> None:
    """One process, one directory: a limit on SciPy's BLAS changes which profile is found, at once."""
    fingerprint()  # loads SciPy's BLAS: limits concern what is loaded
    with threadpool_limits(1):
        save_profile(mine(created="one thread"))
        one = find_profile()
        with threadpool_limits(2):
            assert find_profile() is generic_profile()
            save_profile(mine(created="two threads"))
            assert find_profile().created == "two threads"
        assert find_profile() is one
        assert one.created == "one thread"


def test_every_machine_finds_its_own_profile_in_one_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = [replace(fingerprint(), cpu=f"CPU {number}") for number in range(3)]
    for machine in machines:
        save_profile(mine(fingerprint=machine, created=machine.cpu))
    for machine in machines:
        monkeypatch.setattr(find, "fingerprint", lambda here=machine: here)
        assert find_profile().created == machine.cpu


def test_two_writers_at_once_leave_a_whole_profile(tmp_path: Path) -> None:
    """Whatever the moment, a reader sees one writer's profile; nothing is left over."""
    path = save_profile(mine(created="0"), tmp_path / "shared.yaml")
    code = (
        "import sys; from dataclasses import replace\n"
        "from cost_models import load_profile, save_profile\n"
        "profile = load_profile(sys.argv[1])\n"
        "for turn in range(4): save_profile(replace(profile, created=sys.argv[2]), sys.argv[1])\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in ("one", "two")]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        seen.add(load_profile(path).created)
    assert [writer.wait() for writer in writers] == [0, 0]
    assert load_profile(path).created in ("one", "two")
    assert seen <= {"0", "one", "two"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_dtype_that_was_not_measured_has_derived_prices() -> None:
    models = {
        "float64": generic_profile().models["float64"],
        "float32": {
            name: replace(model, derived=True) for name, model in generic_profile().models["float32"].items()
        },
    }
    save_profile(mine(models=models))
    assert find_profile().source == "calibrated"
    assert find_profile().seconds(call("potrf", n=100), "float32") > 0
    assert find_profile().models["float32"]["potrf"].derived


def test_a_profile_that_lacks_a_dtype_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    save_profile(mine(models={"float64": generic_profile().models["float64"]}))
    assert find_profile() is generic_profile()
    [record] = caplog.records
    assert "dtypes ['float64'] instead of" in record.message


def test_profile_of_other_libraries_is_used_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    save_profile(mine(library_versions={"numpy": "1.0", "no-such-library": "none"}))
    assert find_profile().source == find_profile().source == "calibrated"
    [record] = caplog.records
    assert "numpy 1.0 (now" in record.message


def test_finding_again_does_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    save_profile(mine())
    first = find_profile()
    monkeypatch.setattr(find, "load_profile", None)
    assert find_profile() is first


def test_keys_tell_machines_apart_and_are_file_names() -> None:
    machine = Fingerprint("AMD Ryzen(TM) 9 / 7950X", 16, "openblas", "0.3", 16, "numba", 2**26)
    changed = [
        replace(machine, **{name: value})
        for name, value in {
            "cpu": "M4",
            "cores": 8,
            "blas": "mkl",
            "blas_version": "1",
            "threads": 1,
            "linker": "c",
            "cache_bytes": 1,
        }.items()
    ]
    keys = [machine.key(), *(other.key() for other in changed)]
    assert len(set(keys)) == len(keys)
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for key in keys)
    assert machine.key() == replace(machine).key()


@pytest.mark.parametrize("source", ["calibrated", "generic"])
def test_the_path_in_force_holds_the_profile_found(source: str) -> None:
    if source == "calibrated":
        save_profile(mine())
    assert load_profile(find.path_in_force()) == find_profile()
    assert find_profile().source == source
