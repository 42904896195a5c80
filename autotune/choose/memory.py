"""How much memory a candidate may use when the policy does not say."""

from __future__ import annotations

from pathlib import Path

SHARE = 0.8
_MEMINFO = Path("/proc/meminfo")


def available_memory() -> float:
    """A share of the RAM that is free now, in bytes."""
    return SHARE * _free()


def _free() -> float:
    """As Linux tells; elsewhere by psutil, which takes a while to be imported."""
    try:
        fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        return 1024 * float(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        import psutil

        return float(psutil.virtual_memory().available)
