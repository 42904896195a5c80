"""Where two candidates cross: a threshold on one run-time size, a function of the other unknown ones.

    ``below`` where log2(size) < T(log2(others)), else ``above``

T is a table over a grid of the other sizes, linear between its points and constant beyond them. Prices are
sums of powers of the sizes, so that in logarithms a crossover is nearly a straight line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from autotune.policy.names import OneOf, strategy_names
from autotune.policy.sections import Section
from autotune.policy.types import as_tuple

# Ratios of two sizes that agree up to this factor, beyond small orders, are told as one.
ALIKE, TOLD_FROM = 1.25, 64
# Thresholds that say "never" and "always": no size lies beyond them.
LEAST, MOST = 1.0, 2.0**20

SIZES = ("n", "rank", "columns")
Size = Annotated[str, OneOf(lambda: SIZES)]
Name = Annotated[str, OneOf(strategy_names)]
Points = Annotated[tuple[Annotated[float, Field(ge=1)], ...], BeforeValidator(as_tuple)]


class Crossover(Section):
    """Strategy ``below`` where ``size`` is less than a threshold, ``above`` where it is not.

    ``over`` names the other sizes on which the threshold depends, ``grid`` lists values of each, increasing,
    and ``thresholds`` holds one for each point of the grid, the last of ``over`` changing fastest.
    """

    below: Name = Field(description="Strategy below the threshold. Valid: the name of one strategy.")
    above: Name = Field(description="Strategy for all other sizes. Valid: the name of one strategy.")
    size: Size = Field(description=f"The size to compare. Valid: one of {', '.join(SIZES)}.")
    thresholds: Points = Field(
        description="One for each point of the grid, or a single one. Valid: numbers of at least 1."
    )
    over: Annotated[tuple[Size, ...], BeforeValidator(as_tuple)] = Field(
        (), description=f"Other sizes that the threshold depends on. Valid: a list of {', '.join(SIZES)}."
    )
    grid: Annotated[tuple[Points, ...], BeforeValidator(as_tuple)] = Field(
        (), description="Values of each size in over. Valid: a list of increasing numbers for each."
    )

    @model_validator(mode="after")
    def _table_is_complete(self) -> Crossover:
        if len(self.grid) != len(self.over):
            raise ValueError(f"found {len(self.grid)} rows of grid for {len(self.over)} sizes in over.")
        if any(np.any(np.diff(points) <= 0) for points in self.grid):
            raise ValueError("found a grid that does not increase.")
        if len(self.thresholds) != math.prod(map(len, self.grid)):
            found, wanted = len(self.thresholds), math.prod(map(len, self.grid))
            raise ValueError(f"found {found} thresholds; the grid has {wanted} points.")
        return self

    @property
    def name(self) -> str:
        """Both strategies, as a candidate's name."""
        return f"{self.below}/{self.above}"

    @property
    def table(self) -> np.ndarray:
        """T: log2 of the thresholds, with one axis for each of ``over``."""
        return np.log2(self.thresholds).reshape([len(points) for points in self.grid])

    def is_below(self, sizes: Mapping[str, Any], of: Any = np) -> Any:
        """Whether ``below`` serves at these sizes: numbers with ``of=numpy``, variables with PyTensor's."""
        logs = {name: of.log2(of.maximum(size, 1.0)) for name, size in sizes.items()}
        threshold = of.as_tensor(self.table) if of is not np else self.table
        for name, points in reversed(list(zip(self.over, self.grid, strict=True))):
            threshold = (threshold * _hats(logs[name], np.log2(points), of)).sum(axis=-1)
        return logs[self.size] < threshold

    def __str__(self) -> str:
        return f"{self.below} where {self._condition()}, else {self.above}"

    def _condition(self) -> str:
        if not self.over:
            return f"{self.size} < {math.ceil(self.thresholds[0])}"
        if self.over == ("n",):
            ratios = np.array(self.thresholds) / np.array(self.grid[0])
            crossing = ratios[np.array(self.grid[0]) >= TOLD_FROM]
            if crossing.size and crossing.max() <= ALIKE * crossing.min():
                return f"{self.size} < {np.median(crossing):.2g} n"
        points = [p for p in np.ndindex(self.table.shape) if LEAST < 2 ** self.table[p] < MOST]
        points = points or list(np.ndindex(self.table.shape))
        shown = [points[i * (len(points) - 1) // 3] for i in (1, 2, 3)]
        return f"{self.size} < " + ", ".join(self._at(point) for point in dict.fromkeys(shown))

    def _at(self, point: tuple[int, ...]) -> str:
        where = ", ".join(
            f"{name}={points[i]:g}" for name, points, i in zip(self.over, self.grid, point, strict=True)
        )
        return f"{2 ** self.table[point]:.3g} at {where}"


def _hats(x: Any, points: np.ndarray, of: Any) -> Any:
    """The weights of linear interpolation at ``x``, one for each of ``points``; they sum to one."""
    if len(points) == 1:
        return np.ones(1)
    risen = of.clip((x - points[:-1]) / np.diff(points), 0.0, 1.0)
    return of.concatenate([np.ones(1), risen]) - of.concatenate([risen, np.zeros(1)])
