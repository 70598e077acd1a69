"""Noise floors: against a simulation of its own in float64, by how often a perfect model lies inside, and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxreg.calibration import Logits, bins, floors, smooth_error
from jaxreg.calibration.probe import measure
from jaxreg.report.tables import differences
from support.drawn_logits import softmax

SIZE, CLASSES, MODELS = 300, 4, 64


@functools.cache
def measured():
    """Rows of test by metric, of models whose labels are drawn from their own probabilities; labels are shared."""
    made = {}
    for name, seed in (("validation", 0), ("test", 1)):
        random = np.random.default_rng(seed)
        labels = random.integers(0, CLASSES, SIZE).astype(np.int32)
        # log p(y | x) for x = mean of y + noise, of equal priors: perfectly calibrated by Bayes' rule.
        x = 1.8 * np.eye(CLASSES)[labels] + random.normal(size=(MODELS, SIZE, CLASSES))
        made[name] = Logits((1.8 * x).astype(np.float32), labels, SIZE * seed + np.arange(SIZE))
    found = measure(made, replicates=100)
    return made["test"], [{row.metric: row for row in one.rows if row.split == "test"} for one in found]


def errors(p, labels):
    """Every error of `bins.ERRORS` of p [N, K] in float64, by loops."""
    confidence, correct, size = p.max(-1), p.argmax(-1) == labels, len(labels)

    def place(values):
        return np.clip(np.ceil(values * 15) - 1, 0, 14)

    def gaps(values, hits, members):
        return np.array([abs((values - hits)[part].sum()) for part in members])

    width = [np.flatnonzero(place(confidence) == m) for m in range(15)]
    width = [part for part in width if len(part)]
    mass = np.array_split(np.argsort(confidence), 15)
    top, count = gaps(confidence, correct, width), np.array([len(part) for part in width])
    rate = np.array([correct[part].mean() for part in width])
    square = (top / count) ** 2 - rate * (1 - rate) / np.maximum(count - 1, 1)
    classes = [
        gaps(p[:, k], labels == k, [place(p[:, k]) == m for m in range(15)]).sum() / size for k in range(p.shape[1])
    ]
    return {
        "ece": top.sum() / size,
        "ece_adaptive": gaps(confidence, correct, mass).sum() / size,
        "ece_classwise": np.mean(classes),
        "ece_debiased": np.sqrt(max((count * square)[count > 1].sum() / size, 0)),
        "mce": (top / count).max(),
        "smece": smece(confidence, correct),
    }


def smece(confidence, correct):
    """Where the error crosses its bandwidth: residuals under a Gaussian and its images, at 60 bandwidths."""
    sigmas, kernels = smoothers(tuple(confidence))
    error = np.array([np.trapezoid(abs(kernel @ (confidence - correct))) for kernel in kernels]) / 256 / len(correct)
    return np.interp(0, (sigmas - error), sigmas)


@functools.cache
def smoothers(confidence):
    grid, sigmas = np.linspace(0, 1, 257), np.geomspace(5e-3, 0.3, 60)
    images = [np.array(confidence), -np.array(confidence), 2 - np.array(confidence)]
    return sigmas, [
        sum(np.exp(-((grid[:, None] - x) ** 2) / (2 * s**2)) for x in images) / np.sqrt(2 * np.pi) / s for s in sigmas
    ]


@functools.cache
def simulated(draws=150):
    test, _ = measured()
    p, random = softmax(test.logits[0]), np.random.default_rng(2)
    found = [errors(p, np.argmax(np.log(p) + random.gumbel(size=p.shape), -1)) for _ in range(draws)]
    return {name: np.array([one[name] for one in found]) for name in bins.ERRORS}


@pytest.mark.parametrize("metric", bins.ERRORS)
def test_a_floor_is_that_of_a_simulation_in_float64(metric):
    expected, row = simulated()[metric], measured()[1][0][f"{metric}_floor"]
    draws = {"ece_classwise": floors.LABELLED, "smece": floors.WAVED}.get(metric, 100)
    error = expected.std() * np.sqrt(1 / draws + 1 / len(expected))
    assert abs(row.value - expected.mean()) < 3.5 * error + 0.01 * expected.mean()
    # The ends rest on few draws: about half a standard deviation.
    np.testing.assert_allclose([row.low, row.high], np.percentile(expected, [2.5, 97.5]), atol=1.2 * expected.std())


@pytest.mark.parametrize("metric", bins.ERRORS)
def test_a_perfect_model_is_inside_its_floor_95_percent_of_the_time(metric):
    # 64 models: the standard error of 95 % is 2.7 %; the mean of their errors is that of their floors.
    rows = measured()[1]
    inside = [row[f"{metric}_floor"].low <= row[metric].value <= row[f"{metric}_floor"].high for row in rows]
    assert np.mean(inside) >= 0.88
    value, floor = (np.array([row[name].value for row in rows]) for name in (metric, f"{metric}_floor"))
    assert abs(value.mean() - floor.mean()) < 3.5 * value.std() / np.sqrt(len(rows)) + 0.01 * floor.mean()


def test_labels_are_drawn_from_all_probabilities():
    # One example of p = (.5, .3, .2) in three bins: over evenly spread draws every class gets its share. The other is
    # masked.
    p, uniform = jnp.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]), jnp.tile((jnp.arange(1000) + 0.5) / 1000, (2, 1))
    drawn = np.asarray(jax.jit(floors.draw_classes, static_argnums=3)(uniform, p, jnp.array([1.0, 0.0]), 3))
    np.testing.assert_allclose(drawn.sum((0, 2)), [500, 300, 200], atol=1)
    assert drawn[:, 0, 1].sum() == drawn[:, 0].sum()  # .5 is in (1/3, 2/3]
    assert drawn[:, 1:, 0].sum() == drawn[:, 1:].sum()


def test_the_floor_falls_with_the_root_of_n():
    # Every label of confidence c: |mean(correct) - c| has mean sqrt(2/pi) sqrt(c (1-c) / N) for large N.
    uniform, confidence = np.random.default_rng(0).random((500, 400), np.float32), np.full(500, np.float32(0.7))
    correct = np.asarray(floors.draw(uniform, confidence, np.ones(500, np.float32)))
    mean, (low, high) = floors.summary(abs(correct.mean(0) - 0.7))
    np.testing.assert_allclose(mean, np.sqrt(2 / np.pi * 0.21 / 500), rtol=0.1)
    assert low < mean < high


@pytest.mark.parametrize("draws", [12, 50])
def test_one_more_draw_is_inside_the_range_of_few(draws):
    random = np.random.default_rng(draws)
    values = 1 + 0.1 * random.normal(size=(4000, draws + 1))
    inside = [low <= one[-1] <= high for one in values for _, (low, high) in [floors.summary(one[:-1])]]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.012)  # standard error 0.0034


def test_smece_of_noise_without_any_error_is_zero():
    assert jax.jit(smooth_error.of_waves)(jnp.zeros((2, smooth_error.WAVES)), jnp.float32(100)).tolist() == [0, 0]


def test_a_difference_inside_the_floor_is_not_called_one():
    assert floors.inside(-0.004, 0.005, 0.003)
    assert not floors.inside(0.006, 0.005, 0.003)
    assert floors.inside(float("nan"), 0.005)


def planted(metric, difference, low=0.0):
    """A study of two settings, three seeds each: the error of one is larger by `difference`, both floors end at 2 %."""
    rows = [
        {"study": "s", "trial": f"{name}{seed}", "regularizer": name, "hyperparameters": "{}", "seed": seed}
        | {"split": "test", "metric": kind, "value": value + seed * 1e-5, "low": low, "high": 0.02, "n": 9}
        for seed in range(3)
        for name, more in (("none", 0.0), ("mixup", difference))
        for kind, value in ((metric, 0.03 + more), (floors.FLOORS[metric], 0.01))
    ]
    return differences.noise(pd.DataFrame(rows), "test")


@pytest.mark.parametrize(
    "metric", [f"{name}{end}" for name in (*bins.ERRORS, "ece_human", "mce_human") for end in ("", "_ts")]
)
def test_planted_differences_are_marked_only_inside_the_floor(metric):
    assert planted(metric, 0.015) == {("s", "mixup", "{}", metric)}
    assert planted(metric, -0.015) == {("s", "mixup", "{}", metric)}
    assert planted(metric, 0.025) == set()


def test_a_floor_that_is_high_and_narrow_hides_no_difference_of_class_errors():
    assert planted("ece_classwise", 0.015, low=0.018) == set()
    assert planted("ece_classwise", 0.0015, low=0.018) == {("s", "mixup", "{}", "ece_classwise")}
    assert planted("ece", 0.015, low=0.018) == {("s", "mixup", "{}", "ece")}
