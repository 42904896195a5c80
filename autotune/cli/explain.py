"""The command `explain`: the plans of what a script compiles, compared with plain PyTensor or with pins.

Only `typer` is imported here; the command loads what it needs, so that `--help` is quick.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from autotune.cli.terminal import console, reports_errors


@reports_errors
def explain(
    script: Annotated[Path, typer.Argument(help="A Python script that compiles PyTensor functions.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Passed to the script.")] = None,
    policy: Annotated[Path | None, typer.Option(help="A policy file, before SCRIPT.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Run the script again without autotune and time its functions.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=0, help="To time each function, for --compare.")] = 2.0,
    pins: Annotated[
        Path | None, typer.Option(help="A saved plan: which decisions agree? Exit code 1 if not all do.")
    ] = None,
    with_models: Annotated[
        bool, typer.Option("--models", help="Explain the PyMC models that the script leaves in variables.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; what the script prints goes to stderr.")
    ] = False,
) -> None:
    """Run a script and print the plan of every function it compiles.

    Autotune is enabled while it runs, with --policy in force. Pins in force that find nothing in the whole
    script are listed; with `missing_pins: error` in the policy the exit code is then 1.

    PyMC models are compiled for that, value with gradient, and hints tell what would make them faster.

    Example: autotune explain --policy exact-only.yaml model.py --draws 100
    """
    import autotune
    from autotune.plan.pins import report_lost
    from autotune.plan.pins_table import agreement, load_pins, renderable
    from autotune.policy.files import load_policy
    from autotune.report.compare_script import compare_script, forgetting, recording
    from autotune.report.model import explain_model, is_model
    from autotune.report.priced import pricing, with_prices
    from autotune.report.run_script import json_text, print_models, print_plans, run_script, told

    if not script.is_file():
        raise FileNotFoundError(f"{script} is not a file. Give the path of a Python script.")
    in_force, saved = load_policy(policy), None if pins is None else load_pins(pins)
    variables: dict[str, Any] = {}
    run = _aside(lambda: variables.update(run_script(script, arguments or [])), as_json)
    with contextlib.ExitStack() as during:
        session = during.enter_context(autotune.enabled(policy))
        priced = during.enter_context(pricing())
        made = during.enter_context(recording()) if compare else []
        ended = _outcome(run, script)
    plans, measured = with_prices(session.plans, priced), []
    if compare and (ended is None or isinstance(ended, SystemExit)):
        measured = compare_script(made, forgetting(script.parent, run), seconds)
        plans = [one.plan for one in measured]
    models = None
    if with_models:
        models = {name: explain_model(v, policy) for name, v in variables.items() if is_model(v)}
    decisions = [d for plan in plans for p in (plan, *plan.inner) for d in p.decisions]
    found = None if saved is None else agreement(saved, decisions)
    if as_json:
        typer.echo(json_text(plans, measured, found, models))
    else:
        print_plans(plans, console(), [told(one) for one in measured])
        if models is not None:
            print_models(models, console())
        if found is not None:
            console().rule("pins", align="left")
            console().print(renderable(found))
    if ended is not None:
        raise ended
    report_lost(in_force, decisions)
    if found is not None and not found:
        raise typer.Exit(1)


def _aside(run: Callable[[], None], to_stderr: bool) -> Callable[[], None]:
    """``run``, with what it prints sent to stderr if standard output is for something else."""

    def elsewhere() -> None:
        with contextlib.redirect_stdout(sys.stderr):
            run()

    return elsewhere if to_stderr else run


def _outcome(run: Callable[[], None], script: Path) -> BaseException | None:
    """How a script fails: a policy error, its `SystemExit`, or exit code 1 after its traceback; else None."""
    from autotune.policy import PolicyError
    from autotune.report.run_script import print_traceback

    try:
        run()
    except PolicyError as ended:
        return ended
    except SystemExit as ended:
        return ended if ended.code else None
    except Exception as error:
        print_traceback(error, script)
        return typer.Exit(1)
    return None
