"""Two profiles side by side: the ratio of predicted seconds, and the errors, kernel by kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields

from rich.console import Console
from rich.table import Table

from calibration.grids import grid
from calibration.report import machine_line, measured
from cost_models import KERNELS, Fingerprint, Kernel, KernelModel, Profile
from cost_models.kernels import Dims

SIZES = ("small", "middle", "large")


def print_comparison(first: Profile, second: Profile, console: Console | None = None) -> None:
    """Print the machines, where they differ, and a table for each dtype: A over B at three sizes."""
    console = console if console is not None else Console()
    for line in _differences(first.fingerprint, second.fingerprint):
        console.print(line, soft_wrap=True)
    for name, profile in (("A", first), ("B", second)):
        line = f"{name}: {machine_line(profile.fingerprint)}, {profile.source} {profile.created}"
        console.print(line, soft_wrap=True)
    for dtype in first.models:
        console.print(_table(dtype, first, second))
        console.print(f"geometric mean of the ratios in {dtype}: {_mean(dtype, first, second):.2f}")


def ratio(first: KernelModel, second: KernelModel, dims: Dims) -> float:
    """Predicted seconds of `first` over those of `second`; NaN if neither costs anything."""
    a, b = float(first.seconds(dims)), float(second.seconds(dims))
    if b > 0:
        return float(a / b)
    return math.inf if a > 0 else math.nan


def three_sizes(kernel: Kernel) -> Sequence[Dims]:
    """The least, the middle and the most work of a calibration's grid; one for a fixed cost."""
    sizes = grid(kernel.name, quick=True)
    return [sizes[0], sizes[len(sizes) // 2], sizes[-1]] if kernel.dims else sizes[:1]


def _differences(first: Fingerprint, second: Fingerprint) -> Iterator[str]:
    """What is not the same about the machines, a line each; nothing if they are one."""
    pairs = [(f.name, getattr(first, f.name), getattr(second, f.name)) for f in fields(Fingerprint)]
    different = [(name, a, b) for name, a, b in pairs if a != b]
    if different:
        yield "These are different machines:"
    for name, a, b in different:
        yield f"  {name.replace('_', ' ')}: A {a}, B {b}"


def _table(dtype: str, first: Profile, second: Profile) -> Table:
    table = Table(title=f"{dtype}: predicted seconds, A / B; median errors at sizes held out of the fit")
    table.add_column("kernel")
    for column in (*SIZES, "error A", "error B"):
        table.add_column(column, justify="right")
    for kernel in KERNELS:
        a, b = first.models[dtype][kernel.name], second.models[dtype][kernel.name]
        cells = [f"{' x '.join(map(str, dims))}  {ratio(a, b, dims):.2f}" for dims in three_sizes(kernel)]
        cells += [""] * (len(SIZES) - len(cells))
        table.add_row(f"{kernel.name} {' x '.join(kernel.dims)}", *cells, _error(a), _error(b))
    return table


def _mean(dtype: str, first: Profile, second: Profile) -> float:
    """The geometric mean of all finite ratios that the table shows."""
    found = [
        ratio(first.models[dtype][kernel.name], second.models[dtype][kernel.name], dims)
        for kernel in KERNELS
        for dims in three_sizes(kernel)
    ]
    logs = [math.log(value) for value in found if 0 < value < math.inf]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def _error(model: KernelModel) -> str:
    if measured(model):
        return f"{100 * model.error:.0f} %"
    return "derived" if model.derived else "generic"
