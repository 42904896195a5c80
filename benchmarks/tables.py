"""Results as Markdown, to be pasted into a page as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


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


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A whole table."""
    return "\n".join([_header(columns), *map(_line, rows)])


def _header(columns: Sequence[str]) -> str:
    return f"{_line(columns)}\n{_line(['---'] * len(columns))}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
