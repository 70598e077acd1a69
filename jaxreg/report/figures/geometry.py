"""Where features lie: histograms of their norm and of their cosine to the class center."""

import numpy as np
from matplotlib.figure import Figure

from jaxreg.report.data import StudyData
from jaxreg.report.figures import counts
from jaxreg.report.figures.maker import Maker
from jaxreg.report.palette import canvas, grid, looks

NAMES = {"norm": "feature norm", "center_cosine": "cosine to the center of the label's class"}
BINS = 60


def histograms(data: StudyData) -> Figure | None:
    """Draws the density over examples of norm and cosine, seeds pooled; None where neither was saved.

    What is not finite, such as the cosine of a feature that is zero, is left out.
    """
    found = {title: _pooled(data, name) for name, title in NAMES.items()}
    found = {title: pooled for title, pooled in found.items() if pooled}
    if not found:
        return None
    look = looks(data)
    figure = canvas(2.9, look)
    axes = grid(figure, len(found), 2)
    for axis, (title, pooled) in zip(axes, found.items()):
        edges = np.histogram_bin_edges(np.concatenate(list(pooled.values())), BINS)
        for setting, value_N in pooled.items():
            density = np.histogram(value_N, edges, density=True)[0]
            axis.stairs(density, edges, color=look[setting].colour, linestyle=look[setting].line, linewidth=1.4)
            axis.axvline(
                value_N.mean(), color=look[setting].colour, linestyle=look[setting].line, linewidth=0.8, alpha=0.6
            )
        axis.set(xlabel=title, yticks=[])
        axis.grid(False)
    axes[0].set_ylabel("density")
    return figure


def _pooled(data: StudyData, name: str) -> dict[str, np.ndarray]:
    """The finite values of all trials, by setting; a setting without any is left out."""
    found = data.by_setting("geometry", f"{data.split}/{name}")
    pooled = {setting: np.concatenate([array for (array,) in trials]) for setting, trials in found.items()}
    finite = {setting: value_N[np.isfinite(value_N)] for setting, value_N in pooled.items()}
    return {setting: value_N for setting, value_N in finite.items() if len(value_N)}


FIGURES = {
    "geometry": Maker(
        "geometry",
        histograms,
        "Features before the last layer, as densities over examples with seeds pooled; thin vertical lines are "
        "means. Norm: the length of the feature. Cosine: between the feature and the point of least loss for its "
        "label (1 where it points straight at the center); a feature that is zero has none.",
        told=counts.over("feature_norm$"),
    ),
}
