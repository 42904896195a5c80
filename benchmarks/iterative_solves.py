"""The tables of `iterative.py` about solves: over spectra, of cases whose answer is known, and the guard.

A row is an identity and a measurement. *declared* is the free choice that is told the condition number,
*probed* the one that is told nothing but given an example of the inputs. Both are timed beside what can be
forced: Cholesky, conjugate gradients, and these with the preconditioner that the probe chose, where they end
soon.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from iterative_matrices import ADVERSARIAL, NAMED, SPECTRA, build, with_spectrum
from pytensor.assumptions import assume
from timing import alternate

import autotune
from autotune.choose.candidates import within_guard
from autotune.ops import BlockCG, PartialCholesky
from autotune.problem import Options, Problem, Request, dense
from autotune.strategies import iterations
from autotune.strategies.iterations import expected_iterations, is_known, rank_for
from cost_models import find_profile

SIZES, CONDITIONS, COLUMNS, TOLERANCES = (300, 1000, 2000, 4000), (10, 1e3, 1e8), (1, 16), (1e-4, 1e-10)
# The order from which on there are fewer rows.
LARGE = 4000
# Iterations that are counted at most, and needed ones beyond which conjugate gradients are not timed.
MOST, TIMED = 1000, 150
# A tolerance that one right-hand side more or less does not decide, for the guard's table.
GUARD_RTOL = 1e-10
FREE = ("declared", "probed")

Row = dict[str, Any]
Rows = Iterator[tuple[str, Callable[[], Row]]]


def solve_function(arrays, m, policy, examples=None):
    """``A^-1 B`` under a policy, for static sizes; the inputs are those of `build` and B."""
    inputs, matrix = build(arrays)
    B = pt.matrix("B", shape=(len(next(iter(arrays.values()))), m))
    x = pt.linalg.solve(assume(matrix, positive_definite=True), B)
    fn = pytensor.function([*inputs, B], x, mode=autotune.mode(policy, example_inputs=examples))
    fn.trust_input = True
    return fn


@cache
def iterations_function():
    """``(A, B, rtol, max_iterations, rank) -> solution, iterations``, negative after a fallback."""
    A, B, rtol = pt.matrix("A"), pt.matrix("B"), pt.dscalar("rtol")
    limit, rank = pt.lscalar("limit"), pt.lscalar("rank")
    outputs = BlockCG()(A, B, rtol, limit, *PartialCholesky()(A, rank))[:2]
    return pytensor.function([A, B, rtol, limit, rank], outputs, mode="NUMBA")


def needed_iterations(A, B, rtol, rank) -> int:
    """Iterations with a preconditioner of this rank (-1: none); negative where they are given up."""
    return int(iterations_function()(A, B, rtol, min(4 * len(A), MOST), rank)[1])


def policy_for(rtol, **rule):
    """A tolerance, and one rule for everything if there is any."""
    return {"accuracy": {"solve_rtol": rtol}, "rules": [rule] if rule else []}


def told(condition):
    """The options of a rule that declares a condition number."""
    return {"condition_number": float(condition)}


def expected_by(decision, declared: float | None) -> int | None:
    """Iterations that the price of conjugate gradients counts; None where nothing tells them, and where a
    probe did not see their end."""
    options = replace(decision, condition_number=declared)
    found = iterations.probed(decision.problem, options)
    known = is_known(decision.problem, options) if found is None else found.reaches(options.solve_rtol)
    return expected_iterations(decision.problem, options) if known else None


def free_functions(arrays, values, condition, rtol):
    """Both free choices."""
    m, examples = values[-1].shape[1], dict(zip((*arrays, "B"), values, strict=True))
    return {
        "declared": solve_function(arrays, m, policy_for(rtol, options=told(condition))),
        "probed": solve_function(arrays, m, policy_for(rtol), examples),
    }


def forced_functions(arrays, m, condition, rtol, preconditioner, ways):
    """Those of ``ways`` that there are; conjugate gradients twice only where the probe preconditions."""
    rules: Row = {"cholesky": {"force": "cholesky"}, "cg": {"force": "cg", "options": told(condition)}}
    if preconditioner is not None:
        named = preconditioner.model_dump(exclude_none=True)
        rules["preconditioned cg"] = {"force": "cg", "options": {"preconditioner": named}}
    return {
        name: solve_function(arrays, m, policy_for(rtol, **rule))
        for name, rule in rules.items()
        if name in ways
    }


def compared(functions, values, rounds) -> Row:
    """Milliseconds of each, and the regret of the free choices: their time over the best of all."""
    times = alternate(functions, values, budget=1.0, rounds=(rounds, 10 * rounds))
    best = min(times.values())
    regrets = {f"{name} regret": times[name] / best for name in FREE}
    return {f"{name} (ms)": 1e3 * t for name, t in times.items()} | regrets


def solve_rows(arguments) -> Rows:
    """The first table."""
    sizes = [n for n in SIZES if n <= arguments.largest]
    for n, name, condition, m, rtol in itertools.product(sizes, SPECTRA, CONDITIONS, COLUMNS, TOLERANCES):
        if n >= LARGE and name == "uniform":
            continue  # to stay within minutes
        yield (
            f"{n} {name} {condition:g} {m} {rtol:g}",
            partial(solve_row, arguments, n, name, condition, m, rtol),
        )


@lru_cache(maxsize=1)
def matrix_of(n, name, condition):
    """The matrix of successive rows."""
    return with_spectrum(SPECTRA[name](n, condition), np.random.default_rng(0))


def solve_row(arguments, n, name, condition, m, rtol) -> Row:
    A, B = matrix_of(n, name, condition), np.random.default_rng(1).normal(size=(n, m))
    free = free_functions({"A": A}, [A, B], condition, rtol)
    declared, probed = (autotune.explain(free[way]).decisions[0] for way in FREE)
    needed = {"cg": needed_iterations(A, B, rtol, -1)}
    if probed.preconditioner is not None:
        needed["preconditioned cg"] = needed_iterations(A, B, rtol, rank_for(probed, n))
    timed = [way for way, count in needed.items() if 0 < count <= TIMED]
    forced = forced_functions({"A": A}, m, condition, rtol, probed.preconditioner, ["cholesky", *timed])
    row = {"n": n, "spectrum": name, "condition": condition, "rhs": m, "rtol": rtol}
    row |= {"declared": declared.chosen, "expected": expected_by(declared, float(condition))}
    row |= {"needed": needed["cg"], "probed": probed.chosen, "with": called(probed.preconditioner)}
    row |= {"probed expected": expected_by(probed, None)}
    row |= {"probed needed": needed.get("preconditioned cg", needed["cg"])}
    row |= {"not timed": ", ".join(way for way in needed if way not in timed)}
    return row | compared(free | forced, [A, B], arguments.rounds)


def called(preconditioner) -> str:
    """A preconditioner in a word or two."""
    if preconditioner is None:
        return "none"
    return " ".join(str(part) for part in (preconditioner.name, preconditioner.rank) if part is not None)


def named_rows(arguments) -> Rows:
    """The second table."""
    for name, case in NAMED.items():
        if case.n <= arguments.largest or arguments.named:
            yield name, partial(named_row, arguments, name, min(case.n, arguments.named or case.n))


def named_row(arguments, name, n) -> Row:
    case, rng = NAMED[name], np.random.default_rng(0)
    arrays = case.arrays(n, rng)
    values = [*arrays.values(), rng.normal(size=(n, 1))]
    free = free_functions(arrays, values, case.condition, case.rtol)
    decisions = {way: autotune.explain(free[way]).decisions[0] for way in FREE}
    right = all((d.chosen == "cg") == (case.must == "cg") for d in decisions.values())
    ways = ("cholesky", "cg", "preconditioned cg") if case.must == "cg" else ("cholesky",)
    preconditioner = decisions["probed"].preconditioner
    forced = forced_functions(arrays, 1, case.condition, case.rtol, preconditioner, ways)
    row = {"case": name, "n": n, "must": case.must} | {way: d.chosen for way, d in decisions.items()}
    row |= {"with": called(preconditioner), "right": right}
    return row | compared(free | forced, values, arguments.rounds)


def budget(n, m) -> int:
    """Iterations that the choice allows by the profile beside a direct solve, if any."""
    problem = Problem((Request("solve", m, form="pos"),), dense(n), positive_definite=True, symmetric=True)
    return within_guard(problem, ("cg",), Options(), find_profile()).max_iterations or 0


def guard_rows(arguments) -> Rows:
    """The third table: where the choice allows iterations at all."""
    sizes = [n for n in SIZES if n <= min(arguments.largest, 2000)]
    for n, m, name in itertools.product(sizes, COLUMNS, ADVERSARIAL):
        if budget(n, m) > 0:
            yield f"{n} {m} {name}", partial(guard_row, arguments, n, m, name)


def guard_row(arguments, n, m, name) -> Row:
    rng, limit = np.random.default_rng(0), budget(n, m)
    A, B = with_spectrum(ADVERSARIAL[name](n), rng), rng.normal(size=(n, m))
    direct = solve_function({"A": A}, m, policy_for(GUARD_RTOL, force="cholesky"))
    rule = {"force": "cg", "options": {"max_iterations": limit}}
    guarded = solve_function({"A": A}, m, policy_for(GUARD_RTOL, **rule))
    used = int(iterations_function()(A, B, GUARD_RTOL, limit, -1)[1])
    functions = {"guarded": guarded, "direct": direct}
    times = alternate(functions, [A, B], rounds=(arguments.rounds, 5 * arguments.rounds))
    row = {"n": n, "spectrum": name, "rhs": m, "budget": limit, "used": used}
    row |= {f"{key} (ms)": 1e3 * t for key, t in times.items()}
    return row | {"guarded / direct": times["guarded"] / times["direct"]}
