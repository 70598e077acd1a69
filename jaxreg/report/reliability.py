"""Reliability diagrams: how often the network is right when it says it is c sure, before and after temperature."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxreg.report.data import StudyData
from jaxreg.report.palette import WIDTH, grid, looks

BINS = 15


def figure(data: StudyData) -> Figure | None:
    """Draws one diagram a setting, pooled over its seeds; None where no confidences were saved."""
    before = data.by_setting("calibration", f"{data.split}/confidence", f"{data.split}/correct")
    after = data.by_setting("calibration", f"{data.split}/confidence_ts", f"{data.split}/correct")
    if not before:
        return None
    figure = Figure(figsize=(WIDTH, 2.6 * -(-len(before) // 4) + 0.4), layout="constrained")
    axes, look = grid(figure, len(before), 4, sharex=True, sharey=True), looks(data)
    for axis, (setting, trials) in zip(axes, before.items()):
        _diagram(axis, trials, look[setting].colour, "-", "before")
        if setting in after:
            _diagram(axis, after[setting], look[setting].colour, ":", "after T")
        _shares(axis, trials, look[setting].colour)
        axis.set_title(setting if len(setting) <= 24 else textwrap.fill(setting.replace("(", " (", 1), 24), fontsize=9)
        axis.tick_params(labelbottom=True)
    axes[0].legend(loc="upper left", handlelength=1.6)
    axes[0].set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    figure.supxlabel("confidence", fontsize=10)
    figure.supylabel("accuracy", fontsize=10)
    return figure


def bins(confidence_N: np.ndarray, correct_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns count [M], mean confidence [M] and accuracy [M] of equal-width bins (l, u]; nan where a bin is empty.

    Confidence 0 falls into the first bin, exactly 1 into the last.
    """
    index_N = np.clip(np.ceil(confidence_N.astype(np.float64) * BINS).astype(int) - 1, 0, BINS - 1)
    count_M = np.bincount(index_N, minlength=BINS)
    with np.errstate(invalid="ignore"):
        confidence_M = np.bincount(index_N, confidence_N, minlength=BINS) / count_M
        return count_M, confidence_M, np.bincount(index_N, correct_N, minlength=BINS) / count_M


def _diagram(axis: Axes, trials: list[tuple[np.ndarray, ...]], colour: str, line: str, name: str) -> None:
    confidence_N, correct_N = (np.concatenate(arrays) for arrays in zip(*trials))
    count_M, confidence_M, accuracy_M = bins(confidence_N, correct_N)
    seen = count_M > 0
    axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    axis.plot(confidence_M[seen], accuracy_M[seen], line, color=colour, label=name)
    if line == "-":  # the area of a dot is the share of examples in its bin
        axis.scatter(
            confidence_M[seen], accuracy_M[seen], 4 + 120 * count_M[seen] / count_M.sum(), colour, alpha=0.5, lw=0
        )


def _shares(axis: Axes, trials: list[tuple[np.ndarray, ...]], colour: str) -> None:
    """A small histogram of the confidences along the foot of the diagram: its tallest bar is a fifth of the panel."""
    count_M, _, _ = bins(*(np.concatenate(arrays) for arrays in zip(*trials)))
    axis.bar((np.arange(BINS) + 0.5) / BINS, 0.2 * count_M / count_M.max(), 0.9 / BINS, color=colour, alpha=0.25, lw=0)
