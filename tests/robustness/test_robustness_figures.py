"""Figures show the numbers they were given."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from jaxreg.robustness import figures

RNG = np.random.default_rng(0)
MINIMAL = {
    "none": RNG.gamma(4, 0.02, (3, 50)),
    "mixup": np.where(RNG.uniform(size=(3, 50)) < 0.1, np.inf, RNG.gamma(4, 0.03, (3, 50))),
    "label_smoothing": np.concatenate([np.zeros((1, 5)), RNG.gamma(4, 0.025, (1, 45))], axis=1),
}


def test_curves_are_means_over_seeds_of_surviving_shares():
    figure = figures.curves(MINIMAL, limit=0.2)
    (axis,) = figure.axes
    assert [line.get_label() for line in axis.lines] == ["none (n = 3)", "mixup (n = 3)", "label_smoothing (n = 1)"]
    for line, values in zip(axis.lines, MINIMAL.values()):
        radii, shown = line.get_data()
        for i in (0, 137, 399):
            assert shown[i] == pytest.approx(np.mean(values > radii[i]))
    assert len(axis.collections) == 2  # a band needs more than one seed
    assert axis.lines[2].get_ydata()[0] == pytest.approx(0.9)  # at radius 0: the clean accuracy


def test_bars_are_means_and_dots_are_seeds():
    robust = {
        "none": {"worst": np.array([0.3, 0.5]), "pgd_ce": np.array([0.4, 0.6])},
        "mixup": {"pgd_ce": np.array([0.7, 0.9]), "worst": np.array([0.1, 0.2])},
    }
    (axis,) = figures.worst_bars(robust, eps=8 / 255).axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["pgd_ce", "worst"]
    np.testing.assert_allclose(sorted(bar.get_height() for bar in axis.patches), [0.15, 0.4, 0.5, 0.8])
    dots = np.concatenate([line.get_ydata() for line in axis.lines])
    np.testing.assert_allclose(np.sort(dots), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9])
    assert "0.03137" in axis.get_ylabel()
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["none", "mixup"]


def test_histograms_count_every_correct_example():
    figure = figures.histograms(MINIMAL)
    for axis, values in zip(figure.axes, MINIMAL.values()):
        assert sum(patch.get_height() for patch in axis.patches) == pytest.approx(1)
        positive = values[values > 0]
        assert f"{np.median(positive):.3g}" in axis.get_title(loc="left")


@pytest.mark.parametrize("draw", [figures.curves, figures.histograms, lambda data: figures.worst_bars(data, eps=0.1)])
def test_nothing_to_draw_is_named(draw):
    with pytest.raises(ValueError, match="at least one setting"):
        draw({})
