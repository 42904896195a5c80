"""The table of a profile: what each kernel costs, and how far the price may be off."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from cost_models import KernelModel, Profile


def print_report(profile: Profile, console: Console | None = None) -> None:
    """Print the machine and, per dtype, every kernel with its held-out error and its prices."""
    console = console if console is not None else Console()
    machine = profile.fingerprint
    console.print(
        f"{machine.cpu}, {machine.cores} cores, {machine.blas} {machine.blas_version} with "
        f"{machine.threads} threads, {profile.source} {profile.created}"
    )
    for dtype, models in profile.models.items():
        console.print(_table(dtype, list(models.values())))


def _table(dtype: str, models: list[KernelModel]) -> Table:
    table = Table(title=f"{dtype}: error is |predicted/measured - 1| at sizes held out of the fit")
    table.add_column("kernel")
    table.add_column("points", justify="right")
    table.add_column("median error", justify="right")
    table.add_column("90 %", justify="right")
    table.add_column("prices", overflow="fold")
    for model in models:
        table.add_row(model.kernel, *_accuracy(model), model.describe())
    return table


def _accuracy(model: KernelModel) -> tuple[str, str, str]:
    """Points and errors; a price that was not measured in this dtype says so instead."""
    if model.derived:
        return "derived", "", ""
    if not model.points:
        return "generic", "", ""
    return str(model.points), f"{100 * model.error:.0f} %", f"{100 * model.error_p90:.0f} %"
