"""Fingerprint: what must be equal for measured times to mean anything here.

Two machines with the same fingerprint share a profile. It holds the CPU, the cores this process
may use, the BLAS that SciPy carries (the one PyTensor's Numba linker calls) with its thread count,
the linker, and the size of the last-level cache.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import re
from dataclasses import astuple, dataclass
from pathlib import Path

DEFAULT_CACHE_BYTES = 16 * 2**20
_CPUINFO = Path("/proc/cpuinfo")
_CPU_FIELD = re.compile(r"^(model name|cpu family|model|CPU part)\s*:\s*(.+)$", re.MULTILINE)
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


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


@functools.cache
def fingerprint() -> Fingerprint:
    """The fingerprint of this process, read once: later changes of the threads are not seen."""
    blas, version, threads = _scipy_blas()
    return Fingerprint(
        cpu=_cpu_name(),
        cores=usable_cores(),
        blas=blas,
        blas_version=version,
        threads=threads,
        linker="numba",
        cache_bytes=_last_level_cache(),
    )


def usable_cores() -> int:
    """Cores that this process may use: its affinity, cut down by the container's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _cgroup_quota())))


def _cgroup_quota() -> float:
    """CPUs that the container may use; infinite where nothing limits it."""
    try:
        if _CGROUP_V2.exists():
            quota, period = _CGROUP_V2.read_text().split()[:2]
        else:
            quota = (_CGROUP_V1 / "cpu.cfs_quota_us").read_text().strip()
            period = (_CGROUP_V1 / "cpu.cfs_period_us").read_text().strip()
        cpus = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # no cgroup, or "max"
        return math.inf
    return cpus if cpus > 0 else math.inf


def _cpu_name() -> str:
    """`/proc/cpuinfo` names the very model; archspec names the family on other systems."""
    try:
        found = re.findall(_CPU_FIELD, _CPUINFO.read_text())
    except OSError:
        found = []
    fields = {name: value.strip() for name, value in reversed(found)}
    if "model name" in fields:
        # Virtual machines hide the product ("AMD EPYC"); family and model still tell it.
        return "{} {}/{}".format(
            fields["model name"], fields.get("cpu family", "-"), fields.get("model", "-")
        )
    import archspec.cpu

    return " ".join(filter(None, (str(archspec.cpu.host().name), fields.get("CPU part"))))


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


def _scipy_blas() -> tuple[str, str, int]:
    """Vendor, version and threads of SciPy's BLAS, which is not NumPy's: wheels carry two."""
    import scipy.linalg  # noqa: F401  threadpoolctl sees only libraries that are loaded
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool.get("user_api") == "blas"]
    if not pools:
        return "unknown", "unknown", 1
    pool = next((p for p in pools if "scipy" in Path(str(p["filepath"])).parent.name), pools[0])
    return str(pool["internal_api"]), str(pool.get("version")), int(pool["num_threads"])
