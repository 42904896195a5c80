"""Finding the profile to use: this machine's own, else the generic one, and never silently.

"This machine" is the fingerprint of the moment, its count of BLAS threads included, so a process
that changes the count changes the profile. A file of another machine, another count, another
schema or with damage is reported once on the logger `autotune`, and the shipped generic profile
serves instead. A profile has prices for every dtype: what was not measured in one is derived from
another and marked so.
"""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import replace
from pathlib import Path

from cost_models.files import (
    CALIBRATE,
    GENERIC_PATH,
    ProfileError,
    generic_profile,
    load_profile,
    profile_dir,
    profile_path,
)
from cost_models.fingerprint import Fingerprint, fingerprint
from cost_models.profile import Profile

GENERIC = "generic"
_THREADS_IN_KEY = re.compile(r"-(\d+)t-[0-9a-f]+$")
_log = logging.getLogger("autotune")


def find_profile() -> Profile:
    """This machine's calibrated profile, else the generic one; after the first call it is cheap."""
    folder = profile_dir()
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:  # nobody has calibrated: the fingerprint need not be taken
        _once(logging.INFO, f"Prices come from the shipped generic profile. {CALIBRATE}.")
        return generic_profile()
    return _find_in(folder, changed, fingerprint())


def path_in_force() -> Path:
    """The file that `find_profile` reads."""
    return GENERIC_PATH if find_profile().source == GENERIC else profile_path()


def named_path(name: str) -> Path:
    """The file of a profile by its path, its key or a part of it that no other has, or `generic`."""
    if name == GENERIC:
        return GENERIC_PATH
    path = Path(name)
    if path.exists():
        return path
    keys = [stored.stem for stored in profile_dir().glob("*.yaml")]
    found = [name] if name in keys else sorted(key for key in keys if name in key)
    if len(found) == 1:
        return profile_dir() / f"{found[0]}.yaml"
    problem = (
        f"fits {len(found)} profiles ({', '.join(found)})" if found else "is no file nor a profile's key"
    )
    raise ProfileError(f"{name!r} {problem}. `autotune profile list` shows the keys in {profile_dir()}.")


def _find_in(folder: Path, changed: int, machine: Fingerprint) -> Profile:
    """The profile in `folder` that fits `machine`; `changed` only keys what was not there."""
    path = folder / f"{machine.key()}.yaml"
    try:
        status = path.stat()
    except OSError:
        _report_missing(folder, changed, machine)
        return generic_profile()
    version = (status.st_mtime_ns, status.st_ino, status.st_size)
    return _checked(path, version, machine) or generic_profile()


@functools.lru_cache(maxsize=64)
def _checked(path: Path, version: tuple[int, ...], machine: Fingerprint) -> Profile | None:
    """The profile in the file, or None and one warning; `version` only keys the cache."""
    try:
        profile = load_profile(path)
    except (ProfileError, OSError) as error:
        _once(logging.WARNING, f"{error} The generic profile is used meanwhile.")
        return None
    if profile.fingerprint != machine:
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
def _report_missing(folder: Path, changed: int, machine: Fingerprint) -> None:
    """Say once per state of the folder why no profile in it was used."""
    keys = sorted(path.stem for path in folder.glob("*.yaml"))
    if not keys:
        _once(logging.INFO, f"Prices come from the shipped generic profile. {CALIBRATE}.")
    elif counts := other_threads(keys, machine):
        # More threads than cores are not to be asked for, but may be in force: measured as they are.
        option = f" --threads {machine.threads}" if machine.threads <= machine.cores else ""
        _once(
            logging.WARNING,
            f"The profiles of this machine are for {_threads(counts)}; the count in force is "
            f"{machine.threads}. Run `autotune calibrate{option}`; the generic profile is used "
            "meanwhile.",
        )
    else:
        _once(
            logging.WARNING,
            f"None of the {len(keys)} profiles in {folder} is of this machine ({machine.key()}): they have "
            f"another CPU, core count or BLAS. {CALIBRATE}; the generic profile is used meanwhile.",
        )


def _threads(counts: list[int]) -> str:
    """``1 BLAS thread``, ``1, 4 BLAS threads``."""
    return f"{', '.join(map(str, counts))} BLAS thread{'' if counts == [1] else 's'}"


def other_threads(keys: list[str], machine: Fingerprint) -> list[int]:
    """The thread counts for which `machine` has a key among `keys`; no file need be read."""
    counts = sorted({int(found[1]) for key in keys if (found := _THREADS_IN_KEY.search(key))})
    return [count for count in counts if replace(machine, threads=count).key() in keys]


@functools.cache
def _once(level: int, message: str) -> None:
    """One line in the log per process, however many graphs are compiled."""
    _log.log(level, message)
