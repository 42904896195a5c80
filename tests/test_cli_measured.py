"""The commands `measured list` and `measured clear`."""

import pytest
from cli_helpers import run
from helpers import diagonal_plus_low_rank

from autotune.evidence import store
from autotune.evidence.store import Entry
from autotune.problem import Problem, Request

PROBLEM = Problem((Request("solve"), Request("logdet")), diagonal_plus_low_rank(123, 4))


@pytest.fixture
def entry():
    """The file of one problem's times."""
    key = store.key_of(PROBLEM, {}, "NumbaLinker")
    store.save(key, Entry({"keep": 2e-3, "woodbury": 1e-5}))
    return store.path_of(key)


def test_list_shows_the_problem_and_the_fastest_first(entry):
    shown = " ".join(run("measured", "list").stdout.split())
    assert "diagonal+low_rank, n=123, k=4, float64, solve+logdet" in shown
    assert "woodbury 10 us, keep 2 ms" in shown
    assert "other" not in shown


def test_list_says_what_no_longer_holds_or_cannot_be_read(entry, monkeypatch):
    monkeypatch.setattr(store, "installed_version", lambda name: "0.0")
    (entry.parent / "damaged.json").write_text("{")
    found = run("measured", "list")
    assert found.exit_code == 0
    assert "other libraries" in found.stdout
    assert "damaged.json" in found.stdout
    assert "cannot be used" in found.stdout


def test_clear_forgets_this_machine_and_everywhere_all(entry):
    other = entry.parent.parent / "another-machine" / entry.name
    other.parent.mkdir()
    other.write_bytes(entry.read_bytes())
    assert run("measured", "clear").stdout == "Forgot the times of 1 problem.\n"
    assert not entry.exists()
    assert other.exists()
    assert run("measured", "clear", "--everywhere").stdout == "Forgot the times of 1 problem.\n"
    assert not other.exists()
    assert run("measured", "list").stdout.startswith("Nothing is remembered in ")
