"""Finding the profile to use: this machine's own, else the generic one, and never silently.

A file of another machine, another schema or with damage is reported once on the logger
`autotune`, and the shipped generic profile serves instead.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path

from cost_models.files import CALIBRATE, ProfileError, data_dir, load_profile
from cost_models.fingerprint import fingerprint
from cost_models.profile import Profile

GENERIC_PATH = Path(__file__).with_name("generic_profile.yaml")
_log = logging.getLogger("autotune")


def find_profile() -> Profile:
    """This machine's calibrated profile, else the generic one; after the first call it is cheap."""
    folder = data_dir() / "profiles"
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:  # nobody has calibrated: the fingerprint need not be taken
        _once(logging.INFO, f"Prices come from the shipped generic profile. {CALIBRATE}.")
        return generic_profile()
    return _find_in(folder, changed)


def _find_in(folder: Path, changed: int) -> Profile:
    """The profile in `folder` that fits this machine; `changed` only keys what was not there."""
    path = folder / f"{fingerprint().key()}.yaml"
    try:
        written = path.stat().st_mtime_ns
    except OSError:
        _report_missing(folder, changed)
        return generic_profile()
    return _checked(path, written) or generic_profile()


@functools.lru_cache(maxsize=64)
def _checked(path: Path, written: int) -> Profile | None:
    """The profile in the file, or None and one warning; `written` only keys the cache."""
    try:
        profile = load_profile(path)
    except (ProfileError, OSError) as error:
        _once(logging.WARNING, f"{error} The generic profile is used meanwhile.")
        return None
    if profile.fingerprint != fingerprint():
        _once(
            logging.WARNING,
            f"{path} describes another machine ({profile.fingerprint.key()}). "
            f"{CALIBRATE}; the generic profile is used meanwhile.",
        )
        return None
    if changes := _changed_libraries(profile):
        _once(logging.WARNING, f"{path} was measured with {changes}. {CALIBRATE} again.")
    return profile


def _changed_libraries(profile: Profile) -> str:
    """The libraries that have another version than when the profile was measured."""
    now = {name: installed_version(name) for name in profile.library_versions}
    return ", ".join(
        f"{name} {version} (now {now[name]})"
        for name, version in profile.library_versions.items()
        if now[name] != version
    )


def installed_version(library: str) -> str:
    """The version of an installed distribution, read without importing it."""
    from importlib import metadata  # pulls in the email parser

    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "none"


@functools.lru_cache(maxsize=64)
def _report_missing(folder: Path, changed: int) -> None:
    """Say once per state of the folder why no profile in it was used."""
    others = sorted(path.stem for path in folder.glob("*.yaml"))
    if not others:
        _once(logging.INFO, f"Prices come from the shipped generic profile. {CALIBRATE}.")
        return
    _once(
        logging.WARNING,
        f"No profile in {folder} fits this machine ({fingerprint().key()}); there is "
        f"{', '.join(others)}: another CPU, BLAS, or thread count. {CALIBRATE}.",
    )


@functools.cache
def _once(level: int, message: str) -> None:
    """One line in the log per process, however many graphs are compiled."""
    _log.log(level, message)


@functools.cache
def generic_profile() -> Profile:
    """The shipped prices of a typical laptop or small server."""
    return load_profile(GENERIC_PATH)
