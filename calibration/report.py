"""Tables of profiles: what each kernel costs and how far its price may be off; which are stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cost_models import Fingerprint, KernelModel, Profile, ProfileError, load_profile


def print_report(profile: Profile, console: Console | None = None) -> None:
    """Print the machine and, per dtype, every kernel with its held-out error and its prices."""
    console = console if console is not None else Console()
    console.print(f"{machine_line(profile.fingerprint)}, {profile.source} {profile.created}")
    for dtype, models in profile.models.items():
        console.print(_table(dtype, list(models.values())))


def machine_line(machine: Fingerprint) -> str:
    """The machine for people."""
    threads = "1 thread" if machine.threads == 1 else f"{machine.threads} threads"
    return f"{machine.cpu}, {machine.cores} cores, {machine.blas} {machine.blas_version} with {threads}"


def print_profiles(paths: Sequence[Path], in_force: Path, console: Console) -> None:
    """Print a block for each profile file; for one that cannot be used, the reason."""
    for path in paths:
        first, *others = _lines(path)
        console.print("*" if path == in_force else " ", first, soft_wrap=True, markup=False)
        for line in others:
            console.print("   ", line, soft_wrap=True, markup=False)


def _lines(path: Path) -> tuple[str, ...]:
    """What a stored profile describes, or why it cannot be used."""
    try:
        profile = load_profile(path)
    except (ProfileError, OSError) as error:
        return f"{path.name} cannot be used", str(error)
    dtypes = ", ".join(d if profile.measured(d) else f"{d} derived" for d in profile.models)
    return (
        machine_line(profile.fingerprint),
        f"key {path.stem}",
        f"{profile.source} {profile.created}: {dtypes}; worst median error {_worst(profile)}",
    )


def _worst(profile: Profile) -> str:
    """The largest of the median errors of the kernels that were measured."""
    found = [m for models in profile.models.values() for m in models.values() if measured(m)]
    worst = max(found, key=lambda model: model.error, default=None)
    return f"{100 * worst.error:.0f} % ({worst.kernel} {worst.dtype})" if worst is not None else "unknown"


def measured(model: KernelModel) -> bool:
    """Whether the price was fitted to times of this machine in this dtype."""
    return model.points > 0 and not model.derived


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
