"""How many iterations conjugate gradients are expected to take.

What the user declares comes first, then what a probe or the structure tells (`autotune.problem.spectrum`).
"""

from __future__ import annotations

import math
from dataclasses import replace

from autotune.ops.constants import JACOBI
from autotune.problem import Problem, known
from autotune.problem.spectrum import GIVEN, NEVER, Convergence, Spectrum

# Iterations needed, as a share of the Chebyshev bound, where no more than the condition number is known: over
# uniform, geometric and clustered spectra (n 500 to 8000, condition 10 to 1000, rtol 1e-2 to 1e-12) the
# estimate is off by a factor of 1.22 in the median and 2.71 at most; the bound itself by 1.14 and 3.38
# (benchmarks/expected_iterations.py).
SHARE_OF_BOUND = 0.8
# A right-hand side may need this much more than the random one of a probe. So much more may be needed than a
# bound says, by rounding, and than a probe made that did not see it converge.
PROBE_LEEWAY, BOUND_LEEWAY = 1.1, 2.0
# With a condition number beyond this, however it is preconditioned, a small residual may hide an error that a
# factorisation would not make: only who declares it has cg then.
MOST_CONDITION = 1e5


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
    """``log(2 / rtol) / (2 artanh(1 / sqrt(kappa)))`` iterations j suffice: then ``2 rho^j = rtol``, where
    ``rho = (sqrt(kappa) - 1) / (sqrt(kappa) + 1)`` (Golub & Van Loan 2013, 11.3)."""
    if condition_number <= 1:
        return 1.0
    return (math.log(2.0) - math.log(rtol)) / (2 * math.atanh(1 / math.sqrt(condition_number)))


def uses_given(problem: Problem) -> bool:
    """Whether what iterates multiplies by the user's M of `precondition`: only a log-determinant does not."""
    return problem.inverse is not None and not problem.asks("logdet")


def probed(problem: Problem, options) -> Convergence | None:
    """What a probe found for the user's preconditioner, else for the one in ``options``.

    None where a condition number is declared.
    """
    if options.condition_number is not None or problem.spectrum is None or problem.n is None:
        return None
    if uses_given(problem):
        return problem.spectrum.under(*GIVEN)
    rank = rank_for(options, problem.n)
    name = "none" if options.preconditioner is None else options.preconditioner.name
    return problem.spectrum.under(name, rank if rank > JACOBI else None)


def expected_iterations(problem: Problem, options) -> int:
    """Iterations to ``options.solve_rtol``, at least; n where nothing is known of the matrix."""
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
    found = probed(problem, options)
    seen = found is not None and found.reaches(options.solve_rtol)
    return math.ceil((PROBE_LEEWAY if seen else BOUND_LEEWAY) * expected_iterations(problem, options))


def ill_conditioned(problem: Problem, options) -> float | None:
    """What a probe found of the matrix's own condition number, if that is above ``MOST_CONDITION``."""
    if options.condition_number is not None or problem.spectrum is None:
        return None
    found = problem.spectrum.under("none", None)
    return None if found is None or found.condition_number <= MOST_CONDITION else found.condition_number


def condition_number(problem: Problem, options) -> float | None:
    """Of the preconditioned matrix: declared, or a probe's estimate, which is a lower bound."""
    found = probed(problem, options)
    return options.condition_number if found is None else found.condition_number


def iterations_told(decision) -> str:
    """What the iterations of a decision's problem were known from, in words; nothing where from nothing."""
    spectrum = decision.problem.spectrum
    if spectrum is None:
        return ""
    rtol = f"{decision.solve_rtol:.2g}"
    if spectrum.condition_number is not None:
        return _declared(spectrum.condition_number, decision.condition_number)
    if spectrum.unprobed or spectrum.origin == "bound":
        return "; ".join(text for text in (_bounded(spectrum.eigenvalues), _unprobed(spectrum)) if text)
    found = probed(decision.problem, replace(decision, condition_number=None))
    if found is None:
        return "probed, but not with this preconditioner"
    count = found.iterations(decision.solve_rtol)
    expected = f"{count} iterations expected to {rtol}" if count < NEVER else f"{rtol} is out of reach"
    if count < NEVER and not found.reaches(decision.solve_rtol):
        expected = f"at least {count} iterations to {rtol}"
    by = "" if found.preconditioner == "none" else f" with {_named(found)}"
    cost = f"{spectrum.products} products, {spectrum.seconds:.2g} s"
    return f"probed: {expected}{by}, condition number at least {found.condition_number:.2g} ({cost})"


def _bounded(eigenvalues: int | None) -> str:
    if eigenvalues is None:
        return ""
    return f"by its structure: at most {eigenvalues} distinct eigenvalues, so as many iterations"


def _unprobed(spectrum: Spectrum) -> str:
    return f"not probed: {spectrum.unprobed}" if spectrum.unprobed else ""


def _declared(in_code: float, used: float | None) -> str:
    text = f"declared in the code: condition number at most {in_code:g}"
    return text if used in (None, in_code) else f"{text}; the policy says {used:g}"


def _named(found: Convergence) -> str:
    if (found.preconditioner, found.rank) == GIVEN:
        return "the given preconditioner"
    return found.preconditioner + (f" of rank {found.rank}" if found.rank else "")


def is_known(problem: Problem, options) -> bool:
    """Whether anything tells how many iterations to expect."""
    told = options.condition_number is not None or probed(problem, options) is not None
    return told or _distinct(problem, options) is not None


def _distinct(problem: Problem, options) -> int | None:
    """In exact arithmetic as many iterations as distinct eigenvalues suffice, without a preconditioner."""
    named = options.preconditioner is not None and options.preconditioner.name != "none"
    plain = not named and problem.inverse is None
    return problem.spectrum.eigenvalues if plain and problem.spectrum is not None else None
