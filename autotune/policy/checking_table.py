"""What each rule hits, as text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from autotune.policy.checking import Hit, RuleReport
from autotune.policy.effective import told_rule


def renderable(reports: Sequence[RuleReport]) -> Group:
    """A heading, and for each rule what it says and its hits, or why there is none."""
    if not reports:
        return Group(Text("The policy in force has no rules."))
    idle = sum(not report.hits for report in reports)
    count = f"{len(reports)} rule{'s' if len(reports) > 1 else ''}"
    heading = Text(f"{count}, {idle if idle else 'none'} without a hit")
    return Group(heading, *(_card(report) for report in reports))


def _card(report: RuleReport) -> Padding:
    match, demands = told_rule(report.rule)
    title = Text(f"{report.rule.origin}  match {match}  {demands}", style="bold")
    body = _table(report.hits) if report.hits else Text(f"hits nothing. {report.miss}", style="yellow")
    return Padding(Group(title, Padding(body, (0, 0, 0, 4))), (1, 0, 0, 0))


def _table(hits: Sequence[Hit]) -> Table:
    table = Table("matrix", "requests", "structure", "n", "effect", "chosen", box=None, pad_edge=False)
    for hit in hits:
        problem = hit.problem
        cells = (
            problem.name or "(no name)",
            ", ".join(hit.requests),
            " + ".join(problem.structure),
            "?" if problem.n is None else str(problem.n),
            ", ".join(hit.effects),
            hit.chosen,
        )
        table.add_row(*map(Text, cells))
    return table
