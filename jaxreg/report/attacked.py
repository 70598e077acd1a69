"""Confidence under attack: is a network that is fooled still sure?"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxreg.report.data import StudyData
from jaxreg.report.palette import band, canvas, grid, looks

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
    for axis, (metric, title) in zip(grid(canvas_, len(PANELS), len(PANELS)), PANELS):
        for setting, one in look.items():
            rows = attacked[metric][attacked[metric]["setting"] == setting]
            band(axis, rows.groupby("eps")["value"], one, scale=100, marker=4)
        axis.set(title=title, xlabel="radius")
    return canvas_


def _over_radii(data: StudyData, metric: str) -> pd.DataFrame:
    """The rows of a metric with their radius, the clean ones at 0."""
    rows = data.frame[data.frame["split"] == data.split]
    eps = rows["metric"].str.extract(rf"^attacked_{metric}/strongest/([^/]+)$")[0]
    attacked = rows[eps.notna()].assign(eps=eps[eps.notna()].astype(float))
    clean = data.values(metric).assign(eps=0.0)
    joined = pd.concat([clean[clean["trial"].isin(attacked["trial"])], attacked])
    return joined[np.isfinite(joined["value"])]
