"""The commands about measured times: `measured list` and `measured clear`.

Only `typer` is imported here; each command loads what it needs, so that `--help` is quick.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from autotune.cli.terminal import console, reports_errors

measurements = typer.Typer(
    help="Times taken by `effort: measure`: list or forget them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@measurements.command("list")
@reports_errors
def list_measured() -> None:
    """List the problems that were timed, the fastest candidate first.

    Example: autotune measured list
    """
    from rich.table import Table
    from rich.text import Text

    from autotune.evidence.store import measured_dir, stored

    table = Table("problem", "fastest to slowest", "when", "", box=None, pad_edge=False)
    for path, data in stored():
        cells = (path.name, "cannot be used", "", "") if data is None else _row(data)
        table.add_row(*map(Text, cells))
    if table.row_count:
        console().print(table)
    else:
        typer.echo(f"Nothing is remembered in {measured_dir()}. A policy with `effort: measure` takes times.")


@measurements.command()
@reports_errors
def clear(
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Also what other machines, thread counts or BLAS took.")
    ] = False,
) -> None:
    """Forget the times taken on this machine. The next compile takes them anew.

    Example: autotune measured clear
    """
    from autotune.evidence.store import clear as forget

    count = forget(everywhere=everywhere)
    typer.echo(f"Forgot the times of {count} problem{'' if count == 1 else 's'}.")


def _row(data: dict[str, Any]) -> tuple[str, str, str, str]:
    """The cells of an entry; the last says why it does not hold here and now, if it does not."""
    from autotune.evidence.store import outdated
    from autotune.problem.formats import format_seconds

    times = sorted(data["seconds"].items(), key=lambda item: item[1])
    told = ", ".join(f"{name} {format_seconds(seconds)}" for name, seconds in times)
    return _problem(data["key"]["problem"]), told, data["created"][:10], outdated(data["key"])


def _problem(problem: dict[str, Any]) -> str:
    from autotune.algebra.registry import letter_of

    sizes = {letter_of(name): size for name, size in problem["sizes"].items()}
    shown = [
        f"{name}={size}" for name, size in sizes.items() if size is not None and (name, size) != ("batch", 1)
    ]
    kinds = "+".join(dict.fromkeys(request["kind"] for request in problem["requests"]))
    when = ["before autodiff"] if problem["differentiated"] else []
    return ", ".join(["+".join(problem["structure"]), *shown, problem["dtype"], kinds, *when])
