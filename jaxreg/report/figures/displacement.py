"""Where attacks move features: into which directions, and on which path."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxreg.names import radius_told, rows_of
from jaxreg.report.data import StudyData
from jaxreg.report.figures import counts
from jaxreg.report.figures.maker import Maker
from jaxreg.report.palette import Look, canvas, grid, looks

PARTS = {"radial": "radial", "label": "own\ncenter", "rival": "rival's\ncenter", "rest": "rest"}


def figure(data: StudyData) -> Figure | None:
    """Draws shares of the squared displacement, signed parts, and PGD's mean path; None where nothing was attacked.

    Signed parts are shown against the norm of the examples that they are means over.
    """
    if data.values("adversarial_radial_share").empty:
        return None
    look = looks(data)
    figure = canvas(3.4, look)
    shares, parts, paths = grid(figure, 3, 3)
    norms = _norms(data)
    for place, (setting, one) in enumerate(look.items()):
        for slot, part in enumerate(PARTS):
            at = slot - 0.42 + 0.84 * (place + 0.5) / len(look)
            _bar(shares, at, 0.84 / len(look), 100 * _of(data, setting, f"adversarial_{part}_share"), one)
            if part != "rest":  # a length without a sign
                relative = _of(data, setting, f"adversarial_{part}_part").div(norms).dropna()
                _bar(parts, at, 0.84 / len(look), 100 * relative, one)
        _path(paths, data.frame[data.frame["setting"] == setting], one)
    shares.set_xticks(range(4), list(PARTS.values()))
    parts.set_xticks(range(3), ["toward\norigin", "toward\nown center", "toward\nrival's"])
    parts.axhline(0, color="black", linewidth=0.8)
    eps = f", eps {radius(data)}" if radius(data) else ""
    shares.set(title=f"share of |d|², %{eps}", ylim=(0, None))
    parts.set(title=f"signed part, % of |h|{eps}")
    paths.set(title=f"mean path of PGD{eps}", xlabel="feature norm", ylabel="angle to the center (°)")
    for axis in (shares, parts):
        axis.grid(False, axis="x")
    return figure


def radius(data: StudyData) -> str:
    """Returns the radius that features were moved at; of several studies all of them."""
    return ", ".join(radius_told(eps) for eps in data.values("adversarial_eps")["value"].unique())


def told(data: StudyData) -> str:
    """Returns as a sentence at which radius, and on which examples the parts of the figure stand."""
    bars, path = "adversarial_norm_change", "adversarial_path_"
    known = f"Radius {radius(data)}. " if radius(data) else ""
    return known + counts.parts(left_and_middle=bars, right=path)(data)


def _norms(data: StudyData) -> pd.Series:
    """The mean norm of each trial over the examples that were moved; without those whose arrays are not there."""
    found = {}
    for row in data.members:
        counted_N = data.array("displacement", row.study, row.trial, f"{data.split}/adversarial_counted")
        norm_N = data.array("geometry", row.study, row.trial, f"{data.split}/norm")
        if counted_N is not None and norm_N is not None and norm_N[: len(counted_N)][counted_N].any():
            found[row.study, row.trial] = float(norm_N[: len(counted_N)][counted_N].mean())
    return pd.Series(found, pd.MultiIndex.from_tuples(found, names=["study", "trial"]), dtype=float)


def _of(data: StudyData, setting: str, metric: str) -> pd.Series:
    rows = data.values(metric)
    return rows[rows["setting"] == setting].set_index(["study", "trial"])["value"]


def _bar(axis: Axes, center: float, width: float, values: pd.Series, look: Look) -> None:
    if len(values):
        axis.bar(center, values.mean(), 0.92 * width, color=look.colour, alpha=0.55, hatch=look.hatch, ec="white", lw=0)
        spread = center + 0.5 * width * ((np.arange(len(values)) + 0.5) / len(values) - 0.5)
        axis.plot(spread, values, "o", color=look.colour, markersize=2.5, mew=0.4, mec="white")


def _path(axis: Axes, rows: pd.DataFrame, look: Look) -> None:
    """Each seed thin, their mean thick from a ring, the clean images, to a filled dot, the last step."""
    sides = {name: rows_of(rows, f"adversarial_path_{name}") for name in ("norm", "angle")}
    points = pd.DataFrame({name: own.set_index(["study", "trial", "step"])["value"] for name, own in sides.items()})
    if points.empty:
        return
    points["angle"] = np.degrees(points["angle"])
    for _, trial in points.groupby(level=["study", "trial"]):
        axis.plot(trial["norm"], trial["angle"], color=look.colour, linewidth=0.7, alpha=0.35)
    mean = points.groupby(level="step").mean()
    axis.plot(mean["norm"], mean["angle"], look.line, color=look.colour, linewidth=1.8)
    for place, fill in ((0, "white"), (-1, look.colour)):
        end = mean.iloc[place]
        axis.plot(end["norm"], end["angle"], look.marker, mfc=fill, mec=look.colour, markersize=5)


FIGURES = {
    "displacement": Maker(
        "geometry",
        figure,
        "Where the worst attack moved features h (d: the displacement), of examples that are right without attack and "
        "whose image it changed. Left: the share of |d|² along the ray to the origin, along the label's center, along "
        "the center of the strongest rival (each less the ones before), and the rest. Middle: the same with their "
        "sign, in % of the mean norm of the same examples. Bars are means, dots are seeds. Right: the mean path of PGD "
        "on the first test images, mistakes included, from the clean images (open) to its last step (filled), thin "
        "lines are seeds; left is toward the origin, up is away from the label's center.",
        told=told,
    ),
}
