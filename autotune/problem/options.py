"""What a strategy is told about a problem beyond its sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from autotune.problem.decision import Decision
from autotune.problem.problem import Problem


@dataclass(frozen=True)
class Options:
    """What a strategy is told about a problem beyond its sizes.

    ``decide``: how the parts of the matrix are decided, where it is served by them.
    """

    solve_rtol: float = 1e-10
    condition_number: float | None = None
    max_iterations: int | None = None
    preconditioner: Any = None
    logdet_rtol: float | None = None
    forced: bool = False
    carried: bool = False
    decide: Callable[[Problem], Decision] | None = field(default=None, compare=False, repr=False)
