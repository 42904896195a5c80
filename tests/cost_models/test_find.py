"""The right profile is found, and a wrong one is never used silently."""

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cost_models import (
    Fingerprint,
    find,
    find_profile,
    fingerprint,
    generic_profile,
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


def test_profile_of_other_threads_is_named(caplog: pytest.LogCaptureFixture) -> None:
    other = replace(fingerprint(), threads=99)
    save_profile(mine(fingerprint=other))
    assert find_profile() is find_profile() is generic_profile()
    [record] = caplog.records
    assert other.key() in record.message


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


def test_fingerprint_describes_this_process() -> None:
    machine = fingerprint()
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert machine.threads >= 1
    assert machine.cache_bytes > 2**15
    assert machine.linker == "numba"
    start = time.perf_counter()
    assert fingerprint() is machine
    assert time.perf_counter() - start < 1
