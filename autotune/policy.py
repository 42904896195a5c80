"""What a user demands: tolerances, limits, size hints, and rules that force, forbid or inform.

A `Policy` is data. `Policy.resolve` is the law by which rules become demands on one request of one problem:
rules are read in order and a later one wins. Reading and layering files is in `autotune.policy_files`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from autotune.policy_names import PRECONDITIONERS, REQUESTS, STRUCTURES, OneOf, strategy_names
from autotune.policy_types import (
    Dimension,
    Forbidden,
    Memory,
    PositiveInt,
    Requests,
    SizeKey,
    Structures,
    Tolerance,
    as_section,
    as_tuple_or_empty,
)


class PolicyError(AssertionError, ValueError):
    """A policy that cannot be read, or a demand that cannot be met.

    An `AssertionError` because PyTensor swallows every other error of a rewrite.
    """


class _Section(BaseModel):
    """A closed, immutable part of the policy.

    A field's description says what it means and, after `Valid:`, what may stand there: editors show
    both, messages quote the latter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def given(self) -> dict[str, Any]:
        """The fields that were set explicitly."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class Accuracy(_Section):
    """Largest relative errors that an inexact strategy may make; None rules such strategies out."""

    solve_rtol: Tolerance = Field(
        1e-10,
        description="Largest relative error of a solve by an iterative strategy. "
        "Valid: a number between 0 and 1.",
    )
    logdet_rtol: Tolerance | None = Field(
        None,
        description="Largest relative error of a log-determinant by a stochastic strategy; null: exact only. "
        "Valid: a number between 0 and 1, or null.",
    )


class Match(_Section):
    """The requests a rule is about: all of its conditions must hold, and none means every request."""

    name: str | None = Field(
        None,
        min_length=1,
        description="Name of the matrix; * ? [ab] are wildcards, case counts. "
        "Valid: a name or a pattern such as 'K_*'.",
    )
    request: Requests | None = Field(
        None,
        description=f"What is asked of the matrix. Valid: one or a list of {', '.join(REQUESTS)}.",
    )
    structure: Structures | None = Field(
        None,
        description="A structure that one of its terms has. "
        f"Valid: one or a list of {', '.join(STRUCTURES)}.",
    )
    min_n: Dimension | None = Field(
        None, description="Fewest rows; an unknown size does not match. Valid: a whole number, 0 or more."
    )
    max_n: Dimension | None = Field(
        None, description="Most rows; an unknown size does not match. Valid: a whole number, 0 or more."
    )

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> "Match":
        if self.min_n is not None and self.max_n is not None and self.min_n > self.max_n:
            raise ValueError(f"found min_n {self.min_n} > max_n {self.max_n}; no size satisfies both.")
        return self

    def unmet(self, name: str | None, request: str, structure: Sequence[str], n: int | None) -> list[str]:
        """Names of the conditions that do not hold; an unknown name or size satisfies none on it."""
        held = {
            "name": self.name is None or (name is not None and fnmatchcase(name, self.name)),
            "request": self.request is None or request in self.request,
            "structure": self.structure is None or not set(self.structure).isdisjoint(structure),
            "min_n": self.min_n is None or (n is not None and n >= self.min_n),
            "max_n": self.max_n is None or (n is not None and n <= self.max_n),
        }
        return [condition for condition, holds in held.items() if not holds]

    def holds(self, name: str | None, request: str, structure: Sequence[str], n: int | None) -> bool:
        """Whether every condition holds."""
        return not self.unmet(name, request, structure, n)


class Preconditioner(_Section):
    """What conjugate gradients multiply with; a rank of None leaves it to the cost model."""

    name: Annotated[str, OneOf(lambda: PRECONDITIONERS)] = Field(
        description=f"Kind of preconditioner. Valid: one of {', '.join(PRECONDITIONERS)}."
    )
    rank: PositiveInt | None = Field(
        None,
        description="Columns of the pivoted Cholesky factor. "
        "Valid: a whole number, 1 or more (pivoted_cholesky only).",
    )

    @model_validator(mode="after")
    def _only_pivoted_cholesky_has_a_rank(self) -> "Preconditioner":
        if self.rank is not None and self.name != "pivoted_cholesky":
            raise ValueError(f"found rank {self.rank} for {self.name!r}; only 'pivoted_cholesky' has a rank.")
        return self


class Options(_Section):
    """What the user knows about a matrix, or wants of the iteration."""

    condition_number: float | None = Field(
        None,
        ge=1,
        description="Ratio of the largest to the smallest eigenvalue, as far as you know it. "
        "Valid: a number, 1 or more.",
    )
    max_iterations: PositiveInt | None = Field(
        None, description="Steps after which an iteration gives up. Valid: a whole number, 1 or more."
    )
    preconditioner: Preconditioner | None = Field(
        None,
        description="What speeds the iteration up. Valid: a mapping such as {name: jacobi}.",
    )


@dataclass(frozen=True)
class Origin:
    """Where a rule was written: for messages only, so all origins are equal."""

    source: str = field(default="<python>", compare=False)
    line: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


class Rule(_Section):
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


@dataclass(frozen=True)
class Resolved:
    """The demands on one request, each with the rule that made it."""

    force: str | None
    force_rule: Rule | None
    forbid: dict[str, Rule]
    options: Options
    option_rules: dict[str, Rule]


class Policy(_Section):
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
        None,
        description="Memory that one problem may take at its peak; null: a share of the free memory. "
        "Valid: bytes, a size such as 8GiB or '1.5 GiB', or null for a share of the free memory.",
    )
    margin: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Predicted gain, as a share of the present time, up to which the graph stays as written. "
        "Valid: a number of at least 0 and less than 1.",
    )
    sizes: Annotated[
        dict[SizeKey, PositiveInt],
        BeforeValidator(as_section, json_schema_input_type=dict[SizeKey, PositiveInt] | None),
    ] = Field(
        default_factory=dict,
        description="Hints for dimensions unknown at compile time; they steer speed only. "
        "Valid: a mapping of 'K[0]' or a dim's name to a whole number, 1 or more.",
    )
    rules: Annotated[
        tuple[Rule, ...], BeforeValidator(as_tuple_or_empty, json_schema_input_type=list[Rule] | None)
    ] = Field(
        (),
        description="What to force, forbid or know; of rules that disagree the later wins. "
        "Valid: a list of rules.",
    )

    def __hash__(self) -> int:
        sizes = frozenset(self.sizes.items())
        return hash((self.accuracy, self.memory_limit, self.margin, sizes, self.rules))

    def resolve(self, name: str | None, request: str, structure: Sequence[str], n: int | None) -> Resolved:
        """The demands on one request of the problem `name`, an n-by-n matrix with these structures.

        Later rules win: of the forces that no later rule forbids, the last; a force lifts an earlier forbid
        of the same strategy; options overlay key by key.
        """
        force: dict[str, Rule] = {}  # by strategy, the last one at the end
        forbid: dict[str, Rule] = {}
        options: dict[str, Rule] = {}
        for rule in self.rules:
            if not rule.match.holds(name, request, structure, n):
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
