"""The parts of a policy: tolerances, what a rule is about, and what it may say of a matrix."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from autotune.policy.defaults import DEFAULT
from autotune.policy.names import PRECONDITIONERS, REQUESTS, STRUCTURES, OneOf
from autotune.policy.types import Dimension, PositiveInt, RelativeError, Requests, Structures, Tolerance
from autotune.problem import UNKNOWN, Traits


class Section(BaseModel):
    """A closed, immutable part of the policy.

    A field's description says what it means and, after `Valid:`, what may stand there: editors show
    both, messages quote the latter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def given(self) -> dict[str, Any]:
        """The fields that were set explicitly."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class Accuracy(Section):
    """How far off an inexact strategy may be; None rules such strategies out."""

    solve_rtol: Tolerance = Field(
        DEFAULT.accuracy.solve_rtol,
        description="Largest relative residual |b - A x| / |b| of a solve by an iterative strategy; the "
        "relative error of x may be larger, by up to the condition number. Valid: a number between 0 and 1.",
    )
    logdet_rtol: RelativeError | None = Field(
        DEFAULT.accuracy.logdet_rtol,
        description="Largest relative error of a log-determinant by a stochastic strategy; null: exact only. "
        "Valid: a number from 1e-16 to 1, or null.",
    )


class Match(Section):
    """The requests a rule is about: all of its conditions must hold, and none means every request."""

    name: str | None = Field(
        None,
        min_length=1,
        description="Name of the matrix; * ? [ab] are wildcards, case counts. "
        "Valid: a name or a pattern such as 'K_*'.",
    )
    rv: str | None = Field(
        None,
        min_length=1,
        description="PyMC variable or potential whose term the matrix contributes to; wildcards as in name. "
        "Valid: a name or a pattern such as 'y_*'.",
    )
    source: str | None = Field(
        None,
        min_length=1,
        description="Where your code makes the matrix; wildcards as in name. "
        "Valid: a file and line or a pattern such as 'model.py:*'.",
    )
    fingerprint: str | None = Field(
        None,
        min_length=1,
        description="What the matrix is made of and what is asked of it, as plans show it. "
        "Valid: a fingerprint such as 'kfbamdgc' or 'kfbamdgc#2', or a pattern.",
    )
    part: str | None = Field(
        None,
        min_length=1,
        description="Letter of a part of a matrix that is put together from others, as plans show it; "
        "wildcards as in name. Valid: a letter such as 'A'.",
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

    positive_definite: bool | None = Field(
        None,
        description="Whether the matrix is known to be positive definite. Valid: true or false.",
    )
    symmetric: bool | None = Field(
        None, description="Whether the matrix is known to be symmetric. Valid: true or false."
    )

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> "Match":
        if self.min_n is not None and self.max_n is not None and self.min_n > self.max_n:
            raise ValueError(f"found min_n {self.min_n} > max_n {self.max_n}; no size satisfies both.")
        return self

    def unmet(
        self,
        name: str | None,
        request: str,
        structure: Sequence[str],
        n: int | None,
        traits: Traits = UNKNOWN,
    ) -> list[str]:
        """Names of the conditions that do not hold; an unknown name or size satisfies none on it."""
        held = {
            "name": any(_fits(one, self.name) for one in traits.all_names(name)),
            "rv": any(_fits(one, self.rv) for one in (traits.rv, *traits.terms)),
            "source": _fits(traits.source, self.source),
            "fingerprint": _fits(traits.fingerprint, self.fingerprint),
            "part": _fits(traits.part, self.part),
            "request": self.request is None or request in self.request,
            "structure": self.structure is None or not set(self.structure).isdisjoint(structure),
            "min_n": self.min_n is None or (n is not None and n >= self.min_n),
            "max_n": self.max_n is None or (n is not None and n <= self.max_n),
            "positive_definite": self.positive_definite in (None, traits.positive_definite),
            "symmetric": self.symmetric in (None, traits.symmetric),
        }
        return [condition for condition, holds in held.items() if not holds]

    def holds(
        self,
        name: str | None,
        request: str,
        structure: Sequence[str],
        n: int | None,
        traits: Traits = UNKNOWN,
    ) -> bool:
        """Whether every condition holds."""
        return not self.unmet(name, request, structure, n, traits)


def _fits(text: str | None, pattern: str | None) -> bool:
    """Whether there is no condition, or a text that meets it."""
    return pattern is None or (text is not None and fnmatchcase(text, pattern))


class Preconditioner(Section):
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


class Options(Section):
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
