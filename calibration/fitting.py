"""From raw measurements to the models of a profile: fitted, derived, or generic, in that order."""

from __future__ import annotations

import statistics

from calibration.session import Session
from cost_models import KERNEL_BY_NAME, KernelModel, fit, generic_profile
from cost_models.model import FEWEST_POINTS, ITEMSIZE, fixed, scaled

Models = dict[str, dict[str, KernelModel]]
LEAST_SHARE = 0.8
"""A flop costs at least this share of what it costs in the fastest gemm of so many flops."""
GEMM_FLOPS = 1e6


def fitted(session: Session, measured: tuple[str, ...], cache_bytes: int) -> Models:
    """`models[dtype][kernel]` for every dtype and kernel of a profile."""
    models = {dtype: _fits(session, dtype, cache_bytes) for dtype in ITEMSIZE}
    base = next((dtype for dtype in measured if models[dtype]), "float64")
    for dtype, own in models.items():
        if dtype not in measured:
            factors = _factors(session, base, dtype)
            derived = {k: scaled(m, dtype, factors) for k, m in models[base].items()}
            models[dtype] = derived | own
    return {dtype: _complete(dtype, own) for dtype, own in models.items()}


def _fits(session: Session, dtype: str, cache_bytes: int) -> dict[str, KernelModel]:
    """The models of the kernels with enough measurements."""
    models = {}
    floor = _cheapest_flop(session, dtype)
    for kernel in KERNEL_BY_NAME.values():
        times = session.net(kernel.name, dtype)
        if not kernel.dims and times:
            models[kernel.name] = fixed(kernel.name, dtype, times[0][1], cache_bytes)
        elif len(times) >= FEWEST_POINTS:
            sizes, seconds = zip(*times, strict=True)
            models[kernel.name] = fit(kernel.name, dtype, sizes, seconds, cache_bytes, floor)
    return models


def _cheapest_flop(session: Session, dtype: str) -> float:
    """Seconds per flop of gemm at its best: nothing on this machine computes faster."""
    flops = KERNEL_BY_NAME["gemm"].flops
    done = ((flops(dims), seconds) for dims, seconds in session.net("gemm", dtype))
    best = min((seconds / n for n, seconds in done if n >= GEMM_FLOPS), default=0.0)
    return LEAST_SHARE * best


def _complete(dtype: str, models: dict[str, KernelModel]) -> dict[str, KernelModel]:
    """All kernels in their order; the generic prices are read only if something is missing."""
    return {
        name: models[name] if name in models else generic_profile().models[dtype][name]
        for name in KERNEL_BY_NAME
    }


def _factors(session: Session, base: str, dtype: str) -> dict[str, float]:
    """How prices change from `base` to `dtype`: flops as potrf and gemm, bytes as stream.

    A price per byte changes by the ratio of the times over the ratio of the item sizes. The fixed
    cost of a call stays; terms that count numbers or columns change as the flops do.
    """
    flops = statistics.mean(_ratio(session, kernel, base, dtype) for kernel in ("potrf", "gemm"))
    per_byte = _ratio(session, "stream", base, dtype) * ITEMSIZE[base] / ITEMSIZE[dtype]
    names = {term.name for kernel in KERNEL_BY_NAME.values() for term in kernel.terms}
    numbers = dict.fromkeys(names | {"flops", "flops_beyond"}, flops)
    return numbers | {"bytes": per_byte, "bytes_beyond": per_byte}


def _ratio(session: Session, kernel: str, base: str, dtype: str) -> float:
    """Time in `dtype` over time in `base`, the median over the larger half of the sizes."""
    before = dict(session.net(kernel, base))
    ratios = [s / before[dims] for dims, s in session.net(kernel, dtype) if dims in before]
    if not ratios:  # not measured: what the item size says
        return ITEMSIZE[dtype] / ITEMSIZE[base]
    return statistics.median(ratios[len(ratios) // 2 :])
