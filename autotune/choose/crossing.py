"""Find where two candidates cross while sizes are unknown: a pure function of a problem and prices.

The candidate that serves without looking at sizes is compared with the one that gains most over it at sizes
that may come. The crossover is searched for along one size, at each point of a grid of the others, and taken
only if it picks the cheaper of the two everywhere, up to the margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from autotune.choose.all_sizes import MAY_COME, overhead, points
from autotune.choose.candidates import seconds, strategy
from autotune.policy.crossover import LEAST, MOST, Crossover
from autotune.problem import Options, Problem
from cost_models import Profile

# The grid of a threshold; every second power of eight lies between its points.
GRID = {
    "n": tuple(4**i for i in range(9)),
    "rank": tuple(4**i for i in range(9)),
    "columns": (1, 64, 4096),
}
# The size to look at, in this order.
AXES = ("rank", "columns", "n")
# log2 of the sizes between which a threshold is searched for, and how exactly.
SEARCHED = (math.log2(LEAST), math.log2(MOST))
PRECISION = 0.02
# How many times cheaper than the other each of the two must be somewhere: two branches are compiled.
WORTH_BRANCHING = 2.0
# Logarithm of a price ratio where one of the two cannot serve.
NEVER = 30.0


class Prices:
    """Predicted seconds of one problem by several strategies, at any sizes."""

    def __init__(self, problem: Problem, options: Options, profile: Profile, margin: float):
        self.problem, self.options, self.profile, self.margin = problem, options, profile, margin
        self.unknown = problem.unknown_sizes
        self.overhead = overhead(problem, profile)
        self._found: dict[tuple[Any, ...], float] = {}

    def names(self, name: str) -> tuple[str, ...]:
        return (name,) * len(self.problem.requests)

    def of(self, name: str, sizes: dict[str, int]) -> float:
        """Seconds; infinite where the strategy cannot serve."""
        found = self._found.get(key := (name, *(sizes[size] for size in self.unknown)))
        if found is None:
            found = self._found[key] = self._price(name, self.problem.with_sizes(**sizes))
        return found

    def _price(self, name: str, sized: Problem) -> float:
        if strategy(name).declines(sized, self.options) is not None:
            return math.inf
        return seconds(sized, self.names(name), self.options, self.profile)[0]

    def ratio(self, name: str, other: str, sizes: dict[str, int]) -> float:
        """log of the price of ``name`` over that of ``other``, within ``NEVER``."""
        ours, theirs = (self.of(n, sizes) for n in (name, other))
        if math.isinf(ours) or math.isinf(theirs):
            return NEVER * (math.isinf(ours) - math.isinf(theirs))
        return math.log(ours / theirs)

    def gains(self, name: str, other: str, sizes: dict[str, int]) -> bool:
        """Whether ``name`` is so much cheaper than ``other`` that it pays to look at the sizes."""
        ours, theirs = (self.of(n, sizes) for n in (name, other))
        return ours + self.overhead < theirs and theirs >= WORTH_BRANCHING * ours


def find_crossover(prices: Prices, base: str, others: Sequence[str]) -> Crossover | None:
    """The crossover of ``base`` and the one of ``others`` that gains most over it; None if none pays."""
    if any("." in name for name in prices.unknown):
        return None  # of a part: nothing looks at its size when the function runs
    samples = list(points(MAY_COME, prices.unknown))
    of_base = [prices.of(base, sizes) for sizes in samples]
    best, best_gain, of_best = "", 0.0, of_base
    for name in others:
        found = [prices.of(name, sizes) for sizes in samples]
        gain = sum(max(0.0, math.log(b / o)) for b, o in zip(of_base, found, strict=True) if o < b < math.inf)
        if gain > best_gain:
            best, best_gain, of_best = name, gain, found
    if not best or not _both_gain(prices, base, best, samples):
        return None
    axes = [axis for axis in AXES if axis in prices.unknown]
    tables = (_along(prices, base, best, axis) for axis in axes)
    costs = list(zip(samples, of_base, of_best, strict=True))
    return next((t for t in tables if t is not None and _picks_well(t, base, costs, prices)), None)


def _both_gain(prices: Prices, one: str, other: str, samples: list[dict[str, int]]) -> bool:
    """Whether each of the two is worth having at some of the sizes."""
    return all(any(prices.gains(*pair, s) for s in samples) for pair in ((one, other), (other, one)))


def _along(prices: Prices, base: str, other: str, axis: str) -> Crossover | None:
    """The thresholds along ``axis``; None where the two cross the other way round at other points."""
    over = tuple(name for name in prices.unknown if name != axis)
    nodes = [sizes | {axis: 1} for sizes in points(GRID, over)]
    ends = [_ends(prices, (other, base), sizes, axis) for sizes in nodes]
    directions = {low < 0 for low, high in ends if low * high < 0}
    if len(directions) > 1:
        return None
    names, sign = ((base, other), -1) if directions == {False} else ((other, base), 1)
    found = zip(nodes, ends, strict=True)
    thresholds = tuple(_threshold(prices, names, p, axis, sign * lo, sign * hi) for p, (lo, hi) in found)
    below, above = names
    grid = tuple(tuple(map(float, GRID[name])) for name in over)
    return Crossover(below=below, above=above, size=axis, thresholds=thresholds, over=over, grid=grid)


def _ends(prices: Prices, names: tuple[str, str], sizes: dict[str, int], axis: str) -> list[float]:
    return [prices.ratio(*names, sizes | {axis: round(2**end)}) for end in SEARCHED]


def _threshold(prices, names: tuple[str, str], sizes: dict[str, int], axis: str, low, high) -> float:
    """Where the first of ``names`` ceases to be cheaper: an end of the search if it never does, or never is.

    ``low`` and ``high`` are the logarithms of the ratio of their prices at the ends.
    """
    from scipy.optimize import brentq

    if low >= 0 or high <= 0:
        return 2.0 ** SEARCHED[low < 0]

    def difference(x: float) -> float:
        return prices.ratio(*names, sizes | {axis: round(2**x)})

    return 2.0 ** brentq(difference, *SEARCHED, xtol=PRECISION)


def _picks_well(found: Crossover, base: str, costs: list[Any], prices: Prices) -> bool:
    """Whether it picks the cheaper one of the two at all points, up to the margin and the cost of picking."""
    for sizes, of_base, of_other in costs:
        picked = found.below if bool(found.is_below(sizes, np)) else found.above
        cost = of_base if picked == base else of_other
        if cost > (1 + prices.margin) * min(of_base, of_other) + prices.overhead:
            return False
    return True
