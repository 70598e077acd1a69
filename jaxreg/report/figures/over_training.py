"""Geometry over training: how norms, cosines, cones and collapse come about, by setting."""

import itertools

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from jaxreg.geometry.over_training import PREFIX
from jaxreg.report.data import StudyData
from jaxreg.report.palette import band, canvas, grid, logarithmic, looks

SHOWN = {
    "feature_norm": "feature norm",
    "center_cosine": "cosine to the class center",
    "mean_cosine": "cosine to the class mean",
    "cone_fraction": "cone fraction",
    "cone_breakpoint/q95": "t* (95 % of examples below)",
    "angular_margin": "angular margin (rad)",
    "nc1": "NC1",
    "nc2_angle": "NC2, angles",
    "nc3": "NC3",
}
LOGARITHMIC = ("nc1",)


def figure(data: StudyData) -> Figure | None:
    """Draws each metric against the step of its snapshot; None where no snapshot was measured."""
    rows = curves(data.frame)
    shown = [name for name in SHOWN if name in set(rows["metric"])]
    if not shown:
        return None
    look = looks(data)
    figure = canvas(2.1 * -(-len(shown) // 3), look)
    axes = grid(figure, len(shown), 3, sharex=True)
    for axis, name in zip(axes, shown):
        for setting, one in look.items():
            band(axis, rows[(rows["metric"] == name) & (rows["setting"] == setting)].groupby("step")["value"], one)
        axis.set_title(SHOWN[name])
        if name in LOGARITHMIC:
            logarithmic(axis)
    _steps(axes, sorted(set(rows["step"])))
    return figure


def curves(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of snapshots, with their `step`, under the names that the metrics have elsewhere."""
    rows = frame[frame["metric"].str.startswith(PREFIX)]
    parts = rows["metric"].str.removeprefix(PREFIX).str.rsplit("@", n=1, expand=True).reindex(columns=[0, 1])
    return rows.assign(metric=parts[0], step=pd.to_numeric(parts[1]))


def _steps(axes: list[Axes], steps: list[int]) -> None:
    """A logarithmic axis with room for step 0: most happens early."""
    first = next((step for step in steps if step > 0), 1)
    spread = steps[:2] + [
        step for before, step in itertools.pairwise(steps[1:]) if step >= 1.9 * before or step == steps[-1]
    ]
    for axis in axes:
        axis.set_xscale("symlog", linthresh=first, linscale=0.5)
        axis.set_xticks(spread, [f"{step:,}" for step in spread])
        axis.xaxis.set_minor_locator(NullLocator())
    for axis in axes[-3:]:
        axis.set_xlabel("step")
