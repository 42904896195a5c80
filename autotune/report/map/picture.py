"""The picture of a choice map: a coloured region for each strategy, contours of the gain over ``keep``.

The colours are those of Okabe and Ito (2008), which the colour-blind tell apart; every region also bears its
name. ``keep`` is grey.
"""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autotune.report.map.choice_map import PLANES, STRUCTURES, ChoiceMap
from autotune.strategies import STRATEGIES

try:
    import matplotlib
    from matplotlib.colors import ListedColormap, to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import ScalarFormatter
except ImportError as error:
    raise ImportError(
        f"Pictures need matplotlib ({error}). Run `pip install 'pytensor-autotune[plots]'`."
    ) from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY, INK = "#d9d9d9", "#222222"
DARK = 0.45
"""The luminance up to which a colour bears light letters."""
OKABE_ITO = ("#56B4E9", "#E69F00", "#F0E442", "#009E73", "#CC79A7", "#0072B2", "#D55E00")
GAINS = (1.5, 3, 10, 30, 100, 1000)
SMALLEST_LABELLED = 0.02
"""Share of the picture from which on a region bears its name."""
TITLE_WIDTH = 90
"""Characters in a line of the title: what stands beside each other in the figure."""
SETTINGS: Any = {"font.size": 8, "svg.fonttype": "none", "svg.hashsalt": "autotune", "savefig.dpi": 130}
_DATELESS = {".svg": {"Date": None}}  # the same profile gives the same file


def save(chart: ChoiceMap, heading: str, path: str | os.PathLike[str]) -> None:
    """Draw ``chart`` and write PNG, SVG or another format by the ending; ValueError for an unknown one."""
    with matplotlib.rc_context(SETTINGS):
        draw(chart, heading).savefig(path, metadata=_DATELESS.get(Path(path).suffix.lower()))


def draw(chart: ChoiceMap, heading: str) -> Figure:
    """The plane on logarithmic axes, under ``heading`` and what is asked of which matrix."""
    figure = Figure(figsize=(6.6, 4.9), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xscale="log", yscale="log", xlabel="n, rows of the matrix")  # the labels of contours need it
    axes.set_ylabel(PLANES[chart.question.axis].label)
    names = [name for name in colours(chart) if (chart.chosen == name).any()]
    _regions(axes, chart, names)
    _contours(axes, chart)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
    patches = [Patch(color=colours(chart)[name], label=name) for name in names]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
    title = "\n".join(textwrap.fill(line, TITLE_WIDTH) for line in (heading, subtitle(chart)))
    axes.set_title(title, fontsize=8, color=INK)
    return figure


def colours(chart: ChoiceMap) -> dict[str, str]:
    """A colour for each strategy, the same in every map; a split of the requests gets one that is left."""
    ours = [s.name for s in STRATEGIES if s.name != "keep"]
    splits = [str(name) for name in np.unique(chart.chosen) if name != "keep" and name not in ours]
    cycle = {name: OKABE_ITO[i % len(OKABE_ITO)] for i, name in enumerate([*ours, *splits])}
    return {"keep": GREY} | cycle


def subtitle(chart: ChoiceMap) -> str:
    """What is asked of which matrix, and the sizes that are held."""
    asked = chart.question
    letters = {"rank": "k", "columns": "m"}
    sizes = [f"{letters[name]} = {size}" for name, size in asked.shown_sizes.items() if name in letters]
    parts = [STRUCTURES[asked.structure].words, *sizes, asked.dtype]
    gradient = " with gradient" if asked.gradient else ""
    return f"{', '.join(asked.requests)}{gradient}; {', '.join(parts)}; lines: predicted gain over keep"


def _regions(axes: Axes, chart: ChoiceMap, names: list[str]) -> None:
    """One colour a strategy, and its name in the middle of each of its larger regions."""
    shades = [colours(chart)[name] for name in names]
    number = np.vectorize(names.index, otypes=[int])(chart.chosen)
    axes.pcolormesh(
        chart.n, chart.others, number, cmap=ListedColormap(shades), vmin=-0.5, vmax=len(names) - 0.5,
        shading="nearest", rasterized=True,
    )  # fmt: skip
    for name, shade in zip(names, shades, strict=True):
        for row, column in _middles(chart.chosen == name):
            _name(axes, float(chart.n[column]), float(chart.others[row]), name, shade)


def _name(axes: Axes, x: float, y: float, name: str, shade: str) -> None:
    """A name on a patch of its region's colour, so that no line crosses it; light on the dark colours."""
    red, green, blue = to_rgb(shade)
    ink = INK if 0.3 * red + 0.59 * green + 0.11 * blue > DARK else "white"
    patch = {"facecolor": shade, "edgecolor": "none", "pad": 1.5}
    axes.text(x, y, name, ha="center", va="center", color=ink, weight="bold", bbox=patch, clip_on=True)


def _middles(region: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """In each connected part that is large enough, the cell farthest from its border."""
    parts, count = ndimage.label(region)
    found = []
    for part in range(1, count + 1):
        inside = parts == part
        if inside.mean() >= SMALLEST_LABELLED:
            depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
            row, column = np.unravel_index(int(depth.argmax()), depth.shape)
            found.append((int(row), int(column)))
    return found


def _contours(axes: Axes, chart: ChoiceMap) -> None:
    """Lines of equal gain, where the graph does not stay as it is."""
    gain = np.ma.masked_where(~np.isfinite(chart.gain) | (chart.chosen == "keep"), chart.gain)
    levels = [level for level in GAINS if gain.count() and gain.min() < level < gain.max()]
    if levels and min(gain.shape) > 1:
        lines = axes.contour(chart.n, chart.others, gain, levels=levels, colors=INK, linewidths=0.7)
        axes.clabel(lines, fmt=lambda level: f"{level:g}×", fontsize=7)
