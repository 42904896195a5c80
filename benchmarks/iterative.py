"""Iterative solvers against Cholesky: what is chosen, iterations predicted and needed, and the guard.

    python benchmarks/iterative.py [--sizes 1000 2000 4000] [--rounds 7]

Three tables. Solves over order, condition number, right-hand sides and tolerance, with the condition number
declared: the free choice, the iterations that its price counts and those that are needed, times, and regret:
the time of the choice over the best of both. The guard: solves with a condition number of 10 declared that is
false, over adversarial spectra, and what they cost beside Cholesky. Log-determinants: the estimate's error,
and times. Each matrix is dense, with the spectrum that is named.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.assumptions import assume
from tables import MarkdownTable
from timing import alternate, geometric_mean

import autotune
from autotune.choose import Options, strategy
from autotune.ops import BlockCG, LanczosLogdet, PartialCholesky
from autotune.problem import Problem, Request
from autotune.strategies.cg import expected_iterations
from cost_models import find_profile

# The share of a direct solve that iterating in vain may cost.
GUARD = 0.3
# A tolerance that one right-hand side more or less does not decide, for the guard's table.
GUARD_RTOL = 1e-10
RANK = 50


def reflected(eigenvalues, rng):
    """A dense symmetric matrix with these eigenvalues: two Householder reflections of the diagonal."""
    A = np.diag(eigenvalues).astype(float)
    for _ in range(2):
        v = rng.normal(size=len(A))
        v /= np.linalg.norm(v)
        A -= 2 * np.outer(v, v @ A)
        A -= 2 * np.outer(A @ v, v)
    return (A + A.T) / 2


def clustered(n, condition):
    """Ten eigenvalues, each with a cluster around it."""
    centres = np.geomspace(1, condition, 10)
    return np.sort(np.resize(centres, n) * np.linspace(1, 1.01, n))


SPECTRA: dict[str, Callable[[int, float], np.ndarray]] = {
    "geometric": lambda n, condition: np.geomspace(1, condition, n),
    "uniform": lambda n, condition: np.linspace(1, condition, n),
    "clustered": clustered,
}
# Against a declared condition number of 10.
ADVERSARIAL: dict[str, Callable[[int], np.ndarray]] = {
    "as declared": lambda n: np.geomspace(1, 10, n),
    "clustered": lambda n: clustered(n, 1e6),
    "uniform": lambda n: np.linspace(1, 1e4, n),
    "geometric": lambda n: np.geomspace(1, 1e6, n),
    "one tiny eigenvalue": lambda n: np.r_[1e-8, np.geomspace(1, 10, n - 1)],
    "two clusters": lambda n: np.r_[np.linspace(1, 2, n // 2), np.linspace(1e5, 2e5, n - n // 2)],
    "stiff": lambda n: np.r_[np.geomspace(1e-9, 1e-2, n // 4), np.ones(n - n // 4)],
    "slowly worse": lambda n: np.r_[np.geomspace(1e-6, 1, 20), np.geomspace(1, 10, n - 20)],
}


def solve_function(n, m, policy):
    """``A^-1 B`` under a policy, for static sizes."""
    A, B = pt.matrix("A", shape=(n, n)), pt.matrix("B", shape=(n, m))
    x = pt.linalg.solve(assume(A, positive_definite=True), B)
    fn = pytensor.function([A, B], x, mode=autotune.mode(policy))
    fn.trust_input = True
    return fn


def iterations_function():
    """``(A, B, rtol, max_iterations, rank) -> solution, iterations``, negative after a fallback."""
    A, B, rtol = pt.matrix("A"), pt.matrix("B"), pt.dscalar("rtol")
    limit, rank = pt.lscalar("limit"), pt.lscalar("rank")
    outputs = BlockCG()(A, B, rtol, limit, *PartialCholesky()(A, rank))[:2]
    return pytensor.function([A, B, rtol, limit, rank], outputs, mode="NUMBA")


def budget(n, m) -> int:
    """Iterations that GUARD of a direct solve pays for, by the profile."""
    problem = Problem((Request("solve", m, form="pos"),), n, positive_definite=True, symmetric=True)
    profile = find_profile()
    guarded = strategy("cg").guarded(problem, Options())
    direct, step = (sum(profile.seconds(c, "float64") for c in calls) for calls in guarded)
    return max(1, int(GUARD * direct / step))


def policy_for(condition, rtol, **rule):
    return {
        "accuracy": {"solve_rtol": rtol},
        "rules": [{"options": {"condition_number": float(condition)}, **rule}],
    }


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def solves(arguments, count) -> None:
    """The first table."""
    table = MarkdownTable(
        "n", "spectrum", "condition", "rhs", "rtol", "chosen", "expected", "needed", "needed with rank 50",
        "cg (ms)", "Cholesky (ms)", "regret",
    )  # fmt: skip
    regrets, ratios = [], []
    conditions, columns, tolerances = arguments.conditions, arguments.columns, arguments.tolerances
    for n, condition, m, rtol in itertools.product(arguments.sizes, conditions, columns, tolerances):
        rules = {"free": {}, "cg": {"force": "cg"}, "cholesky": {"force": "cholesky"}}
        functions = {
            name: solve_function(n, m, policy_for(condition, rtol, **rule)) for name, rule in rules.items()
        }
        expected = expected_iterations(n, Options(solve_rtol=rtol, condition_number=float(condition)))
        chosen = autotune.explain(functions["free"]).decisions[0].chosen
        for name, spectrum in SPECTRA.items():
            rng = np.random.default_rng(0)
            A, B = reflected(spectrum(n, condition), rng), rng.normal(size=(n, m))
            needed, ranked = (int(count(A, B, rtol, 4 * n, rank)[1]) for rank in (-1, RANK))
            times = alternate(functions, [A, B], rounds=(arguments.rounds, arguments.rounds))
            regrets.append(times["free"] / min(times.values()))
            ratios.append(max(expected / abs(needed), abs(needed) / expected))
            cells = (n, name, f"{condition:g}", m, f"{rtol:g}", chosen, expected, needed, ranked)
            ms = (milliseconds(times["cg"]), milliseconds(times["cholesky"]))
            table.add_row(*map(str, cells), *ms, f"{regrets[-1]:.2f}")
    print(f"\nregret: geometric mean {geometric_mean(regrets):.3f}, worst {max(regrets):.2f}")
    print(f"expected against needed: median factor {np.median(ratios):.2f}, worst {max(ratios):.1f}")


def guard(arguments, count) -> None:
    """The second table."""
    table = MarkdownTable(
        "n", "spectrum", "rhs", "budget", "used", "guarded (ms)", "Cholesky (ms)", "guarded / Cholesky"
    )
    worst = 0.0
    for n, m in itertools.product(arguments.sizes, arguments.columns):
        direct = solve_function(n, m, policy_for(10, GUARD_RTOL, force="cholesky"))
        limit = budget(n, m)
        for name, spectrum in ADVERSARIAL.items():
            rng = np.random.default_rng(0)
            A, B = reflected(spectrum(n), rng), rng.normal(size=(n, m))
            used = int(count(A, B, GUARD_RTOL, limit, -1)[1])
            guarded = partial(count, rtol=GUARD_RTOL, limit=limit, rank=-1)
            functions = {"guarded": guarded, "direct": direct}
            times = alternate(functions, [A, B], rounds=(arguments.rounds, arguments.rounds))
            ratio = times["guarded"] / times["direct"]
            worst = max(worst, ratio)
            cells = (n, name, m, limit, used)
            ms = (milliseconds(times["guarded"]), milliseconds(times["direct"]))
            table.add_row(*map(str, cells), *ms, f"{ratio:.2f}")
    print(f"\nguarded / Cholesky, worst: {worst:.2f}")


def logdet_functions(n):
    """The estimate ``(A, rtol, steps, rank) -> value, error, probes``, and Cholesky's log-determinant."""
    A, rtol = pt.matrix("A", shape=(n, n)), pt.dscalar("rtol")
    steps, rank = pt.lscalar("steps"), pt.lscalar("rank")
    outputs = LanczosLogdet()(A, rtol, steps, 0, *PartialCholesky()(A, rank))[:3]
    exact = pt.linalg.slogdet(assume(A, positive_definite=True))[1]
    policy = {"rules": [{"force": "cholesky"}]}
    return (
        pytensor.function([A, rtol, steps, rank], outputs, mode="NUMBA"),
        pytensor.function([A], exact, mode=autotune.mode(policy)),
    )


def logdets(arguments) -> None:
    """The third table. No probes: the estimate was refused, and is Cholesky's."""
    table = MarkdownTable(
        "n", "matrix", "rank", "rtol", "probes", "error reported", "error", "Lanczos (ms)", "Cholesky (ms)"
    )
    for n in arguments.sizes:
        estimate, exact = logdet_functions(n)
        rng = np.random.default_rng(0)
        X = rng.uniform(size=(n, 2))
        squares = (X**2).sum(axis=1)
        distances = np.maximum(squares[:, None] + squares - 2 * X @ X.T, 0)
        matrices = {
            "geometric, condition 10": reflected(np.geomspace(1, 10, n), rng),
            "kernel, lengthscale 0.3, noise 0.1": np.exp(-distances / 0.18) + 0.1 * np.eye(n),
        }
        for (name, A), rank, rtol in itertools.product(matrices.items(), (-1, RANK), (1e-1, 1e-2, 1e-3)):
            value, error, probes = estimate(A, rtol, n, rank)
            truth = exact(A)
            functions = {"lanczos": partial(estimate, rtol=rtol, steps=n, rank=rank), "direct": exact}
            times = alternate(functions, [A], rounds=(arguments.rounds, arguments.rounds))
            errors = (f"{error / abs(truth):.1e}", f"{abs(value - truth) / abs(truth):.1e}")
            ms = (milliseconds(times["lanczos"]), milliseconds(times["direct"]))
            table.add_row(str(n), name, str(rank), f"{rtol:g}", str(probes), *errors, *ms)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 4000])
    parser.add_argument("--conditions", type=float, nargs="+", default=[10, 1e3, 1e8])
    parser.add_argument("--columns", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--tolerances", type=float, nargs="+", default=[1e-4, 1e-10])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    count = iterations_function()
    solves(arguments, count)
    guard(arguments, count)
    logdets(arguments)


if __name__ == "__main__":
    main()
