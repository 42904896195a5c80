"""PyMC's log-density with its gradient for every model of the catalogue, plain and under autotune.

    python benchmarks/catalogue.py                               # all with Numba: half an hour and more
    python benchmarks/catalogue.py --only ridge kriging --anew   # some of them, measured again
    python benchmarks/catalogue.py --linker py                   # a cheap first look
    python benchmarks/catalogue.py --page                        # only write docs/catalogue.md

Both functions of a model are compiled by ``logp_dlogp_function``, with Numba twice, of which the second time
counts: the caches on disk are then warm for both. They are called in alternation in one process; a model that
looks more than 5 % slower is timed again. What has been measured is kept in
``benchmarks/results/catalogue.json``, and a run goes on where the last one was interrupted.
"""

from __future__ import annotations

import argparse
import inspect
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytensor
from pymc.blocking import DictToArrayBijection
from pymc_catalogue import CATALOGUE, FAMILIES
from pytensor.compile.mode import Mode, get_mode
from tables import markdown
from timing import alternate, geometric_mean

import autotune
from autotune.plan import Plan
from calibration.worker import silence_numpy_threads
from cost_models import find_profile, fingerprint

RESULTS = Path(__file__).parent / "results" / "catalogue.json"
PAGE = Path(__file__).parents[1] / "docs" / "catalogue.md"
MARK = "<!-- {} of benchmarks/catalogue.py -->"
SUSPECT = 1.05
# In place, PyTensor's Python linker writes to read-only views of diagonals.
MODES = {
    "numba": lambda: get_mode("NUMBA"),
    "py": lambda: Mode(linker="py", optimizer="fast_run").excluding("inplace", "fusion"),
}
# Numba's caches on disk are warm for both functions when the last compile is timed; Python has none.
COMPILES = {"numba": 2, "py": 1}


# -- one model ---------------------------------------------------------------------------------------


def joint(model: pm.Model, mode: Mode) -> Any:
    """Value and gradient of a raveled point."""
    fn = model.logp_dlogp_function(ravel_inputs=True, mode=mode)
    fn.set_extra_values({})
    return fn


def compile_both(build: Callable[..., pm.Model], scale: float, mode: Mode) -> tuple[Any, Any]:
    """The plain function and the tuned one."""
    plain = joint(build(scale=scale), mode)
    with autotune.enabled():
        return plain, joint(build(scale=scale), mode)


def point_near_start(model: pm.Model, seed: int = 0) -> np.ndarray:
    """A raveled point about the initial one."""
    start = DictToArrayBijection.map(model.initial_point()).data
    return start + 0.3 * np.random.default_rng(seed).normal(size=start.size)


def plans(fn: Any) -> Iterator[Plan]:
    """The plan of a function and those of the graphs inside it."""
    waiting = [autotune.explain(fn)]
    while waiting:
        plan = waiting.pop(0)
        waiting.extend(plan.inner)
        yield plan


def found(fn: Any) -> list[str]:
    """What was decided for each matrix: ``diagonal + low rank: woodbury``."""
    decisions = [decision for plan in plans(fn) for decision in plan.decisions]
    return [f"{' + '.join(d.problem.structure).replace('_', ' ')}: {d.chosen}" for d in decisions]


def difference(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """Largest difference of value or gradient, relative to the largest entry."""
    return max(float(np.abs(f - e).max() / np.abs(e).max()) for f, e in zip(found, expected, strict=True))


def measure(name: str, linker: str, scale: float) -> dict[str, Any]:
    """One row of the results: what was found, seconds of a call, and the ratio of the compile times."""
    build, mode = CATALOGUE[name], MODES[linker]()
    point = point_near_start(build(scale=scale))
    seconds = []
    for _ in range(COMPILES[linker]):
        marks = [time.perf_counter()]
        plain = joint(build(scale=scale), mode)
        expected = plain(point)
        marks.append(time.perf_counter())
        with autotune.enabled():
            tuned = joint(build(scale=scale), mode)
        result = tuned(point)
        marks.append(time.perf_counter())
        seconds.append(np.diff(marks))
    functions = {"plain": plain, "autotune": tuned}
    times = alternate(functions, [point], statistic=min)  # whatever else runs only adds to it
    if times["autotune"] > SUSPECT * times["plain"]:
        times = alternate(functions, [point], budget=8.0, rounds=(10, 800), statistic=min)
    row = {
        **times,
        "compile": seconds[-1][1] / seconds[-1][0],
        "differs": difference(result, expected),
    }
    return {"chosen": found(tuned), **{key: float(f"{value:.3g}") for key, value in row.items()}}


# -- the results file --------------------------------------------------------------------------------


def settings_of(scale: float) -> dict[str, Any]:
    """What must be equal for measurements to belong together."""
    return {
        "scale": scale,
        "machine": fingerprint().key(),
        "prices": find_profile().source,
        "pytensor": pytensor.__version__,
        "pymc": pm.__version__,
    }


def load(path: Path) -> dict[str, Any]:
    """Results by linker: their settings, and a row for each model that was measured."""
    return json.loads(path.read_text()) if path.exists() else {}


def save(path: Path, results: dict[str, Any]) -> None:
    """A line for each model, written in one go: an interrupted run is not lost."""
    parts = []
    for linker, part in results.items():
        rows = ",\n".join(f"   {json.dumps(name)}: {json.dumps(row)}" for name, row in part["rows"].items())
        head = f'  "settings": {json.dumps(part["settings"])}'
        parts.append(f' {json.dumps(linker)}: {{\n{head},\n  "rows": {{\n{rows}\n  }}\n }}')
    partial = path.with_suffix(".partial")
    partial.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    partial.replace(path)


def run(names: Sequence[str], linker: str, path: Path, settings: dict[str, Any], anew: bool = False) -> None:
    """Measure the models that have no row yet, or all of ``names`` anew; SystemExit for other settings."""
    results = load(path)
    part = results.setdefault(linker, {"settings": settings, "rows": {}})
    if part["settings"] != settings and not anew:
        raise SystemExit(
            f"{path} was measured with {part['settings']}, this run has {settings}. "
            "Give --anew to measure all models of this linker anew."
        )
    if part["settings"] != settings:
        part.update(settings=settings, rows={})
    left = [name for name in names if anew or name not in part["rows"]]
    for number, name in enumerate(left, start=1):
        row = measure(name, linker, settings["scale"])
        part["rows"][name] = row
        save(path, results)
        ratio = row["plain"] / row["autotune"]
        print(
            f"{number}/{len(left)} {name}: {ratio:.3g} times as fast; {', '.join(row['chosen'])}", flush=True
        )


# -- the page ----------------------------------------------------------------------------------------


def summary(part: dict[str, Any], linker: str) -> str:
    """What was measured, with what, and the figures over all models."""
    rows, settings = part["rows"].values(), part["settings"]
    ratios = [row["plain"] / row["autotune"] for row in rows]
    compiles = geometric_mean([row["compile"] for row in rows])
    speed_up = f"geometric mean {geometric_mean(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.3g}"
    return (
        f"{len(ratios)} models, sizes times {settings['scale']:g}, {settings['prices']} prices, "
        f"linker {linker}, PyTensor {settings['pytensor']}, PyMC {settings['pymc']}. Speed-up: {speed_up}. "
        f"Compile time, autotune over plain: geometric mean {compiles:.2f}. "
        f"Largest relative difference: {max(row['differs'] for row in rows):.0e}."
    )


def cells(name: str, row: dict[str, Any]) -> list[str]:
    counts = {what: row["chosen"].count(what) for what in row["chosen"]}
    chosen = [what if count == 1 else f"{count} x {what}" for what, count in counts.items()]
    return [
        f"`{name}`",
        "; ".join(chosen) or "nothing to choose",
        *(f"{1e3 * row[way]:.3g}" for way in ("plain", "autotune")),
        f"{row['plain'] / row['autotune']:.2f}",
        f"{row['compile']:.2f}",
    ]


COLUMNS = ("model", "found", "PyMC (ms)", "autotune (ms)", "speed-up", "compile")


def tables(results: dict[str, Any]) -> str:
    """A summary and a table of each linker, and the list of the models."""
    blocks = []
    for linker, part in results.items():
        rows = {name: part["rows"][name] for name in CATALOGUE if name in part["rows"]}
        shown = markdown(COLUMNS, [cells(name, row) for name, row in rows.items()])
        blocks += [f"### Linker {linker}", summary(part, linker), shown]
    models = [
        [f"`{build.__name__}`", family, inspect.getdoc(build).replace("|", r"\|")]
        for family, builds in FAMILIES.items()
        for build in builds
    ]
    return "\n\n".join([*blocks, "## The models", markdown(("model", "family", "what it is"), models)])


def with_tables(page: str, results: dict[str, Any]) -> str:
    """The page with everything between its two marks written anew."""
    begin, end = MARK.format("begin"), MARK.format("end")
    before, rest = page.split(begin)
    return f"{before}{begin}\n\n{tables(results)}\n\n{end}{rest.split(end)[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=CATALOGUE, metavar="NAME", help="these models")
    parser.add_argument("--linker", choices=MODES, default="numba")
    parser.add_argument("--scale", type=float, default=3.0, help="factor on the sizes; 1 is about n = 100")
    parser.add_argument("--anew", action="store_true", help="measure again what has been measured")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the JSON file")
    given = parser.parse_args()
    if not given.page:
        silence_numpy_threads()  # its threads would spin on the cores that the compiled functions use
        names = given.only or list(CATALOGUE)
        run(names, given.linker, given.results, settings_of(given.scale), anew=given.anew)
    PAGE.write_text(with_tables(PAGE.read_text(), load(given.results)))


if __name__ == "__main__":
    main()
