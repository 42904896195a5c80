"""Iterative solvers against Cholesky: what is chosen, iterations predicted and needed, and the guard.

    python benchmarks/iterative.py [--largest 8000] [--rounds 3] [--resume]
    python benchmarks/iterative.py --report

Four tables. Solves over order, condition number, right-hand sides, tolerance and spectrum, with the condition
number declared: the free choice, the iterations that its price counts and those that are needed, times, and
regret: the time of the choice over the best of both. Cases whose answer is known, declared and probed: they
must go direct, or must iterate. The guard: solves with a condition number of 10 declared that is false, over
adversarial spectra, and what they cost beside Cholesky. Log-determinants: the estimate's error, and times.
Written to ``benchmarks/results/iterative.json`` after each row. Iterations are counted up to ``MOST``
(negative: given up), and conjugate gradients timed where at most ``TIMED`` are expected.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from iterative_matrices import ADVERSARIAL, NAMED, SPECTRA, build, kernel, reflected
from iterative_report import print_report
from pytensor.assumptions import assume
from rich.console import Console
from timing import alternate

import autotune
from autotune.choose import Options
from autotune.choosing.candidates import within_guard
from autotune.ops import BlockCG, LanczosLogdet, PartialCholesky
from autotune.problem import Problem, Request
from autotune.strategies.iterations import expected_iterations
from cost_models import find_profile

RESULTS = Path(__file__).parent / "results" / "iterative.json"
# The share of a direct solve that iterating in vain may cost.
GUARD = 0.3
# A tolerance that one right-hand side more or less does not decide, for the guard's table.
GUARD_RTOL = 1e-10
RANK = 50
# Iterations that are counted at most, and expected ones beyond which conjugate gradients are not timed.
MOST, TIMED = 1000, 150
# The order from which on there are fewer rows.
LARGE = 4000
SIZES, CONDITIONS, COLUMNS, TOLERANCES = (300, 1000, 2000, 4000), (10, 1e3, 1e8), (1, 16), (1e-4, 1e-10)
Row = dict[str, Any]


def solve_function(arrays, m, policy, examples=None):
    """``A^-1 B`` under a policy, for static sizes; the inputs are those of `build` and B."""
    inputs, matrix = build(arrays)
    B = pt.matrix("B", shape=(len(next(iter(arrays.values()))), m))
    x = pt.linalg.solve(assume(matrix, positive_definite=True), B)
    fn = pytensor.function([*inputs, B], x, mode=autotune.mode(policy, example_inputs=examples))
    fn.trust_input = True
    return fn


def iterations_function():
    """``(A, B, rtol, max_iterations, rank) -> solution, iterations``, negative after a fallback."""
    A, B, rtol = pt.matrix("A"), pt.matrix("B"), pt.dscalar("rtol")
    limit, rank = pt.lscalar("limit"), pt.lscalar("rank")
    outputs = BlockCG()(A, B, rtol, limit, *PartialCholesky()(A, rank))[:2]
    return pytensor.function([A, B, rtol, limit, rank], outputs, mode="NUMBA")


def budget(n, m) -> int:
    """Iterations that the choice allows by the profile: what GUARD of a direct solve pays for, if any."""
    problem = Problem((Request("solve", m, form="pos"),), n, positive_definite=True, symmetric=True)
    return within_guard(problem, ("cg",), Options(), find_profile()).max_iterations or 0


def policy_for(condition, rtol, **rule):
    return {
        "accuracy": {"solve_rtol": rtol},
        "rules": [{"options": {"condition_number": float(condition)}, **rule}],
    }


def compared(functions, values, rounds) -> Row:
    """Milliseconds of each, and the regret of the free choice."""
    times = alternate(functions, values, rounds=(rounds, rounds))
    best = min(times.values())
    return {f"{name} (ms)": 1e3 * t for name, t in times.items()} | {"regret": times["free"] / best}


def functions_for(arrays, m, condition, rtol, *, iterate: bool):
    """The free choice and both that can be forced; conjugate gradients only where they would end."""
    rules: Row = {"free": {}, "cg": {"force": "cg"}, "cholesky": {"force": "cholesky"}}
    return {
        name: solve_function(arrays, m, policy_for(condition, rtol, **rule))
        for name, rule in rules.items()
        if iterate or name != "cg"
    }


def solve_rows(arguments) -> Iterator[tuple[str, Callable[[], Row]]]:
    """The first table: an identity and a measurement each."""
    sizes = [n for n in SIZES if n <= arguments.largest]
    for n, condition, m, rtol, name in itertools.product(sizes, CONDITIONS, COLUMNS, TOLERANCES, SPECTRA):
        if n >= LARGE and name == "uniform":
            continue  # to stay within minutes
        yield (
            f"{n} {name} {condition:g} {m} {rtol:g}",
            partial(solve_row, arguments, n, condition, m, rtol, name),
        )


def solve_row(arguments, n, condition, m, rtol, name) -> Row:
    rng, problem = np.random.default_rng(0), Problem(requests=(), n=n)
    A, B = reflected(SPECTRA[name](n, condition), rng), rng.normal(size=(n, m))
    expected = expected_iterations(problem, Options(solve_rtol=rtol, condition_number=float(condition)))
    limit = min(4 * n, MOST)
    needed, ranked = (int(arguments.count(A, B, rtol, limit, rank)[1]) for rank in (-1, RANK))
    functions = functions_for({"A": A}, m, condition, rtol, iterate=expected <= TIMED)
    chosen = autotune.explain(functions["free"]).decisions[0].chosen
    case = {"n": n, "spectrum": name, "condition": condition, "rhs": m, "rtol": rtol, "chosen": chosen}
    found = {"expected": expected, "needed": needed, f"with rank {RANK}": ranked}
    return case | found | compared(functions, [A, B], arguments.rounds)


def named_rows(arguments) -> Iterator[tuple[str, Callable[[], Row]]]:
    """The second table."""
    for name, case in NAMED.items():
        if case.n <= arguments.largest or arguments.named:
            yield name, partial(named_row, arguments, name, min(case.n, arguments.named or case.n))


def named_row(arguments, name, n) -> Row:
    case, rng = NAMED[name], np.random.default_rng(0)
    arrays, rtol = case.arrays(n, rng), case.rtol
    values = [*arrays.values(), rng.normal(size=(n, 1))]
    functions = functions_for(arrays, 1, case.condition, rtol, iterate=case.must == "cg")
    declared = autotune.explain(functions["free"]).decisions[0]
    examples = dict(zip((*arrays, "B"), values, strict=True))
    policy = {"accuracy": {"solve_rtol": rtol}}
    probed = autotune.explain(solve_function(arrays, 1, policy, examples)).decisions[0]
    right = [(d.chosen == "cg") == (case.must == "cg") for d in (declared, probed)]
    row = {"case": name, "n": n, "must": case.must, "declared": declared.chosen, "probed": probed.chosen}
    return row | {"right": all(right)} | compared(functions, values, arguments.rounds)


def guard_rows(arguments) -> Iterator[tuple[str, Callable[[], Row]]]:
    """The third table: where the choice allows iterations at all."""
    sizes = [n for n in SIZES if n <= min(arguments.largest, 2000)]
    for n, m, name in itertools.product(sizes, COLUMNS, ADVERSARIAL):
        if budget(n, m) == 0:
            continue
        yield f"{n} {m} {name}", partial(guard_row, arguments, n, m, name)


def guard_row(arguments, n, m, name) -> Row:
    rng, limit = np.random.default_rng(0), budget(n, m)
    A, B = reflected(ADVERSARIAL[name](n), rng), rng.normal(size=(n, m))
    direct = solve_function({"A": A}, m, policy_for(10, GUARD_RTOL, force="cholesky"))
    rule = {"force": "cg", "options": {"max_iterations": limit}}
    guarded = solve_function({"A": A}, m, {"accuracy": {"solve_rtol": GUARD_RTOL}, "rules": [rule]})
    used = int(arguments.count(A, B, GUARD_RTOL, limit, -1)[1])
    functions = {"guarded": guarded, "direct": direct}
    times = alternate(functions, [A, B], rounds=(arguments.rounds, 5 * arguments.rounds))
    row = {"n": n, "spectrum": name, "rhs": m, "budget": limit, "used": used}
    row |= {f"{key} (ms)": 1e3 * t for key, t in times.items()}
    return row | {"guarded / direct": times["guarded"] / times["direct"]}


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


def logdet_rows(arguments) -> Iterator[tuple[str, Callable[[], Row]]]:
    """The fourth table."""
    matrices = {
        "geometric, condition 10": lambda n, rng: reflected(np.geomspace(1, 10, n), rng),
        "kernel, lengthscale 0.3, noise 0.1": partial(kernel, lengthscale=0.3, noise=0.1),
    }
    sizes = [n for n in SIZES if 1000 <= n <= arguments.largest]
    for n, (name, make), rank, rtol in itertools.product(sizes, matrices.items(), (-1, RANK), (1e-1, 1e-2)):
        yield f"{n} {name} {rank} {rtol}", partial(logdet_row, arguments, n, name, make, rank, rtol)


def logdet_row(arguments, n, name, make, rank, rtol) -> Row:
    A, (estimate, exact) = make(n, np.random.default_rng(0)), logdet_functions(n)
    value, error, probes = estimate(A, rtol, n // 4, rank)
    truth = float(exact(A))
    functions = {"lanczos": partial(estimate, rtol=rtol, steps=n // 4, rank=rank), "cholesky": exact}
    times = alternate(functions, [A], rounds=(arguments.rounds, arguments.rounds))
    row = {"n": n, "matrix": name, "rank": rank, "rtol": rtol, "probes": int(probes)}
    row |= {"error reported": float(error) / abs(truth), "error": abs(float(value) - truth) / abs(truth)}
    return row | {f"{key} (ms)": 1e3 * t for key, t in times.items()}


TABLES = {"solves": solve_rows, "named": named_rows, "guard": guard_rows, "logdets": logdet_rows}


def measure(arguments, tables: dict[str, dict[str, Row]]) -> None:
    """Every row that ``tables`` does not hold yet; saved after each."""
    work = [
        (table, key, row)
        for table, rows in TABLES.items()
        for key, row in rows(arguments)
        if key not in tables.setdefault(table, {})
    ]
    console = Console(stderr=True)
    for done, (table, key, row) in enumerate(work, 1):
        console.print(f"[{done}/{len(work)}] {table}: {key}", markup=False, highlight=False)
        tables[table][key] = row()
        save(arguments, tables)


def save(arguments, tables) -> None:
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    partial_file = arguments.results.with_suffix(".tmp")
    partial_file.write_text(json.dumps({"settings": settings(arguments), "tables": tables}, indent=1) + "\n")
    partial_file.replace(arguments.results)


def settings(arguments) -> Row:
    return {name: getattr(arguments, name) for name in ("largest", "rounds", "named")}


def load(arguments) -> dict[str, dict[str, Row]]:
    """The tables of the results file; SystemExit where there are none, or of another run."""
    try:
        data = json.loads(arguments.results.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise SystemExit(f"{arguments.results} cannot be read ({error}). Measure first.") from error
    if not arguments.report and data["settings"] != settings(arguments):
        raise SystemExit(
            f"{arguments.results} was measured with {data['settings']}, this run has {settings(arguments)}. "
            "Leave out --resume to measure anew."
        )
    return data["tables"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--largest", type=int, default=8000, help="order of the largest matrix")
    parser.add_argument("--named", type=int, help="run the known cases, too, at this order at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--report", action="store_true", help="print the tables of the last run")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    given = arguments.report or (arguments.resume and arguments.results.exists())
    tables = load(arguments) if given else {}
    if not arguments.report:
        arguments.count = iterations_function()
        measure(arguments, tables)
    print_report(tables)


if __name__ == "__main__":
    main()
