"""Reliability diagrams: how often a model is right when it says that it is c sure, before and after temperature."""

import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from jaxreg.calibration.bins import BINS, on_host
from jaxreg.calibration.smooth_curve import REPLICATES, broken, smooth

BEFORE, AFTER, BAND = "#0072B2", "#D55E00", "#8EBEDA"  # Okabe and Ito: blue and vermilion differ in lightness too
COLUMNS = 4
NUMBER: dict[str, Any] = {"rotation": 90, "size": 7.5, "ha": "center", "va": "bottom", "color": "#1c1e21"}
NUMBER["path_effects"] = [withStroke(linewidth=1.8, foreground="white")]  # legible where the line of a neighbour passes
HEADROOM = 1.65  # of the shared scale over the tallest bar, for the number on it
LETTERS = 26  # of a setting's name, in a line above a panel


class Seen(NamedTuple):
    """One setting over its seeds S on the same examples N: confidence before and after temperature, and correct."""

    confidence: np.ndarray  # [S, N]
    confidence_ts: np.ndarray
    correct: np.ndarray


def reliability(settings: Mapping[str, Seen], bins: int = BINS) -> Figure:
    """Draws a diagram a setting, pooled over seeds, above the histogram of its confidences.

    Dots are bins of equal width before temperature, their area the share of examples; lines the smooth accuracy before
    (with a 95 % band over examples) and after temperature. The histogram carries the number of predictions of each bin
    before temperature.
    """
    figure, rows, columns = layout(len(settings), 3.7, 0.8)
    axes = figure.subplots(2 * rows, columns, sharex=True, squeeze=False, height_ratios=[3, 1.5] * rows)
    _share_y(axes)
    tallest: list[float] = []
    for place, (name, seen) in enumerate(settings.items()):
        row, column = divmod(place, columns)
        upper, lower = axes[2 * row, column], axes[2 * row + 1, column]
        _diagram(upper, seen, bins)
        tallest.append(_counts(lower, seen, bins))
        entitle(upper, name)
        lower.set_xlabel("confidence")
        lower.xaxis.set_tick_params(labelbottom=True)
        if column == 0:
            upper.set_ylabel("accuracy")
            lower.set_ylabel("share (%)")
    _limit_shares(axes[1, 0], max(tallest))
    _hide(axes, len(settings), columns)
    ncols = 4 if columns == COLUMNS else 2
    figure.legend(handles=_keys(), loc="outside upper left", ncols=ncols, frameon=False, fontsize=9)
    return figure


def layout(panels: int, row_height: float, extra: float) -> tuple[Figure, int, int]:
    """Returns an empty figure for `panels` panels (heights in inches), and its rows and columns, as even as can be."""
    rows = -(-panels // COLUMNS)
    columns = -(-panels // rows)
    size = (2.25 * max(columns, 3), row_height * rows + extra)
    return Figure(figsize=size, layout="constrained"), rows, columns


def plain(axis: Axes) -> None:
    """The look of every panel: a faint grid, two spines."""
    axis.grid(color="#e4e4e4", lw=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def entitle(axis: Axes, name: str) -> None:
    """Puts the name of a setting over its panel, wrapped where it would run into the next one."""
    axis.set_title(wrapped(name, LETTERS), fontsize=10, loc="left")


def wrapped(name: str, letters: int) -> str:
    """The name of a setting in lines of so many letters, cut before its hyperparameters first."""
    return name if len(name) <= letters else textwrap.fill(name.replace("(", " (", 1), letters)


def _diagram(axis: Axes, seen: Seen, bins: int) -> None:
    found = on_host(seen.confidence, seen.correct, bins)
    count, full = found.count, found.count > 0
    mean, accuracy = (sums[full] / count[full] for sums in (found.confidence, found.correct))
    area = 6 + 150 * count[full] / count.sum()
    axis.scatter(mean, accuracy, area, facecolors="none", edgecolors=BEFORE, lw=0.9, zorder=4, clip_on=False)
    axis.plot([0, 1], [0, 1], color="#777777", lw=0.8, zorder=1)
    for confidence, colour, line, band in (
        (seen.confidence, BEFORE, "-", True),
        (seen.confidence_ts, AFTER, "--", False),
    ):
        grid, accuracy, low, high = broken(*smooth(confidence, seen.correct, REPLICATES if band else 0))
        if band:
            axis.fill_between(grid, low, high, color=BAND, alpha=0.45, lw=0, zorder=1)
        axis.plot(grid, accuracy, line, color=colour, lw=1.7, zorder=3)
    axis.set(xlim=(0, 1), ylim=(0, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    plain(axis)


def _counts(axis: Axes, seen: Seen, bins: int) -> float:
    """Draws the shares of `_heights`, with the number of predictions over each bin, and returns the tallest share."""
    count_M = on_host(seen.confidence, seen.correct, bins).count
    before_M, after_M = _heights(seen, bins)
    edges = np.linspace(0, 1, bins + 1)
    axis.bar(edges[:-1], before_M, 1 / bins, align="edge", color=BEFORE, alpha=0.45, lw=0)
    axis.stairs(after_M, edges, color=AFTER, ls="--", lw=1.3, baseline=0)
    for middle, count, top in zip(edges[:-1] + 0.5 / bins, count_M, np.maximum(before_M, after_M)):
        if count:
            axis.annotate(_short(count), (middle, top), (0, 2.5), textcoords="offset points", **NUMBER)
    plain(axis)
    return float(max(before_M.max(), after_M.max()))


def _heights(seen: Seen, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """The share of predictions (%) in each bin (l, u], before and after temperature: of the bins that ECE has."""
    counts = (on_host(confidence, seen.correct, bins).count for confidence in (seen.confidence, seen.confidence_ts))
    before_M, after_M = (100 * count_M / seen.correct.size for count_M in counts)
    return before_M, after_M


def _short(count: float) -> str:
    """At most four letters up to a million: what stands over a bin must not be wider than high."""
    return f"{count:.0f}" if count < 9999.5 else f"{count / 1000:.0f}k"


def _limit_shares(axis: Axes, tallest: float) -> None:
    """Room for the numbers over the tallest bar of all panels, which share the axis; no tick above 100 %."""
    ticks = [tick for tick in MaxNLocator(2).tick_values(0, tallest) if 0 <= tick <= min(100, 1.2 * tallest)]
    axis.set(ylim=(0, HEADROOM * tallest), yticks=ticks)


def _share_y(axes: np.ndarray) -> None:
    for kind in (0, 1):
        for axis in axes[kind::2].ravel()[1:]:
            axis.sharey(axes[kind, 0])
    for axis in axes[:, 1:].ravel():
        axis.yaxis.set_tick_params(labelleft=False)


def _hide(axes: np.ndarray, used: int, columns: int) -> None:
    for place in range(used, axes.shape[0] // 2 * columns):
        row, column = divmod(place, columns)
        axes[2 * row, column].remove()
        axes[2 * row + 1, column].remove()


def _keys() -> list[Any]:
    return [
        Line2D([], [], color=BEFORE, lw=1.7, label="before temperature (smooth)"),
        Patch(color=BAND, label="95 % over examples"),
        Line2D([], [], ls="", marker="o", mfc="none", mec=BEFORE, label="before (bins, area: share)"),
        Line2D([], [], color=AFTER, lw=1.7, ls="--", label="after temperature"),
    ]
