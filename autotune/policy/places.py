"""Where policies come from: what may be given, and the files that apply without being asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

if TYPE_CHECKING:
    from autotune.policy.model import Policy

    PolicySource = None | str | os.PathLike[str] | Mapping[str, Any] | Policy

FILE_NAME = "autotune.yaml"
NAMED = "AUTOTUNE_POLICY"


def policy_files() -> dict[str, Path]:
    """The files that apply without being asked for, lowest first, by their kind; only the one that
    AUTOTUNE_POLICY names must exist."""
    user = Path(platformdirs.user_config_dir("autotune", appauthor=False)) / FILE_NAME
    places = {"user file": user, "project file": Path(FILE_NAME)}
    found = {kind: path for kind, path in places.items() if os.path.exists(path)}
    named = os.environ.get(NAMED)
    return found | ({NAMED: Path(named)} if named else {})
