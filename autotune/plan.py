"""Decisions, and the plan of one compiled function as a table, as data and as a policy file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autotune.problem import Problem


@dataclass(frozen=True)
class Candidate:
    """One way to serve a problem, and why it won or lost.

    ``seconds`` and ``peak_bytes`` are predicted; None when not priced.
    """

    name: str
    seconds: float | None
    peak_bytes: float | None
    reason: str


@dataclass(frozen=True)
class Decision:
    """The outcome for one problem.

    ``chosen`` is a candidate's name, strategies joined by "+" when requests are split.
    ``assignment`` names the strategy of each of ``problem.requests``. ``condition_number``,
    ``max_iterations`` and ``solve_rtol`` are what an iterative strategy was built with.
    ``undecided``: taken with sizes unknown, so it had better be taken again when they are known.
    """

    problem: Problem
    chosen: str
    assignment: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    profile: str = ""
    before_autodiff: bool = False
    condition_number: float | None = None
    max_iterations: int | None = None
    solve_rtol: float = 1e-10
    undecided: bool = False

    @property
    def winner(self) -> Candidate:
        return next(c for c in self.candidates if c.name == self.chosen)

    def candidate(self, name: str) -> Candidate:
        return next(c for c in self.candidates if c.name == name)


@dataclass(frozen=True)
class Plan:
    """All decisions of one compiled function, those taken before automatic differentiation included.

    ``failure``: what went wrong inside the pass, when it left the graph alone because of that.
    """

    decisions: tuple[Decision, ...] = ()
    failure: str = ""

    def __str__(self) -> str:
        from autotune.plan_table import render

        return render(self)

    def _repr_html_(self) -> str:
        from autotune.plan_table import render_html

        return render_html(self)

    def save(self, path: str | Path) -> Path:
        """Write a policy file that makes the same choices again, on any machine, and return its path.

        Every decision becomes a rule that matches its problem by name, structure, size and request.
        """
        from autotune.pins import pins_of
        from autotune.policy_files import dump_policy

        path = Path(path)
        path.write_text(dump_policy(pins_of(self)))
        return path
