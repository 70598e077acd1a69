"""What goes with what over trials: cosine with robustness, norm with calibration."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxreg.claims import over_settings
from jaxreg.names import MetricName, radius_told
from jaxreg.report import claimed
from jaxreg.report.data import StudyData
from jaxreg.report.figures import counts
from jaxreg.report.figures.maker import Maker
from jaxreg.report.palette import Look, canvas, grid, looks

NAMES = {
    "center_cosine": "cosine to the class center",
    "feature_norm": "feature norm",
    "feature_rms": "feature norm / √width",
    "confidence_gap": "confidence − accuracy, points",
}


def figure(data: StudyData) -> Figure | None:
    """Draws each relation over settings: a dot a trial, a ring the mean of a setting.

    None where none was measured.
    """
    studies = [
        over_settings.relations(data.frame[data.frame["study"] == study], claimed.spec_of(data, study))
        for study in data.config
    ]
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
    for setting, own in both.groupby("setting", sort=False):
        shape = look[str(setting)]
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
    return f"robust accuracy %, {attack} at {radius_told(float(eps))}"


FIGURES = {
    "mechanism": Maker(
        "geometry",
        figure,
        "What goes with what over trials: robust accuracy against the mean cosine to the class center, the gap "
        "of confidence over accuracy against the mean norm over the root of the width. Dots are seeds, rings the mean "
        "of their setting. Seeds of one setting lie together for many "
        "reasons: a relation between settings is not one within them.",
        told=counts.parts(clean="(?:center_cosine|feature_norm|confidence_gap)$", under_attack="robust_accuracy/"),
    ),
}
