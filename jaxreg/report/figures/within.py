"""Within each trial: how the cosine to the center goes with the smallest radius that fools, a dot a trial."""

import numpy as np
from matplotlib.figure import Figure

from jaxreg import statistics
from jaxreg.report.data import StudyData
from jaxreg.report.figures import counts
from jaxreg.report.figures.maker import Maker
from jaxreg.report.figures.seeds import names
from jaxreg.report.palette import WIDTH, looks

WITHIN = "cosine_radius_correlation"  # of the displacement probe


def figure(data: StudyData) -> Figure | None:
    """Draws the rank correlation of every trial, and the mean of its setting with its interval; None without any."""
    rows = data.values(WITHIN)
    found = {name: rows.loc[rows["setting"] == name, "value"].to_numpy() for name in data.settings}
    found = {name: value_T for name, value_T in found.items() if len(value_T)}
    if not found:
        return None
    look, shown = looks(data), names(data)
    figure_ = Figure(figsize=(WIDTH, 0.9 + 0.45 * len(found)), layout="constrained")
    axis = figure_.subplots()
    for place, (setting, value_T) in enumerate(found.items()):
        one, mean = look[setting], statistics.effect(value_T, np.zeros_like(value_T))
        spread = place + 0.24 + 0.1 * np.linspace(-1, 1, len(value_T))
        axis.plot(value_T, spread, one.marker, color=one.colour, markersize=4, alpha=0.6, mew=0)
        axis.plot([mean.low, mean.high], [place - 0.1] * 2, color=one.colour, linewidth=2)
        axis.plot(mean.difference, place - 0.1, one.marker, mfc="white", mec=one.colour, markersize=7, mew=1.6)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(found)), [shown[setting] for setting in found])
    axis.set(
        ylim=(len(found) - 0.5, -0.5), xlabel="rank correlation over examples: cosine to the center, minimal radius"
    )
    left, right = axis.get_xlim()
    axis.set_xlim(max(left, -1.02), min(right, 1.02))  # the interval of few trials reaches beyond what can be
    axis.grid(False, axis="y")
    return figure_


FIGURES = {
    "within": Maker(
        "geometry",
        figure,
        "What goes with what within a trial: the rank correlation, over its attacked examples that are right without "
        "attack, between the cosine to the label's center and the smallest radius that was seen to fool the example "
        "(above 0: the nearer to its center, the harder to fool). Small dots are trials; open marks the mean of their "
        "setting, lines its 95 % interval (t over trials).",
        told=counts.over("min_eps"),
    ),
}
