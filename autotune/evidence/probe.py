"""What an example tells of a matrix when its graph is compiled: the iterations that it will take.

The matrix is made from examples of the inputs it depends on, by PyTensor's plain Python code, and conjugate
gradients run on it with several preconditioners (`autotune.evidence.convergence`), or with the one that
the user gives, which is made likewise. The cost is bounded: one evaluation, four matrices of memory (as much
again for a preconditioner that is given), and products that read ``MOST_READ`` numbers. Without an example
of every input that these depend on nothing is done, and where examples were given the plan says what they
lack.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from pytensor.graph.basic import Constant

from autotune.algebra.symmetric_parts import columns_read
from autotune.choose.memory import available_memory
from autotune.evidence.convergence import try_out
from autotune.evidence.examples import Examples
from autotune.ops.constants import JACOBI
from autotune.ops.core_operator import SymmetricOperator, as_operator
from autotune.plan.session import switched_off
from autotune.problem import Options, Problem, known
from autotune.problem.spectrum import GIVEN, Spectrum
from autotune.strategies import STRATEGIES
from autotune.strategies.cg import matrix_parts
from autotune.strategies.iterations import default_rank, rank_for, uses_given

if TYPE_CHECKING:
    from autotune.policy import Policy

logger = logging.getLogger("autotune")

Kinds = Sequence[tuple[str, int | None]]

# Below this order a direct solve takes less time than an iteration's overhead.
SMALLEST_ORDER = 200
# Products with the matrix, and numbers of it that they read in all: about a second or two.
MOST_PRODUCTS, MOST_READ = 60, 4e9
# Matrices that evaluating and iterating may hold, for each that is evaluated.
MATRICES_HELD = 4
# Ranks of pivoted Cholesky preconditioners, as shares of the default one.
RANKS = (0.25, 1.0, 3.0)


class Unusable(Exception):
    """The examples tell nothing of a matrix, and why."""


def with_spectrum(reading, problem: Problem, policy: Policy, examples: Examples | None) -> Problem:
    """``problem`` with what the example tells of its spectrum, where an iterative strategy may use that."""
    if not may_be_probed(problem, policy, examples):
        return problem
    kinds = kinds_to_try(problem, policy)
    if not kinds:
        return problem
    variable = reading.operator.to_dense() if reading.matrix is None else reading.matrix
    inverse = matrix_parts(reading.operator.inverse) if GIVEN in kinds else ()
    started = perf_counter()
    try:
        found = _spectrum((variable, *inverse), problem, kinds, examples or Examples({}))
    except Unusable as why:
        return problem if examples is None else _unprobed(problem, str(why))
    except Exception as error:  # the user's graph may fail on the example, and still has to be compiled
        logger.warning("autotune could not probe %s: %s: %s", _called(problem), type(error).__name__, error)
        return problem
    return replace(problem, spectrum=replace(found, seconds=perf_counter() - started))


def _spectrum(variables, problem: Problem, kinds: Kinds, examples: Examples) -> Spectrum:
    """That of the first of ``variables``, the others being the parts of the given preconditioner."""
    values = values_of_inputs(variables, examples)
    if problem.n is None:
        raise Unusable("the examples do not tell its order")
    matrix, *inverse = evaluated(variables, values)
    return probe(matrix, problem, kinds, inverse)


def _unprobed(problem: Problem, why: str) -> Problem:
    return replace(problem, spectrum=replace(problem.spectrum or Spectrum("unknown"), unprobed=why))


def may_be_probed(problem: Problem, policy: Policy, examples: Examples | None) -> bool:
    """Whether the policy allows it, and the size is one for which iterating may pay and a probe is short.

    An unknown one may be: that it is unknown is to be told.
    """
    wanted = examples is not None if policy.probe is None else policy.probe
    n = problem.n
    if not wanted or n is None:
        return wanted
    if n < SMALLEST_ORDER or products_for(problem) < 1:
        return False
    limit = policy.memory_limit if policy.memory_limit is not None else available_memory()
    return MATRICES_HELD * numbers(problem) * problem.itemsize <= limit


def numbers(problem: Problem) -> int:
    """Those of the matrix, and of a given preconditioner."""
    n = known(problem.n)
    of_inverse = columns_read(problem.inverse, n) if problem.inverse and uses_given(problem) else 0
    return n * (n + of_inverse)


def products_for(problem: Problem) -> int:
    """Products with the matrix that a probe may make."""
    return min(MOST_PRODUCTS, int(MOST_READ / numbers(problem)))


def kinds_to_try(problem: Problem, policy: Policy) -> Kinds:
    """Preconditioners that the choice is free to take; none where it needs no probe or cannot iterate.

    The identity is always among them: its iteration tells how well rounding lets any other do.
    """
    traits = (problem.structure, problem.n, problem.traits)
    ruled = [policy.resolve(problem.name, r.kind, *traits) for r in problem.requests]
    declared_in_code = problem.spectrum is not None and problem.spectrum.condition_number is not None
    told = any(r.options.condition_number is not None or (r.force_rule and r.force_rule.pin) for r in ruled)
    if declared_in_code or told:
        return ()
    ways = [name for name in _iterative(problem, policy) if all(_allows(r, name) for r in ruled)]
    if not ways:
        return ()
    if uses_given(problem):
        return (("none", None), GIVEN)
    n = problem.n
    if n is None:
        return (("none", None),)
    declared = next((r.options.preconditioner for r in ruled if r.options.preconditioner), None)
    if declared is None:
        ranks = [min(n, math.ceil(share * default_rank(n))) for share in RANKS]
        return (("none", None), ("jacobi", None), *(("pivoted_cholesky", rank) for rank in ranks))
    rank = rank_for(Options(preconditioner=declared), n)
    return tuple(dict.fromkeys((("none", None), (declared.name, rank if rank > JACOBI else None))))


def _iterative(problem: Problem, policy: Policy) -> list[str]:
    """The strategies that iterate and could serve all of the problem, were its iterations known."""
    accuracy = policy.accuracy
    options = Options(solve_rtol=accuracy.solve_rtol, logdet_rtol=accuracy.logdet_rtol, forced=True)
    return [s.name for s in STRATEGIES if not s.exact and s.declines(problem, options) is None]


def _allows(resolved, name: str) -> bool:
    return name not in resolved.forbid and resolved.force in (None, name)


def values_of_inputs(variables: Sequence[Any], examples: Examples) -> dict[Any, Any]:
    """Values of the inputs that ``variables`` depend on; those of shared variables are the present ones.

    Raises ``Unusable`` where one has no example, or one that does not fit.
    """
    from pytensor.graph.traversal import graph_inputs

    wanted = [v for v in variables if v is not None]
    return {v: _value(v, examples) for v in graph_inputs(wanted) if not isinstance(v, Constant)}


def _value(variable, examples: Examples) -> Any:
    from pytensor.compile.sharedvalue import SharedVariable

    called = repr(variable.name) if variable.name else "an input without a name"
    try:
        given = examples.of(variable)
    except TypeError as error:
        raise Unusable(f"the example of {called} does not fit: {error}") from error
    if given is None and isinstance(variable, SharedVariable):
        return variable.get_value()
    if given is None:
        raise Unusable(f"no example of {called}")
    return given


def evaluated(variables: Sequence[Any], values: dict[Any, Any]) -> list[Any]:
    """``variables`` for ``values`` of their inputs, None for None.

    What shared variables are updated by is not run.
    """
    import pytensor
    from pytensor.compile.mode import Mode
    from pytensor.graph.replace import graph_replace

    inputs = {v: v.type() for v in values}
    copies = graph_replace([v for v in variables if v is not None], inputs, strict=False)
    with switched_off():
        mode = Mode(linker="py", optimizer=None)
        fn = pytensor.function(list(inputs.values()), copies, mode=mode, on_unused_input="ignore")
        found = iter(fn(*values.values()))
    return [None if v is None else next(found) for v in variables]


def probe(matrix, problem: Problem, kinds: Kinds, inverse: Sequence[Any] = ()) -> Spectrum:
    """How conjugate gradients converge on the value of a matrix.

    ``inverse``: the parts of the preconditioner that is given. Raises ``ValueError`` where it is none, and
    ``Unusable`` where the matrix is another than was read.
    """
    if matrix.shape[-2:] != (problem.n, problem.n) or matrix.size != matrix.shape[-1] ** 2:
        shape = " x ".join(str(length) for length in matrix.shape)
        raise Unusable(f"of the examples it is {shape}, where n = {problem.n}")
    given = as_preconditioner(inverse, matrix) if inverse else None
    found = try_out(matrix.reshape(matrix.shape[-2:]), kinds, products_for(problem), given)
    if found is None and given is not None:
        raise ValueError("The matrix or its preconditioner is not positive definite for the example.")
    if found is None:
        raise Unusable("of the examples it is not positive definite")
    return found


def as_preconditioner(parts: Sequence[Any], matrix) -> SymmetricOperator:
    """``(S, d, U, c)``, None for what is absent, as an operator of the order and dtype of ``matrix``."""
    S, *thin = (None if part is None else part.astype(matrix.dtype) for part in parts)
    found = as_operator(np.zeros((0, 0), matrix.dtype) if S is None else S, *thin)
    if found.order != matrix.shape[-1]:
        raise ValueError(f"The preconditioner has order {found.order}, the matrix {matrix.shape[-1]}.")
    return found


def _called(problem: Problem) -> str:
    return f"matrix {problem.name!r}" if problem.name else "a matrix"
