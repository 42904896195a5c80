"""The command line `autotune`: calibrate, profile, policy, explain, check, map, measured, demo.

Only `typer` is imported here; each command loads what it needs, so that `--help` is quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli.explain import explain
from autotune.cli.map import draw_map
from autotune.cli.measured import measurements
from autotune.cli.policy import check, policies
from autotune.cli.terminal import console, progress, reports_errors, told

if TYPE_CHECKING:
    from cost_models import Profile

INTERRUPTED = 130
DEFAULT_DTYPE = "float64"
NAMED = typer.Argument(
    metavar="PATH|KEY", help="A file, a key or part of one, or `generic`; default: in force."
)

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
app.add_typer(policies, name="policy")
app.add_typer(measurements, name="measured")
# Options after SCRIPT are the script's own.
FOR_SCRIPTS = {"allow_interspersed_args": False, "ignore_unknown_options": True}
app.command(context_settings=FOR_SCRIPTS)(explain)
app.command(context_settings=FOR_SCRIPTS)(check)
app.command("map")(draw_map)


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
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes: a minute instead of eight.")] = False,
    threads: Annotated[
        str | None, typer.Option(metavar="N,N", help="BLAS threads, one profile each; default: as in force.")
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="Measure this dtype (float64); may be repeated.")
    ] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="Seconds, for each thread count.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write this file instead of the machine's own.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ignore what an interrupted calibration has measured.")
    ] = False,
) -> None:
    """Measure the kernels on this machine and store their prices.

    An interrupted calibration goes on where it stopped when it is called again.

    Example: autotune calibrate --quick --threads 1,2 --dtype float64 --dtype float32
    """
    from calibration.client import WorkerLost
    from calibration.report import print_report
    from calibration.run import calibrate as measure
    from cost_models import profile_path

    with told(ValueError, WorkerLost):
        counts = _thread_counts(threads)
        if output is not None and len(counts) > 1:
            raise ValueError(
                f"--output names one file for {len(counts)} thread counts. Leave one of them out."
            )
        for count in counts:
            with _interruptible(), progress() as advance:
                profile = measure(
                    quick=quick,
                    dtypes=dtype or [DEFAULT_DTYPE],
                    output=output,
                    budget=budget,
                    progress=advance,
                    threads=count,
                    fresh=fresh,
                )
            print_report(profile, console())
            typer.echo(f"Stored in {output or profile_path(profile.fingerprint)}")


@profiles.command()
@reports_errors
def show(
    name: Annotated[str | None, NAMED] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="Only this dtype; may be repeated; default: all not derived.")
    ] = None,
) -> None:
    """Print what each kernel costs and how far the price may be off.

    Example: autotune profile show --dtype float32
    """
    from calibration.report import print_report

    profile = _profile(name)[1]
    with told(ValueError):
        shown = _of_dtypes(profile, dtype)
    print_report(shown, console())
    if dtype is None and (left_out := [name for name in profile.models if name not in shown.models]):
        typer.echo(f"Derived from other dtypes, shown by --dtype: {', '.join(left_out)}")


@profiles.command("list")
@reports_errors
def list_profiles() -> None:
    """List the stored profiles; an asterisk marks the one in force.

    Example: autotune profile list
    """
    from calibration.report import print_profiles
    from cost_models.files import profile_dir
    from cost_models.find import path_in_force

    found = sorted(profile_dir().glob("*.yaml"))
    if found:
        print_profiles(found, path_in_force(), console())
    else:
        typer.echo(
            f"No profile is stored in {profile_dir()}. Run `autotune calibrate` to measure this machine."
        )


@profiles.command("path")
@reports_errors
def print_path() -> None:
    """Print the file of this machine's profile, present or not.

    Example: rm "$(autotune profile path)"
    """
    from cost_models import profile_path

    typer.echo(profile_path())


@profiles.command()
@reports_errors
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A file, a key or part of one, or `generic`.")],
    second: Annotated[str | None, typer.Argument(metavar="[B]", help="The same; default: in force.")] = None,
) -> None:
    """Compare two profiles, kernel by kernel: prices and errors.

    Example: autotune profile compare generic
    """
    from calibration.comparison import print_comparison

    print_comparison(_profile(first)[1], _profile(second)[1], console())


@profiles.command()
@reports_errors
def plot(
    name: Annotated[str | None, NAMED] = None,
    output: Annotated[Path | None, typer.Option(help="The picture, .png or .svg; default: KEY.png.")] = None,
    kernel: Annotated[list[str] | None, typer.Option(help="Only this kernel; may be repeated.")] = None,
    dtype: Annotated[str, typer.Option(help="The dtype of the times.")] = DEFAULT_DTYPE,
) -> None:
    """Draw measured times, fitted curves and residuals.

    Example: autotune profile plot --kernel potrf --kernel gemm --output fit.svg
    """
    from calibration.session import stored_session

    with told(ValueError, ImportError):
        from calibration.pictures import picture

        path, profile = _profile(name)
        session = stored_session(path)
        if session is None:
            raise ValueError(
                f"There are no measurements beside {path}. `autotune calibrate` leaves them there."
            )
        target = output or Path(f"{path.stem}.png")
        picture(profile, session, dtype, kernel).savefig(target)
    typer.echo(f"Drawn in {target}")


@profiles.command()
@reports_errors
def validate(
    name: Annotated[str | None, NAMED] = None,
    shapes: Annotated[int, typer.Option(min=1, help="Shapes of each kernel.")] = 12,
    budget: Annotated[float, typer.Option(min=0, help="Seconds to measure.")] = 120.0,
    dtype: Annotated[
        list[str] | None, typer.Option(help="Only this dtype; may be repeated; default: all measured.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws other shapes.")] = 0,
) -> None:
    """Time unseen shapes and print how far the prices are off.

    These are shapes that the calibration has not measured.

    Example: autotune profile validate --shapes 6 --budget 60
    """
    from calibration.client import WorkerLost
    from calibration.validation import print_validation
    from calibration.validation import validate as measure

    with told(ValueError, WorkerLost):
        profile = _profile(name)[1]
        with progress() as advance:
            found = measure(
                profile, shapes=shapes, dtypes=dtype or None, seed=seed, budget=budget, progress=advance
            )
        print_validation(found, console())


@app.command()
@reports_errors
def demo() -> None:
    """Compare naive models with what autotune makes of them.

    On data that scikit-learn ships.

    Example: autotune demo
    """
    from autotune.report.demo import run

    if not run(console()):
        raise typer.Exit(1)


# -- pieces ---------------------------------------------------------------------------------------


def _thread_counts(text: str | None) -> list[int | None]:
    """`1,2` as numbers, all of them possible here; None is the count in force."""
    from calibration.client import check_threads

    if text is None:
        return [None]
    try:
        counts = list(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError:
        raise ValueError(f"--threads got {text!r}. Give whole numbers, such as 1,2.") from None
    for count in counts:
        check_threads(count)
    return [*counts]


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the calibration with a message and the exit code of an interrupted program."""
    try:
        yield
    except KeyboardInterrupt:
        message = (
            "Interrupted. The earlier profile is untouched; calibrating again (without --fresh) goes on."
        )
        typer.echo(message, err=True)
        raise typer.Exit(INTERRUPTED) from None


def _of_dtypes(profile: Profile, dtypes: list[str] | None) -> Profile:
    """The prices of these dtypes alone; by default of those whose prices were not derived from another's."""
    if unknown := [name for name in dtypes or () if name not in profile.models]:
        known = ", ".join(profile.models)
        raise ValueError(f"There are no prices for dtype {', '.join(unknown)}. Known are: {known}.")
    own = [name for name in profile.models if profile.measured(name)]
    return replace(profile, models={name: profile.models[name] for name in dtypes or own or profile.models})


def _profile(name: str | None) -> tuple[Path, Profile]:
    """The profile of this name, or the one in force, and its file."""
    from cost_models import load_profile
    from cost_models.find import named_path, path_in_force

    path = named_path(name) if name is not None else path_in_force()
    return path, load_profile(path)
