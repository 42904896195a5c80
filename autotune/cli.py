"""The command line `autotune`: calibrate, profile, explain, check, demo.

Only `typer` is imported here; each command loads what it needs, so that `--help` is quick.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from calibration.run import Progress
    from cost_models import Profile

INTERRUPTED = 130
WIDE = 110

app = typer.Typer(
    help="Choose the algorithms of linear algebra in PyTensor graphs by their predicted cost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
profiles = typer.Typer(
    help="The prices of kernels: what is in force and what is stored.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(profiles, name="profile")


def reports_errors[**P, R](command: Callable[P, R]) -> Callable[P, R]:
    """An error in a policy or profile, or of a file, is one message on stderr and exit code 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        from autotune.policy import PolicyError
        from cost_models import ProfileError

        _log_to_stderr()
        try:
            return command(*args, **kwargs)
        except (PolicyError, ProfileError, OSError) as error:
            typer.echo(f"autotune: {error}", err=True)
            raise typer.Exit(1) from None

    return run


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Choose the algorithms of linear algebra in PyTensor graphs by their predicted cost."""
    if version:
        from autotune import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command()
@reports_errors
def calibrate(
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer sizes: 40 s of measuring instead of 8 min.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Write this file instead of the machine's own.")] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="Seconds to measure.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="Measure this dtype; may be repeated.")] = None,
) -> None:
    """Measure the kernels on this machine and store their prices.

    Example: autotune calibrate --quick
    """
    from calibration.report import print_report
    from calibration.run import calibrate as measure
    from cost_models import profile_path

    try:
        with _progress() as progress:
            profile = measure(quick, dtype or ["float64"], output, budget, progress)
    except KeyboardInterrupt:
        message = "Interrupted. The earlier profile is untouched; calibrating again goes on from here."
        typer.echo(message, err=True)
        raise typer.Exit(INTERRUPTED) from None
    except ValueError as error:
        typer.echo(f"autotune: {error}", err=True)
        raise typer.Exit(1) from None
    print_report(profile, _console())
    typer.echo(f"Stored in {output or profile_path(profile.fingerprint)}")


@profiles.command()
@reports_errors
def show(
    path: Annotated[Path | None, typer.Argument(help="A profile; without it, the one in force.")] = None,
) -> None:
    """Print what each kernel costs and how far the price may be off.

    Example: autotune profile show
    """
    from calibration.report import print_report
    from cost_models import find_profile, load_profile

    print_report(load_profile(path) if path is not None else find_profile(), _console())


@profiles.command("list")
@reports_errors
def list_profiles() -> None:
    """List the stored profiles; an asterisk marks the one of this machine.

    Example: autotune profile list
    """
    from cost_models import data_dir, profile_path

    folder, own = data_dir() / "profiles", profile_path()
    found = sorted(folder.glob("*.yaml"))
    if not found:
        typer.echo(f"No profile is stored in {folder}. Run `autotune calibrate` to measure this machine.")
    for path in found:
        typer.echo(f"{'*' if path == own else ' '} {path.name}  {_summary(path)}")


@profiles.command("path")
@reports_errors
def print_path() -> None:
    """Print the file of this machine's profile, present or not.

    Example: rm "$(autotune profile path)"
    """
    from cost_models import profile_path

    typer.echo(profile_path())


@app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
@reports_errors
def explain(
    script: Annotated[Path, typer.Argument(help="A Python script that compiles PyTensor functions.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Passed to the script.")] = None,
    policy: Annotated[Path | None, typer.Option(help="A policy file, before SCRIPT.")] = None,
) -> None:
    """Run a script with autotune enabled and print the plan of every function that it compiles.

    Example: autotune explain --policy exact-only.yaml model.py --draws 100
    """
    import traceback

    import autotune
    from autotune.policy import PolicyError

    if not script.is_file():
        raise FileNotFoundError(f"{script} is not a file. Give the path of a Python script.")
    with autotune.enabled(policy) as session:
        try:
            _run_script(script, arguments or [])
        except PolicyError:
            raise
        except Exception:
            traceback.print_exc()
            raise typer.Exit(1) from None
        finally:
            _print_plans(session.plans)


@app.command()
@reports_errors
def check(policy: Annotated[Path, typer.Argument(help="A policy file.")]) -> None:
    """Check a policy file, and print its values with the defaults of what it leaves out.

    Example: autotune check autotune.yaml
    """
    from autotune.policy_files import dump_policy, load_policy

    text = dump_policy(load_policy(policy, layers=False))
    typer.echo(f"{policy}: ok\n\n{text}", nl=False)


@app.command()
@reports_errors
def demo() -> None:
    """Compare naive models with what autotune makes of them, on data that scikit-learn ships.

    Example: autotune demo
    """
    from autotune.demo import run

    if not run(_console()):
        raise typer.Exit(1)


# -- pieces ---------------------------------------------------------------------------------------


def _console() -> Console:
    """Standard output; wide enough for the tables when it is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def _log_to_stderr() -> None:
    """Messages of autotune, without a prefix."""
    logger = logging.getLogger("autotune")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


@contextmanager
def _progress() -> Iterator[Progress]:
    """A progress bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<24}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def advance(label: str, done: int, total: int) -> None:
            bar.update(task, description=label, completed=done, total=total)

        yield advance


def _run_script(script: Path, arguments: list[str]) -> None:
    """Run ``script`` as ``python script arguments`` would."""
    import runpy

    argv, sys.argv = sys.argv, [str(script), *arguments]
    sys.path.insert(0, str(script.parent.resolve()))
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv = argv
        sys.path.remove(str(script.parent.resolve()))


def _print_plans(plans: list[Any]) -> None:
    from autotune.plan import Plan
    from autotune.plan_table import renderable

    console = _console()
    for number, plan in enumerate(plans, 1):
        console.rule(f"function {number} of {len(plans)}", align="left")
        console.print(renderable(plan))
    if not plans:
        console.print(renderable(Plan()))


def _summary(path: Path) -> str:
    """What a stored profile describes, or why it cannot be used."""
    from cost_models import ProfileError, load_profile

    try:
        profile: Profile = load_profile(path)
    except ProfileError as error:
        return str(error)
    machine = profile.fingerprint
    blas = f"{machine.blas} {machine.blas_version}"
    return f"{machine.cpu}, {machine.threads} threads, {blas}, {profile.created}"
