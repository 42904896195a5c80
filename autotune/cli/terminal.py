"""What the commands share: errors on one line, the log, the console, a progress bar.

Nothing but `typer` is imported until it is needed, so that `--help` is quick.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 110


def reports_errors[**P, R](command: Callable[P, R]) -> Callable[P, R]:
    """An error in a policy or profile, or of a file, is one message on stderr and exit code 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        from autotune.policy import PolicyError
        from cost_models import ProfileError

        _log_to_stderr()
        with told(PolicyError, ProfileError, OSError):
            return command(*args, **kwargs)

    return run


@contextmanager
def told(*kinds: type[Exception]) -> Iterator[None]:
    """An error of these kinds becomes one message on stderr and exit code 1."""
    try:
        yield
    except kinds as error:
        typer.echo(f"autotune: {error}", err=True)
        raise typer.Exit(1) from None


def console() -> Console:
    """Standard output; wide enough for the tables when it is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr, moved by `advance(label, done, total)`."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<34}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def advance(label: str, done: int, total: int) -> None:
            bar.update(task, description=label, completed=done, total=total)

        yield advance


class _ToStderr(logging.Handler):
    """Writes to what stderr is at the time: a progress bar puts itself there and keeps lines apart."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)


def _log_to_stderr() -> None:
    """Messages of autotune, without a prefix; a program that has set up the logger is left alone."""
    logger = logging.getLogger("autotune")
    if not logger.handlers:
        logger.addHandler(_ToStderr())
        logger.setLevel(logging.INFO)
