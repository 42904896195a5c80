"""Which candidate to take while sizes are unknown: the best of those nowhere worse than the graph as written.

Tried on a grid of sizes: evidence, not a proof. Between its points prices are sums of powers of the sizes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.choose.candidates import strategy
from autotune.choose.margins import predicted_gain
from autotune.problem import Options, Problem
from cost_models import Profile, call, grid

Point = dict[str, int]

# Values of the sizes that may come, at which prices are compared; of a size that is not named, ANY.
ANY = tuple(2**i for i in range(17))
MAY_COME = {"columns": ANY[:13], "batch": (1, 32)}
# Combinations of values that are tried, at most, and the steps through the values that make them fewer.
MOST_POINTS = 200
STEPS = (1, 3, 5, 15)
# What is no number of right-hand sides in any request of a gradient.
NO_COLUMNS = ("n", "batch")
# Below this relative difference two predictions are the same.
INDIFFERENT = 0.02
# Seconds of a call that nobody minds; as much again where the prices cannot tell.
NOISE = 5e-7
# Nodes of a graph that compares run-time sizes with a threshold: to lose less than they cost is no loss.
NODES_TO_COMPARE = 4


def rows(names: Sequence[str], most: int, steps: Sequence[int]) -> list[tuple[int, ...]]:
    """Values of each of the sizes ``names``: every ``step``-th of those that may come.

    The step is the first of ``steps`` that leaves at most ``most`` combinations, or the last one.
    """
    values = [MAY_COME.get(name.rpartition(".")[2], ANY) for name in names]
    tried = ([row[::step] for row in values] for step in steps[:-1])
    few = (found for found in tried if math.prod(map(len, found)) <= most)
    return next(few, [row[:: steps[-1]] for row in values])


def points(names: Sequence[str], values: Sequence[tuple[int, ...]]) -> Iterator[dict[str, int]]:
    """All combinations of the ``values`` of the sizes ``names``."""
    for sizes in itertools.product(*values):
        yield dict(zip(names, sizes, strict=True))


class Prices:
    """Predicted seconds of one problem by several strategies, at any sizes."""

    def __init__(self, problem: Problem, options: Options, profile: Profile, margin: float):
        self.problem, self.options, self.profile, self.margin = problem, options, profile, margin
        self.unknown = problem.unknown_sizes
        self._found: dict[Any, float] = {}
        self._declines: dict[Any, bool] = {}
        self._sized: dict[tuple[int, ...], Problem] = {}
        self._at_samples: dict[Any, NDArray[np.float64]] = {}

    @cached_property
    def overhead(self) -> float:
        """Seconds that it takes to look at run-time sizes."""
        return self.profile.seconds(call("node", count=NODES_TO_COMPARE), self.problem.dtype)

    @cached_property
    def calling(self) -> float:
        """Seconds that a call takes whatever is computed."""
        return self.profile.seconds(call("call"), self.problem.dtype)

    @cached_property
    def samples(self) -> list[Point]:
        """Sizes that may come."""
        return list(points(self.unknown, rows(self.unknown, MOST_POINTS, STEPS)))

    # -- at one point ---------------------------------------------------------------------------------------

    def of(self, name: str, sizes: Point) -> float:
        """Seconds that its graph takes, also at sizes for which it would not be chosen."""
        found = self._found.get(key := self._key(name, sizes))
        if found is None:
            found = self._found[key] = self._seconds(name, self.sized(sizes))
        return found

    def serving(self, name: str, sizes: Point) -> float:
        """Seconds; infinite at sizes for which the strategy would not be chosen."""
        declines = self._declines.get(key := self._key(name, sizes))
        if declines is None:
            declines = self._declines[key] = self._does_decline(name, self.sized(sizes))
        return math.inf if declines else self.of(name, sizes)

    def sized(self, sizes: Point) -> Problem:
        """The problem at these sizes."""
        found = self._sized.get(key := tuple(sizes[size] for size in self.unknown))
        if found is None:
            found = self._sized[key] = self.problem.with_sizes(**sizes)
        return found

    def gain(self, name: str, other: str, sizes: Point) -> tuple[float, float]:
        """The share of the time of ``other`` that ``name`` saves, of what differs, and its standard error."""
        names, others = ((n,) * len(self.problem.requests) for n in (name, other))
        return predicted_gain(self.sized(sizes), names, others, self.options, self.profile)

    def _key(self, name: str, sizes: Point) -> tuple[Any, ...]:
        return name, *(sizes[size] for size in self.unknown)

    def _seconds(self, name: str, sized: Problem) -> Any:
        calls = strategy(name).work(strategy(name).as_served(sized), self.options).calls
        return sum(self.profile.seconds(c, sized.dtype) for c in calls)

    def _does_decline(self, name: str, sized: Problem) -> bool:
        return strategy(name).declines(sized, self.options) is not None

    # -- at many at once ------------------------------------------------------------------------------------

    def price(self, name: str, many: Sequence[Point]) -> None:
        """Find the seconds at all of these points, at once where the strategy compares no sizes."""
        self._at_once(self._found, name, [p for p in many if not self._coincide(p)], self._seconds)
        self._at_once(self._declines, name, many, self._does_decline)

    def _at_once(self, known: dict[Any, Any], name: str, many: Sequence[Point], find: Any) -> None:
        new = [sizes for sizes in many if self._key(name, sizes) not in known]
        if not new:
            return
        grids: Any = {size: grid([sizes[size] for sizes in new]) for size in self.unknown}
        try:
            found = np.broadcast_to(find(name, self.problem.with_sizes(**grids)), len(new))
        except (TypeError, ValueError):  # a grid has no truth and is no number
            return
        known.update((self._key(name, p), x) for p, x in zip(new, found.tolist(), strict=True))

    def _coincide(self, sizes: Point) -> bool:
        """Whether two numbers of right-hand sides are the same here: a gradient asks once for one thing."""
        if not self.problem.differentiated:
            return False
        known = {r.columns for r in self.problem.requests if r.kind in ("solve", "inv_quad")}
        known |= {size for name, size in self.problem.sizes.items() if name not in NO_COLUMNS}
        known.discard(None)
        found = [size for name, size in sizes.items() if name not in NO_COLUMNS]
        return len({*known, *found}) < len(known) + len(found)

    def of_samples(self, name: str) -> NDArray[np.float64]:
        """`of` at each of the samples."""
        if name not in self._at_samples:
            self.price(name, self.samples)
            self._at_samples[name] = np.array([self.of(name, sizes) for sizes in self.samples])
        return self._at_samples[name]

    def serving_samples(self, name: str) -> NDArray[np.float64]:
        """`serving` at each of the samples."""
        if (name, "serving") not in self._at_samples:
            self.of_samples(name)
            found = np.array([self.serving(name, sizes) for sizes in self.samples])
            self._at_samples[name, "serving"] = found
        return self._at_samples[name, "serving"]

    # -- comparisons ----------------------------------------------------------------------------------------

    def log_ratio(self, ours: Any, theirs: Any) -> Any:
        """log of the time of a call with ``theirs`` over that with ``ours``: what it is to the caller."""
        return np.log((theirs + self.calling) / (ours + self.calling))

    def is_no_loss(self, name: str, other: str) -> bool:
        """Whether ``name`` costs nowhere more than ``other``.

        But for what nobody minds, or prices cannot tell.
        """
        loss = self.of_samples(name) - (1 + INDIFFERENT) * self.of_samples(other)
        if (loss > 2 * NOISE).any():
            return False
        gains = (self.gain(name, other, self.samples[i]) for i in np.flatnonzero(loss > NOISE))
        return all(-gain <= error for gain, error in gains)

    def is_sure_gain(self, name: str, other: str) -> bool:
        """Whether ``name`` would be chosen over ``other`` at some sizes, and somebody would notice."""
        noticed = np.flatnonzero(self.of_samples(other) - self.of_samples(name) > NOISE)
        gains = (self.gain(name, other, self.samples[i]) for i in noticed[::-1])  # large sizes first
        return any(gain > max(self.margin, error) for gain, error in gains)


def pick_for_all_sizes(prices: Prices, names: Sequence[str]) -> tuple[str, str]:
    """The one of ``names`` to take whatever the sizes turn out to be, and why.

    Of those that are nowhere worse than ``keep`` and somewhere surely better, the one that saves most over
    all sizes that may come; where ``keep`` is no choice, of all.
    """
    unknown = ", ".join(prices.unknown)
    if "keep" not in names:
        best = max(names, key=lambda name: total_gain(prices, name, names[0]))
        return best, f"cheapest over all {unknown}"
    better = [name for name in names if name != "keep" and _is_better(prices, name, "keep")]
    if better:
        best = max(better, key=lambda name: total_gain(prices, name, "keep"))
        return best, f"cheaper for every {unknown}"
    return "keep", f"size unknown ({unknown}); no candidate is cheaper for all. Give a hint under 'sizes'"


def _is_better(prices: Prices, name: str, stay: str) -> bool:
    return prices.is_no_loss(name, stay) and prices.is_sure_gain(name, stay)


def total_gain(prices: Prices, name: str, stay: str) -> float:
    """The sum over all sizes that may come of the logarithm of what a call takes less."""
    return float(prices.log_ratio(prices.of_samples(name), prices.of_samples(stay)).sum())
