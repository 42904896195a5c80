"""Run a user's script under `autotune explain`, and tell what it compiled, as tables or as JSON."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.plan import Plan
from autotune.plan.json_text import as_data
from autotune.plan.table import renderable
from autotune.problem.formats import format_seconds, three_digits

if TYPE_CHECKING:
    from rich.console import Console

    from autotune.plan.pins_table import Agreement
    from autotune.report.compare_script import Measured


def run_script(script: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Run ``script`` as ``python script arguments`` would, and return its variables."""
    import runpy

    argv, sys.argv = sys.argv, [str(script), *arguments]
    sys.path.insert(0, str(script.parent.resolve()))
    try:
        return runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv = argv
        sys.path.remove(str(script.parent.resolve()))


def print_traceback(error: BaseException, script: Path) -> None:
    """The traceback on stderr as ``python script`` prints it, from the script's own frame on."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename != str(script):
        frame = frame.tb_next
    traceback.print_exception(type(error), error, frame)


def print_plans(plans: Sequence[Plan], console: Console, notes: Sequence[str] = ()) -> None:
    """One block for each compiled function, with its note if it has one; of none that is said too."""

    for number, plan in enumerate(plans, 1):
        console.rule(f"function {number} of {len(plans)}", align="left")
        console.print(renderable(plan))
        if notes:
            console.print(f"\n{notes[number - 1]}", markup=False)
    if not plans:
        console.print(renderable(Plan()))


def print_models(models: Mapping[str, Plan], console: Console) -> None:
    """One block for each PyMC model that a script has made."""
    for name, plan in models.items():
        console.rule(f"model {name}", align="left")
        console.print(renderable(plan))
    if not models:
        console.print("The script leaves no PyMC model in a variable.", markup=False)


def told(measured: Measured) -> str:
    """One line: how long a call takes with autotune and without, and how far the results differ."""

    found = measured.comparison
    if found is None:
        return f"not compared: {measured.why_not}"
    tuned, plain = (format_seconds(times.median) for times in (found.tuned, found.plain))
    return (
        f"measured: {tuned}, plain PyTensor {plain}: {three_digits(found.ratio)} times as fast; "
        f"results differ by {_differ(measured):.2g}"
    )


def json_text(
    plans: Sequence[Plan],
    measured: Sequence[Measured] = (),
    pins: Agreement | None = None,
    models: Mapping[str, Plan] | None = None,
) -> str:
    """``{"functions": [...], "pins": ..., "models": {...}}`` as JSON.

    Plans, with what was measured, how they agree with pins, and the plans of models.
    """

    functions = [as_data(plan) for plan in plans]
    for function, one in zip(functions, measured, strict=False):
        function["measured"] = _measured(one)
    found = None if pins is None else _agreement(pins)
    data = {"functions": functions, "pins": found}
    if models is not None:
        data["models"] = {name: as_data(plan) for name, plan in models.items()}
    return json.dumps(data, indent=2, allow_nan=False)


def _agreement(pins: Agreement) -> dict[str, Any]:
    told = [
        {"name": d.problem.name, "fingerprint": d.problem.fingerprint, "chosen": d.chosen, "verdict": verdict}
        for d, verdict in pins.verdicts
    ]
    return {"agree": bool(pins), "decisions": told, "lost": [str(rule.origin) for rule in pins.lost]}


def _measured(measured: Measured) -> dict[str, Any]:
    found = measured.comparison
    if found is None:
        return {"why_not": measured.why_not}
    differ = _differ(measured)
    return {
        "seconds": found.tuned.median,
        "plain_seconds": found.plain.median,
        "differ": differ if differ < float("inf") else None,
    }


def _differ(measured: Measured) -> float:
    found = measured.comparison
    return 0.0 if found is None else max(found.values_differ, found.gradients_differ or 0.0)
