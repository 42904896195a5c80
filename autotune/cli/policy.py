"""The commands about policies: `check`, `policy show` and `policy schema`.

Only `typer` is imported here; each command loads what it needs, so that `--help` is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli.terminal import console, reports_errors

if TYPE_CHECKING:
    from autotune.plan import Plan
    from autotune.policy import Policy

policies = typer.Typer(
    help="Policies: what is in force, and the schema for editors.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@policies.command()
@reports_errors
def show(
    policy: Annotated[Path | None, typer.Argument(help="A policy file, laid over the others.")] = None,
    as_file: Annotated[bool, typer.Option("--yaml", help="Print a policy file instead of tables.")] = False,
) -> None:
    """Print the policy in force, and where each part was stated.

    Example: autotune policy show --yaml > everything.yaml
    """
    from autotune.policy.effective import as_tables, as_yaml
    from autotune.policy.files import layers_of

    layers = layers_of(policy)
    if as_file:
        typer.echo(as_yaml(layers), nl=False)
        return
    for table in as_tables(layers):
        console().print(table)
        typer.echo()


@policies.command()
@reports_errors
def schema(
    table: Annotated[
        bool, typer.Option("--table", help="Print the reference table of the documentation instead.")
    ] = False,
) -> None:
    """Print the JSON schema of policy files. Editors complete and check YAML by it.

    Example: autotune policy schema > policy.schema.json
    """
    from autotune.policy.schema import reference_table, schema_text

    typer.echo(reference_table() if table else schema_text(), nl=False)


@reports_errors
def check(
    policy: Annotated[Path, typer.Argument(help="A policy file.")],
    script: Annotated[
        Path | None, typer.Argument(help="A Python script to run under the policy, for its rules' hits.")
    ] = None,
    arguments: Annotated[list[str] | None, typer.Argument(help="Passed to the script.")] = None,
) -> None:
    """Check a policy file; with a script, show which rule hits what.

    The script is run under the policy; a rule that hits nothing is shown with the reason.

    Example: autotune check autotune.yaml model.py --draws 100
    """
    from autotune.policy.files import dump_policy, load_policy
    from autotune.policy.names import printable

    own = load_policy(policy, layers=False)
    typer.echo(f"{printable(str(policy))}: ok\n")
    if script is None:
        typer.echo(dump_policy(own), nl=False)
    elif script.is_file():
        _check_with(own, load_policy(policy), script, arguments or [])
    else:
        raise FileNotFoundError(f"{script} is not a file. Give the path of a Python script.")


def _check_with(own: Policy, in_force: Policy, script: Path, arguments: Sequence[str]) -> None:
    """Run ``script`` with autotune enabled under ``own``, then print what the rules ``in_force`` did."""
    import autotune
    from autotune.policy import PolicyError
    from autotune.report.run_script import print_traceback, run_script

    with autotune.enabled(own) as session:
        try:
            run_script(script, arguments)
        except PolicyError:
            raise
        except Exception as error:
            print_traceback(error, script)
            raise typer.Exit(1) from None
        finally:
            _print_report(in_force, session.plans)


def _print_report(policy: Policy, plans: Sequence[Plan]) -> None:
    from autotune.policy.checking import report
    from autotune.policy.checking_table import renderable

    decisions = [decision for plan in plans for decision in plan.decisions]
    if decisions:
        console().print(renderable(report(policy, decisions)))
    else:
        typer.echo("Nothing was decided, so no rule could hit anything.")
