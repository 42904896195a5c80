"""The sizes at which each kernel is timed: log spaced, thin and square, few powers of two.

Powers of two are left out on purpose: at n = 512 or 1024 the rows of a matrix collide in the
cache and every kernel slows down by up to a half, which is true there and nowhere else. Matrices
start at 2: one of size 1 has both memory orders at once, and Numba would compile it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from calibration.structured_graphs import EIGENVALUES
from cost_models.kernels import KERNEL_BY_NAME, Dims

_SQUARE_QUICK = (2, 5, 12, 24, 40, 60, 90, 140, 200, 300, 450, 700, 1000, 1400)
_SQUARE_FULL = (*_SQUARE_QUICK, 3, 8, 18, 31, 50, 75, 110, 170, 250, 360, 550, 850, 1200, 1800, 2500, 3500)
_LENGTH_QUICK = (1, 30, 300, 3_000, 12_000, 40_000, 90_000, 200_000, 400_000, 900_000, 2_000_000, 6_000_000)
_LENGTH_FULL = (
    *_LENGTH_QUICK,
    10,
    100,
    1_000,
    6_000,
    20_000,
    60_000,
    140_000,
    300_000,
    600_000,
    1_300_000,
    15_000_000,
)
_RHS_QUICK = (1, 3, 20, 150)
_RHS_FULL = (1, 2, 4, 10, 25, 50, 130, 300, 1000)
_SIDES_QUICK = (2, 7, 30, 150, 800)
_SIDES_FULL = (2, 5, 14, 40, 110, 300, 800, 2200)
_RANKS_QUICK = (2, 4, 10, 40, 150)
_RANKS_FULL = (2, 3, 5, 10, 20, 40, 90, 150, 400)
_ROWS_QUICK = (30, 300, 3000, 30_000)
_ROWS_FULL = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
_BANDS_QUICK = (1, 3, 6, 10, 40)
_BANDS_FULL = (1, 2, 4, 8, 16, 32, 64)
_FRESH = (3_000_000, 4_500_000, 5_000_000)
"""Lengths around the size at which memory is new in every call: `fill` says what that costs."""
_BEYOND_CACHE = (2100, 2700, 3300)
"""Sides that even a quick run adds for kernels that pass over a matrix once: memory is their price."""
_ONE_PASS = ("gemv", "transpose", "join")
_LENGTHS = ("stream", "fill", "exp", "log", "tanh", "reduce")
_SQUARE_AT_MOST = dict.fromkeys(("batch_cholesky", "batch_lu", "batch_inverse", "batch_solve"), 300)
_SQUARE_AT_MOST["syevr"] = 1400
_RHS_AT_MOST = {"batch_solve": 25}
"""Where a larger size would take seconds and show nothing new."""


def grid(kernel: str, quick: bool) -> list[Dims]:
    """The sizes of one kernel, in rising order of work, so that a small budget drops the largest."""
    found = KERNEL_BY_NAME[kernel]
    square = sorted(_SQUARE_QUICK if quick else _SQUARE_FULL)
    shapes: Iterable[Dims]
    if not found.dims:
        shapes = [()]
    elif kernel in _LENGTHS:
        lengths = _LENGTH_QUICK if quick else _LENGTH_FULL
        shapes = {(n,) for n in (*lengths, *(_FRESH if kernel == "fill" else ()))}
    elif found.dims == ("n",):
        most = _SQUARE_AT_MOST.get(kernel, square[-1])
        wanted = (*square, *_BEYOND_CACHE) if kernel == "diagonal" else [n for n in square if n <= most]
        shapes = {(n,) for n in wanted}
    elif found.dims == ("n", "m"):
        most = _SQUARE_AT_MOST.get(kernel, square[-1])
        columns = [m for m in (_RHS_QUICK if quick else _RHS_FULL) if m <= _RHS_AT_MOST.get(kernel, m)]
        square = [n for n in square[::2] if n <= most and (kernel != "cg_iteration" or n > EIGENVALUES)]
        shapes = product(square, columns)
    elif kernel.startswith("low_rank"):
        shapes = _low_rank(len(found.dims), quick)
    elif kernel.startswith(("band_", "line_", "sparse_")):
        shapes = _bands(len(found.dims), quick, most=8 if kernel.startswith("line_") else 64)
    else:
        sides = _SIDES_QUICK if quick else _SIDES_FULL
        shapes = product(sides, repeat=len(found.dims))
        if kernel in _ONE_PASS:
            shapes = {*shapes, *product(_BEYOND_CACHE, repeat=2)}
    return sorted(shapes, key=lambda dims: (found.flops(dims) + found.bytes(dims, 8), dims))


def _bands(count: int, quick: bool, most: int) -> Iterable[Dims]:
    """(n, b) and (n, b, m) for b up to ``most``, of up to a million numbers."""
    rows, bands = (_ROWS_QUICK, _BANDS_QUICK) if quick else (_ROWS_FULL, _BANDS_FULL)
    columns = ((1, 20) if quick else (1, 2, 5, 20, 100)) if count == 3 else (0,)
    for n, b, m in product(rows, bands, columns):
        if 2 * b < n and n * (b + m) <= 1_000_000 and b <= most:
            yield (n, b, m)[:count]


def _low_rank(count: int, quick: bool) -> Iterable[Dims]:
    """(n, k) and (n, k, m) with k at most half of n: beyond, nobody calls it low rank."""
    sides = (sorted(_SQUARE_QUICK if quick else _SQUARE_FULL))[2::2]
    ranks = _RANKS_QUICK if quick else _RANKS_FULL
    columns = ((1, 10, 100) if quick else (1, 3, 10, 30, 100, 300)) if count == 3 else (0,)
    for n, k, m in product((*sides, 3000, 10_000), ranks, columns):
        if 2 * k <= n:
            yield (n, k, m)[:count]
