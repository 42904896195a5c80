"""What a user demands: tolerances, limits, size hints, and rules that force, forbid or inform.

A `Policy` is data. `Policy.resolve` is the law by which rules become demands on one request of one problem:
rules are read in order and a later one wins. Reading and layering files is in `autotune.policy.files`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from autotune.policy.crossover import Crossover
from autotune.policy.defaults import DEFAULT, PolicyError, Resolved
from autotune.policy.names import EFFORTS, OneOf, strategy_names
from autotune.policy.sections import Accuracy, Match, Options, Preconditioner, Section
from autotune.policy.types import (
    Forbidden,
    Memory,
    PositiveInt,
    Seconds,
    SizeKey,
    as_section,
    as_tuple_or_empty,
)
from autotune.problem import UNKNOWN, Traits

__all__ = [
    "Accuracy",
    "Match",
    "Options",
    "Origin",
    "Policy",
    "PolicyError",
    "Preconditioner",
    "Resolved",
    "Rule",
]


@dataclass(frozen=True)
class Origin:
    """Where a rule was written: for messages only, so all origins are equal."""

    source: str = field(default="<python>", compare=False)
    line: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


class Rule(Section):
    """Requests that match are forced to one strategy, kept from others, or told what the user knows."""

    match: Annotated[Match, BeforeValidator(as_section, json_schema_input_type=Match | None)] = Field(
        Match(),
        description="The requests that the rule is about, by default all. "
        f"Valid: a mapping with keys of {', '.join(Match.model_fields)}.",
    )
    force: Annotated[str, OneOf(strategy_names)] | None = Field(
        None,
        description="The strategy to take; an error at compile time where it cannot apply. "
        "Valid: the name of one strategy.",
    )
    forbid: Annotated[
        tuple[Forbidden, ...],
        BeforeValidator(as_tuple_or_empty, json_schema_input_type=Forbidden | list[Forbidden] | None),
    ] = Field((), description="Strategies not to take. Valid: one or a list of names of strategies.")
    options: Annotated[Options, BeforeValidator(as_section, json_schema_input_type=Options | None)] = Field(
        Options(),
        description="What you know about the matrix, or want of an iteration. "
        f"Valid: a mapping with keys of {', '.join(Options.model_fields)}.",
    )
    crossover: Crossover | None = Field(
        None,
        description="How run-time sizes choose between two strategies, one of them the one forced, as saved "
        f"plans state it. Valid: a mapping with keys of {', '.join(Crossover.model_fields)}.",
    )
    pin: bool = Field(
        False,
        description="Whether the rule is part of a saved plan: its problem is then not priced, "
        "and missed where it is not found. Valid: true or false.",
    )
    before_autodiff: bool = Field(
        False,
        description="Whether a pinned choice was made before automatic differentiation although sizes are "
        "unknown: it was forced. Valid: true or false.",
    )
    _origin: Origin = PrivateAttr(default=Origin())

    @model_validator(mode="after")
    def _demands_something(self) -> "Rule":
        if self.force is None and not self.forbid and not self.options.given():
            raise ValueError("found a rule without effect; give at least one of force, forbid, options.")
        if self.force in self.forbid:
            raise ValueError(f"found {self.force!r} both forced and forbidden; a rule may do one of them.")
        return self

    @property
    def origin(self) -> Origin:
        """File and line of the rule; its `str` is `path:line`."""
        return self._origin


class Policy(Section):
    """A whole policy; every field has a default, and only what is given overlays a lower layer."""

    version: Literal[1] = Field(1, description="Version of the file format. Valid: 1.")
    accuracy: Annotated[Accuracy, BeforeValidator(as_section, json_schema_input_type=Accuracy | None)] = (
        Field(
            Accuracy(),
            description="Errors that strategies other than exact ones may make. "
            f"Valid: a mapping with keys of {', '.join(Accuracy.model_fields)}.",
        )
    )
    memory_limit: Memory | None = Field(
        DEFAULT.memory_limit,
        description="Memory that one problem may take at its peak; null: a share of the free memory. "
        "Valid: bytes, a size such as 8GiB or '1.5 GiB', or null for a share of the free memory.",
    )
    margin: float = Field(
        DEFAULT.margin,
        ge=0,
        lt=1,
        description="Predicted gain, as a share of the present time, up to which the graph stays as written. "
        "Valid: a number of at least 0 and less than 1.",
    )
    effort: Annotated[str, OneOf(lambda: EFFORTS)] = Field(
        DEFAULT.effort,
        description="How a choice is made: by prices alone, by timing the candidates near the best price "
        "when a function is compiled, or by timing all that apply. Valid: estimate, measure or exhaustive.",
    )
    effort_budget: Seconds = Field(
        DEFAULT.effort_budget,
        description="Time that timing candidates may take for each function compiled, their compiling apart. "
        "Valid: seconds, or a time such as 500ms, 10s, 2min, up to a day.",
    )
    compile_budget: Seconds = Field(
        DEFAULT.compile_budget,
        description="Time that finding out what one constant matrix is made of, such as its spectrum, may "
        "take when a function is compiled. Valid: seconds, or a time such as 500ms, 10s, 2min, up to a day.",
    )
    runtime_dispatch: bool | None = Field(
        DEFAULT.runtime_dispatch,
        description="Whether an unknown size is looked at when the function runs, where that decides which "
        "candidate is cheaper; null: yes. Valid: true, false or null.",
    )
    probe: bool | None = Field(
        DEFAULT.probe,
        description="Whether a matrix whose example is known is made and iterated on when a function is "
        "compiled, so that the iterations it takes are known; null: where example_inputs are given. "
        "Valid: true (the present values of shared variables are an example, too), false or null.",
    )
    missing_pins: Annotated[str, OneOf(lambda: ("warn", "error"))] = Field(
        DEFAULT.missing_pins,
        description="What comes of a pin whose problem is not in the function. Valid: warn or error.",
    )
    sizes: Annotated[
        dict[SizeKey, PositiveInt],
        BeforeValidator(as_section, json_schema_input_type=dict[SizeKey, PositiveInt] | None),
    ] = Field(
        default_factory=dict,
        description="Hints for dimensions unknown at compile time, of what is square for one axis at least; "
        "they steer speed only. "
        "Valid: a mapping of 'K[0]' or a dim's name to a whole number, 1 or more.",
    )
    rules: Annotated[
        tuple[Rule, ...], BeforeValidator(as_tuple_or_empty, json_schema_input_type=list[Rule] | None)
    ] = Field(
        DEFAULT.rules,
        description="What to force, forbid or know; of rules that disagree the later wins. "
        "Valid: a list of rules.",
    )

    def __hash__(self) -> int:
        sizes = frozenset(self.sizes.items())
        given = dict(self) | {"sizes": sizes}
        return hash(tuple(given.values()))

    @property
    def pins(self) -> tuple[Rule, ...]:
        """The rules that are pins."""
        return tuple(rule for rule in self.rules if rule.pin)

    def resolve(
        self,
        name: str | None,
        request: str,
        structure: Sequence[str],
        n: int | None,
        traits: Traits = UNKNOWN,
    ) -> Resolved:
        """The demands on one request of the problem `name`, an n-by-n matrix with these structures.

        Later rules win: of the forces that no later rule forbids, the last; a force lifts an earlier forbid
        of the same strategy; options overlay key by key.
        """
        force: dict[str, Rule] = {}  # by strategy, the last one at the end
        forbid: dict[str, Rule] = {}
        options: dict[str, Rule] = {}
        for rule in self.rules:
            if not rule.match.holds(name, request, structure, n, traits):
                continue
            for forbidden in rule.forbid:
                force.pop(forbidden, None)
            forbid |= dict.fromkeys(rule.forbid, rule)
            if rule.force is not None:
                force.pop(rule.force, None)
                force[rule.force] = rule
                forbid.pop(rule.force, None)
            options |= dict.fromkeys(rule.options.given(), rule)
        forced, force_rule = next(reversed(force.items()), (None, None))
        values = {key: getattr(rule.options, key) for key, rule in options.items()}
        return Resolved(forced, force_rule, forbid, Options.model_validate(values), options)
