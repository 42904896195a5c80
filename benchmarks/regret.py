"""Regret of the choice: time of what was chosen over time of the best exact strategy.

    python benchmarks/regret.py [--repeats 5] [--problems 300] [--seed 0] [--largest 2000] [--resume]
    python benchmarks/regret.py --report
    python benchmarks/regret.py --report --picture regret.png

Measures ``--repeats`` problems of every kind and dtype in ``regret_problems.py`` (6 make 336): the free
choice, plain PyTensor and each strategy that can be forced, in alternation in one process. Those that
compile to the same graph are timed once. Where the choice looks more than 5 % slower than the best or
than plain PyTensor, everything is timed again with more rounds, and only that counts. The rules of
``rivals.py`` are judged by the same timings. Written to ``benchmarks/results/regret.json`` after each
problem.

Before anything is timed every kind is compiled once at a small size, on all cores: the code of any size
is then found in Numba's disk cache. In a first run that takes longer than the timing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from pytensor.graph.basic import equal_computations
from pytensor.graph.fg import FunctionGraph
from regret_problems import KINDS, Case, Graph, build, draw
from regret_report import draw_picture, print_report, summarise
from rich.console import Console
from rivals import MAX_CG_ITERATIONS, OURS, RULES, SOLVE_RTOL, priced
from timing import alternate

import autotune
from calibration.worker import silence_numpy_threads
from cost_models import Profile, find_profile, fingerprint

RESULTS = Path(__file__).parent / "results" / "regret.json"
SUSPECT = 1.05
FIRST: dict[str, Any] = {"budget": 1.0, "rounds": (5, 100)}
AGAIN: dict[str, Any] = {"budget": 4.0, "rounds": (9, 400)}


def compile_graph(graph: Graph, policy: Mapping[str, Any] | None, base: Mode | None = None) -> Any:
    """The graph under a policy; None stands for plain PyTensor. Numba compiles at the first call."""
    policy = None if policy is None else {"sizes": graph.sizes, **policy}
    outputs = graph.outputs
    if graph.wrt:
        [loss] = outputs
        loss = autotune.tune(loss, policy) if graph.tuned and policy is not None else loss
        outputs = [loss, *pt.grad(loss, list(graph.wrt))]
    mode = base if policy is None else autotune.mode(policy, base=base)
    fn = pytensor.function(graph.inputs, outputs, mode=mode)
    fn.trust_input = True
    return fn


def forcing(name: str, dtype: str, structure: str) -> dict[str, Any]:
    """The policy that forces one strategy on matrices of a structure, not on their parts."""
    rule: dict[str, Any] = {"match": {"structure": structure}, "force": name}
    if name != "cg":
        return {"rules": [rule]}
    rule |= {"options": {"max_iterations": MAX_CG_ITERATIONS}}
    return {"accuracy": {"solve_rtol": SOLVE_RTOL[dtype]}, "rules": [rule]}


def candidates(case: Case, graph: Graph, base: Mode | None = None) -> tuple[Any, dict[str, Any]]:
    """The decision, and the compiled function of every way to time: the free choice under its own name.

    Timed are plain PyTensor, the priced strategies, and what else a rule wants, if it can be had.
    """
    free = compile_graph(graph, {}, base)
    [decision] = autotune.explain(free).decisions
    wanted = priced(decision) + ["cg"] * any(rule(decision) == "cg" for rule in RULES.values())
    functions = {"plain": compile_graph(graph, None, base), decision.chosen: free}
    for name in wanted:
        if name not in functions:
            functions[name] = compile_graph(
                graph, forcing(name, case.dtype, decision.problem.structure[-1]), base
            )
    return decision, functions


def first_alike(functions: Mapping[str, Any]) -> dict[str, str]:
    """For each name, the first whose function compiles to the same graph: it alone is timed."""
    alike: dict[str, str] = {}
    for name, fn in functions.items():
        distinct = dict.fromkeys(alike.values())
        alike[name] = next((other for other in distinct if same_graph(fn, functions[other])), name)
    return alike


def same_graph(f: Any, g: Any) -> bool:
    a, b = f.maker.fgraph, g.maker.fgraph
    return len(a.outputs) == len(b.outputs) and equal_computations(a.outputs, b.outputs, a.inputs, b.inputs)


def time_all(functions: Mapping[str, Any], values: Sequence[np.ndarray], chosen: str) -> dict[str, Any]:
    """Seconds a call by name, shared among equal graphs; timed again where the choice looks slow."""
    alike = first_alike(functions)
    distinct = {name: functions[name] for name in dict.fromkeys(alike.values())}
    times = alternate(distinct, values, **FIRST)
    rivals = [seconds for name, seconds in times.items() if name != "cg"]
    again = times[alike[chosen]] > SUSPECT * min(rivals)
    if again:
        times = alternate(distinct, values, **AGAIN)
    seconds = {name: times[first] for name, first in alike.items()}
    return {"times": seconds, "alike": alike, "timed_again": again}


def measure(case: Case) -> dict[str, Any]:
    """One row of the results: times, what each rule picks, and how far the answers are apart."""
    graph = build(case)
    decision, functions = candidates(case, graph)
    row = {
        "case": asdict(case),
        "label": case.label,
        "chosen": decision.chosen,
        "predicted": decision.winner.seconds,
        "exact": ["plain", *priced(decision)],
        "picks": {name: _timed(rule(decision), functions) for name, rule in RULES.items()},
        "differs": difference(functions[decision.chosen](*graph.values), functions["plain"](*graph.values)),
        **time_all(functions, graph.values, decision.chosen),
    }
    if "cg" in functions:
        row["cg_fell_back"] = fell_back(functions["cg"], graph.values)
    return row


def _timed(pick: str | None, functions: Mapping[str, Any]) -> str | None:
    """What a rule picks, if it serves the structure at hand."""
    return pick if pick in functions else None


def difference(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Largest difference of any output, relative to that output's largest entry."""
    scales = [max(float(np.abs(e).max()), 1e-300) for e in expected]
    return max(float(np.abs(f - e).max()) / s for f, e, s in zip(found, expected, scales, strict=True))


def fell_back(fn: Any, values: Sequence[np.ndarray]) -> bool:
    """Whether any of the function's conjugate gradients gave up and solved by Cholesky."""
    from autotune.ops.cg import BlockCG

    graph: FunctionGraph = fn.maker.fgraph
    counts = [node.outputs[1] for node in graph.apply_nodes if isinstance(node.op, BlockCG)]
    mode = Mode(linker="py", optimizer=None)
    iterations = pytensor.function(list(graph.inputs), counts, mode=mode, on_unused_input="ignore")
    return any(count < 0 for count in iterations(*values))


# -- compiling ahead, in processes of their own -----------------------------------------------------


def fill_cache(cases: Sequence[Case]) -> None:
    """Compile each kind and dtype of the cases on all cores, so that measuring finds it on disk."""
    strata = {(case.kind, case.dtype) for case in cases}
    small = [case for case in draw(1, seed=0, largest=60) if (case.kind, case.dtype) in strata]
    processes = max(1, min(fingerprint().cores, len(small)))
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for number, label in enumerate(pool.map(compile_all, small), start=1):
            print(f"compiled {number}/{len(small)} {label}", flush=True)


def compile_all(case: Case) -> str:
    """Call every candidate of a case once, which compiles it; its label."""
    graph = build(case)
    for fn in candidates(case, graph)[1].values():
        fn(*graph.values)
    return case.label


# -- the results file and the command line --------------------------------------------------------


def settings_of(arguments: argparse.Namespace, profile: Profile) -> dict[str, Any]:
    """What must be equal for measurements to belong together."""
    return {
        "repeats": arguments.repeats,
        "seed": arguments.seed,
        "largest": arguments.largest,
        "kinds": arguments.kinds,
        "machine": fingerprint().key(),
        "profile": f"{profile.source} {profile.created}",
        "pytensor": pytensor.__version__,
    }


def save(path: Path, settings: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write what has been measured so far, in one go: an interrupted run is not lost."""
    data = {"settings": settings, "summary": summarise(rows), "rows": rows}
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(data, indent=1) + "\n")
    partial.replace(path)


def resumed(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an interrupted run with the same settings; SystemExit for another's."""
    if not path.exists():
        return []
    data = load(path)
    if data["settings"] != settings:
        raise SystemExit(
            f"{path} was measured with {data['settings']}, this run has {settings}. "
            "Leave out --resume to measure anew."
        )
    return data["rows"]


def load(path: Path) -> dict[str, Any]:
    """The results; SystemExit when there are none of this version."""
    try:
        data = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise SystemExit(f"{path} cannot be read ({error}). Run benchmarks/regret.py first.") from error
    if "settings" not in data:
        raise SystemExit(f"{path} is of an earlier version of this script. Measure anew without --resume.")
    return data


def left(cases: Iterable[Case], rows: Sequence[dict[str, Any]]) -> list[Case]:
    """The cases that have no row yet."""
    done = {row["case"]["seed"] for row in rows}
    return [case for case in cases if case.seed not in done]


def run(cases: Sequence[Case], rows: list[dict[str, Any]], path: Path, settings: dict[str, Any]) -> None:
    """Measure the cases and append them to the rows that there are."""
    console = Console(soft_wrap=True, highlight=False)
    for case in cases:
        row = measure(case)
        rows.append(row)
        save(path, settings, rows)
        best = min(row["exact"], key=row["times"].__getitem__)
        regret = row["times"][row["picks"][OURS]] / row["times"][best]
        console.print(f"{len(rows)} {case.label}: {row['chosen']}, best {best}, {regret:.2f}")


def main() -> None:
    silence_numpy_threads()  # its threads would spin on the cores that the compiled functions use
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="problems of each kind and dtype")
    parser.add_argument("--problems", type=int, help="at most so many of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=2000, help="largest order of a matrix")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--report", action="store_true", help="only print the tables of the last run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the JSON file")
    parser.add_argument("--picture", type=Path, help="PNG or SVG of every rule's regret")
    arguments = parser.parse_args()
    if not arguments.report:
        profile = find_profile()
        if profile.source != "calibrated":
            print(
                f"Prices come from the {profile.source} profile: run `autotune calibrate` first.",
                file=sys.stderr,
            )
        settings = settings_of(arguments, profile)
        rows = resumed(arguments.results, settings) if arguments.resume else []
        drawn = draw(arguments.repeats, arguments.seed, arguments.largest)
        wanted = (case for case in drawn if case.kind in arguments.kinds)
        cases = left(islice(wanted, arguments.problems), rows)
        fill_cache(cases)
        run(cases, rows, arguments.results, settings)
    data = load(arguments.results)
    print_report(data)
    if arguments.picture:
        draw_picture(data["rows"], arguments.picture)


if __name__ == "__main__":
    main()
