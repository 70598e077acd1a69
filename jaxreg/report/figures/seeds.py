"""Accuracy and calibration at one glance: one dot a seed, one bar a mean."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxreg.calibration import floors
from jaxreg.calibration.figures import wrapped
from jaxreg.report.data import StudyData
from jaxreg.report.figures.maker import Maker
from jaxreg.report.palette import WIDTH, Look, grid, looks
from jaxreg.report.tables import differences
from jaxreg.report.tables.columns import Column
from jaxreg.report.tables.main import MAIN

LETTERS = 30  # of a name, in a line
SHOWN = ("accuracy", "nll", "nll_ts", "ece", "ece_ts", "confidence_gap")


def figure(data: StudyData) -> Figure | None:
    """Draws every trial's accuracy, NLL and ECE, before and after temperature; None without any of them."""
    columns = [column for column in MAIN.columns(data.frame, data.split) if column.metric in SHOWN]
    if not columns:
        return None
    shown = list(names(data).values())
    rows, line = -(-len(columns) // 3), max(0.3, 0.06 + 0.18 * max(name.count("\n") + 1 for name in shown))
    figure = Figure(figsize=(WIDTH, rows * (0.8 + line * len(shown))), layout="constrained")
    axes = grid(figure, len(columns), 3, sharey=True)
    for axis, column in zip(axes, columns):
        _strip(axis, data, column, looks(data))
    axes[0].set_yticks(range(len(shown)), shown)
    axes[0].set_ylim(len(shown) - 0.5, -0.5)
    return figure


def names(data: StudyData) -> dict[str, str]:
    """Returns the name of every setting as it stands beside an axis: long ones in several lines."""
    return {setting: wrapped(setting, LETTERS) for setting in data.settings}


def _strip(axis: Axes, data: StudyData, column: Column, look: dict[str, Look]) -> None:
    rows, floor = data.values(column.metric, column.split), data.values(floors.floor_of(column.metric))
    noise = differences.noisy(data, [column.metric])
    for place, (setting, one) in enumerate(look.items()):
        range_ = 100 * floor.loc[floor["setting"] == setting, ["low", "high"]].mean()
        axis.fill_betweenx([place - 0.42, place + 0.42], range_["low"], range_["high"], color="#dddddd", linewidth=0)
        value = rows.loc[rows["setting"] == setting, "value"].to_numpy() * column.scale
        if len(value):
            spread = place + 0.5 * (np.arange(len(value)) + 0.5) / len(value) - 0.25
            axis.plot(value, spread, one.marker, color=one.colour, markersize=4, alpha=0.6, mew=0)
            axis.plot([value.mean()] * 2, [place - 0.36, place + 0.36], color=one.colour, linewidth=2.2)
        if (setting, column.metric) in noise:
            at = (value.max(), place)
            axis.annotate(differences.MARK, at, (5, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set_title(column.title)
    axis.xaxis.set_major_locator(MaxNLocator(3))
    axis.grid(False, axis="y")


FIGURES = {
    "seeds": Maker(
        "accuracy",
        figure,
        "Accuracy, NLL and ECE of every trial: a dot is a seed, a bar the mean of its setting. T: after "
        "temperature scaling fitted on validation. Grey: the 95 % range of the ECE that a perfectly calibrated network "
        "would show on so few examples; ≈: the difference to the baseline lies inside it. What is smaller than the "
        "spread of the dots is no difference either.",
    ),
}
