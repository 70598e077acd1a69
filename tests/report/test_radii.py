"""Figures show the numbers they were given."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from jaxreg.report import palette
from jaxreg.report.figures import radii

RNG = np.random.default_rng(0)
MINIMAL = {
    "none": RNG.gamma(4, 0.02, (3, 50)),
    "mixup": np.where(RNG.uniform(size=(3, 50)) < 0.1, np.inf, RNG.gamma(4, 0.03, (3, 50))),
    "label_smoothing": np.concatenate([np.zeros((1, 5)), RNG.gamma(4, 0.025, (1, 45))], axis=1),
}


LOOK = {name: palette.Look(colour, "-", "o", "") for name, colour in zip(MINIMAL, palette.COLOURS)}


def test_curves_are_means_over_seeds_of_surviving_shares():
    figure = radii.draw_curves(MINIMAL, LOOK)
    (axis,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(MINIMAL)
    for line, (name, values) in zip(axis.lines, MINIMAL.items()):
        assert line.get_color() == LOOK[name].colour
        radius, shown = line.get_data()
        for i in (0, 137, 399):
            assert shown[i] == pytest.approx(100 * np.mean(values > radius[i]))
    assert len(axis.collections) == 2  # a band needs more than one seed
    assert axis.lines[2].get_ydata()[0] == pytest.approx(90)  # at radius 0: the clean accuracy


def test_without_any_finite_radius_there_is_no_figure(monkeypatch):
    for nothing in (np.full(5, np.inf), np.array([0.0, np.inf])):
        monkeypatch.setattr(radii, "_saved", lambda data, one=nothing: {"none": np.stack([one, one])})
        assert radii.curves(None) is None
        assert radii.histograms(None) is None


def test_histograms_count_every_correct_example():
    figure = radii.draw_histograms(MINIMAL, LOOK)
    for axis, values in zip(figure.axes, MINIMAL.values()):
        assert sum(patch.get_height() for patch in axis.patches) == pytest.approx(1)
        positive = values[values > 0]
        assert f"{np.median(positive):.3g}" in axis.get_title()
