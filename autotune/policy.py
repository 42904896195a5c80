"""What a user demands: tolerances, limits, size hints, and rules that force, forbid or inform.

A `Policy` is data. `Policy.resolve` is the law by which rules become demands on one request of one problem:
rules are read in order and a later one wins. Reading and layering files is in `autotune.policy_files`.
"""

import math
import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

PLANNED = ("lanczos", "kronecker", "toeplitz", "banded")
REQUESTS = (
    "solve",
    "logdet",
    "determinant",
    "inverse",
    "inverse_diagonal",
    "inverse_trace",
    "inv_quad",
    "is_positive_definite",
    "factor",
)
STRUCTURES = ("dense", "diagonal", "low_rank", "kronecker", "toeplitz", "banded", "block_diagonal")
PRECONDITIONERS = ("none", "jacobi", "pivoted_cholesky")

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_MEMORY = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?i?)b\s*", re.IGNORECASE)
_SIZE_KEY = re.compile(r"[^\[\]]+|.+\[\d+\]")


class PolicyError(AssertionError, ValueError):
    """A policy that cannot be read, or a demand that cannot be met.

    An `AssertionError` because PyTensor swallows every other error of a rewrite.
    """


def strategy_names() -> tuple[str, ...]:
    """Names a rule may force: those of the registry, which is imported when a rule first names one."""
    from autotune.strategies import STRATEGIES

    return tuple(strategy.name for strategy in STRATEGIES)


def did_you_mean(word: object, valid: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest valid word, or nothing."""
    close = get_close_matches(str(word), list(valid), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _one_of(value: str, valid: Sequence[str]) -> str:
    if value not in valid:
        raise ValueError(f"found {value!r}; valid: {', '.join(valid)}.{did_you_mean(value, valid)}")
    return value


def _strategy_to_force(name: str) -> str:
    if name in PLANNED and name not in strategy_names():
        valid = ", ".join(strategy_names())
        raise ValueError(f"found {name!r}, which is planned but not available; valid: {valid}.")
    return _one_of(name, strategy_names())


def _strategy_to_forbid(name: str) -> str:
    planned = tuple(name for name in PLANNED if name not in strategy_names())
    return _one_of(name, strategy_names() + planned)


def _as_tuple(value: object) -> object:
    """One name or a list of names, as a tuple."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _as_tuple_or_empty(value: object) -> object:
    return () if value is None else _as_tuple(value)


def _as_section(value: object) -> object:
    """A key without a value (`options:`) is an empty section."""
    return {} if value is None else value


def _as_int(value: object) -> object:
    """Integers of NumPy are integers too; `True` is not."""
    is_integer = hasattr(value, "__index__") and not isinstance(value, bool)
    return operator.index(value) if is_integer else value  # type: ignore[arg-type]


def _as_bytes(value: object) -> object:
    """`"1.5 GiB"` -> 1610612736; numbers are bytes already."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    parsed = _MEMORY.fullmatch(value) if isinstance(value, str) else None
    if parsed is None:
        return _as_int(value)
    number, unit = parsed[1], parsed[2].lower()
    if unit == "i":
        return value
    return math.floor(float(number) * (_UNITS | _BINARY_UNITS)[unit]) or value


Request = Annotated[str, AfterValidator(lambda name: _one_of(name, REQUESTS))]
Structure = Annotated[str, AfterValidator(lambda name: _one_of(name, STRUCTURES))]
PositiveInt = Annotated[int, BeforeValidator(_as_int), Field(gt=0)]
Dimension = Annotated[int, BeforeValidator(_as_int), Field(ge=0)]
Tolerance = Annotated[float, Field(gt=0, lt=1)]


class _Section(BaseModel):
    """A closed, immutable part of the policy. A field's description says what is valid there."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def given(self) -> dict[str, Any]:
        """The fields that were set explicitly."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class Accuracy(_Section):
    """Largest relative errors that an inexact strategy may make; None rules such strategies out."""

    solve_rtol: Tolerance = Field(1e-10, description="a number between 0 and 1")
    logdet_rtol: Tolerance | None = Field(None, description="a number between 0 and 1, or null")


class Match(_Section):
    """The requests a rule is about: all of its conditions must hold, and none means every request."""

    name: str | None = Field(None, min_length=1, description="a name or a pattern such as 'K_*'")
    request: Annotated[tuple[Request, ...] | None, BeforeValidator(_as_tuple)] = Field(
        None, min_length=1, description=f"one or a list of {', '.join(REQUESTS)}"
    )
    structure: Annotated[tuple[Structure, ...] | None, BeforeValidator(_as_tuple)] = Field(
        None, min_length=1, description=f"one or a list of {', '.join(STRUCTURES)}"
    )
    min_n: Dimension | None = Field(None, description="a whole number of rows, 0 or more")
    max_n: Dimension | None = Field(None, description="a whole number of rows, 0 or more")

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> "Match":
        if self.min_n is not None and self.max_n is not None and self.min_n > self.max_n:
            raise ValueError(f"found min_n {self.min_n} > max_n {self.max_n}; no size satisfies both.")
        return self

    def holds(self, name: str | None, request: str, structure: Sequence[str], n: int | None) -> bool:
        """Whether every condition holds; an unknown name or size satisfies no condition on it."""
        return (
            (self.name is None or (name is not None and fnmatchcase(name, self.name)))
            and (self.request is None or request in self.request)
            and (self.structure is None or not set(self.structure).isdisjoint(structure))
            and (self.min_n is None or (n is not None and n >= self.min_n))
            and (self.max_n is None or (n is not None and n <= self.max_n))
        )


class Preconditioner(_Section):
    """What conjugate gradients multiply with; a rank of None leaves it to the cost model."""

    name: Annotated[str, AfterValidator(lambda name: _one_of(name, PRECONDITIONERS))] = Field(
        description=f"one of {', '.join(PRECONDITIONERS)}"
    )
    rank: PositiveInt | None = Field(None, description="a whole number, 1 or more (pivoted_cholesky only)")

    @model_validator(mode="after")
    def _only_pivoted_cholesky_has_a_rank(self) -> "Preconditioner":
        if self.rank is not None and self.name != "pivoted_cholesky":
            raise ValueError(f"found rank {self.rank} for {self.name!r}; only 'pivoted_cholesky' has a rank.")
        return self


class Options(_Section):
    """What the user knows about a matrix, or wants of the iteration."""

    condition_number: float | None = Field(None, ge=1, description="a number, 1 or more")
    max_iterations: PositiveInt | None = Field(None, description="a whole number, 1 or more")
    preconditioner: Preconditioner | None = Field(None, description="a mapping such as {name: jacobi}")


@dataclass(frozen=True)
class Origin:
    """Where a rule was written: for messages only, so all origins are equal."""

    source: str = field(default="<python>", compare=False)
    line: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


class Rule(_Section):
    """Requests that match are forced to one strategy, kept from others, or told what the user knows."""

    match: Annotated[Match, BeforeValidator(_as_section)] = Field(
        Match(), description=f"a mapping with keys of {', '.join(Match.model_fields)}"
    )
    force: Annotated[str, AfterValidator(_strategy_to_force)] | None = Field(
        None, description="the name of a strategy"
    )
    forbid: Annotated[
        tuple[Annotated[str, AfterValidator(_strategy_to_forbid)], ...], BeforeValidator(_as_tuple_or_empty)
    ] = Field((), description="one or a list of names of strategies")
    options: Annotated[Options, BeforeValidator(_as_section)] = Field(
        Options(), description=f"a mapping with keys of {', '.join(Options.model_fields)}"
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


class Policy(_Section):
    """A whole policy; every field has a default, and only what is given overlays a lower layer."""

    version: Literal[1] = Field(1, description="1")
    accuracy: Annotated[Accuracy, BeforeValidator(_as_section)] = Field(
        Accuracy(), description=f"a mapping with keys of {', '.join(Accuracy.model_fields)}"
    )
    memory_limit: Annotated[PositiveInt | None, BeforeValidator(_as_bytes)] = Field(
        None, description="bytes, a size such as 8GiB or '1.5 GiB', or null for a share of the free memory"
    )
    margin: float = Field(0.1, ge=0, lt=1, description="a number of at least 0 and less than 1")
    sizes: Annotated[dict[str, PositiveInt], BeforeValidator(_as_section)] = Field(
        default_factory=dict, description="a mapping of 'K[0]' or a dim's name to a whole number, 1 or more"
    )
    rules: Annotated[tuple[Rule, ...], BeforeValidator(_as_tuple_or_empty)] = Field(
        (), description="a list of rules"
    )

    @field_validator("sizes")
    @classmethod
    def _size_keys_name_a_dimension(cls, sizes: dict[str, int]) -> dict[str, int]:
        for key in sizes:
            if not _SIZE_KEY.fullmatch(key):
                raise ValueError(f"found the size {key!r}; valid: a variable and axis ('K[0]'), or a dim.")
        return sizes

    def __hash__(self) -> int:
        sizes = frozenset(self.sizes.items())
        return hash((self.accuracy, self.memory_limit, self.margin, sizes, self.rules))

    def resolve(self, name: str | None, request: str, structure: Sequence[str], n: int | None) -> Resolved:
        """The demands on one request of the problem `name`, an n-by-n matrix with these structures.

        Later rules win: a later force replaces an earlier one and lifts a forbid of the same strategy, a
        later forbid cancels a force of the same strategy, and options overlay key by key.
        """
        force: Rule | None = None
        forbid: dict[str, Rule] = {}
        options: dict[str, Any] = {}
        for rule in self.rules:
            if not rule.match.holds(name, request, structure, n):
                continue
            if force is not None and force.force in rule.forbid:
                force = None
            forbid |= dict.fromkeys(rule.forbid, rule)
            if rule.force is not None:
                force = rule
                forbid.pop(rule.force, None)
            options |= rule.options.given()
        name_forced = None if force is None else force.force
        return Resolved(name_forced, force, forbid, Options.model_validate(options))
