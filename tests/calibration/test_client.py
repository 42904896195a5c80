"""The worker's process has the BLAS threads that were asked for."""

import os

import pytest

from calibration import client
from calibration.client import START_SECONDS, THREAD_VARIABLES, Worker, check_threads
from cost_models.fingerprint import usable_cores


@pytest.mark.parametrize("threads", range(1, min(usable_cores(), 2) + 1))
def test_the_fingerprint_taken_in_the_worker_has_the_threads_asked_for(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, str(3 - threads))  # what is in force outside does not matter
    with Worker(threads) as worker:
        found = worker.ask({"kernel": "fingerprint"}, START_SECONDS)["fingerprint"]
    assert found["threads"] == threads


def test_without_a_count_the_environment_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    environment = Worker()._environment()
    assert environment["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in environment
    assert {k: v for k, v in environment.items() if k != "PYTHONPATH"} == {
        k: v for k, v in os.environ.items() if k != "PYTHONPATH"
    }


def test_every_vendors_variable_is_set() -> None:
    environment = Worker(1)._environment()
    assert {environment[name] for name in THREAD_VARIABLES} == {"1"}


@pytest.mark.parametrize("threads", [0, -1, 5])
def test_a_count_that_the_cores_do_not_allow_is_refused_before_anything_starts(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "usable_cores", lambda: 4)
    with pytest.raises(ValueError, match=rf"{threads} BLAS threads.*4 cores\. Give 1 to 4\."):
        Worker(threads)
    check_threads(4)
