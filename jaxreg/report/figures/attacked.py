"""Confidence under attack: is a network that is fooled still sure?"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxreg.names import rows_of
from jaxreg.report.data import StudyData
from jaxreg.report.figures import counts
from jaxreg.report.figures.maker import Maker
from jaxreg.report.palette import Look, band, canvas, grid, looks
from jaxreg.report.tables import differences

PANELS = (("ece", "ECE %"), ("confidence", "mean confidence %"), ("confidence_gap", "confidence - accuracy, points"))


def figure(data: StudyData) -> Figure | None:
    """Draws ECE, confidence and their gap to accuracy at the points of the highest loss within a radius; 0: no attack.

    None where nothing was attacked.
    """
    attacked = {metric: _over_radii(data, metric) for metric, _ in PANELS}
    if attacked["ece"].empty:
        return None
    look = looks(data)
    canvas_ = canvas(2.9, look, only=attacked["ece"]["setting"].unique())
    axes = grid(canvas_, len(PANELS), len(PANELS))
    for axis, (metric, title) in zip(axes, PANELS):
        for setting, one in look.items():
            rows = attacked[metric][attacked[metric]["setting"] == setting]
            band(axis, rows.groupby("eps")["value"], one, scale=100, marker=4)
        axis.set(title=title, xlabel="radius")
    _mark(axes[0], attacked["ece"], data, look)
    return canvas_


def _mark(axis: Axes, ece: pd.DataFrame, data: StudyData, look: Mapping[str, Look]) -> None:
    """Dashes at the mean upper end of each floor; an open marker where the difference to the baseline is noise."""
    floors_ = _over_radii(data, "ece_floor")
    inside = differences.noisy(data, ece["metric"].unique())
    for setting, one in look.items():
        ends = floors_[floors_["setting"] == setting].groupby("eps")["high"].mean()
        axis.plot(ends.index, 100 * ends, "_", color=one.colour, markersize=8, markeredgewidth=0.9)
    for (name, metric), own in ece.groupby(["setting", "metric"], observed=True):
        if (name, metric) in inside:
            one, at = look[str(name)], (own["eps"].iloc[0], 100 * own["value"].mean())
            axis.plot(*at, one.marker, color=one.colour, markersize=5.5, markerfacecolor="white", zorder=4)


def _over_radii(data: StudyData, metric: str) -> pd.DataFrame:
    """The rows of a metric with their radius, the clean ones at 0."""
    rows = rows_of(data.frame[data.frame["split"] == data.split], f"attacked_{metric}", "attack", "eps")
    attacked = rows[rows["attack"] == "strongest"].astype({"eps": float})
    clean = data.values(metric).assign(eps=0.0)
    joined = pd.concat([clean[clean["trial"].isin(attacked["trial"])], attacked])
    return joined[np.isfinite(joined["value"])]


FIGURES = {
    "attacked": Maker(
        "robustness",
        figure,
        "Calibration at the points where PGD on the cross-entropy, run to its end and not only until it fools, found "
        "the highest loss within each radius; raw logits, all examples; 0: clean images. A network that is fooled and "
        "stays sure has a large gap between its confidence and its accuracy. Means over seeds, in a band from the "
        "lowest to the highest seed. Dashes: the upper end of the 95 % range of the ECE that a perfectly calibrated "
        "network with these confidences shows at this n; open marks: the difference to the baseline lies inside it.",
        told=counts.parts(clean="ece$", under_attack="attacked_ece"),
    ),
}
