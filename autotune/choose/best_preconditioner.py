"""Which preconditioner an iteration gets, where a probe tells how it converges under each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autotune.choose.candidates import seconds, strategy, within_guard
from autotune.problem import Problem
from autotune.problem.spectrum import Convergence
from autotune.strategies.iterations import uses_given
from cost_models import Profile

if TYPE_CHECKING:
    from autotune.policy import Preconditioner


def with_preconditioner(problem: Problem, options: Any, profile: Profile) -> Any:
    """``options`` with the preconditioner of the least predicted time, unless the user names one.

    A matrix given with `autotune.precondition` takes the place of all others. One that fits the budget of the
    run-time guard comes before one that does not, then one that the probe saw converge. Without a probe, or
    with a condition number declared, as they are: nothing tells then what a preconditioner would gain.
    """
    if uses_given(problem):
        return replace(options, preconditioner=None)
    declared = options.preconditioner is not None or options.condition_number is not None
    tried = () if declared or problem.spectrum is None else problem.spectrum.convergence
    name = "lanczos" if options.logdet_rtol is not None and problem.asks("logdet") else "cg"
    part = problem.only(r for r in problem.requests if r.kind in strategy(name).provides)
    if not tried or not part.requests or part.unknown_sizes:
        return options
    names = (name,) * len(part.requests)

    def rank(found: Convergence) -> tuple[bool, bool, float]:
        way = replace(options, preconditioner=_named(found))
        declined = strategy(name).declines(part, within_guard(part, names, way, profile))
        unseen = not found.reaches(options.solve_rtol)
        return declined is not None, unseen, seconds(part, names, way, profile)[0]

    return replace(options, preconditioner=_named(min(tried, key=rank)))


def _named(convergence: Convergence) -> Preconditioner | None:
    """As a policy states it, whose model is imported only here."""
    """Imported late: only a policy or a probe asks for it."""
    if convergence.preconditioner == "none":
        return None
    from autotune.policy import Preconditioner

    return Preconditioner.model_validate({"name": convergence.preconditioner, "rank": convergence.rank})
