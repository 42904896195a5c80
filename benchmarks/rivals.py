"""Rules that choose an algorithm, ours and those of others, for the same problems and timings.

A rule looks at a decision (the problem and its priced candidates) and names a candidate, "plain" for
PyTensor as it is, or None where it would take an algorithm that cannot be compared with exact ones. What
is None is counted, and left out of the rule's regret.

GPyTorch (the public repository of linear_operator): ``functions/_solve.py`` and
``LinearOperator.inv_quad_logdet`` factorise by Cholesky when ``size(-1) <= max_cholesky_size`` (800 in
``settings.py``), else run CG, at most 1000 iterations, and stochastic Lanczos quadrature for
log-determinants. ``LowRankRootAddedDiagLinearOperator`` applies Woodbury whatever its sizes. Its
operators are positive semidefinite: None for other matrices.

CoLA (the public repository of wilson-labs/cola): ``linalg/inverse/inv.py`` and
``linalg/logdet/logdet.py`` compare ``prod(A.shape) <= 1e6``: up to n = 1000 Cholesky for a PSD matrix and
LU for another; beyond, CG and Lanczos, or GMRES and Arnoldi. There is no rule for a diagonal plus a
product of thin matrices, so it is treated as a dense matrix.

Both estimate the log-determinant of a large matrix, with errors of percents, and CoLA solves with a large
general one by GMRES: None. CG for solves alone is timed. It must reach ``SOLVE_RTOL`` in its true residual
within the libraries' limit of iterations, else it falls back to Cholesky, which is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autotune.choose import choose, strategy
from autotune.policy import Policy
from autotune.problem import Decision, Options, known
from cost_models import KERNEL_BY_NAME, generic_profile

GPYTORCH_MAX_CHOLESKY_SIZE = 800
COLA_MAX_DENSE_ENTRIES = 1e6
MAX_CG_ITERATIONS = 1000
SOLVE_RTOL = {"float64": 1e-10, "float32": 1e-5}

Rule = Callable[[Decision], str | None]


def priced(decision: Decision) -> list[str]:
    """The exact strategies that can be forced on all of the problem."""
    names = [c.name for c in decision.candidates if c.seconds is not None and "+" not in c.name]
    return [name for name in names if strategy(name).exact]


def calibrated(decision: Decision) -> str | None:
    """What was chosen, by the profile in force."""
    return decision.chosen


def generic(decision: Decision) -> str | None:
    """What the shipped profile of a typical machine chooses."""
    return choose(decision.problem, Policy(), generic_profile()).chosen


def fewest_flops(decision: Decision) -> str | None:
    """The candidate with the fewest floating-point operations; of equals, the first in the registry."""
    return min(priced(decision), key=lambda name: flops(decision, name))


def gpytorch(decision: Decision) -> str | None:
    """Woodbury by class; else Cholesky up to n = 800 and CG beyond."""
    problem = decision.problem
    if not problem.positive_definite:
        return None
    if "low_rank" in problem.structure:
        return "woodbury"
    return "cholesky" if known(problem.n) <= GPYTORCH_MAX_CHOLESKY_SIZE else _iterative(problem)


def cola(decision: Decision) -> str | None:
    """Cholesky or LU up to n = 1000, iterative beyond."""
    problem = decision.problem
    if known(problem.n) ** 2 <= COLA_MAX_DENSE_ENTRIES:
        return "cholesky" if problem.positive_definite else "lu"
    return _iterative(problem) if problem.positive_definite else None


def plain(decision: Decision) -> str | None:
    """Leave it to PyTensor."""
    return "plain"


RULES: dict[str, Rule] = {
    "calibrated": calibrated,
    "generic": generic,
    "fewest flops": fewest_flops,
    "GPyTorch's rule": gpytorch,
    "CoLA's rule": cola,
    "plain PyTensor": plain,
}
OURS = "calibrated"
# Kernels that move numbers: what they count as flops are numbers moved.
MOVES = ("transpose", "fill", "join", "diagonal")


def flops(decision: Decision, name: str) -> float:
    """Floating-point operations of a candidate, the backward pass included if it is still to come."""
    calls: Any = strategy(name).work(decision.problem, Options()).calls
    return sum(c.count * KERNEL_BY_NAME[c.kernel].flops(c.dims) for c in calls if c.kernel not in MOVES)


def _iterative(problem) -> str | None:
    only_solves = all(r.kind in ("solve", "inv_quad") for r in problem.requests)
    return "cg" if only_solves and problem.batch == 1 else None
