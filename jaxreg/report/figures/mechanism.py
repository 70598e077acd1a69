"""What goes with what over trials: cosine with robustness, norm with calibration."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxreg import claims
from jaxreg.calibration import floors
from jaxreg.names import MetricName
from jaxreg.report.data import StudyData
from jaxreg.report.figures import counts
from jaxreg.report.figures.maker import Maker
from jaxreg.report.palette import Look, canvas, grid, looks

NAMES = {
    "center_cosine": "cosine to the class center",
    "feature_norm": "feature norm",
    "feature_rms": "feature norm / √width",
    "ece": "ECE %",
}


def figure(data: StudyData) -> Figure | None:
    """Draws each relation that the claim on the mechanism tests: a dot a trial, a ring the mean of a setting.

    None where none was measured.
    """
    studies = [claims.relations(claims.read(rows)) for _, rows in data.frame.groupby("study", sort=False)]
    pairs = list(dict.fromkeys(pair for found in studies for pair in found))
    if not pairs:
        return None
    look = looks(data)
    figure = canvas(3.2, look)
    for axis, (one, other) in zip(grid(figure, len(pairs), 2), pairs):
        _scatter(axis, data, one, other, look)
    return figure


def _scatter(axis: Axes, data: StudyData, one: str, other: str, look: dict[str, Look]) -> None:
    across, upward = (data.values(metric).set_index(["study", "trial"]) for metric in (one, other))
    both = across[["setting", "value"]].join(upward["value"].rename("upward") * 100, how="inner")
    ends = data.values(floors.floor_of(other)).groupby("setting", observed=True)["high"].mean()
    for setting, own in both.groupby("setting", sort=False):
        shape = look[str(setting)]
        if setting in ends:
            at = own["value"].mean(), 100 * ends[setting]
            axis.plot(*at, "_", color=shape.colour, markersize=14, markeredgewidth=1.2)
        axis.plot(own["value"], own["upward"], shape.marker, color=shape.colour, markersize=4.5, alpha=0.65, mew=0)
        axis.plot(
            own["value"].mean(),
            own["upward"].mean(),
            shape.marker,
            color=shape.colour,
            markersize=10,
            mfc="none",
            mew=1.6,
        )
    axis.set(xlabel=NAMES[one], title=NAMES.get(other) or _robust(other))


def _robust(metric: str) -> str:
    attack, eps = MetricName.parse(metric).of
    return f"robust accuracy %, {attack} at {eps}"


FIGURES = {
    "mechanism": Maker(
        "geometry",
        figure,
        "What goes with what over trials: robust accuracy against the mean cosine to the class center, ECE before "
        "temperature scaling against the mean norm over the root of the width. Dots are seeds, rings the mean of their "
        "setting, dashes the upper end of the noise floor of its ECE. Seeds of one setting lie together for many "
        "reasons: a relation between settings is not one within them.",
        told=counts.parts(clean="(?:center_cosine|feature_norm|ece)$", under_attack="robust_accuracy/"),
    ),
}
