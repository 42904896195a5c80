"""Which candidate to take while sizes are unknown: the best of those nowhere worse than the graph as written.

Tried on a grid of sizes: evidence, not a proof. Between its points prices are sums of powers of the sizes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from autotune.choose.candidates import strategy
from autotune.choose.margins import predicted_gain
from autotune.problem import Options, Problem
from cost_models import KernelCall, Profile, call

# Values of the sizes that may come, at which prices are compared; of a size that is not named, ANY.
ANY = tuple(2**i for i in range(17))
MAY_COME = {"columns": ANY[:13], "batch": (1, 32)}
# Combinations of values that are tried, at most, and the steps through the values that make them fewer.
MOST_POINTS = 200
STEPS = (1, 3, 5, 15)
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
        self._found: dict[tuple[Any, ...], tuple[float, bool]] = {}
        self._kernels: dict[tuple[Any, ...], float] = {}
        self._sized: dict[tuple[int, ...], Problem] = {}

    @cached_property
    def overhead(self) -> float:
        """Seconds that it takes to look at run-time sizes."""
        return self.profile.seconds(call("node", count=NODES_TO_COMPARE), self.problem.dtype)

    @cached_property
    def calling(self) -> float:
        """Seconds that a call takes whatever is computed."""
        return self.profile.seconds(call("call"), self.problem.dtype)

    @cached_property
    def samples(self) -> list[dict[str, int]]:
        """Sizes that may come."""
        return list(points(self.unknown, rows(self.unknown, MOST_POINTS, STEPS)))

    def of(self, name: str, sizes: dict[str, int]) -> float:
        """Seconds that its graph takes, also at sizes for which it would not be chosen."""
        return self._priced(name, sizes)[0]

    def serving(self, name: str, sizes: dict[str, int]) -> float:
        """Seconds; infinite at sizes for which the strategy would not be chosen."""
        found, declines = self._priced(name, sizes)
        return math.inf if declines else found

    def _priced(self, name: str, sizes: dict[str, int]) -> tuple[float, bool]:
        found = self._found.get(key := (name, *(sizes[size] for size in self.unknown)))
        if found is None:
            sized, served_by = self.sized(sizes), strategy(name)
            price = sum(c.count * self._once(c) for c in served_by.work(sized, self.options).calls)
            declines = served_by.declines(sized, self.options) is not None
            found = self._found[key] = price, declines
        return found

    def _once(self, of: KernelCall) -> float:
        """Seconds of one run of a kernel: many sizes and strategies have it in common."""
        found = self._kernels.get(key := (of.kernel, of.dims))
        if found is None:
            one = KernelCall(of.kernel, of.dims)
            found = self._kernels[key] = self.profile.seconds(one, self.problem.dtype)
        return found

    def sized(self, sizes: dict[str, int]) -> Problem:
        """The problem at these sizes."""
        found = self._sized.get(key := tuple(sizes[size] for size in self.unknown))
        if found is None:
            found = self._sized[key] = self.problem.with_sizes(**sizes)
        return found

    def gain(self, name: str, other: str, sizes: dict[str, int]) -> tuple[float, float]:
        """The share of the time of ``other`` that ``name`` saves, of what differs, and its standard error."""
        names, others = ((n,) * len(self.problem.requests) for n in (name, other))
        return predicted_gain(self.sized(sizes), names, others, self.options, self.profile)

    def log_ratio(self, ours: float, theirs: float) -> float:
        """log of the time of a call with ``theirs`` over that with ``ours``: what it is to the caller."""
        return math.log((theirs + self.calling) / (ours + self.calling))

    def is_no_loss(self, name: str, other: str, sizes: dict[str, int]) -> bool:
        """Whether ``name`` costs no more than ``other``, but for what nobody minds or prices cannot tell."""
        loss = self.of(name, sizes) - (1 + INDIFFERENT) * self.of(other, sizes)
        if NOISE < loss <= 2 * NOISE:
            gain, error = self.gain(name, other, sizes)
            return -gain <= error
        return loss <= NOISE

    def is_sure_gain(self, name: str, other: str, sizes: dict[str, int]) -> bool:
        """Whether ``name`` would be chosen over ``other`` at these sizes, and somebody would notice."""
        if self.of(other, sizes) - self.of(name, sizes) <= NOISE:
            return False
        gain, error = self.gain(name, other, sizes)
        return gain > max(self.margin, error)


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
    large_first = prices.samples[::-1]
    return all(prices.is_no_loss(name, stay, sizes) for sizes in large_first) and any(
        prices.is_sure_gain(name, stay, sizes) for sizes in large_first
    )


def total_gain(prices: Prices, name: str, stay: str) -> float:
    """The sum over all sizes that may come of the logarithm of what a call takes less."""
    return sum(prices.log_ratio(prices.of(name, s), prices.of(stay, s)) for s in prices.samples)
