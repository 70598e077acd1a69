"""Figures of geometry over many trials, by setting: curves over training, over scale, the reach of the cones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

# Okabe and Ito's set, its yellow replaced by a brown that shows on white; lines differ too, for print without colour.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6D31")
LINES = ("-", "--", "-.", ":")
BINS = 50
TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8)  # of the scale s
OVER_TRAINING = {
    "feature_norm": "feature norm",
    "center_cosine": "cosine to the center",
    "cone_fraction": "cone fraction",
    "angular_margin": "angular margin (rad)",
    "nc1": "NC1",
    "nc2_angle": "NC2 angle",
    "nc3": "NC3",
    "effective_rank": "effective rank",
}


def over_training(frame: pd.DataFrame, split: str = "train", metrics: Mapping[str, str] = OVER_TRAINING) -> Figure:
    """Metrics at a schedule of steps: mean over seeds in a band from the least to the greatest.

    Args: frame: columns regularizer, seed, step, split, metric, value.
    """
    rows = frame[(frame["split"] == split) & frame["metric"].isin(metrics)]
    names = [name for name in metrics if name in set(rows["metric"])]
    settings = list(dict.fromkeys(rows["regularizer"]))
    figure, panels = _canvas(len(names), settings)
    for axis, name in zip(panels, names):
        for place, setting in enumerate(settings):
            chosen = rows[(rows["metric"] == name) & (rows["regularizer"] == setting)]
            _band(axis, chosen.groupby("step")["value"], place)
        axis.set_title(metrics[name], fontsize=10, loc="left")
        axis.set_xlabel("step")
        if name == "nc1":
            axis.set_yscale("log")
    return figure


def scaling(frame: pd.DataFrame, split: str = "test") -> Figure:
    """ECE and NLL of s h against s by setting: mean over seeds in a band, a dot at each trial's best s for validation
    (not drawn where that lies beyond the scales measured).

    Args: frame: columns regularizer, seed, split, metric, value, with the metrics `scaled_ece/S` and `scaled_nll/S`.
    """
    settings = list(dict.fromkeys(frame["regularizer"]))
    figure, panels = _canvas(2, settings)
    for axis, name in zip(panels, ("ece", "nll")):
        rows = frame[(frame["split"] == split) & frame["metric"].str.startswith(f"scaled_{name}/")]
        rows = rows.assign(scale=rows["metric"].str.split("/").str[1].astype(float))
        for place, setting in enumerate(settings):
            _band(axis, rows[rows["regularizer"] == setting].groupby("scale")["value"], place)
            _dots(axis, frame[frame["regularizer"] == setting], f"{name}_best_scale", place)
        axis.axvline(1, color="#888888", linewidth=0.8)
        axis.set(xscale="log", xlabel="factor s on the features", xlim=(0.11, 9))
        axis.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_title(f"{name.upper()} of s·h", fontsize=10, loc="left")
        if name == "nll":
            axis.set_yscale("log")
    return figure


def histograms(values: Mapping[str, Mapping[str, Sequence[np.ndarray]]], log: Sequence[str] = ()) -> Figure:
    """Densities over examples by setting, seeds pooled, thin lines at means (medians where `log`).

    Args:
      values: by title of a panel, then by setting: one array [N] a trial.
      log: titles of panels with a logarithmic axis; zeros are left out there.
    """
    settings = list(next(iter(values.values())))
    figure, panels = _canvas(len(values), settings)
    for axis, (title, by_setting) in zip(panels, values.items()):
        pooled = {setting: np.concatenate(list(arrays)) for setting, arrays in by_setting.items()}
        if title in log:
            pooled = {setting: np.log10(value[value > 0]) for setting, value in pooled.items()}
        edges = np.histogram_bin_edges(np.concatenate(list(pooled.values())), BINS)
        shown = 10**edges if title in log else edges
        for place, value in enumerate(pooled.values()):
            look = _look(place)
            if len(value):
                axis.stairs(np.histogram(value, edges, density=True)[0], shown, linewidth=1.4, **look)
                middle = 10 ** np.median(value) if title in log else value.mean()
                axis.axvline(middle, linewidth=0.8, alpha=0.6, **look)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set(yticks=[], xscale="log" if title in log else "linear")
    return figure


def _canvas(panels: int, settings: Sequence[str]) -> tuple[Figure, list[Axes]]:
    columns = min(panels, 4)
    rows = -(-panels // columns)
    figure = Figure(figsize=(9.0 if columns > 2 else 3.6 * columns, 2.3 * rows + 0.4), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for unused in axes[panels:]:
        unused.set_axis_off()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    handles = [Line2D([], [], linewidth=1.6, label=name, **_look(place)) for place, name in enumerate(settings)]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(settings), 5), frameon=False, fontsize=9)
    return figure, axes[:panels]


def _look(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": LINES[place % len(LINES)]}


def _band(axis: Axes, groups: "pd.core.groupby.SeriesGroupBy", place: int) -> None:
    mean, low, high = groups.mean(), groups.min(), groups.max()
    axis.plot(mean.index, mean, linewidth=1.6, **_look(place))
    axis.fill_between(mean.index, low, high, color=COLOURS[place % len(COLOURS)], alpha=0.15, linewidth=0)


def _dots(axis: Axes, rows: pd.DataFrame, metric: str, place: int) -> None:
    best = rows[rows["metric"] == "best_scale"].set_index("seed")["value"]
    value = rows[rows["metric"] == metric].set_index("seed")["value"].reindex(best.index)
    axis.plot(best, value, "o", color=COLOURS[place % len(COLOURS)], markersize=4, markeredgecolor="white", zorder=3)
