"""Where features lie: histograms of their norm and of their cosine to the class center."""

import numpy as np
from matplotlib.figure import Figure

from jaxreg.report.data import StudyData
from jaxreg.report.palette import canvas, grid, looks

NAMES = {"norm": "feature norm", "center_cosine": "cosine to the center of the label's class"}
BINS = 60


def histograms(data: StudyData) -> Figure | None:
    """Draws the density over examples of norm and cosine, seeds pooled; None where neither was saved."""
    found = {title: data.by_setting("geometry", f"{data.split}/{name}") for name, title in NAMES.items()}
    found = {title: arrays for title, arrays in found.items() if arrays}
    if not found:
        return None
    look = looks(data)
    figure = canvas(2.9, look)
    axes = grid(figure, len(found), 2)
    for axis, (title, by_setting) in zip(axes, found.items()):
        pooled = {s: np.concatenate([array for (array,) in trials]) for s, trials in by_setting.items()}
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
