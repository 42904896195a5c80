"""How many iterations conjugate gradients are expected to take.

What the user declares comes first, then what a probe or the structure tells (`autotune.probing.spectrum`).
"""

from __future__ import annotations

import math
from dataclasses import replace

from autotune.ops.core_preconditioner import JACOBI
from autotune.probing.spectrum import NEVER, Convergence
from autotune.problem import Problem, known

# Iterations needed, as a share of the Chebyshev bound, where no more than the condition number is known: over
# uniform, geometric and clustered spectra (n 500 to 8000, condition 10 to 1000, rtol 1e-2 to 1e-12) the
# estimate is off by a factor of 1.18 in the median and 2.71 at most; the bound itself by 1.14 and 3.38
# (benchmarks/expected_iterations.py).
SHARE_OF_BOUND = 0.8
# A right-hand side may need this much more than the random one of a probe, or rounding than a bound.
PROBE_LEEWAY, BOUND_LEEWAY = 1.25, 2.0


def rank_for(options, n: int) -> int:
    """The rank of the preconditioner as `PartialCholesky` counts it: -1 none, 0 Jacobi.

    Undeclared, the rank of a partial Cholesky factor is sqrt(n): it then costs about as much as five products
    with the matrix.
    """
    name = "none" if options.preconditioner is None else options.preconditioner.name
    if name == "pivoted_cholesky":
        return min(n, options.preconditioner.rank or default_rank(n))
    return {"none": -1, "jacobi": JACOBI}[name]


def default_rank(n: int) -> int:
    """Of a partial Cholesky factor: ``sqrt(n)``."""
    return math.ceil(math.sqrt(n))


def chebyshev_bound(condition_number: float, rtol: float) -> float:
    """``sqrt(kappa) / 2 log(2 / rtol)`` iterations suffice (Golub & Van Loan 2013, 11.3)."""
    return 0.5 * math.sqrt(condition_number) * math.log(2.0 / rtol)


def probed(problem: Problem, options) -> Convergence | None:
    """What a probe found for the preconditioner in ``options``; None where a condition number is declared."""
    if options.condition_number is not None or problem.spectrum is None or problem.n is None:
        return None
    rank = rank_for(options, problem.n)
    name = "none" if options.preconditioner is None else options.preconditioner.name
    return problem.spectrum.under(name, rank if rank > JACOBI else None)


def expected_iterations(problem: Problem, options) -> int:
    """Iterations to ``options.solve_rtol``; n where nothing is known of the matrix."""
    n, found = known(problem.n), probed(problem, options)
    if options.condition_number is not None:
        bound = chebyshev_bound(options.condition_number, options.solve_rtol)
        return max(1, min(n, math.ceil(SHARE_OF_BOUND * bound)))
    if found is not None:
        return min(n, found.iterations(options.solve_rtol))
    return min(n, _distinct(problem, options) or n)


def iterations_to_allow(problem: Problem, options) -> int:
    """Iterations that a guard must allow, lest it ends in a fallback though all is as it was told.

    Of a declared condition number those of the Chebyshev bound, which is sure.
    """
    n = known(problem.n)
    if options.condition_number is not None:
        return max(1, min(n, math.ceil(chebyshev_bound(options.condition_number, options.solve_rtol)) + 1))
    leeway = BOUND_LEEWAY if probed(problem, options) is None else PROBE_LEEWAY
    return math.ceil(leeway * expected_iterations(problem, options))


def condition_number(problem: Problem, options) -> float | None:
    """Of the preconditioned matrix: declared, or a probe's estimate."""
    found = probed(problem, options)
    return options.condition_number if found is None else found.condition_number


def iterations_told(decision) -> str:
    """What the iterations of a decision's problem were known from, in words; nothing where from nothing."""
    spectrum = decision.problem.spectrum
    if spectrum is None:
        return ""
    rtol = f"{decision.solve_rtol:.2g}"
    if spectrum.origin == "bound":
        return f"by its structure: at most {spectrum.eigenvalues} distinct eigenvalues, so as many iterations"
    found = probed(decision.problem, replace(decision, condition_number=None))
    if found is None:
        return "probed, but not with this preconditioner"
    count = found.iterations(decision.solve_rtol)
    expected = f"{count} iterations expected to {rtol}" if count < NEVER else f"{rtol} is out of reach"
    rank = f" of rank {found.rank}" if found.rank else ""
    by = "" if found.preconditioner == "none" else f" with {found.preconditioner}{rank}"
    cost = f"{spectrum.products} products, {spectrum.seconds:.2g} s"
    return f"probed: {expected}{by}, condition number about {found.condition_number:.2g} ({cost})"


def is_known(problem: Problem, options) -> bool:
    """Whether anything tells how many iterations to expect."""
    told = options.condition_number is not None or probed(problem, options) is not None
    return told or _distinct(problem, options) is not None


def _distinct(problem: Problem, options) -> int | None:
    """In exact arithmetic as many iterations as distinct eigenvalues suffice, without a preconditioner."""
    named = options.preconditioner is not None and options.preconditioner.name != "none"
    plain = not named and problem.inverse_columns is None
    return problem.spectrum.eigenvalues if plain and problem.spectrum is not None else None
