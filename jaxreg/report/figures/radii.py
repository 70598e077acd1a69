"""How far each example can be moved: robustness curves and histograms of the smallest radius that fools."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from jaxreg.report.data import StudyData
from jaxreg.report.figures import counts
from jaxreg.report.figures.maker import Maker
from jaxreg.report.palette import Look, canvas, looks
from jaxreg.robustness.curves import robustness_curve

POINTS = 400  # of a curve
BINS = 40


def curves(data: StudyData) -> Figure | None:
    """Draws robust accuracy over all radii; None where no smallest radii were found."""
    found = _min_eps(data)
    return draw_curves(found, looks(data)) if found else None


def histograms(data: StudyData) -> Figure | None:
    """Draws how many examples fall at which radius; None where no smallest radii were found."""
    found = _min_eps(data)
    return draw_histograms(found, looks(data)) if found else None


def draw_curves(min_eps: Mapping[str, np.ndarray], look: Mapping[str, Look]) -> Figure:
    """Robust accuracy over the radius from minimal radii [seeds, N]: the mean over seeds, and their range as a band.

    Up to the radius beyond which 1 % of what was fooled lies.
    """
    figure = canvas(3.6, look, only=min_eps)
    axis = figure.subplots()
    finite = np.concatenate([np.ravel(values)[np.isfinite(np.ravel(values))] for values in min_eps.values()])
    radii = np.linspace(0, np.quantile(finite, 0.99), POINTS)
    for setting, values in min_eps.items():
        shares, one = 100 * np.array([_at(seed, radii) for seed in values]), look[setting]
        axis.plot(radii, shares.mean(0), one.line, color=one.colour)
        if len(values) > 1:
            axis.fill_between(radii, shares.min(0), shares.max(0), color=one.colour, alpha=0.15, linewidth=0)
    axis.set(xlabel="radius", ylabel="robust accuracy %", ylim=(0, 102), xlim=(0, radii[-1]))
    return figure


def draw_histograms(min_eps: Mapping[str, np.ndarray], look: Mapping[str, Look]) -> Figure:
    """Minimal radii [seeds, N] of the correctly classified examples, all seeds together; medians as lines.

    Examples that nothing fooled are counted in the last bin.
    """
    figure = Figure(figsize=(9.0, 1.15 * len(min_eps) + 0.9), layout="constrained")
    axes = np.ravel(figure.subplots(len(min_eps), 1, sharex=True, sharey=True, squeeze=False))
    every = np.concatenate([np.ravel(values) for values in min_eps.values()])
    edges = np.linspace(0, every[np.isfinite(every)].max() * (1 + 1e-6), BINS + 1)
    for axis, (setting, values) in zip(axes, min_eps.items()):
        positive = np.ravel(values)[np.ravel(values) > 0]
        shown = np.minimum(positive, edges[-1] * (1 - 1e-6))
        weights = np.full(len(shown), 1 / max(len(shown), 1))
        axis.hist(shown, edges, weights=weights, color=look[setting].colour, alpha=0.75)
        median = np.median(positive) if len(positive) else np.nan
        if np.isfinite(median):
            axis.axvline(median, color=look[setting].colour, linestyle="--", linewidth=1.2)
        axis.set_title(f"{setting}: median {median:.3g}", fontsize=9)
        axis.grid(axis="x", visible=False)
    axes[-1].set_xlabel("minimal radius")
    figure.supylabel("share of correct examples", fontsize=10)
    return figure


def _min_eps(data: StudyData) -> dict[str, np.ndarray]:
    """By setting the minimal radii [seeds, N]; nothing where no example was fooled by moving it."""
    found = _saved(data)
    return found if any(np.any(np.isfinite(values) & (values > 0)) for values in found.values()) else {}


def _saved(data: StudyData) -> dict[str, np.ndarray]:
    found = data.by_setting("robustness", "min_eps")
    return {name: np.stack([radius_N for (radius_N,) in trials]) for name, trials in found.items()}


def _at(min_eps: np.ndarray, radii: np.ndarray) -> np.ndarray:
    steps, shares = robustness_curve(min_eps)
    return shares[np.searchsorted(steps, radii, side="right") - 1]


FIGURES = {
    "radii": Maker(
        "robustness",
        curves,
        "The whole robustness curve, from the smallest radius that was seen to fool each example: mean over seeds, in "
        "a band from the lowest to the highest seed.",
        told=counts.over("min_eps"),
    ),
    "radii_histogram": Maker(
        "robustness",
        histograms,
        "How many examples fall at which radius, seeds pooled.",
        told=counts.over("min_eps"),
    ),
}
