"""Profile files: plain text, versioned, written and read whole or not at all.

One YAML file per fingerprint under `<data directory>/profiles/`; `AUTOTUNE_HOME` moves the data
directory, which many machines may share. Reading checks every value, so that what has been loaded
can be trusted.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import statistics
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from cost_models.fingerprint import Fingerprint, fingerprint
from cost_models.kernels import KERNEL_BY_NAME, REFERENCE_KERNELS
from cost_models.model import ITEMSIZE, REGIMES, KernelModel, scaled, term_names
from cost_models.profile import SCHEMA, SOURCES, Profile

CALIBRATE = "Run `autotune calibrate` to measure this machine"
GENERIC_PATH = Path(__file__).with_name("generic_profile.yaml")
MIDDLING = 100
"""The size in every dimension at which kernels of two machines are compared."""
_SCHEMA_LINE = re.compile("^schema:", re.MULTILINE)


_log = logging.getLogger("autotune")


class ProfileError(ValueError):
    """A profile file that cannot be used; the message names the file and what to do."""


def data_dir() -> Path:
    """Where profiles live: `AUTOTUNE_HOME`, else the user's data directory."""
    if home := os.environ.get("AUTOTUNE_HOME"):
        return Path(home).expanduser()
    return _user_data_dir()


@functools.cache
def _user_data_dir() -> Path:
    from platformdirs import user_data_dir

    return Path(user_data_dir("autotune", appauthor=False))


def profile_dir() -> Path:
    """Where the profiles of all machines are, present or not."""
    return data_dir() / "profiles"


def profile_path(machine: Fingerprint | None = None) -> Path:
    """The file of this machine's profile, or of the given machine's, present or not."""
    return profile_dir() / f"{(machine or fingerprint()).key()}.yaml"


def load_profile(path: str | os.PathLike[str]) -> Profile:
    """Read and check a profile file; `ProfileError` says what is wrong with it."""
    path = Path(path)
    data = _parsed(path)
    if data["schema"] != SCHEMA:
        raise _unusable(path, f"has schema {data['schema']!r}; this version reads {SCHEMA}")
    try:
        return _profile(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unusable(path, f"is damaged ({type(error).__name__}: {error})") from error


@functools.cache
def generic_profile() -> Profile:
    """The shipped prices of a typical laptop or small server."""
    return load_profile(GENERIC_PATH)


def _parsed(path: Path) -> dict[str, Any]:
    """The keys of a file that names its schema; what is not ours is not even parsed."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        ours = _SCHEMA_LINE.search(text) is not None
        data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if ours else None
    except (yaml.YAMLError, ValueError, AttributeError) as error:  # the last two: dates and numbers
        raise _unusable(path, "is not readable as YAML") from error
    if not isinstance(data, dict) or "schema" not in data:
        raise _unusable(path, "is not a profile: it has no `schema`")
    return data


def save_profile(profile: Profile, path: str | os.PathLike[str] | None = None) -> Path:
    """Write the profile as YAML, whole or not at all; the default place is where it is found."""
    import yaml

    path = Path(path) if path is not None else profile_path(profile.fingerprint)
    text = yaml.safe_dump(_plain(profile), sort_keys=False, default_flow_style=None, width=100)
    write_atomically(path, "# Prices of kernels, written by `autotune calibrate`.\n" + text)
    return path


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never half of one; of several writers the last wins.

    The file in the making has a random name: on a shared directory a process number is not unique.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        with part.open("x", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _unusable(path: Path, reason: str) -> ProfileError:
    return ProfileError(f"The profile {path} {reason}. {CALIBRATE}, or delete the file.")


def _plain(profile: Profile) -> dict[str, Any]:
    """The profile as nested dicts of text and numbers."""
    return {
        "schema": profile.schema,
        "source": profile.source,
        "created": profile.created,
        "fingerprint": asdict(profile.fingerprint),
        "library_versions": dict(profile.library_versions),
        "models": {
            dtype: {name: _plain_model(model) for name, model in models.items()}
            for dtype, models in profile.models.items()
        },
    }


def _plain_model(model: KernelModel) -> dict[str, Any]:
    return {
        "derived": model.derived,
        "points": model.points,
        "error": model.error,
        "error_p90": model.error_p90,
        "errors": list(model.errors),
        "reach": model.reach,
        "cache_bytes": model.cache_bytes,
        "knot": model.knot,
        "seconds_per": dict(model.coefficients),
    }


def _profile(data: dict[str, Any]) -> Profile:
    """Build a profile from plain data, checking every value."""
    if data["source"] not in SOURCES:
        raise ValueError(f"source {data['source']!r}")
    models = {str(dtype): _models(str(dtype), m) for dtype, m in data["models"].items()}
    if set(models) != set(ITEMSIZE):
        raise ValueError(f"dtypes {sorted(models)} instead of {sorted(ITEMSIZE)}")
    if data["source"] != "generic":
        models = {dtype: _completed(dtype, own) for dtype, own in models.items()}
    elif missing := [name for own in models.values() for name in KERNEL_BY_NAME if name not in own]:
        raise ValueError(f"it lacks {', '.join(missing)}")
    return Profile(
        fingerprint=_fingerprint(data["fingerprint"]),
        models=models,
        created=str(data["created"]),
        library_versions={str(k): str(v) for k, v in data["library_versions"].items()},
        source=data["source"],
    )


def _fingerprint(plain: Mapping[str, Any]) -> Fingerprint:
    """Every field of its own type; a fingerprint has no optional fields."""
    kinds = {"int": int, "str": str}
    for field in fields(Fingerprint):
        value = plain[field.name]
        if type(value) is not kinds[str(field.type)] or (isinstance(value, int) and value < 1):
            raise ValueError(f"{field.name} of the fingerprint is {value!r}")
    return Fingerprint(**{field.name: plain[field.name] for field in fields(Fingerprint)})


def _models(dtype: str, plain: Mapping[str, Any]) -> dict[str, KernelModel]:
    """The kernels of this version that were measured; those of another one are left out."""
    if missing := [name for name in REFERENCE_KERNELS if name not in plain]:
        raise ValueError(f"it lacks {', '.join(missing)}")
    if unknown := [str(name) for name in plain if name not in KERNEL_BY_NAME]:
        _log.info("This version has no kernels %s: their prices are not used.", ", ".join(unknown))
    return {name: _model(name, dtype, plain[name]) for name in KERNEL_BY_NAME if name in plain}


def _completed(dtype: str, own: Mapping[str, KernelModel]) -> dict[str, KernelModel]:
    """All kernels: the generic price of one that was not measured, times what those like it cost here of
    their generic prices."""
    generic = generic_profile().models[dtype]
    if missing := [name for name in KERNEL_BY_NAME if name not in own]:
        _log.info("Prices of %s (%s) are derived. %s again.", ", ".join(missing), dtype, CALIBRATE)
    return {
        name: own[name] if name in own else _derived(generic[name], own, generic) for name in KERNEL_BY_NAME
    }


def _derived(
    model: KernelModel, own: Mapping[str, KernelModel], generic: Mapping[str, KernelModel]
) -> KernelModel:
    here = [name for name in KERNEL_BY_NAME[model.kernel].like if name in own] or REFERENCE_KERNELS
    ratio = statistics.geometric_mean(_middling(own[name]) / _middling(generic[name]) for name in here)
    return scaled(model, model.dtype, dict.fromkeys(model.coefficients, ratio))


def _middling(model: KernelModel) -> float:
    """Its price at a middling size; never 0."""
    return max(float(model.seconds((MIDDLING,) * len(KERNEL_BY_NAME[model.kernel].dims))), 1e-15)


def _model(kernel: str, dtype: str, plain: Mapping[str, Any]) -> KernelModel:
    prices = {str(name): _number(price, name) for name, price in plain["seconds_per"].items()}
    if unknown := set(prices).difference(term_names(kernel)):
        raise ValueError(f"kernel {kernel} has the unknown terms {sorted(unknown)}")
    return KernelModel(
        kernel=kernel,
        dtype=dtype,
        coefficients=prices,
        cache_bytes=int(_number(plain["cache_bytes"], "cache_bytes")),
        knot=_number(plain["knot"], "knot"),
        error=_number(plain["error"], "error"),
        error_p90=_number(plain["error_p90"], "error_p90"),
        errors=_errors(plain["errors"]),
        reach=_number(plain["reach"], "reach"),
        points=int(_number(plain["points"], "points")),
        derived=bool(plain["derived"]),
    )


def _errors(plain: Any) -> tuple[float, ...]:
    """One error for each regime."""
    if not isinstance(plain, list) or len(plain) != len(REGIMES) + 1:
        raise ValueError(f"errors is {plain!r}")
    return tuple(_number(value, "errors") for value in plain)


def _number(value: Any, name: str) -> float:
    """A finite number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e300:
        raise ValueError(f"{name} is {value!r}")
    return float(value)
