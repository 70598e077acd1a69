"""Training curves: the mean over seeds of each setting, in a band from the lowest to the highest seed."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxreg.report.data import StudyData
from jaxreg.report.figures import counts
from jaxreg.report.figures.maker import Maker
from jaxreg.report.palette import Look, band, canvas, grid, logarithmic, looks, looks_of

QUANTITIES = {
    "loss": "training loss",
    "accuracy": "training accuracy %",
    "grad_norm": "gradient norm",
    "learning_rate": "learning rate",
}
LOGARITHMIC = ("loss", "grad_norm")


def figure(data: StudyData) -> Figure | None:
    """Draws loss, accuracy, gradient norm and learning rate against the step; None where no curves were kept."""
    shown = [name for name in QUANTITIES if name in data.curves and np.isfinite(data.curves[name]).any()]
    if not shown:
        return None
    trained = data.curves.drop_duplicates("setting").set_index("setting")
    look = {setting: one for setting, one in looks(data).items() if setting in trained.index}
    look = look or looks_of(trained)  # nothing is measured yet
    figure = canvas(2.4 * -(-len(shown) // 2), look)
    axes = grid(figure, len(shown), 2, sharex=True)
    for axis, name in zip(axes, shown):
        for setting, one in look.items():
            _band(axis, data.curves[data.curves["setting"] == setting], name, one)
        axis.set_title(QUANTITIES[name])
        if name in LOGARITHMIC and (data.curves[name].dropna() > 0).all():
            logarithmic(axis)
    for axis in axes[-2:]:
        axis.set_xlabel("step")
    return figure


def _band(axis: Axes, curves: pd.DataFrame, name: str, look: Look) -> None:
    finite = curves[np.isfinite(curves[name])]
    band(axis, finite.groupby("step")[name], look, scale=100 if name == "accuracy" else 1)


FIGURES = {
    "curves": Maker(
        "training",
        figure,
        "Training: mean over seeds, in a band from the lowest to the highest seed. Losses of different "
        "regularizers have different floors and must not be compared; accuracy under mixing is measured on the "
        "dominant label.",
        told=counts.over(""),
    ),
}
