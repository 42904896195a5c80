"""The outcome for one problem: the strategy chosen, and why each candidate won or lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from autotune.problem.problem import Problem


@dataclass(frozen=True)
class Candidate:
    """One way to serve a problem, and why it won or lost.

    ``seconds`` and ``peak_bytes`` are predicted; None when not priced. ``measured``: seconds that it took
    when it was timed (``effort: measure``), None when it was not. ``could_serve``: nothing but unknown sizes
    speaks against it.
    """

    name: str
    seconds: float | None
    peak_bytes: float | None
    reason: str
    measured: float | None = None
    could_serve: bool = False


@dataclass(frozen=True)
class Decision:
    """The outcome for one problem.

    ``chosen`` is a candidate's name, strategies joined by "+" when requests are split.
    ``assignment`` names the strategy of each of ``problem.requests``. ``condition_number``,
    ``max_iterations`` and ``solve_rtol`` are what an iterative strategy was built with.
    ``undecided``: taken with sizes unknown, so it had better be taken again when they are known.
    ``crossover``: how run-time sizes choose between two candidates, as a policy states it (`Crossover`);
    ``chosen`` then names both.
    ``parts``: the decisions for the matrices that this one is made of, where it is served by them.
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
    logdet_rtol: float | None = None
    preconditioner: Any = None
    undecided: bool = False
    crossover: Any = None
    parts: tuple[Decision, ...] = ()

    @property
    def winner(self) -> Candidate:
        return next(c for c in self.candidates if c.name == self.chosen)

    @property
    def tree(self) -> Iterator[Decision]:
        """The decision and all those for its parts, from the whole to the parts."""
        yield self
        for part in self.parts:
            yield from part.tree

    def at(self, path: tuple[int, ...]) -> Decision:
        """The decision for a part of a part ..., by its places."""
        return self.parts[path[0]].at(path[1:]) if path else self

    def candidate(self, name: str) -> Candidate:
        return next(c for c in self.candidates if c.name == name)


def with_parts(decisions: Iterable[Decision]) -> list[Decision]:
    """The decisions, each followed by those for its parts."""
    return [one for decision in decisions for one in decision.tree]
