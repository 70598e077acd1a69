"""Figures of calibration over settings: who is how sure, and ECE against accuracy."""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from jaxreg.calibration.diagrams import Seen, entitle, layout, plain, reliability

__all__ = ["Points", "Seen", "ece_against_accuracy", "histograms", "reliability"]

MARKERS = "os^Dv<>P"
RIGHT: dict[str, Any] = {"fc": "#9CC7E2", "ec": "white", "lw": 0.4}
WRONG: dict[str, Any] = {"fc": "none", "ec": "#1c1e21", "lw": 1.0, "hatch": "/////"}
LETTERS = 130  # of a legend, in a line


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
    told = "noise floor, upper end"
    columns = max(1, LETTERS // (max(len(name) for name in [*settings, told]) + 6))
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
    keys.append(Line2D([], [], ls="", marker="_", color="#555555", ms=16, mew=1.6, label=told))
    figure.legend(handles=keys, loc="outside upper left", ncols=columns, frameon=False, fontsize=9)
    return figure
