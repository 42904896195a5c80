"""Find where two candidates cross while sizes are unknown: a pure function of a problem and prices.

Of all pairs that are together nowhere worse than the graph as written, the one that saves most over the sizes
that may come. The crossover is searched for along one size, at each point of a grid of the others, and taken
only if it picks the cheaper of the two everywhere, up to the margin.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from autotune.choose.all_sizes import INDIFFERENT, NOISE, Prices, points, rows
from autotune.policy.crossover import LEAST, MOST, SIZES, Crossover

# Points of the grid of a threshold, at most, and steps through the values that may come. Prices are compared
# at points between them as well.
MOST_NODES = 64
STEPS = (2, 4, 8)
# The sizes that are looked at only where no other one serves, in this order.
LAST_AXES = ("columns", "n")
# log2 of the sizes between which a threshold is searched for, and how exactly.
TICKS = tuple(map(float, np.linspace(math.log2(LEAST), math.log2(MOST), 6)))
PRECISION = 0.02
# How many times faster than without looking at sizes a call must be somewhere: two branches are compiled.
WORTH_BRANCHING = 2.0
# Pairs of candidates for which thresholds are searched, at most.
MOST_PAIRS = 2
# The sizes at a log2 of the one that is looked at.
Line = Callable[[float], dict[str, int]]
# Logarithm of a price ratio where one of the two cannot serve.
NEVER = 30.0


def find_crossover(prices: Prices, base: str, others: Sequence[str]) -> Crossover | None:
    """The crossover of the two candidates that save most over ``base``; None if none pays."""
    if not set(prices.unknown) <= set(SIZES):
        return None  # of a part or a factor: nothing looks at its size when the function runs
    names = [base, *others]
    found = [(_total_gain(prices, pair, base), pair) for pair in itertools.combinations(names, 2)]
    pairs = [
        (gain, pair)
        for gain, pair in found
        if gain > 0 and _pays(prices, pair, base) and _is_no_loss(prices, pair, names)
    ]
    best_first = sorted(pairs, key=lambda found: -found[0])[:MOST_PAIRS]
    tables = (_along(prices, *pair, axis) for _, pair in best_first for axis in _axes(prices.unknown))
    return next((t for t in tables if t is not None and _picks_well(t, prices, names)), None)


def _axes(unknown: Sequence[str]) -> list[str]:
    """The sizes to look at, the one that tells most first."""
    return [*(s for s in unknown if s not in LAST_AXES), *(s for s in LAST_AXES if s in unknown)]


def _cheaper(prices: Prices, pair: tuple[str, str]) -> NDArray[np.float64]:
    """Seconds of the cheaper of the two at each of the samples."""
    return np.minimum(*(prices.serving_samples(name) for name in pair))


def _total_gain(prices: Prices, pair: tuple[str, str], base: str) -> float:
    """The sum over all sizes of the logarithm of what a call takes less by the cheaper of the two."""
    ours, theirs = _cheaper(prices, pair), prices.of_samples(base)
    serves = ours < math.inf
    return float(prices.log_ratio(ours[serves], theirs[serves]).sum())


def _is_no_loss(prices: Prices, pair: tuple[str, str], names: Sequence[str]) -> bool:
    """Whether the cheaper of the two is nowhere worse than ``keep``, if that is one of ``names``."""
    return _bearable(prices, _cheaper(prices, pair), "keep" in names and "keep" not in pair)


def _bearable(prices: Prices, cost: NDArray[np.float64], kept: bool) -> bool:
    most = (1 + INDIFFERENT) * prices.of_samples("keep") + NOISE if kept else sys.float_info.max
    return bool((cost <= most).all())


def _pays(prices: Prices, pair: tuple[str, str], base: str) -> bool:
    """Whether the cheaper of the two is somewhere so much faster than ``base`` that it pays to look."""
    ours = prices.overhead + prices.calling + _cheaper(prices, pair)
    theirs = prices.calling + prices.of_samples(base)
    return bool((theirs >= WORTH_BRANCHING * ours).any())


def _difference(prices: Prices, name: str, other: str, sizes: dict[str, int]) -> float:
    """log of the price of ``name`` over that of ``other``, within ``NEVER``."""
    ours, theirs = (prices.serving(n, sizes) for n in (name, other))
    if math.isinf(ours) or math.isinf(theirs):
        return NEVER * (math.isinf(ours) - math.isinf(theirs))
    return math.log(ours / theirs)


def _sign(prices: Prices, name: str, other: str, sizes: dict[str, int]) -> int:
    """-1 where ``name`` is cheaper than ``other``, 1 where it is dearer, 0 where nobody minds."""
    ours, theirs = (prices.serving(n, sizes) for n in (name, other))
    return 0 if ours == theirs or abs(ours - theirs) <= NOISE else int(math.copysign(1, ours - theirs))


def _along(prices: Prices, one: str, other: str, axis: str) -> Crossover | None:
    """The thresholds along ``axis``; None where the two cross nowhere, or the other way round elsewhere."""
    over = tuple(name for name in prices.unknown if name != axis)
    grid = rows(over, MOST_NODES, STEPS)
    lines = [partial(_at, sizes, axis) for sizes in points(over, grid)]
    for name in (one, other):
        prices.price(name, [line(tick) for line in lines for tick in TICKS])
    signs = [[_sign(prices, one, other, line(tick)) for tick in TICKS] for line in lines]
    turns = [_last_turn(row) for row in signs]
    directions = {row[turn[0]] for row, turn in zip(signs, turns, strict=True) if turn}
    if len(directions) != 1:
        return None
    below, above = (one, other) if directions == {-1} else (other, one)
    thresholds = []
    for line, row, turn in zip(lines, signs, turns, strict=True):
        if turn is None:
            always_below = {*row} & {-1, 1} == directions
            thresholds.append(MOST if always_below else LEAST)
        else:
            thresholds.append(_threshold(prices, below, above, line, *(TICKS[i] for i in turn)))
    floats = tuple(tuple(map(float, row)) for row in grid)
    return Crossover(
        below=below, above=above, size=axis, thresholds=tuple(thresholds), over=over, grid=floats
    )


def _at(sizes: dict[str, int], axis: str, log2: float) -> dict[str, int]:
    return sizes | {axis: round(2**log2)}


def _last_turn(signs: list[int]) -> tuple[int, int] | None:
    """Where the sign changes for the last time: the last index of one, the next one of the other."""
    told = [i for i, sign in enumerate(signs) if sign]
    turns = [(i, j) for i, j in itertools.pairwise(told) if signs[i] != signs[j]]
    return turns[-1] if turns else None


def _threshold(prices: Prices, below: str, above: str, line: Line, low: float, high: float) -> float:
    """Where ``below`` ceases to be cheaper, between sizes whose log2 are ``low`` and ``high``."""
    from scipy.optimize import brentq

    def difference(log2: float) -> float:
        return _difference(prices, below, above, line(log2))

    return float(2.0 ** brentq(difference, low, high, xtol=PRECISION))


def _picks_well(found: Crossover, prices: Prices, names: Sequence[str]) -> bool:
    """Whether it picks the cheaper one of the two at all points, up to the margin and the cost of picking,
    and is nowhere worse than ``keep``, if that is one of ``names``."""
    below = np.array([bool(found.is_below(sizes, np)) for sizes in prices.samples])
    cost = np.where(below, *(prices.serving_samples(name) for name in (found.below, found.above)))
    least = _cheaper(prices, (found.below, found.above))
    picks = cost <= (1 + prices.margin) * least + prices.overhead + NOISE
    return bool(picks.all()) and _bearable(prices, cost, "keep" in names)
