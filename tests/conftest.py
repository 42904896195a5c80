"""Every test starts without the user's settings, profiles or policy files, and needs no C compiler."""

import gc
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

# Read when PyTensor is imported. Its own C code is not ours: a test of it takes a compiler, and seconds.
os.environ["PYTENSORRC"] = os.devnull
# Where variables were made is not asked, and takes time.
os.environ["PYTENSOR_FLAGS"] = ",".join(
    filter(None, [os.environ.get("PYTENSOR_FLAGS"), "cxx=", "traceback__limit=0"])
)

import pytest
from hypothesis import settings

# The same examples on every machine and none remembered from the last run; pytest-timeout bounds a test.
settings.register_profile("project", deadline=None, derandomize=True, database=None, max_examples=40)
# New examples every time: `make nightly`.
settings.register_profile("nightly", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("project")
_homes = itertools.count()


def pytest_collection_finish() -> None:
    """Graphs are cyclic garbage by the million: look for it less often, and never among what was imported."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True)
def _isolated_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the data and config directories at an empty place and clear the policy variable.

    It is made when something is written there: thousands of folders would take seconds.
    """
    home = tmp_path_factory.getbasetemp() / f"autotune{next(_homes)}"
    monkeypatch.setenv("AUTOTUNE_HOME", str(home / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.delenv("AUTOTUNE_POLICY", raising=False)
    return home


@pytest.fixture(autouse=True)
def _no_matrix_is_factorised_twice(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In every graph that a test compiles under the default policy. And no request is left unanswered."""
    from cubic import factorisations, factorised_again

    from autotune.algebra.requests import RequestOp
    from autotune.plan.session import enabled_policies
    from autotune.rewrite.passes import AutotunePass

    attempt, found, left = AutotunePass.attempt, [], []

    def checked(self, fgraph):
        before = set(factorisations(fgraph))
        attempt(self, fgraph)
        left.extend(str(node.op) for node in fgraph.apply_nodes if isinstance(node.op, RequestOp))
        if all(policy is None for policy in (self.policy, *enabled_policies)):
            found.extend(factorised_again(before, factorisations(fgraph)))

    monkeypatch.setattr(AutotunePass, "attempt", checked)
    yield
    assert not found, f"factorised more than once: {found}"
    assert not left, f"not lowered: {left}"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file into the working directory of the test and return its path."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str, name: str = "some.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file
