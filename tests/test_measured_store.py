"""The store of measured times: what its keys tell apart, and a file that is damaged is refused."""

import logging
import re

import pytest
from measuring_helpers import DENSE, Clock, compiled, plan, stored_files

from autotune.evidence import store
from autotune.evidence.store import Entry
from autotune.problem import Problem, Request, dense
from cost_models.fingerprint import Fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"term": dense(61)},
        {"dtype": "float32"},
        {"batch": 3},
        {"linker": "perform"},
        {"differentiated": True},
        {"requests": (Request("solve", 2), Request("logdet"))},
        {"requests": (Request("solve", form="pos"), Request("logdet"))},
        {"positive_definite": False},
        {"given": True},
    ],
)
def test_what_changes_the_work_changes_the_key(change):
    problem = Problem((Request("solve"), Request("logdet")), term=dense(60), positive_definite=True)
    changed = Problem(
        **{"requests": problem.requests, "term": dense(60), "positive_definite": True, **change}
    )
    paths = {store.path_of(store.key_of(p, {}, "NumbaLinker")) for p in (problem, changed)}
    assert len(paths) == 2
    named = Problem(problem.requests, term=dense(60), positive_definite=True, name="K", source="x.py:1")
    assert store.key_of(named, {}, "NumbaLinker") == store.key_of(problem, {}, "NumbaLinker")


@pytest.mark.parametrize("attribute", ["fingerprint", "installed_version", "_code"])
def test_another_machine_library_or_code_is_timed_anew(attribute, monkeypatch):
    clock = Clock(monkeypatch)
    compiled()
    others = {
        "fingerprint": lambda: Fingerprint("other", 1, "b", "0", 1, "numba", 1),
        "installed_version": lambda name: "0.0",
        "_code": lambda: "changed",
    }
    monkeypatch.setattr(store, attribute, others[attribute])
    compiled()
    assert len(clock.timed) == 2


@pytest.mark.parametrize(
    "damage",
    {
        "truncated": lambda text: text[: len(text) // 2],
        "empty": lambda text: "",
        "not an object": lambda text: "[1, 2]",
        "binary": lambda text: "\0\1",
        "another schema": lambda text: text.replace('"schema": 1', '"schema": 99'),
        "of another machine": lambda text: text.replace('"cpu": "', '"cpu": "other '),
        "negative seconds": lambda text: re.sub(r'"keep": [0-9.e+-]+', '"keep": -1.0', text),
        "seconds as text": lambda text: re.sub(r'"keep": [0-9.e+-]+', '"keep": "soon"', text),
        "NaN seconds": lambda text: re.sub(r'"keep": [0-9.e+-]+', '"keep": NaN', text),
        "no seconds": lambda text: text.replace('"seconds"', '"second"'),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_damaged_or_foreign_file_is_refused_with_one_line_and_rebuilt(damage, monkeypatch, caplog):
    clock = Clock(monkeypatch)
    compiled()
    [path] = stored_files()
    whole = path.read_text()
    path.write_text(damage[1](whole))
    assert path.read_text() != whole
    with caplog.at_level(logging.WARNING, "autotune"):
        compiled()
    [line] = set(caplog.messages)
    assert line.startswith(f"{path} cannot be used (")
    assert line.endswith("; the candidates are timed again.")
    assert len(clock.timed) == 2
    caplog.clear()
    compiled()
    assert caplog.messages == []
    assert len(clock.timed) == 2


def test_a_home_that_cannot_be_written_costs_one_line_and_no_choice(monkeypatch, caplog, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("AUTOTUNE_HOME", str(blocked))
    Clock(monkeypatch, keep=2.0, cholesky=1.0)
    with caplog.at_level(logging.WARNING, "autotune"):
        assert plan(compiled()).decisions[0].chosen == "cholesky"
    assert any("cannot be stored" in line for line in caplog.messages)


def test_entries_survive_a_round_through_the_store():
    key = store.key_of(DENSE, {}, "NumbaLinker")
    assert store.load(key) is None
    entry = Entry({"keep": 1e-3, "lu": 2e-3}, {"cholesky": "failed"}, 0.5)
    store.save(key, entry)
    found = store.load(key)
    assert (found.seconds, found.ruled_out, found.spent) == (entry.seconds, entry.ruled_out, 0.5)
    assert store.outdated(key) == ""
    assert store.clear() == 1
    assert store.load(key) is None
