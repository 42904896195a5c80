"""How much memory a candidate may use when the policy does not say."""

from __future__ import annotations

SHARE = 0.8


def available_memory() -> float:
    """A share of the RAM that is free now, in bytes."""
    import psutil

    return SHARE * psutil.virtual_memory().available
