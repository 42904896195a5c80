"""Raw measurements survive interruptions, and noise in them is recognised as noise."""

from pathlib import Path

import pytest

from calibration.graphs import NODES
from calibration.session import VERSION, Measured, Pass, open_session, plausible, stored_session, waiting

HERE = {"machine": "this", "quick": True}
PASS = Pass(1e-6, {(2,): 3e-6, (100,): 5e-5}, {(2,): 0.1, (100,): 0.3})


def one_pass(idle, times):
    return Pass(idle, times, dict.fromkeys(times, 0.0))


def test_session_resumes(tmp_path: Path) -> None:
    session = open_session(tmp_path / "p.yaml", HERE)
    session.record("potrf", "float64", PASS)
    again = open_session(tmp_path / "p.yaml", HERE)
    assert again.measured == session.measured
    assert again.passes("potrf", "float64") == 1
    assert again.passes("potrf", "float32") == 0


@pytest.mark.parametrize("identity", [HERE | {"quick": False}, HERE | {"machine": "that"}, {}])
def test_session_of_something_else_is_not_continued(tmp_path: Path, identity: dict) -> None:
    open_session(tmp_path / "p.yaml", HERE).record("potrf", "float64", PASS)
    assert not open_session(tmp_path / "p.yaml", identity).measured


def test_finished_session_is_not_continued(tmp_path: Path) -> None:
    session = open_session(tmp_path / "p.yaml", HERE)
    session.record("potrf", "float64", PASS)
    session.finish()
    assert not open_session(tmp_path / "p.yaml", HERE).measured


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"complete": false}'])
def test_unreadable_session_starts_afresh(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.raw.json").write_text(text)
    assert not open_session(tmp_path / "p.yaml", HERE).measured


def test_the_least_of_all_passes_counts(tmp_path: Path) -> None:
    session = open_session(tmp_path / "p.yaml", HERE)
    session.record("potrf", "float64", PASS)
    session.record("potrf", "float64", one_pass(2e-6, {(2,): 2e-6, (200,): 1e-4}))
    measured = session.measured["float64/potrf"]
    assert measured.idle == 1e-6
    assert measured.times == {(2,): 2e-6, (100,): 5e-5, (200,): 1e-4}
    assert session.passes("potrf", "float64") == 2


def test_finished_measurements_stay_readable(tmp_path: Path) -> None:
    session = open_session(tmp_path / "p.yaml", HERE)
    session.record("potrf", "float64", PASS)
    session.finish()
    stored = stored_session(tmp_path / "p.yaml")
    assert stored.net("potrf", "float64") == session.net("potrf", "float64")
    assert stored.complete
    assert stored_session(tmp_path / "another.yaml") is None


def test_a_fresh_session_ignores_what_was_measured(tmp_path: Path) -> None:
    open_session(tmp_path / "p.yaml", HERE).record("potrf", "float64", PASS)
    assert not open_session(tmp_path / "p.yaml", HERE, fresh=True).measured


def test_measurements_of_another_version_are_not_read(tmp_path: Path) -> None:
    session = open_session(tmp_path / "p.yaml", HERE)
    session.record("potrf", "float64", PASS)
    session.path.write_text(
        session.path.read_text().replace(f'"version": {VERSION}', f'"version": {VERSION - 1}')
    )
    assert stored_session(tmp_path / "p.yaml") is None


def test_spread_and_drift_show_a_machine_that_is_not_at_rest(tmp_path: Path) -> None:
    session = open_session(tmp_path / "p.yaml", HERE)
    assert session.drift() == 1
    session.record("potrf", "float64", PASS)
    assert session.drift() == 1
    session.record("potrf", "float64", Pass(1e-6, {(2,): 4.5e-6, (100,): 7.5e-5}, PASS.spread))
    assert session.drift() == pytest.approx(1.5)
    assert session.spread() == {"float64/potrf": pytest.approx(0.2)}


def test_waiting_goes_pass_after_pass(tmp_path: Path) -> None:
    session = open_session(tmp_path / "p.yaml", HERE)
    tasks = [("potrf", "float64"), ("gemm", "float64")]
    session.record("potrf", "float64", PASS)
    assert waiting(session, tasks, 2) == [tasks[1], tasks[0], tasks[1]]


def test_net_time_is_without_the_call() -> None:
    def net(kernel, idle, times):
        return Measured((one_pass(idle, times),)).net(kernel, idle)

    assert dict(Measured((PASS,)).net("potrf", PASS.idle))[(100,)] == pytest.approx(4.9e-5)
    assert net("call", 2e-6, {(): 2.5e-6}) == [((), 2e-6)]
    assert net("node", 1e-6, {(): 2e-6}) == [((), pytest.approx(1e-6 / NODES))]
    assert net("potrf", 1e-6, {(2,): 9e-7})[0][1] > 0


def test_the_idle_call_of_any_kernel_with_as_many_inputs_serves(tmp_path: Path) -> None:
    session = open_session(tmp_path / "p.yaml", HERE)
    session.record("potrf", "float64", PASS)
    session.record("inv", "float64", one_pass(5e-7, {(2,): 4e-6}))
    session.record("gemm", "float64", one_pass(1e-7, {(2, 2, 2): 4e-6}))
    assert dict(session.net("potrf", "float64"))[(100,)] == pytest.approx(4.95e-5)


def test_a_size_slower_than_a_larger_one_is_noise() -> None:
    times = {(90,): 2.4e-5, (140,): 1.6e-1, (200,): 1.7e-4, (300,): 4.4e-4}
    assert dict(plausible("potrf", times)) == {n: times[n] for n in [(90,), (200,), (300,)]}


def test_a_sudden_spike_at_the_end_is_noise() -> None:
    times = {(200,): 1.7e-4, (300,): 4.4e-4, (700,): 1.1}
    assert (700,) not in dict(plausible("potrf", times))


def test_sizes_that_cannot_be_compared_are_kept() -> None:
    times = {(1000, 2, 2): 1e-6, (2, 1000, 2): 5e-6, (2, 2, 1000): 1e-5}
    assert dict(plausible("gemm", times)) == times
