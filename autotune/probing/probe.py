"""What an example tells of a matrix when its graph is compiled: the iterations that it will take.

The matrix is made from examples of the inputs it depends on, by PyTensor's plain Python code, and conjugate
gradients run on it with several preconditioners (`autotune.probing.trial`), or with the one that the user
gives, which is made likewise. The cost is bounded: one evaluation, four matrices of memory (as much again for
a preconditioner that is given), and products that read ``MOST_READ`` numbers. Without an example of every
input that these depend on nothing is done.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from pytensor.graph.basic import Constant

from autotune.choosing.candidates import Options
from autotune.memory import available_memory
from autotune.ops.core_operator import SymmetricOperator, as_operator
from autotune.ops.core_preconditioner import JACOBI
from autotune.policy import Policy
from autotune.probing.examples import Examples
from autotune.probing.spectrum import GIVEN, Spectrum
from autotune.problem import Problem, known
from autotune.strategies import STRATEGIES
from autotune.strategies.cg import matrix_parts
from autotune.strategies.iterations import default_rank, rank_for, uses_given

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
        values = evaluated((variable, *inverse), examples or Examples({}))
        found = None if values is None else probe(values[0], problem, kinds, values[1:])
    except Exception as error:  # the user's graph may fail on the example, and still has to be compiled
        logger.warning("autotune could not probe %s: %s: %s", _called(problem), type(error).__name__, error)
        found = None
    if found is None:
        return problem
    return replace(problem, spectrum=replace(found, seconds=perf_counter() - started))


def may_be_probed(problem: Problem, policy: Policy, examples: Examples | None) -> bool:
    """Whether the policy allows it, and the size is one for which iterating may pay and a probe is short."""
    wanted = examples is not None if policy.probe is None else policy.probe
    n = problem.n
    if not wanted or n is None or n < SMALLEST_ORDER or products_for(problem) < 1:
        return False
    limit = policy.memory_limit if policy.memory_limit is not None else available_memory()
    return MATRICES_HELD * numbers(problem) * problem.itemsize <= limit


def numbers(problem: Problem) -> int:
    """Those of the matrix, and of a given preconditioner."""
    n = known(problem.n)
    return n * (n + (min(n, problem.inverse_columns or 0) if uses_given(problem) else 0))


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
    n = known(problem.n)
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


def evaluated(variables: Sequence[Any], examples: Examples) -> list[Any] | None:
    """The values of ``variables`` for the examples, None for None; none where one needs an input without one.

    Shared variables have their present values; what they are updated by is not run.
    """
    import pytensor
    from pytensor.compile.mode import Mode
    from pytensor.graph.replace import graph_replace
    from pytensor.graph.traversal import graph_inputs

    from autotune.session import switched_off

    wanted = [v for v in variables if v is not None]
    values = {v: _value(v, examples) for v in graph_inputs(wanted) if not isinstance(v, Constant)}
    if any(value is None for value in values.values()):
        return None
    inputs = {v: v.type() for v in values}
    copies = graph_replace(wanted, inputs, strict=False)
    with switched_off():
        mode = Mode(linker="py", optimizer=None)
        fn = pytensor.function(list(inputs.values()), copies, mode=mode, on_unused_input="ignore")
        found = iter(fn(*values.values()))
    return [None if v is None else next(found) for v in variables]


def _value(variable, examples: Examples) -> Any:
    from pytensor.compile.sharedvalue import SharedVariable

    given = examples.of(variable)
    held = given is None and isinstance(variable, SharedVariable)
    return variable.get_value() if held else given


def probe(matrix, problem: Problem, kinds: Kinds, inverse: Sequence[Any] = ()) -> Spectrum | None:
    """How conjugate gradients converge on the value of a matrix; None where it is another than was read.

    ``inverse``: the parts of the preconditioner that is given. Raises ``ValueError`` where it is none.
    """
    from autotune.probing.trial import try_out

    if matrix.shape[-2:] != (problem.n, problem.n) or matrix.size != matrix.shape[-1] ** 2:
        return None
    given = as_preconditioner(inverse, matrix) if inverse else None
    found = try_out(matrix.reshape(matrix.shape[-2:]), kinds, products_for(problem), given)
    if found is None and given is not None:
        raise ValueError("The matrix or its preconditioner is not positive definite for the example.")
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
