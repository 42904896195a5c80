"""Numbers as people read them: three digits, a unit, a noun in the singular or plural."""

from __future__ import annotations

# Below this an exponent says no more than the digits do.
LONGEST = 1e6
# What three digits round up to 1: the unit changes here, so that 999.7 us is 1 ms.
NEARLY_ONE = 0.9995


def three_digits(value: float) -> str:
    """Three digits, or all before the point: ``1.01``, ``1014``; an exponent from a million on: ``1e+06``."""
    return f"{value:.0f}" if 99.95 <= abs(value) < LONGEST else f"{value:.3g}"


def format_seconds(seconds: float | None) -> str:
    """Three digits with a unit: ``1.23 ms``."""
    if seconds is None:
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= NEARLY_ONE:
            return f"{three_digits(seconds * scale)} {unit}"
    return f"{seconds * 1e6:.2g} us"


def format_bytes(count: float | None) -> str:
    """Three digits with a binary unit: ``1.5 MiB``; four between 1000 and 1023."""
    if count is None:
        return "-"
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= NEARLY_ONE * scale:
            return f"{three_digits(count / scale)} {unit}"
    return f"{count:.0f} B"


def counted(count: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
