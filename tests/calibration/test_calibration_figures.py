import io

import numpy as np
import pytest

from jaxreg.calibration import diagrams, figures
from tests.calibration.data import draw, softmax


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


def test_the_smooth_curve_and_its_band():
    one = seen(1.0)
    confidence, accuracy, low, high = diagrams.smooth(one.confidence, one.correct)
    assert (low <= high).all()
    assert np.mean((low <= accuracy) & (accuracy <= high)) > 0.99
    assert np.mean((low <= confidence) & (confidence <= high)) > 0.7  # calibrated: the diagonal is inside, mostly


def test_the_smooth_curve_by_a_sum_over_images():
    # Every example as seen in the mirrors at 0 and 1, under a Gaussian, in float64.
    confidence = np.random.default_rng(0).uniform(0.5, 1, 300)
    correct = np.random.default_rng(1).random(300) < confidence
    grid, accuracy, _, _ = diagrams.smooth(confidence[None], correct[None])
    images = np.concatenate([confidence, -confidence, 2 - confidence])
    kernel = np.exp(-((grid[:, None] - images) ** 2) / (2 * diagrams.BANDWIDTH**2))
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
