"""How far each example can be moved: robustness curves and histograms of the smallest radius that fools."""

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.figure import Figure

from jaxreg.report.data import StudyData
from jaxreg.robustness import figures


def _draw(draw: Callable[[Mapping[str, np.ndarray]], Figure], data: StudyData) -> Figure | None:
    found = data.by_setting("robustness", "min_eps")
    settings = {name: np.stack([radius_N for (radius_N,) in trials]) for name, trials in found.items()}
    return draw(settings) if settings else None


def curves(data: StudyData) -> Figure | None:
    """Draws robust accuracy over all radii; None where the smallest radii were not searched."""
    return _draw(figures.curves, data)


def histograms(data: StudyData) -> Figure | None:
    """Draws how many examples fall at which radius; None where the smallest radii were not searched."""
    return _draw(figures.histograms, data)
