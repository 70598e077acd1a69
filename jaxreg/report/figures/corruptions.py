"""Accuracy and calibration under common corruptions, by family."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxreg import results
from jaxreg.names import rows_of
from jaxreg.report.data import StudyData
from jaxreg.report.figures import counts
from jaxreg.report.figures.maker import Maker
from jaxreg.report.palette import Look, canvas, grid, looks
from jaxreg.report.tables import differences

PREFIX = "corruption_"
PANELS = (("accuracy", "accuracy %"), ("ece", "ECE %"))
FLOOR = "ece_floor"  # beside the ECE, with low and high


def figure(data: StudyData) -> Figure | None:
    """Draws accuracy and ECE by family (mean over severities), seeds as dots; None where nothing was corrupted."""
    found = _by_family(data)
    measured = found[found["kind"] == f"{PREFIX}accuracy"]
    if measured.empty:
        return None
    look, families = looks(data), list(dict.fromkeys(measured["family"]))
    figure_ = canvas(4.8, look, only=measured["setting"].unique())
    axes = grid(figure_, len(PANELS), 1, sharex=True)
    for axis, (metric, title) in zip(axes, PANELS):
        for setting, shift in _shifts(look).items():
            _dots(axis, _values(found, setting, metric, families), look[setting], shift)
            if metric == "ece":
                _floors(axis, _values(found, setting, FLOOR, families, "high"), look[setting], shift)
        axis.set_xticks(range(len(families)), [name.replace("_", "\n") for name in families])
        axis.set(ylabel=title)
    axes[1].set_ylim(bottom=0)
    _mark(axes[1], found, data, families)
    return figure_


def _shifts(look: Mapping[str, Look]) -> dict[str, float]:
    """Where each setting stands beside the tick of a family."""
    return {setting: (place - (len(look) - 1) / 2) * 0.7 / len(look) for place, setting in enumerate(look)}


def _by_family(data: StudyData) -> pd.DataFrame:
    """Means over severities of corruption_METRIC/FAMILY/SEVERITY: `kind` and `family` are its first two parts."""
    wanted = [f"{PREFIX}{metric}" for metric in (*(name for name, _ in PANELS), FLOOR)]
    shown = data.frame[(data.frame["split"] == data.split) & np.isfinite(data.frame["value"])]
    parts = [rows_of(shown, metric, "family", "severity").assign(kind=metric) for metric in wanted]
    rows = pd.concat(parts)
    rows = rows.assign(metric=rows["kind"] + "/" + rows["family"])
    by = ["setting", *results.SETTING, "trial", "seed", "split", "metric", "kind", "family"]
    return rows.groupby(by, sort=False, as_index=False, observed=True)[["value", "low", "high"]].mean()


def _values(
    rows: pd.DataFrame, setting: str, metric: str, families: list[str], column: str = "value"
) -> list[np.ndarray]:
    """In %, of every trial of a setting, by family."""
    own = rows[(rows["setting"] == setting) & (rows["kind"] == f"{PREFIX}{metric}")]
    return [100 * own.loc[own["family"] == family, column].to_numpy() for family in families]


def _dots(axis: Axes, values: list[np.ndarray], look: Look, shift: float) -> None:
    for place, own in enumerate(values):
        axis.plot(np.full(len(own), place + shift), own, look.marker, color=look.colour, markersize=4, alpha=0.6)
        axis.hlines(own.mean() if len(own) else np.nan, place + shift - 0.08, place + shift + 0.08, look.colour)


def _floors(axis: Axes, ends: list[np.ndarray], look: Look, shift: float) -> None:
    for place, own in enumerate(ends):
        if np.isfinite(own).any():
            axis.plot(place + shift, np.nanmean(own), "_", color=look.colour, markersize=7, markeredgewidth=0.8)


def _mark(axis: Axes, rows: pd.DataFrame, data: StudyData, families: list[str]) -> None:
    """Writes `differences.MARK` over a setting whose ECE differs from its baseline's by less than the noise floor."""
    ece = rows[rows["kind"] == f"{PREFIX}ece"]
    inside, shifts = differences.noisy(data, ece["metric"].unique(), rows), _shifts(looks(data))
    for (setting, metric), own in ece.groupby(["setting", "metric"], observed=True):
        if (setting, metric) in inside:
            at = families.index(own["family"].iloc[0]) + shifts[str(setting)], 100 * own["value"].max()
            axis.annotate(differences.MARK, at, (0, 2), textcoords="offset points", ha="center", fontsize=8)


FIGURES = {
    "corruptions": Maker(
        "robustness",
        figure,
        "Accuracy and ECE (raw logits) on corrupted test images, by family, mean over the severities measured: dots "
        "are seeds, bars their mean. Thin dashes: the upper end of the 95 % range of the ECE that a perfectly "
        "calibrated network with these confidences shows at this n, mean over severities; ≈: the difference to the "
        "baseline lies inside it.",
        told=counts.over("corruption_accuracy/"),
    ),
}
