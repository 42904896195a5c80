"""Fingerprint: what must be equal for measured times to mean anything here.

Two machines with the same fingerprint share a profile. It holds the CPU, the cores this process
may use, the BLAS that SciPy carries (the one PyTensor's Numba linker calls) with its thread count,
the linker, and the size of the last-level cache. The thread count is that of the moment; all else
is read once.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

DEFAULT_CACHE_BYTES = 16 * 2**20
_CPUINFO = Path("/proc/cpuinfo")
_CPU_FIELD = re.compile(r"^(model name|cpu family|model|CPU part)\s*:\s*(.+)$", re.MULTILINE)
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Fingerprint:
    """The machine as the kernels see it; `cache_bytes` is the last-level cache."""

    cpu: str
    cores: int
    blas: str
    blas_version: str
    threads: int
    linker: str
    cache_bytes: int

    def key(self) -> str:
        """A short name that is the same in every process and safe as a file name."""
        return _key(self)


@functools.lru_cache(maxsize=64)
def _key(machine: Fingerprint) -> str:
    digest = hashlib.sha256(repr(astuple(machine)).encode()).hexdigest()[:8]
    cpu = re.sub(r"[^a-z0-9]+", "-", machine.cpu.lower()).strip("-")[:32].strip("-")
    blas = re.sub(r"[^a-z0-9]+", "", machine.blas.lower())
    return f"{cpu or 'cpu'}-{machine.cores}c-{blas or 'blas'}-{machine.threads}t-{digest}"


def fingerprint() -> Fingerprint:
    """The fingerprint of this process at this moment; microseconds after the first call.

    A limit on the threads of SciPy's BLAS (`threadpoolctl.threadpool_limits`) is seen at once.
    """
    blas = _scipy_blas()
    return _with_threads((blas.num_threads if blas is not None else None) or 1)


@functools.lru_cache(maxsize=64)
def _with_threads(threads: int) -> Fingerprint:
    return replace(_machine(), threads=threads)


@functools.cache
def _machine() -> Fingerprint:
    """All but the thread count, which is left at 1."""
    vendor, version = _blas_name()
    return Fingerprint(
        cpu=_cpu_name(),
        cores=usable_cores(),
        blas=vendor,
        blas_version=version,
        threads=1,
        linker="numba",
        cache_bytes=_last_level_cache(),
    )


def usable_cores() -> int:
    """Cores that this process may use: its affinity, cut down by the quotas of its cgroups."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = min((_quota(folder) for folder in _cgroup_folders()), default=math.inf)
    return max(1, math.ceil(min(cores, quota)))


def _cgroup_folders() -> Iterator[Path]:
    """The control groups of this process and all above: a container's, a batch job's, a slice's."""
    yield from (_CGROUPS, _CGROUPS / "cpu")  # what a container sees as its own
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            root = _CGROUPS / "cpu" if controllers else _CGROUPS
            own = root / path.lstrip("/")
            yield from (own, *(above for above in own.parents if above.is_relative_to(root)))


def _quota(folder: Path) -> float:
    """CPUs that a control group may use, version 2 or 1; infinite where nothing limits it."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()[:2]
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        cpus = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such group, or "max"
        return math.inf
    return cpus if cpus > 0 else math.inf


def _cpu_name() -> str:
    """The very model as `/proc/cpuinfo` names it, and what its features amount to."""
    try:
        found = re.findall(_CPU_FIELD, _CPUINFO.read_text())
    except OSError:
        found = []
    fields = {name: value.strip() for name, value in reversed(found)}
    import archspec.cpu

    features = str(archspec.cpu.host().name)  # a virtual machine may hide some of its CPU's
    if "model name" in fields:
        # Virtual machines also hide the product ("AMD EPYC"); family and model still tell it.
        family, model = fields.get("cpu family", "-"), fields.get("model", "-")
        return f"{fields['model name']} {family}/{model} {features}"
    return " ".join(filter(None, (features, fields.get("CPU part"))))


def _last_level_cache() -> int:
    """Bytes of the largest data cache; a middling value where the system does not tell."""
    sizes = [0]
    unit = {"K": 2**10, "M": 2**20, "G": 2**30}
    for path in _CACHES.glob("index*/size"):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        match = re.fullmatch(r"(\d+)([KMG]?)", text)
        if match:
            sizes.append(int(match[1]) * unit.get(match[2], 1))
    return max(sizes) or DEFAULT_CACHE_BYTES


@functools.cache
def _scipy_blas() -> Any:
    """threadpoolctl's controller of SciPy's BLAS, which is not NumPy's: wheels carry two."""
    _load_scipy_blas()
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas").lib_controllers
    own = [blas for blas in found if any("scipy" in part for part in Path(blas.filepath).parts[-3:-1])]
    return next(iter([*own, *found]), None)


def _load_scipy_blas() -> None:
    """threadpoolctl sees only libraries that are loaded.

    Opening one extension module of SciPy loads its BLAS in milliseconds; importing `scipy.linalg`
    takes a hundred times as long, and is the fallback.
    """
    import ctypes

    import scipy

    try:
        [module] = Path(scipy.__file__).parent.glob("linalg/_fblas*.so")
        ctypes.CDLL(str(module))
    except (OSError, ValueError):  # another layout, or not to be loaded by itself
        import scipy.linalg


def _blas_name() -> tuple[str, str]:
    """Vendor and version, with the kernels that OpenBLAS chose for this CPU."""
    blas = _scipy_blas()
    if blas is None:  # one that threadpoolctl does not know, such as Accelerate
        from scipy.__config__ import CONFIG

        built = CONFIG["Build Dependencies"]["blas"]
        return str(built["name"]), str(built["version"])
    return blas.internal_api, " ".join(filter(None, (blas.version, getattr(blas, "architecture", None))))
