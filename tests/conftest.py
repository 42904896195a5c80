"""Every test starts without the user's settings, profiles or policy files."""

from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no failure: pytest-timeout bounds a test.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def _isolated_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the data and config directories at an empty place and clear the policy variable."""
    home = tmp_path_factory.mktemp("autotune")
    monkeypatch.setenv("AUTOTUNE_HOME", str(home / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.delenv("AUTOTUNE_POLICY", raising=False)
    return home


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
