"""The picture of a calibration: measured times against fitted curves, and the residuals.

One small panel per kernel, log-log, with up to four curves for the other dimensions; below, the
histogram of `predicted / measured - 1` at all sizes that were fitted. The colours are samples of
cividis, which the colour-blind see as others do and whose lightness falls steadily, so that a print
in grey keeps them apart; markers and line styles repeat what they say.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.report import machine_line
from calibration.session import Session, Times
from cost_models import KERNEL_BY_NAME, KernelModel, Profile
from cost_models.kernels import Dims
from cost_models.model import RESOLUTION

try:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, NullLocator, PercentFormatter
except ImportError as error:
    raise ImportError(
        f"Pictures need matplotlib ({error}). Run `pip install 'pytensor-autotune[plots]'`."
    ) from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES = 4
COLUMNS = 5
INK, FAINT = "#222222", "#8a8a8a"
STYLES = tuple(zip((0.0, 0.3, 0.55, 0.8), "os^D", ("-", "--", "-.", ":"), strict=True))
"""Per curve: the place on the colour map, the marker, the line."""
SETTINGS: Any = {
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 6,
    "svg.fonttype": "none",
    "svg.hashsalt": "autotune",
    "savefig.dpi": 200,
}
_DATELESS = {".svg": {"Date": None}}  # the same profile gives the same file


@dataclass(frozen=True)
class Curve:
    """The measured times along one dimension, the others held at the values that `label` names."""

    label: str
    axis: int
    times: Times


class Picture:
    """A figure that is drawn and saved under `SETTINGS` without changing matplotlib's own."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def savefig(self, path: str | os.PathLike[str]) -> None:
        """Write PNG, SVG or what else matplotlib can, by the ending; ValueError for another."""
        with matplotlib.rc_context(SETTINGS):
            self.figure.savefig(path, metadata=_DATELESS.get(Path(path).suffix.lower()))


def picture(
    profile: Profile, session: Session, dtype: str = "float64", kernels: Sequence[str] | None = None
) -> Picture:
    """Draw the kernels that `session` measured in `dtype`, or those named; ValueError if there are none."""
    times = _measured(session, dtype, kernels)
    models = {name: profile.models[dtype][name] for name in times}
    with matplotlib.rc_context(SETTINGS):
        return Picture(_draw(profile, models, times))


def curves(kernel: str, times: Times) -> list[Curve]:
    """Up to `CURVES` curves along the dimension with the most sizes, spread over the others' work."""
    names = KERNEL_BY_NAME[kernel].dims
    distinct = [len({dims[i] for dims, _ in times}) for i in range(len(names))]
    axis = distinct.index(max(distinct))
    groups: dict[Dims, Times] = {}
    for dims, seconds in sorted(times):
        groups.setdefault((*dims[:axis], *dims[axis + 1 :]), []).append((dims, seconds))
    long = [others for others in groups if len(groups[others]) > 1] or list(groups)
    ordered = sorted(long, key=lambda others: (math.prod(others), others))
    places = np.linspace(0, len(ordered) - 1, min(CURVES, len(ordered))).round().astype(int)
    held = (*names[:axis], *names[axis + 1 :])
    return [
        Curve(", ".join(f"{n}={v}" for n, v in zip(held, ordered[i], strict=True)), axis, groups[ordered[i]])
        for i in places
    ]


def residuals(model: KernelModel, times: Times) -> NDArray[np.float64]:
    """`predicted / measured - 1`, the divisor raised by the resolution of the clock as in the fit."""
    measured = np.array([seconds for _, seconds in times])
    predicted = np.array([model.seconds(dims) for dims, _ in times])
    return np.asarray((predicted - measured) / (measured + RESOLUTION))


def _measured(session: Session, dtype: str, kernels: Sequence[str] | None) -> dict[str, Times]:
    """The times of each kernel that has dimensions and was measured; a name that has none is an error."""
    times = {name: session.net(name, dtype) for name, kernel in KERNEL_BY_NAME.items() if kernel.dims}
    found = {name: t for name, t in times.items() if t}
    missing = [name for name in kernels or () if name not in found]
    if missing or not found:
        known = f"Known are: {', '.join(found)}." if found else "Calibrate this dtype first."
        raise ValueError(f"There are no {dtype} times of {', '.join(missing) or 'any kernel'}. {known}")
    return {name: found[name] for name in kernels} if kernels else found


# -- drawing --------------------------------------------------------------------------------------


def _draw(profile: Profile, models: Mapping[str, KernelModel], times: Mapping[str, Times]) -> Figure:
    """The panels in rows, the histogram over the whole width below, the machine above."""
    columns = min(COLUMNS, len(models))
    rows = math.ceil(len(models) / columns)
    height = 1.9 if columns > 2 else 3.0
    figure = Figure(
        figsize=(max(2.4 * columns, 7.2), height * rows + 2.5),
        layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06),
    )
    places = figure.add_gridspec(rows + 1, columns, height_ratios=[height] * rows + [1.9])
    for turn, (name, model) in enumerate(models.items()):
        panel = figure.add_subplot(places[divmod(turn, columns)])
        _kernel(panel, model, times[name])
        if turn % columns == 0:
            panel.set_ylabel("seconds")
    found = np.concatenate([residuals(model, times[name]) for name, model in models.items()])
    _histogram(figure.add_subplot(places[rows, :]), found)
    dtype = next(iter(models.values())).dtype
    figure.suptitle(
        f"{machine_line(profile.fingerprint)}, {dtype}, {profile.created[:10]}\n"
        "points: measured; curves: fitted; in grey: error at held-out sizes, median and 90th percentile",
        fontsize=9,
        color=INK,
    )
    return figure


def _kernel(axes: Axes, model: KernelModel, times: Times) -> None:
    """Points and curves of one kernel over one of its dimensions."""
    found = curves(model.kernel, times)
    for curve, (shade, marker, line) in zip(found, STYLES, strict=False):
        colour = matplotlib.colormaps["cividis"](shade)
        at = [dims[curve.axis] for dims, _ in curve.times]
        axes.plot(*_fitted(model, curve), color=colour, linestyle=line, linewidth=1.1)
        axes.plot(
            at,
            [seconds for _, seconds in curve.times],
            marker,
            color=colour,
            markersize=3.2,
            markerfacecolor="white",
            markeredgewidth=0.8,
            label=curve.label,
        )
    axes.set(xscale="log", yscale="log", xlabel=KERNEL_BY_NAME[model.kernel].dims[found[0].axis])
    _log_ticks(axes)
    axes.set_title(model.kernel, loc="left", fontweight="bold", color=INK)
    axes.set_title(f"{model.error:.0%}, {model.error_p90:.0%}", loc="right", color=FAINT)
    if found[0].label:
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** 0.3)  # room for the legend above the curves
        axes.legend(
            loc="upper left", handlelength=0.8, handletextpad=0.4, borderaxespad=0.1, labelspacing=0.2
        )


def _fitted(model: KernelModel, curve: Curve) -> tuple[list[int], list[float]]:
    """The model between the least and the largest size measured."""
    sizes = [dims[curve.axis] for dims, _ in curve.times]
    fine = sorted({round(n) for n in np.geomspace(max(min(sizes), 1), max(*sizes, 1), 60)})
    before, after = curve.times[0][0][: curve.axis], curve.times[0][0][curve.axis + 1 :]
    return fine, [model.seconds((*before, n, *after)) for n in fine]


def _log_ticks(axes: Axes) -> None:
    """A few labels in engineering units, none between the powers."""
    for axis, unit in ((axes.xaxis, ""), (axes.yaxis, "s")):
        axis.set_major_locator(LogLocator(numticks=5))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(EngFormatter(unit=unit, sep="" if not unit else " "))


def _histogram(axes: Axes, found: NDArray[np.float64]) -> None:
    """All residuals; what lies outside the picture is counted in its last bars."""
    size = np.abs(found)
    middle, high = float(np.median(found)), float(np.quantile(size, 0.9))
    edge = min(1.0, max(0.1, 2.5 * high))
    axes.hist(np.clip(found, -edge, edge), bins=60, range=(-edge, edge), color="#b8bfcc", edgecolor="white")
    axes.axvline(middle, color=INK, linewidth=1.4, label=f"median {middle:+.1%}")
    for sign, label in ((-1, None), (1, f"90 % are within ±{high:.1%}")):
        axes.axvline(sign * high, color=INK, linewidth=1.1, linestyle="--", label=label)
    outside = int((size > edge).sum())
    note = f"; {outside} beyond ±{edge:.0%} are in the last bars" if outside else ""
    axes.set_title("residuals", loc="left", fontweight="bold", color=INK)
    axes.set_title(
        f"{len(found)} sizes, half of them within ±{np.median(size):.1%}{note}", loc="right", color=FAINT
    )
    axes.set(xlim=(-1.02 * edge, 1.02 * edge), xlabel="predicted / measured - 1", ylabel="sizes")
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.legend(loc="upper right", fontsize=7)
