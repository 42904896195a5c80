"""The plan of one compiled function: its decisions, as a table, as data and as a policy file.

What shows a plan is imported when one is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from autotune.problem import Decision

if TYPE_CHECKING:
    from autotune.plan.diff import PlanDiff
    from autotune.pricing import Price


# Of the time of plain PyTensor: what is above helps nobody.
WORTH_TELLING = 0.95


@dataclass(frozen=True)
class Hint:
    """A change of a model that is predicted to win.

    ``about``: the variable or matrix; ``found``: what is the matter; ``instead``: the code to write in its
    place; ``seconds``: predicted for a call of the whole function then.
    """

    about: str
    found: str
    instead: str
    seconds: float | None = None


@dataclass(frozen=True)
class Plan:
    """All decisions of one compiled function, those taken before automatic differentiation included.

    ``failure``: what went wrong inside the pass, when it left the graph alone because of that.
    ``hints``: the lengths that the policy gave, or examples. ``price``: that of the whole function, which
    ``autotune.explain`` adds; two plans of the same decisions are equal without it. ``inner``: the plans
    of the graphs inside (Scan, OpFromGraph, branches), which it adds too. Of a PyMC model it adds ``plain``,
    the price of the same function by plain PyTensor, and ``advice``.
    """

    decisions: tuple[Decision, ...] = ()
    failure: str = ""
    hints: Mapping[str, int] = field(default_factory=dict, compare=False)
    price: Price | None = field(default=None, compare=False, repr=False)
    inner: tuple[Plan, ...] = field(default=(), compare=False, repr=False)
    plain: Price | None = field(default=None, compare=False, repr=False)
    advice: tuple[Hint, ...] = field(default=(), compare=False, repr=False)

    @property
    def seconds(self) -> float | None:
        """Predicted seconds of one call of the whole function; None before it is compiled."""
        return None if self.price is None else self.price.seconds

    @property
    def peak_bytes(self) -> float | None:
        """Predicted bytes that one call holds at its peak, beyond its inputs."""
        return None if self.price is None else self.price.peak_bytes

    @property
    def helps(self) -> bool:
        """Whether the function is predicted to be faster than by plain PyTensor, by more than a twentieth."""
        pair = None if self.price is None or self.plain is None else (self.price.seconds, self.plain.seconds)
        return pair is not None and pair[0] < WORTH_TELLING * pair[1]

    def __str__(self) -> str:
        from autotune.plan.table import render

        return render(self)

    def _repr_html_(self) -> str:
        from autotune.plan.table import render_html

        return render_html(self)

    def diff(self, other: Plan) -> PlanDiff:
        """What ``other`` has, lacks, or decides and prices otherwise, beginning from this plan."""
        from autotune.plan.diff import difference

        return difference(self, other)

    def to_json(self) -> str:
        """Everything that the table shows, and what rules can match, as a JSON object."""
        from autotune.plan.json_text import text

        return text(self)

    def save(self, path: str | Path) -> Path:
        """Write a policy file that makes the same choices again, on any machine, and return its path.

        Every decision becomes a rule that matches its problem by fingerprint, name, structure, size and
        request. A compile with it needs no profile.
        """
        from autotune.plan.pins import pins_text

        path = Path(path)
        path.write_text(pins_text(self), encoding="utf-8")
        return path
