"""Results as Markdown, to be pasted into a page as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

COMPARED = ("autotune [ms]", "plain / autotune", "autotune / by hand", "error")
"""The columns of `compared`."""


class MarkdownTable:
    """Prints its header at once and each row when it is known: an interrupted run is not lost."""

    def __init__(self, *columns: str):
        self.columns = columns
        print(f"\n{_header(columns)}", flush=True)

    def add_row(self, *cells: str) -> None:
        """ValueError if there is not one cell for each column."""
        if len(cells) != len(self.columns):
            raise ValueError(f"A row of {len(cells)} cells was given. Give one for each of: {self.columns}.")
        print(_line(cells), flush=True)


def compared(seconds: Mapping[str, float], error: float) -> tuple[str, ...]:
    """autotune's time, beside those that were measured of "plain" PyTensor and of code "by hand"."""
    mine = seconds["autotune"]
    return (
        f"{1e3 * mine:.3g}",
        f"{seconds['plain'] / mine:.3g}" if "plain" in seconds else "",
        f"{mine / seconds['by hand']:.2f}" if "by hand" in seconds else "",
        f"{error:.1e}",
    )


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A whole table."""
    return "\n".join([_header(columns), *map(_line, rows)])


def _header(columns: Sequence[str]) -> str:
    return f"{_line(columns)}\n{_line(['---'] * len(columns))}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
