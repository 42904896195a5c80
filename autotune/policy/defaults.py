"""What holds where nobody demands anything: the defaults of a policy, without Pydantic.

To import Pydantic and to build its schemas takes longer than a compile of ours: `autotune.policy.model` does,
once a policy is given. Its fields take their defaults from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from autotune.problem import Options as NoOptions

if TYPE_CHECKING:
    from autotune.policy.model import Options, Rule


class PolicyError(AssertionError, ValueError):
    """A policy that cannot be read, or a demand that cannot be met.

    An `AssertionError` because PyTensor swallows every other error of a rewrite.
    """


@dataclass(frozen=True)
class Resolved:
    """The demands on one request, each with the rule that made it."""

    force: str | None
    force_rule: Rule | None
    forbid: dict[str, Rule]
    options: Options
    option_rules: dict[str, Rule]


NO_DEMANDS = Resolved(None, None, {}, NoOptions(), {})  # type: ignore[arg-type]


@dataclass(frozen=True)
class DefaultAccuracy:
    """The fields of `Accuracy` with their defaults."""

    solve_rtol: float = 1e-10
    logdet_rtol: float | None = None


@dataclass(frozen=True)
class DefaultPolicy:
    """The fields of a `Policy` with their defaults, and what it says of every request: nothing."""

    accuracy: DefaultAccuracy = DefaultAccuracy()
    memory_limit: int | None = None
    margin: float = 0.1
    effort: str = "estimate"
    effort_budget: float = 10.0
    compile_budget: float = 10.0
    runtime_dispatch: bool | None = None
    probe: bool | None = None
    missing_pins: str = "warn"
    sizes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    rules: tuple[Rule, ...] = ()
    pins: tuple[Rule, ...] = ()

    def resolve(self, *asked: Any) -> Resolved:
        return NO_DEMANDS


DEFAULT = DefaultPolicy()
