"""Figures of calibration over settings: who is how sure, and ECE against accuracy."""

import itertools
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy.ndimage import gaussian_filter1d

from jaxreg.calibration.bins import BINS, on_host

REPLICATES = 200
GRID = 257  # points of the curves
BANDWIDTH = 0.04  # of the curves: below it single examples show, above it bends vanish
LEAST = 10.0  # predictions under the kernel, for a curve to be drawn


def smooth(
    confidence_SN: Shaped[np.ndarray, "S N"], correct_SN: Shaped[np.ndarray, "S N"], replicates: int = REPLICATES
) -> tuple[np.ndarray, ...]:
    """Returns (confidence, accuracy, low, high) of the diagram without bins: 95 % over examples, by a bootstrap.

    Means under a Gaussian of width `BANDWIDTH` that is reflected at 0 and 1, where it weighs `LEAST` predictions. All
    seeds of an example are drawn together: they share its label. Without replicates, low and high are the accuracy.
    """
    examples = confidence_SN.shape[1]
    draws_NR = np.random.default_rng(0).poisson(1.0, (examples, replicates))
    weight_NR = np.concatenate([np.ones((examples, 1)), draws_NR], -1, dtype=np.float32, casting="same_kind")
    sums_2GR = np.zeros((2, GRID, 1 + replicates))
    for confidence_N, correct_N in zip(confidence_SN, correct_SN):  # the weights of all seeds at once would be too many
        share_GN = _shares(confidence_N)
        sums_2GR += share_GN @ weight_NR, (share_GN * correct_N[None]) @ weight_NR
    under_GR, hits_GR = map(_under_kernel, sums_2GR)
    accuracy_GR = hits_GR / np.maximum(under_GR, 1e-12)
    low, high = np.percentile(accuracy_GR[:, 1:] if replicates else accuracy_GR, [2.5, 97.5], axis=-1)
    seen = under_GR[:, 0] >= min(LEAST, under_GR[:, 0].max())
    return tuple(values[seen] for values in (np.linspace(0, 1, GRID), accuracy_GR[:, 0], low, high))


def broken(grid: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """The same with a NaN in every gap of the grid: no line is drawn where too few predictions were seen."""
    gaps = np.flatnonzero(np.diff(grid) > 1.5 / (GRID - 1)) + 1
    return [np.insert(one, gaps, np.nan) for one in (grid, *values)]


def _shares(confidence_N: np.ndarray) -> scipy.sparse.csr_array:
    """Each confidence shared out between the two points [G] of a grid on [0, 1] around it."""
    place_N = confidence_N.astype(np.float64) * (GRID - 1)
    left_N = np.minimum(place_N.astype(int), GRID - 2)
    right_N, each = place_N - left_N, np.arange(len(place_N))
    places = np.concatenate([left_N, left_N + 1]), np.tile(each, 2)
    return scipy.sparse.csr_array((np.concatenate([1 - right_N, right_N]), places), (GRID, len(place_N)))


def _under_kernel(weight_GR: np.ndarray) -> np.ndarray:
    """How much weight a Gaussian around each point averages: its mean times its width, 2 sqrt(pi) bandwidths."""
    ends = np.r_[2.0, np.ones(GRID - 2), 2.0][:, None]  # a mirror shows what is on its edge once
    width = BANDWIDTH * (GRID - 1)
    return gaussian_filter1d(weight_GR * ends, width, axis=0, mode="mirror") * 2 * np.sqrt(np.pi) * width


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


MARKERS = "os^Dv<>P"
RIGHT: dict[str, Any] = {"fc": "#9CC7E2", "ec": "white", "lw": 0.4}
WRONG: dict[str, Any] = {"fc": "none", "ec": "#1c1e21", "lw": 1.0, "hatch": "/////"}
LEGEND_LETTERS = 130  # of a legend, in a line


def histograms(settings: Mapping[str, Seen], bins: int = 20) -> Figure:
    """Draws, for each setting, how many right and wrong predictions have each confidence, before temperature."""
    figure, rows, columns = layout(len(settings), 2.1, 0.5)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for place, (name, seen) in enumerate(settings.items()):
        axis = axes[divmod(place, columns)]
        right = seen.correct.astype(bool)
        for those, look in ((right, RIGHT), (~right, WRONG)):
            axis.hist(seen.confidence[those], np.linspace(0, 1, bins + 1), log=True, **look)
        entitle(axis, name)
        axis.set(xlim=(0, 1), xticks=[0, 0.5, 1])
        axis.xaxis.set_tick_params(labelbottom=True)
        plain(axis)
        if place % columns == 0:
            axis.set_ylabel("predictions")
        if place + columns >= len(settings):
            axis.set_xlabel("confidence")
    for axis in axes.ravel()[len(settings) :]:
        axis.remove()
    keys = [Patch(**RIGHT, label="right"), Patch(**WRONG, label="wrong")]
    figure.legend(handles=keys, loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return figure


class Points(NamedTuple):
    """One setting over its seeds, [S] each, as shares; `floor` is the ECE of a perfect model (upper end).

    `noise`: whether the ECE differs from that of the baseline by less than the floors; it is drawn open.
    """

    accuracy: np.ndarray
    ece: np.ndarray
    ece_ts: np.ndarray
    floor: np.ndarray
    floor_ts: np.ndarray
    noise: bool = False
    noise_ts: bool = False


def ece_against_accuracy(settings: Mapping[str, Points], colours: Mapping[str, str]) -> Figure:
    """Draws every seed as a small dot and the mean of its setting as a large one, before and after temperature."""
    looks = {name: (colours[name], marker) for name, marker in zip(settings, itertools.cycle(MARKERS))}
    floor_name = "noise floor, upper end"
    columns = max(1, LEGEND_LETTERS // (max(len(name) for name in [*settings, floor_name]) + 6))
    figure = Figure(figsize=(9, 3.4 + 0.2 * -(-(len(settings) + 1) // columns)), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, kind, title in zip(axes, ("", "_ts"), ("before temperature", "after temperature")):
        for name, points in settings.items():
            accuracy, ece = 100 * points.accuracy, 100 * getattr(points, "ece" + kind)
            look = dict(zip(("color", "marker"), looks[name]))
            axis.scatter(accuracy, ece, s=16, alpha=0.55, lw=0, **look)
            noise = getattr(points, "noise" + kind)
            edge = {"facecolors": "white", "edgecolors": look["color"], "lw": 1.6} if noise else {"edgecolors": "white"}
            axis.scatter(accuracy.mean(), ece.mean(), s=90, zorder=3, **{"lw": 0.8, **look, **edge})
            floor = 100 * float(np.mean(getattr(points, "floor" + kind)))
            axis.plot(accuracy.mean(), floor, "_", ms=26, mew=1.6, color=look["color"], zorder=2)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel("accuracy (%)")
        plain(axis)
    axes[0].set_ylabel("ECE (%)")
    axes[0].set_ylim(bottom=0)
    keys: list[Any] = [
        Line2D([], [], ls="", color=looks[name][0], marker=looks[name][1], ms=7, label=name) for name in settings
    ]
    keys.append(Line2D([], [], ls="", marker="_", color="#555555", ms=16, mew=1.6, label=floor_name))
    figure.legend(handles=keys, loc="outside upper left", ncols=columns, frameon=False, fontsize=9)
    return figure
