import io
import itertools

import numpy as np
import pytest

from jaxreg.calibration import figures
from support.drawn_logits import draw, softmax


def seen(scale):
    """Two seeds whose logits are multiplied by `scale`, 1 being right, and put right after temperature."""
    rows = [draw(seed, 400) for seed in range(2)]
    found = [(softmax(z * scale).max(-1), softmax(z).max(-1), z.argmax(-1) == y) for z, y in rows]
    return figures.Seen(*(np.stack(arrays).astype(np.float32) for arrays in zip(*found)))


def panels(figure):
    """The panels that hold data, by title."""
    file = io.BytesIO()
    figure.savefig(file, dpi=40)  # a warning here (a layout that does not fit) is an error
    assert len(file.getvalue()) > 1000
    return {axis.get_title(loc="left"): axis for axis in figure.axes if axis.get_title(loc="left")}


@pytest.mark.filterwarnings("error")
def test_a_reliability_diagram_a_setting():
    shown = panels(figures.reliability({"none": seen(3.0), "mixup": seen(1.0), "focal": seen(0.5)}))
    assert set(shown) == {"none", "mixup", "focal"}
    below = {name: np.mean(np.subtract(*axis.lines[1].get_data()[::-1])) for name, axis in shown.items()}
    assert below["none"] < -0.05 < below["mixup"] < 0.05 < below["focal"]  # accuracy - confidence of the curve before
    after = {name: np.mean(np.subtract(*axis.lines[2].get_data()[::-1])) for name, axis in shown.items()}
    assert after["none"] == pytest.approx(after["focal"])


def test_a_long_name_is_wrapped_over_its_panel():
    name = "label_smoothing(epsilon=0.1, start=0.25)"
    assert list(panels(figures.histograms({name: seen(1.0)}))) == ["label_smoothing\n(epsilon=0.1, start=0.25)"]


def lower(figure):
    """The panels with bars."""
    return [axis for axis in figure.axes if len(axis.patches) >= 15]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("flat_first", [True, False])
def test_every_bar_and_number_of_every_panel_lies_inside(flat_first):
    rng, correct = np.random.default_rng(0), np.ones((1, 400))
    flat, sharp = rng.uniform(0.3, 1, (1, 400)), rng.choice([0.4, 0.97], (1, 400), p=[0.2, 0.8])
    seen_ = [figures.Seen(one, one, correct) for one in ((flat, sharp) if flat_first else (sharp, flat))]
    figure = figures.reliability({"a": seen_[0], "b": seen_[1]})
    panels(figure)
    tops = []
    for axis in lower(figure):
        limit = axis.get_ylim()[1]
        heights = [bar.get_height() for bar in axis.patches if hasattr(bar, "get_height")]
        tops.append(max(heights))
        assert sum(heights) == pytest.approx(100)
        assert max(heights) < limit
        frame = axis.get_window_extent()
        assert all(text.get_window_extent().y1 <= frame.y1 for text in axis.texts)
    assert abs(tops[0] - tops[1]) > 30
    assert len(tops) == 2


def test_bars_are_the_counts_of_right_closed_bins():
    confidence = np.array([[1 / 3, 1 / 3, 0.4, 1.0, 2 / 3]], np.float32)  # on edges: they belong to the bin below
    (axis,) = lower(figures.reliability({"a": figures.Seen(confidence, confidence, np.ones((1, 5)))}, bins=15))
    heights = [bar.get_height() for bar in axis.patches if hasattr(bar, "get_height")]
    assert [round(height) for height in heights] == [0, 0, 0, 0, 40, 20, 0, 0, 0, 20, 0, 0, 0, 0, 20]
    assert [text.get_text() for text in axis.texts] == ["2", "1", "1", "1"]


def test_long_names_do_not_run_into_each_other():
    names = [
        "label_smoothing(epsilon=0.15)",
        "confidence_penalty(beta=0.1)",
        "mixup+label_smoothing(alpha=0.2)",
        "none",
    ]
    for draw_ in (figures.reliability, figures.histograms):
        figure = draw_(dict.fromkeys(names, seen(1.0)))
        panels(figure)
        boxes = [axis._left_title.get_window_extent() for axis in figure.axes if axis.get_title(loc="left")]
        assert len(boxes) == 4
        assert all(one.x1 <= other.x0 for one, other in itertools.pairwise(boxes))


def test_no_curve_crosses_confidences_that_nobody_said():
    confidence = np.concatenate([np.full((1, 200), 0.1), np.full((1, 200), 0.9)], -1)
    figure = figures.reliability({"a": figures.Seen(confidence, confidence, np.ones((1, 400)))})
    curve = panels(figure)["a"].lines[1]
    assert np.isnan(curve.get_ydata()).sum() == 1
    middle = (curve.get_xdata() > 0.35) & (curve.get_xdata() < 0.65)
    assert not middle.any()


def test_the_smooth_curve_and_its_band():
    one = seen(1.0)
    confidence, accuracy, low, high = figures.smooth(one.confidence, one.correct)
    assert (low <= high).all()
    assert np.mean((low <= accuracy) & (accuracy <= high)) > 0.99
    assert np.mean((low <= confidence) & (confidence <= high)) > 0.7  # calibrated: the diagonal is inside, mostly


def test_the_smooth_curve_by_a_sum_over_images():
    # Every example as seen in the mirrors at 0 and 1, under a Gaussian, in float64.
    confidence = np.random.default_rng(0).uniform(0.5, 1, 300)
    correct = np.random.default_rng(1).random(300) < confidence
    grid, accuracy, _, _ = figures.smooth(confidence[None], correct[None])
    images = np.concatenate([confidence, -confidence, 2 - confidence])
    kernel = np.exp(-((grid[:, None] - images) ** 2) / (2 * figures.BANDWIDTH**2))
    np.testing.assert_allclose(accuracy, kernel @ np.tile(correct, 3) / kernel.sum(1), atol=2e-3)
    assert grid[-1] == 1.0
    assert 0.35 < grid[0] < 0.5  # the curve ends where too few examples are left


@pytest.mark.filterwarnings("error")
def test_histograms_count_every_prediction():
    shown = panels(figures.histograms({"none": seen(1.0)}))
    heights = sum(bar.get_height() for bar in shown["none"].patches)
    assert heights == 800


@pytest.mark.filterwarnings("error")
def test_ece_against_accuracy_shows_every_seed():
    three = np.array([0.9, 0.91, 0.92])
    points = figures.Points(three, 0.1 - three / 10, 0.05 - three / 20, np.full(3, 0.01), np.full(3, 0.008))
    shown = panels(figures.ece_against_accuracy({"none": points, "mixup": points}, {"none": "black", "mixup": "red"}))
    assert set(shown) == {"before temperature", "after temperature"}
    offsets = [group.get_offsets() for group in shown["before temperature"].collections]
    np.testing.assert_allclose(offsets[0], np.stack([90 + np.arange(3), 100 * points.ece], -1))
    np.testing.assert_allclose(offsets[1], [[91, 100 * points.ece.mean()]])
