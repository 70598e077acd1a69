"""Robust accuracy by attack and radius: bars for a few radii, curves for many."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxreg.report.data import StudyData
from jaxreg.report.palette import WIDTH, legend, looks

MANY = 4  # radii of one attack from which a curve says more than bars


def robust_rows(data: StudyData) -> pd.DataFrame:
    """Returns the rows robust_accuracy/ATTACK/EPS of the report's split with the columns `attack` and `eps` (float)."""
    rows = data.frame[(data.frame["split"] == data.split) & np.isfinite(data.frame["value"])]
    parts = rows["metric"].str.extract(r"^robust_accuracy/([^/]+)/([^/]+)$")
    known = parts[0].notna()
    return rows[known].assign(attack=parts[0][known], eps=parts[1][known].astype(float))


def bars(data: StudyData) -> Figure | None:
    """Draws clean accuracy and robust accuracy by attack and radius, seeds as dots; None where nothing was attacked.

    Of an attack with many radii only those are drawn that all attacks share, or else its largest.
    """
    groups = _groups(data)
    if len(groups) < 2:
        return None
    settings, look = data.settings, looks(data.settings)
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axis = figure.subplots()
    width = 0.84 / len(settings)
    for i, setting in enumerate(settings):
        for place, rows in enumerate(groups.values()):
            value = 100 * rows.loc[rows["setting"] == setting, "value"].to_numpy()
            left = place - 0.42 + (i + 0.5) * width
            _bar(axis, left, width, value, look[setting].colour, i // 8)
    axis.set_xticks(range(len(groups)), list(groups))
    axis.set(ylabel="accuracy %", ylim=(0, 100))
    axis.grid(False, axis="x")
    legend(figure, settings, settings)
    return figure


def curves(data: StudyData) -> Figure | None:
    """Draws robust accuracy against the radius, one panel an attack; None where no attack has many radii."""
    rows = robust_rows(data)
    radii = rows.groupby("attack", sort=False)["eps"].nunique()
    attacks = list(radii[radii >= MANY].index)
    if not attacks:
        return None
    figure = Figure(figsize=(WIDTH, 3.2 * -(-len(attacks) // 3) + 0.4), layout="constrained")
    grid = figure.subplots(-(-len(attacks) // 3), min(3, len(attacks)), squeeze=False, sharey=True).ravel()
    for axis, attack in zip(grid, attacks):
        for setting, look in looks(data.settings).items():
            lines = rows[(rows["attack"] == attack) & (rows["setting"] == setting)].groupby("eps")["value"]
            mean, low, high = 100 * lines.mean(), 100 * lines.min(), 100 * lines.max()
            axis.plot(mean.index, mean, look.line, color=look.colour)
            axis.fill_between(mean.index, low, high, color=look.colour, alpha=0.15, linewidth=0)
        axis.set(title=attack, xlabel="eps", ylim=(0, 100))
    for axis in grid[len(attacks) :]:
        axis.set_axis_off()
    grid[0].set_ylabel("accuracy %")
    legend(figure, data.settings, data.settings)
    return figure


def _groups(data: StudyData) -> dict[str, pd.DataFrame]:
    rows = robust_rows(data)
    rows = rows[rows["eps"] > 0]
    radii = {attack: set(part["eps"]) for attack, part in rows.groupby("attack", sort=False)}
    shared = set.intersection(*radii.values()) if radii else set()
    groups = {"clean": data.values("accuracy")} if len(data.values("accuracy")) else {}
    for attack, all_eps in radii.items():
        few = all_eps if len(all_eps) < MANY else shared if 0 < len(shared) < MANY else {max(all_eps)}
        for eps in sorted(few):
            groups[f"{attack}\n{eps:g}"] = rows[(rows["attack"] == attack) & (rows["eps"] == eps)]
    return groups


def _bar(axis, center: float, width: float, value: np.ndarray, colour: str, turn: int) -> None:
    if len(value):
        hatch = ("", "//", "..", "xx")[turn % 4]
        axis.bar(center, value.mean(), 0.92 * width, color=colour, alpha=0.55, hatch=hatch, edgecolor="white", linewidth=0)
        spread = center + 0.5 * width * ((np.arange(len(value)) + 0.5) / len(value) - 0.5)
        axis.plot(spread, value, "o", color=colour, markersize=2.6, mew=0.4, mec="white")
