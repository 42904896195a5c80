"""The price of a kernel: `seconds(dims) = sum_i c_i * phi_i(dims)` with all `c_i >= 0`.

phi is, in this order:
- `call`: 1, the fixed cost of running the kernel at all;
- `flops` up to `knot` and `flops_beyond`: small problems run unblocked and on one thread, so
  their flops have another price;
- `wake`: 1 beyond the knot, what it costs to wake the threads;
- `bytes`, and `bytes_beyond`: what those beyond the cache cost on top; which share of the
  last-level cache a kernel enjoys is fitted too (inner levels, other tenants);
- `fresh`: the bytes, once the largest new array is beyond `FRESH`: the allocator then takes its
  pages from the system in every call, and the system clears them;
- the kernel's own lower-order terms.

Each phi never falls when a dimension grows and no coefficient is negative: time is monotone in
every size. The fit is non-negative least squares (Lawson & Hanson, 1974) on the relative error,
each row divided by its measured time, so a microsecond counts as much as a second and the leading
term extrapolates. What cannot be learned from the sizes measured is not left to chance: a knot or a
cache share is considered only with enough points beyond it, and no flop is cheaper than gemm's.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cost_models.kernels import KERNEL_BY_NAME, Dims

ITEMSIZE = {"float64": 8, "float32": 4}
KNOTS = (1e4, 1e5, 1e6, 1e7, 1e8)
NO_KNOT = 1e18
CACHE_SHARES = (1.0, 0.5, 0.25, 0.1, 0.03)
FOLDS = 5
_COMMON = ("call", "flops", "flops_beyond", "wake", "bytes", "bytes_beyond", "fresh")
REGIMES = (1e-5, 1e-3)
"""Seconds that part the errors: overhead below the first, memory and threads beyond the second."""
ONE_SIGMA = 0.68
"""The share of normal errors within one standard deviation."""
FRESH = 2**25
"""Bytes of the largest array that glibc keeps for reuse (M_MMAP_THRESHOLD in malloc(3))."""
FEWEST_POINTS = 5
RESOLUTION = 1e-7
"""Seconds that nobody can measure nor mind: errors are relative to the time plus this."""
_BEYOND = 3  # points needed beyond a knot or a cache size for the price there to mean something


@dataclass(frozen=True)
class KernelModel:
    """Fitted seconds of one kernel in one dtype, with its error on points it was not fitted to.

    `coefficients` maps the name of a term to seconds per unit. `error` is the median and
    `error_p90` the 90th percentile of `|predicted / measured - 1|` over held-out points; `errors`
    are the 68th percentiles of `|log(predicted / measured)|` in each of the `REGIMES`, `reach` is the
    longest time measured. `derived` says that the prices were not measured but scaled from another
    dtype's, or from those of another machine.
    """

    kernel: str
    dtype: str
    coefficients: Mapping[str, float]
    cache_bytes: int
    knot: float
    error: float = 0.0
    error_p90: float = 0.0
    errors: tuple[float, ...] = (0.0,) * (len(REGIMES) + 1)
    reach: float = 0.0
    points: int = 0
    derived: bool = False

    def seconds(self, dims: Dims) -> Any:
        """Predicted seconds of one run at these dimensions, or at each point of a `Grid`."""
        values = features(self.kernel, dims, ITEMSIZE[self.dtype], self.cache_bytes, self.knot)
        return math.sumprod(self._prices, values)

    @functools.cached_property
    def _prices(self) -> tuple[float, ...]:
        """The coefficients in the order of `features`."""
        return tuple(self.coefficients.get(name, 0.0) for name in term_names(self.kernel))

    def uncertainty(self, dims: Dims) -> float:
        """Relative standard error of `seconds(dims)`: what held-out points of such a time showed.

        Beyond the longest time measured it grows by as much with every factor of ten.
        """
        seconds = self.seconds(dims)
        error = self.errors[bisect.bisect_right(REGIMES, seconds)]
        return error * (1 + math.log10(max(seconds / self.reach, 1.0) if self.reach else 1.0))

    def describe(self) -> str:
        """The coefficients in the units that people know."""
        said = [_readable(name, price, self) for name, price in self.coefficients.items()]
        return ", ".join(said) or "free"


@functools.cache
def term_names(kernel: str) -> tuple[str, ...]:
    """The names of phi for this kernel, in the order of `features`."""
    return _COMMON + tuple(term.name for term in KERNEL_BY_NAME[kernel].terms)


def features(kernel: str, dims: Dims, itemsize: int, cache_bytes: int, knot: float) -> tuple[Any, ...]:
    """phi(dims): work in units of the kernel, each value never falling in any dimension.

    Numbers, or one for each point of a `Grid`.
    """
    found = KERNEL_BY_NAME[kernel]
    if len(dims) != len(found.dims):
        raise ValueError(f"Kernel {kernel!r} got the sizes {dims}. It takes {list(found.dims)}.")
    flops, touched = found.flops(dims), found.bytes(dims, itemsize)
    beyond, uncached = flops > knot, touched > cache_bytes
    return (
        1.0,
        flops * (1 - beyond) + knot * beyond,
        (flops - knot) * beyond,
        1.0 * beyond,
        touched,
        (touched - cache_bytes) * uncached,
        touched * (found.largest(dims, itemsize) > FRESH),
        *(term.value(dims) for term in found.terms),
    )


def fit(
    kernel: str,
    dtype: str,
    sizes: Sequence[Dims],
    seconds: Sequence[float],
    cache_bytes: int,
    flops_floor: float = 0.0,
) -> KernelModel:
    """The model with the smallest held-out error; the split and so the result is deterministic.

    `cache_bytes` is the last-level cache of the machine, `flops_floor` the least seconds per flop.
    """
    times = np.asarray(seconds, dtype=float)
    if len(times) < FEWEST_POINTS:
        raise ValueError(
            f"Kernel {kernel!r} has {len(times)} measurements. A fit needs {FEWEST_POINTS} or more."
        )
    if not (np.isfinite(times) & (times > 0)).all():
        raise ValueError(f"Kernel {kernel!r} has a measured time that is not positive. Measure it again.")
    return min(
        (
            _fit_at(kernel, dtype, sizes, times, cache, knot, flops_floor)
            for cache, knot in _candidates(kernel, dtype, sizes, cache_bytes)
        ),
        key=lambda model: model.error + model.error_p90,
    )


def _candidates(
    kernel: str, dtype: str, sizes: Sequence[Dims], cache_bytes: int
) -> Iterator[tuple[int, float]]:
    """(cache bytes, knot) with enough points beyond; the whole cache and no knot always stay."""
    found = KERNEL_BY_NAME[kernel]
    flops = sorted(found.flops(dims) for dims in sizes)[-_BEYOND]
    touched = sorted(found.bytes(dims, ITEMSIZE[dtype]) for dims in sizes)[-_BEYOND]
    caches = [round(share * cache_bytes) for share in CACHE_SHARES]
    knots = [knot for knot in KNOTS if knot < flops]
    return product([caches[0], *(cache for cache in caches[1:] if cache < touched)], [NO_KNOT, *knots])


def fixed(kernel: str, dtype: str, seconds: float, cache_bytes: int) -> KernelModel:
    """The model of a kernel without dimensions: its measured seconds."""
    return KernelModel(kernel, dtype, {"call": seconds}, cache_bytes, NO_KNOT, points=1)


def scaled(model: KernelModel, dtype: str, factors: Mapping[str, float]) -> KernelModel:
    """The model of another dtype: prices times `factors`; bytes follow the item size already."""
    prices = {name: c * factors.get(name, 1.0) for name, c in model.coefficients.items()}
    return replace(model, dtype=dtype, coefficients=prices, derived=True)


def _fit_at(
    kernel: str,
    dtype: str,
    sizes: Sequence[Dims],
    times: NDArray[np.float64],
    cache_bytes: int,
    knot: float,
    flops_floor: float,
) -> KernelModel:
    """Fit with the price of flops changing at `knot`; the error comes from the folds left out."""
    phi = np.array([features(kernel, d, ITEMSIZE[dtype], cache_bytes, knot) for d in sizes])
    least = np.zeros(phi.shape[1])
    least[_COMMON.index("flops")] = flops_floor
    least[_COMMON.index("flops_beyond")] = flops_floor if knot < NO_KNOT else 0.0
    predicted = _held_out(phi, times, least)
    errors = np.abs(predicted - times) / (times + RESOLUTION)
    prices = _nonnegative(phi, times, least)
    names = term_names(kernel)
    return KernelModel(
        kernel=kernel,
        dtype=dtype,
        coefficients={n: float(c) for n, c in zip(names, prices, strict=True) if c > 0},
        cache_bytes=cache_bytes,
        knot=knot,
        error=float(np.median(errors)),
        error_p90=float(np.quantile(errors, 0.9)),
        errors=_errors_by_regime(predicted, times),
        reach=float(times.max()),
        points=len(times),
    )


def _errors_by_regime(predicted: NDArray[np.float64], times: NDArray[np.float64]) -> tuple[float, ...]:
    """What two thirds of the logarithmic errors in each regime stay below; with few points there, of all.

    A quantile and not a mean square: one size at which memory is fresh in some calls and not in others
    would otherwise stand for all.
    """
    logs = np.log((predicted + RESOLUTION) / (times + RESOLUTION))
    regime = np.searchsorted(REGIMES, times, side="right")

    def size(chosen: NDArray[np.bool_]) -> float:
        enough = chosen if chosen.sum() >= 2 * FEWEST_POINTS else np.ones_like(chosen)
        return float(np.quantile(np.abs(logs[enough]), ONE_SIGMA))

    return tuple(size(regime == index) for index in range(len(REGIMES) + 1))


def _held_out(
    phi: NDArray[np.float64], times: NDArray[np.float64], least: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Predictions for each fold by a fit to the others; too few points are held out one by one."""
    folds = FOLDS if len(times) >= 2 * FOLDS else len(times)
    fold = np.arange(len(times)) % folds
    predicted = np.empty_like(times)
    for out in range(folds):
        kept = fold != out
        predicted[~kept] = phi[~kept] @ _nonnegative(phi[kept], times[kept], least)
    return predicted


def _nonnegative(
    phi: NDArray[np.float64], times: NDArray[np.float64], least: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`argmin ||(phi c - times) / times||` over `c >= least`, with columns scaled to the same length."""
    from scipy.optimize import nnls

    weight = 1 / (times + RESOLUTION)
    rows = phi * weight[:, None]
    scale = np.linalg.norm(rows, axis=0)
    scale[scale == 0] = 1.0
    above, _ = nnls(rows / scale, times * weight - rows @ least)
    return np.asarray(least + above / scale, dtype=float)


def _readable(name: str, price: float, model: KernelModel) -> str:
    """One coefficient for people: a rate where the unit is a flop or a byte, else a time."""
    knot, cache = model.knot, model.cache_bytes
    if price <= 0:
        return f"nothing per {name}"
    if name == "call":
        return f"{1e6 * price:.3g} us a call"
    if name == "flops":
        up_to = f" up to {knot:.0e} flops" if knot < NO_KNOT else ""
        return f"{1e-9 / price:.3g} GFLOP/s{up_to}"
    if name == "flops_beyond":
        return f"{1e-9 / price:.3g} GFLOP/s beyond {knot:.0e} flops"
    if name == "wake":
        return f"{1e6 * price:.3g} us once beyond {knot:.0e} flops"
    if name == "fresh":
        return f"{1e-9 / price:.3g} GB/s more for fresh pages"
    if name == "bytes":
        return f"{1e-9 / price:.3g} GB/s"
    if name == "bytes_beyond":
        return f"{1e-9 / price:.3g} GB/s more beyond {cache / 2**20:.3g} MiB"
    return f"{1e9 * price:.3g} ns per {name}"
