"""Who wins where: the choice over a plane of sizes, as arrays.

``choose`` is a pure function of a problem, a policy and a profile, so the whole plane is a loop over it.
No graph is built and nothing is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.algebra.diagonal import diagonal_term
from autotune.algebra.low_rank import low_rank_term
from autotune.algebra.sum import sum_term
from autotune.choose import choose
from autotune.choose.memory import available_memory
from autotune.policy import Policy
from autotune.problem import Problem, Request, Term, dense
from cost_models import Profile

SMALLEST_N = 10


@dataclass(frozen=True)
class Structure:
    """A kind of matrix: in ``words``, and as a ``template`` without requests and sizes."""

    words: str
    template: Problem


def _template(term: Term, **facts: Any) -> Problem:
    return Problem(requests=(), term=term, batch=None, **facts)


DEFINITE = {"positive_definite": True, "symmetric": True}


STRUCTURES = {
    "low_rank": Structure(
        "diagonal plus low rank",
        _template(sum_term(diagonal_term(None), low_rank_term(None, None)), **DEFINITE),
    ),
    "dense": Structure("dense, positive definite", _template(dense(None), **DEFINITE)),
    "general": Structure("dense, nothing known of it", _template(dense(None))),
}


@dataclass(frozen=True)
class Axis:
    """The second axis of a plane: its label, and its largest size (None: as n)."""

    label: str
    largest: int | None


PLANES = {
    "rank": Axis("k, columns of the low-rank term", None),
    "columns": Axis("m, right-hand sides", 1000),
    "batch": Axis("matrices in the batch", 1000),
}
# How PyTensor would serve each request by itself (``Request.form``): of a general matrix, and of a
# positive-definite one. A Cholesky factor is asked of the latter only.
FORMS = {
    "solve": ("gen", "pos"),
    "logdet": ("lu", "lu"),
    "determinant": ("lu", "lu"),
    "inverse": ("inverse", "inverse"),
    "inverse_diagonal": ("inverse", "inverse"),
    "inv_quad": (None, "cholesky"),
    "is_positive_definite": (None, "cholesky"),
    "factor": (None, "cholesky"),
}
WITH_COLUMNS = ("solve", "inv_quad")


@dataclass(frozen=True)
class Question:
    """What a map shows. ``held``: the sizes of rank, columns and batch where they are not an axis."""

    structure: str = "low_rank"
    requests: tuple[str, ...] = ("solve", "logdet")
    plane: str | None = None
    dtype: str = "float64"
    gradient: bool = False
    held: tuple[tuple[str, int], ...] = (("rank", 10), ("columns", 1), ("batch", 1))

    def __post_init__(self) -> None:
        """ValueError for a word that is not known, or a plane that the problem does not span."""
        _check("structure", self.structure, STRUCTURES)
        for kind in self.requests:
            _check("request", kind, self._possible())
        _check("plane", self.axis, PLANES)
        if self.axis == "rank" and not self._has["rank"]:
            raise ValueError(f"found the plane 'rank' for {self.structure!r}; only 'low_rank' has a rank.")
        if self.axis == "columns" and not self._has["columns"]:
            found, needed = ", ".join(self.requests), " or ".join(WITH_COLUMNS)
            raise ValueError(f"found the plane 'columns' for {found}; only {needed} has right-hand sides.")

    @property
    def axis(self) -> str:
        """The second axis, by default the first that the problem has."""
        return self.plane or next(name for name in PLANES if self._has[name])

    @property
    def shown_sizes(self) -> dict[str, int]:
        """The sizes that the problem has and that are not an axis."""
        return {name: size for name, size in self.held if self._has[name] and name != self.axis}

    @property
    def _has(self) -> dict[str, bool]:
        """Which of the sizes beside n the problem has."""
        columns = not set(self.requests).isdisjoint(WITH_COLUMNS)
        return {
            "rank": "rank" in STRUCTURES[self.structure].template.sizes,
            "columns": columns,
            "batch": True,
        }

    def _possible(self) -> list[str]:
        definite = STRUCTURES[self.structure].template.positive_definite
        return [kind for kind, forms in FORMS.items() if forms[definite] is not None]

    def problem(self, n: int, other: int) -> Problem:
        """The problem at one point of the plane."""
        sizes = dict(self.held) | {self.axis: other}
        template = STRUCTURES[self.structure].template
        requests = tuple(
            Request(kind, sizes["columns"], form=FORMS[kind][template.positive_definite] or "")
            for kind in self.requests
        )
        given = replace(template, requests=requests, dtype=self.dtype, differentiated=self.gradient)
        return given.with_sizes(n=n, **sizes)


@dataclass(frozen=True)
class ChoiceMap:
    """``chosen[i, j]`` is the name that wins at ``others[i]`` and ``n[j]``.

    ``gain``: predicted time of ``keep`` over that of the chosen; NaN where either has no price.
    """

    question: Question
    n: NDArray[np.int64]
    others: NDArray[np.int64]
    chosen: NDArray[np.str_]
    gain: NDArray[np.float64]


def choice_map(
    question: Question,
    policy: Policy,
    profile: Profile,
    *,
    largest: int = 5000,
    points: int = 60,
    progress: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> ChoiceMap:
    """Choose at ``points`` by ``points`` sizes, evenly spread in logarithms, n from 10 to ``largest``."""
    if policy.memory_limit is None:  # one limit for the whole map
        policy = policy.model_copy(update={"memory_limit": int(available_memory())})
    n = _sizes(SMALLEST_N, largest, points)
    others = _sizes(1, PLANES[question.axis].largest or largest, points)
    rows = []
    for done, other in enumerate(others):
        progress("choosing", done, len(others))
        rows.append([_outcome(question.problem(int(one), int(other)), policy, profile) for one in n])
    names = np.array([[name for name, _ in row] for row in rows])
    return ChoiceMap(question, n, others, names, np.array([[gain for _, gain in row] for row in rows]))


def _outcome(problem: Problem, policy: Policy, profile: Profile) -> tuple[str, float]:
    decision = choose(problem, policy, profile)
    plain = next((c.seconds for c in decision.candidates if c.name == "keep"), None)
    ours = decision.winner.seconds
    return decision.chosen, plain / ours if plain and ours else float("nan")


def _sizes(smallest: int, largest: int, points: int) -> NDArray[np.int64]:
    if largest <= smallest:
        raise ValueError(f"found {largest} as the largest size; valid: more than {smallest}.")
    return np.unique(np.geomspace(smallest, largest, points).round().astype(np.int64))


def _check(what: str, found: str, valid: Sequence[str] | dict[str, Any]) -> None:
    if found not in valid:
        raise ValueError(f"found the {what} {found!r}; valid: {', '.join(valid)}.")
