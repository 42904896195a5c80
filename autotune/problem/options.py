"""What a strategy is told about a problem beyond its sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Options:
    """What a strategy is told about a problem beyond its sizes."""

    solve_rtol: float = 1e-10
    condition_number: float | None = None
    max_iterations: int | None = None
    preconditioner: Any = None
    logdet_rtol: float | None = None
    forced: bool = False
    carried: bool = False
