"""Accuracy and calibration under common corruptions, by family."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxreg.report.data import StudyData
from jaxreg.report.palette import Look, canvas, grid, looks

PANELS = (("accuracy", "accuracy %"), ("ece", "ECE %"))


def figure(data: StudyData) -> Figure | None:
    """Draws accuracy and ECE by family (mean over severities), seeds as dots; None where nothing was corrupted."""
    found = {metric: _by_family(data, metric) for metric, _ in PANELS}
    if found["accuracy"].empty:
        return None
    look = looks(data)
    figure_ = canvas(4.8, look, only=found["accuracy"]["setting"].unique())
    for axis, (metric, title) in zip(grid(figure_, len(PANELS), 1, sharex=True), PANELS):
        families = list(dict.fromkeys(found[metric]["family"]))
        for place, (setting, one) in enumerate(look.items()):
            own = found[metric][found[metric]["setting"] == setting]
            _dots(axis, own, families, one, (place - (len(look) - 1) / 2) * 0.7 / len(look))
        axis.set_xticks(range(len(families)), [name.replace("_", "\n") for name in families])
        axis.set(ylabel=title)
    return figure_


def _by_family(data: StudyData, metric: str) -> pd.DataFrame:
    rows = data.frame[(data.frame["split"] == data.split) & np.isfinite(data.frame["value"])]
    family = rows["metric"].str.extract(rf"^corruption_{metric}/([^/]+)/[^/]+$")[0]
    rows = rows[family.notna()].assign(family=family[family.notna()])
    return rows.groupby(["setting", "study", "trial", "family"], sort=False, as_index=False)["value"].mean()


def _dots(axis: Axes, rows: pd.DataFrame, families: list[str], look: Look, shift: float) -> None:
    for place, family in enumerate(families):
        values = 100 * rows.loc[rows["family"] == family, "value"].to_numpy()
        axis.plot(np.full(len(values), place + shift), values, look.marker, color=look.colour, markersize=4, alpha=0.6)
        axis.hlines(values.mean() if len(values) else np.nan, place + shift - 0.08, place + shift + 0.08, look.colour)
