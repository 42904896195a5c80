"""The plan as a table in the terminal and in notebooks."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from autotune.algebra.registry import letter_of
from autotune.choose.candidates import strategy
from autotune.problem.formats import counted, format_bytes, format_seconds
from autotune.strategies.iterations import iterations_told

if TYPE_CHECKING:
    from autotune.plan.model import Plan
    from autotune.pricing import Price
    from autotune.problem import Candidate, Decision, Problem

WIDTH = 110
# Of the parts of a matrix so many are shown.
MOST_PARTS = 6
# What tells problems of the same name apart, the most telling first.
TELLING = ("rv", "source", "fingerprint")


def render(plan: Plan) -> str:
    """The plan as plain text, ``WIDTH`` columns."""
    return as_text(renderable(plan))


def as_text(shown: RenderableType) -> str:
    """What rich would print in ``WIDTH`` columns, without the spaces that it fills lines with."""
    console = Console(width=WIDTH, file=io.StringIO(), color_system=None, highlight=False)
    console.print(shown)
    lines = console.file.getvalue().rstrip().splitlines()  # type: ignore[attr-defined]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def render_html(plan: Plan) -> str:
    """The plan as a ``<pre>`` block with inline styles."""
    with open(os.devnull, "w") as nowhere:
        console = Console(width=WIDTH, record=True, file=nowhere)
        console.print(renderable(plan))
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def renderable(plan: Plan) -> Group:
    """A rich renderable: a heading, and a table for each decision."""
    if plan.failure:
        return Group(Text(f"autotune failed and left this function as PyTensor compiles it: {plan.failure}"))
    return Group(_decisions(plan), *(of_model(plan) if plan.plain else []))


def _decisions(plan: Plan) -> Group:
    inner = [_inside(p) for p in plan.inner]
    if not plan.decisions and inner:
        return Group(*inner)
    if not plan.decisions:
        return Group(Text("Nothing to choose: no solve, inverse, determinant or Cholesky factor was found."))
    heading = Text(f"autotune: {counted(len(plan.decisions), 'problem')}, {_prices(plan.decisions)}")
    told = told_apart([d.problem for d in plan.decisions])
    cards = [_card(i, d, told[i]) for i, d in enumerate(plan.decisions)]
    whole = [] if plan.price is None else [Padding(Text(whole_function(plan.price)), (1, 0, 0, 0))]
    return Group(heading, *cards, *inner, *whole)


def of_model(plan: Plan) -> list[RenderableType]:
    """What autotune does for a model, and hints, each with what to write instead."""
    now, plain = plan.seconds, plan.plain.seconds if plan.plain else None
    times = f"{format_seconds(now)} predicted, {format_seconds(plain)} with plain PyTensor"
    if plan.helps:
        verdict = f"autotune helps this model: log-probability with gradient in {times}."
    else:
        verdict = f"autotune does not help this model: log-probability with gradient in {times}."
    shown: list[RenderableType] = [Padding(Text(verdict), (1, 0, 0, 0))]
    for hint in plan.advice:
        gain = f"{format_seconds(hint.seconds)} predicted instead of {format_seconds(now)}"
        shown.append(Padding(Text(f"hint: {hint.found}: {gain} with"), (1, 0, 0, 0)))
        shown.append(Padding(Text(hint.instead), (0, 0, 0, 4)))
    return shown


def _inside(plan: Plan) -> Padding:
    return Padding(Group(Text("in a graph inside:"), renderable(plan)), (1, 0, 0, 4))


def _prices(decisions: Sequence[Decision]) -> str:
    sources = dict.fromkeys(d.profile for d in decisions if d.profile)
    return f"prices from the {' and '.join(sources)} profile" if sources else "pinned, so without prices"


def told_apart(problems: Sequence[Problem]) -> list[str]:
    """For problems that share a name, or have none: the first trait that tells them apart, in words."""
    told = [""] * len(problems)
    alike: dict[str | None, list[int]] = {}
    for i, problem in enumerate(problems):
        alike.setdefault(problem.name, []).append(i)
    for members in (m for m in alike.values() if len(m) > 1):
        values = {key: [getattr(problems[i], key) for i in members] for key in TELLING}
        best = next((key for key in TELLING if len(set(values[key])) == len(members)), "fingerprint")
        for i, value in zip(members, values[best], strict=True):
            told[i] = f", {best} {value}" if value else ""
    return told


def handle(problem: Problem) -> str:
    """What to call a problem in a word: its name, else where it was written, else its fingerprint."""
    place = problem.source or problem.fingerprint or "(no name)"
    return problem.name or (f"{place}, part {problem.part}" if problem.part else place)


def called(problem: Problem) -> str:
    """The matrix by its own name and the terms of a PyMC model that it is in, or by these alone."""
    terms, names = problem.terms, problem.traits.all_names(problem.name)
    if problem.part or not terms or len(terms) == 1 < len(names):
        return problem.name or ""
    own = "a matrix" if len(names) > 1 else problem.name or "a matrix"
    return f"{own} of {' and '.join(terms)}"


def whole_function(price: Price, most: int = 3) -> str:
    """Seconds and bytes of one call and the dearest nodes; on a second line what could not be priced."""
    parts = [f"{_op(node.op)} {format_seconds(node.seconds)}" for node in price.nodes[:most] if node.seconds]
    text = f"whole function: {format_seconds(price.seconds)}, {format_bytes(price.peak_bytes)} predicted"
    if parts:
        text += f"; largest: {', '.join(parts)}"
    if price.unknown:
        first = price.unknown[0]
        count = counted(len(price.unknown), "node")
        text += f"\nnot counted: {count}, such as {_op(first.op)}: {first.reason}"
    return text


def _op(name: str, width: int = 24) -> str:
    """The name of an Op without its properties."""
    return name.strip("[]").split("{")[0][:width]


def _card(index: int | str, decision: Decision, told: str) -> Padding:
    timed = any(c.measured is not None for c in decision.candidates)
    table = Table(box=None, pad_edge=False)
    for header in ("", "algorithm", "time", *(["measured"] if timed else []), "memory", "why"):
        table.add_column(header, justify="right" if header in ("time", "measured", "memory") else "left")
    for candidate in sorted(decision.candidates, key=lambda c: _order(c, decision)):
        won = candidate.name == decision.chosen
        table.add_row(
            "->" if won else "",
            candidate.name,
            format_seconds(candidate.seconds),
            *([format_seconds(candidate.measured)] if timed else []),
            format_bytes(candidate.peak_bytes),
            candidate.reason,
            style="bold" if won else "",
        )
    shown, rest = decision.parts[:MOST_PARTS], len(decision.parts) - MOST_PARTS
    parts = [Padding(_card(f"{index}.{part.problem.part}", part, ""), (0, 0, 0, 4)) for part in shown]
    more = [Padding(Text(f"and {counted(rest, 'part')} more"), (1, 0, 0, 4))] if rest > 0 else []
    return Padding(Group(_heading(index, _title(decision, told)), table, *parts, *more), (1, 0, 0, 0))


def _heading(index: int | str, title: str) -> Table:
    """A decision's number and, beside it, its title: lines that are wrapped keep their indent."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(f"[{index}]", Text(title), style="bold")
    return grid


def _order(candidate: Candidate, decision: Decision) -> tuple[int, float]:
    if candidate.name == decision.chosen:
        return (0, 0.0)
    seconds = candidate.seconds if candidate.measured is None else candidate.measured
    return (2, 0.0) if seconds is None else (1, seconds)


def _title(decision: Decision, told: str) -> str:
    problem = decision.problem
    dims = {"n": problem.n, **{name: n for name, n in problem.sizes.items() if "." not in name}}
    sizes = [
        f"{letter_of(name)}={_size(size)}" for name, size in dims.items() if (name, size) != ("batch", 1)
    ]
    fact = (
        "positive definite" if problem.positive_definite else "symmetric" if problem.symmetric else "general"
    )
    when = ", before autodiff" if decision.before_autodiff else ""
    name = f"{called(problem)}: " if problem.name or problem.terms else ""
    structure = " + ".join(problem.structure).replace("_", " ")
    facts = f"{structure}, {', '.join(sizes)}, {fact}, {problem.dtype}{when}"
    return f"{name}{_requests(decision)}\n{facts}{told}{_iterations(decision)}"


def _iterations(decision: Decision) -> str:
    """Where the iterations of the problem are known from, on a line of its own; what was probed is told
    always, what the structure says only where a candidate iterates."""
    spectrum = decision.problem.spectrum
    priced = [name for c in decision.candidates if c.seconds is not None for name in c.name.split("+")]
    if spectrum is None or (spectrum.origin == "bound" and all(strategy(name).exact for name in priced)):
        return ""

    return f"\n{iterations_told(decision)}"


def _requests(decision: Decision) -> str:
    texts: dict[str, int] = {}
    for request in decision.problem.requests:
        text = request.kind.replace("_", " ")
        if request.kind in ("solve", "inv_quad"):
            text += f" ({_size(request.columns)} rhs)"
        texts[text] = texts.get(text, 0) + 1
    return ", ".join(text if count == 1 else f"{count} x {text}" for text, count in texts.items())


def _size(value: int | None) -> str:
    return "?" if value is None else str(value)
