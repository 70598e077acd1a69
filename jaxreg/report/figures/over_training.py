"""Geometry over training: how norms, cosines, cones and collapse come about, by setting."""

import itertools

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from jaxreg.names import MetricName
from jaxreg.report.data import StudyData
from jaxreg.report.figures import counts
from jaxreg.report.figures.maker import Maker
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
METRIC = "over_training"


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
    known = {name: MetricName.parse(name) for name in frame["metric"].unique()}
    inner = {name: "/".join(one.of) for name, one in known.items() if one.metric == METRIC}
    rows = frame[frame["metric"].isin(list(inner))]
    names = rows["metric"].astype(str)
    return rows.assign(metric=names.map(inner), step=names.map({name: known[name].step for name in inner}).astype(int))


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


FIGURES = {
    "over_training": Maker(
        "geometry",
        figure,
        "How the geometry of un-augmented train images comes about: mean over seeds, in a band from the lowest to the "
        "highest seed. Cone fraction: share of examples whose prediction is final along their ray; t*: where along the "
        "ray it becomes final (1 is the feature itself, 0 the origin). A last layer whose bias is still zero, as at "
        "step 0, has cones by construction: fraction 1, t* 0. NC: neural collapse, 0 when complete.",
        told=counts.over("over_training/"),
    ),
}
