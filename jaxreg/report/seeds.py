"""Accuracy and calibration at one glance: one dot a seed, one bar a mean."""

import numpy as np
from matplotlib.figure import Figure

from jaxreg.report.columns import Column, main_columns
from jaxreg.report.data import StudyData
from jaxreg.report.palette import WIDTH, Look, looks

SHOWN = ("accuracy", "nll", "nll_ts", "ece", "ece_ts", "confidence_gap")


def figure(data: StudyData) -> Figure | None:
    """Draws every trial's accuracy, NLL and ECE, before and after temperature; None without any of them."""
    columns = [column for column in main_columns(data.frame, data.split) if column.metric in SHOWN]
    if not columns:
        return None
    settings, look = data.settings, looks(data.settings)
    rows = -(-len(columns) // 3)
    figure = Figure(figsize=(WIDTH, rows * (0.8 + 0.3 * len(settings))), layout="constrained")
    grid = figure.subplots(rows, min(3, len(columns)), squeeze=False, sharey=True).ravel()
    for axis, column in zip(grid, columns):
        _strip(axis, data, column, settings, look)
    for axis in grid[len(columns) :]:
        axis.set_axis_off()
    grid[0].set_yticks(range(len(settings)), settings)
    grid[0].set_ylim(len(settings) - 0.5, -0.5)
    return figure


def _strip(axis, data: StudyData, column: Column, settings: list[str], look: dict[str, Look]) -> None:
    rows = data.values(column.metric, column.split)
    for place, setting in enumerate(settings):
        value = rows.loc[rows["setting"] == setting, "value"].to_numpy() * column.scale
        if len(value):
            spread = place + 0.5 * (np.arange(len(value)) + 0.5) / len(value) - 0.25
            axis.plot(value, spread, look[setting].marker, color=look[setting].colour, markersize=4, alpha=0.6, mew=0)
            axis.plot([value.mean()] * 2, [place - 0.36, place + 0.36], color=look[setting].colour, linewidth=2.2)
    axis.set_title(column.title)
    axis.grid(False, axis="y")
