"""What length alone does to calibration: the ECE and NLL of features times s, against temperature 1 / s."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from jaxreg.names import rows_of
from jaxreg.report.data import StudyData
from jaxreg.report.figures.maker import Maker
from jaxreg.report.palette import Look, band, canvas, grid, logarithmic, looks

TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8)
LIMITS = (0.11, 9.0)
TITLES = {"ece": "ECE %", "nll": "NLL"}


def figure(data: StudyData) -> Figure | None:
    """Draws both curves of every setting, a dot at each trial's best s; None where they were not measured."""
    if rows_of(data.frame, "scaled_ece", "scale").empty:
        return None
    look = looks(data)
    figure = canvas(3.2, look)
    for axis, name in zip(grid(figure, 2, 2), TITLES):
        for setting, one in look.items():
            _curves(axis, data.frame[data.frame["setting"] == setting], name, one)
        axis.axvline(1, color="#888888", linewidth=0.8)
        axis.set(xscale="log", xlabel="s", xlim=LIMITS, title=TITLES[name])
        axis.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
        axis.xaxis.set_minor_locator(NullLocator())
        logarithmic(axis)
    return figure


def _curves(axis: Axes, rows: pd.DataFrame, name: str, look: Look) -> None:
    factor = 100 if name == "ece" else 1
    for kind, one in (("scaled", look), ("tempered", look._replace(line=":"))):
        chosen = rows_of(rows, f"{kind}_{name}", "scale")
        band(axis, (factor * chosen["value"]).groupby(chosen["scale"].astype(float)), one)
    best, value, ended = (
        rows[rows["metric"] == metric].set_index(["study", "trial"])["value"]
        for metric in ("best_scale", f"{name}_best_scale", "best_scale_at_bracket")
    )
    found, at_end = factor * value.reindex(best.index), ended.reindex(best.index) > 0
    axis.plot(best[~at_end], found[~at_end], look.marker, color=look.colour, markersize=4, mec="white")
    edge = best[at_end].clip(1.1 * LIMITS[0], LIMITS[1] / 1.1)
    axis.plot(edge, found[at_end], look.marker, mfc="none", mec=look.colour, markersize=6)


FIGURES = {
    "scaling": Maker(
        "geometry",
        figure,
        "Calibration of features times s, mean over seeds in a band from the lowest to the highest seed; dotted: "
        "logits times s, which is temperature 1/s. Where the two lie on each other, shrinking features is temperature "
        "scaling. Markers: each trial's best s for NLL on validation, where it lies within the scale; open ones on its "
        "edge: the search ended at its bracket, because validation has no mistake to learn from.",
    ),
}
