"""The command `map`: a picture of who wins where, by the profile and the policy in force.

Only `typer` is imported here; the command loads what it needs, so that `--help` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autotune.cli.terminal import progress, reports_errors, told


@reports_errors
def draw_map(
    structure: Annotated[
        str, typer.Option(help="low_rank, dense (positive definite) or general.")
    ] = "low_rank",
    request: Annotated[
        str, typer.Option(metavar="KIND,KIND", help="What is asked of the matrix.")
    ] = "solve,logdet",
    plane: Annotated[
        str | None,
        typer.Option(
            help="The axis beside n: rank, columns or batch; default: the first that the problem has."
        ),
    ] = None,
    gradient: Annotated[
        bool, typer.Option("--gradient", help="Price the backward pass too, as before autodiff.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="The dtype of the matrix.")] = "float64",
    rank: Annotated[int, typer.Option(min=1, help="The rank, where it is not an axis.")] = 10,
    columns: Annotated[int, typer.Option(min=1, help="Right-hand sides, where they are not an axis.")] = 1,
    largest: Annotated[int, typer.Option(min=11, help="The largest n.")] = 5000,
    points: Annotated[int, typer.Option(min=2, max=500, help="Sizes along each axis.")] = 60,
    profile: Annotated[
        str | None,
        typer.Option(help="A profile's file, key or part of one, or `generic`; default: in force."),
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="A policy file, laid over the others.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The picture; default: map-STRUCTURE-PLANE.png.")
    ] = None,
) -> None:
    """Draw which strategy is chosen at which sizes, and its gain.

    The gain is over plain PyTensor. Nothing is compiled or timed: the picture shows what the prices say. Of
    the policy's rules, those that match by a name do not apply.

    Example: autotune map --structure low_rank --request solve,logdet --gradient -o map.svg
    """
    with told(ValueError, ImportError):
        from autotune.policy.files import load_policy
        from autotune.report.map.choice_map import Question, choice_map
        from autotune.report.map.picture import save
        from calibration.report import machine_line
        from cost_models import find_profile, load_profile
        from cost_models.find import named_path

        question = Question(
            structure=structure,
            requests=tuple(dict.fromkeys(word.strip() for word in request.split(","))),
            plane=plane,
            dtype=dtype,
            gradient=gradient,
            held=(("rank", rank), ("columns", columns), ("batch", 1)),
        )
        prices = find_profile() if profile is None else load_profile(named_path(profile))
        in_force = load_policy(policy)
        with progress() as advance:
            chart = choice_map(question, in_force, prices, largest=largest, points=points, progress=advance)
        target = output or Path(f"map-{structure}-{question.axis}.png")
        machine = "" if prices.source == "generic" else f"{machine_line(prices.fingerprint)}; "
        heading = f"{machine}{prices.source} profile of {prices.created[:10]}"
        save(chart, heading, target)
    typer.echo(f"Drawn in {target}")
