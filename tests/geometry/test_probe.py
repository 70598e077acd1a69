import math

import numpy as np
import pytest

from jaxreg.geometry import probe
from jaxreg.runtime import passes
from support.geometry_shapes import CLASSES, LABELS, WIDTH

TRIALS = 3
STABLE = {
    "feature_norm", "feature_rms", "center_cosine", "weight_cosine", "mean_cosine", "cone_fraction", "angular_margin",
    "common_mode", "nc1", "nc2_norm", "nc2_angle", "nc3", "nc4", "center_residual",
}  # fmt: skip


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(TRIALS, WIDTH, CLASSES)).astype(np.float32)
    bias = 0.1 * rng.normal(size=(TRIALS, CLASSES)).astype(np.float32)
    bias[2] = 0
    rows = np.swapaxes(kernel, 1, 2)
    splits = {
        name: probe.Features((rows[:, y] + 0.8 * rng.normal(size=(TRIALS, len(y), WIDTH))).astype(np.float32), y)
        for name, y in LABELS.items()
    }
    return splits, kernel, bias


@pytest.fixture(scope="module")
def measured(study):
    return probe.measure(*study)


def value(one, split, metric):
    (found,) = [row.value for row in one.rows if (row.split, row.metric) == (split, metric)]
    return found


def test_rows_are_unique_finite_and_named_as_promised(measured):
    for one in measured:
        names = [(row.split, row.metric) for row in one.rows]
        assert len(set(names)) == len(names)
        assert {metric for _, metric in names} >= STABLE
        assert all(math.isfinite(row.value) for row in one.rows if row.n)
        assert all(row.low <= row.value <= row.high for row in one.rows if row.low is not None)


def test_rows_can_be_computed_again_from_the_arrays(study, measured):
    splits, _, _ = study
    for t, one in enumerate(measured):
        norms = np.linalg.norm(splits["test"].features[t], axis=1)
        np.testing.assert_allclose(one.arrays["test/norm"], norms, rtol=1e-5)
        np.testing.assert_allclose(value(one, "test", "feature_norm"), norms.mean(), rtol=1e-5)
        assert one.arrays["class/nonnegative_center"].min() >= 0
        for metric in ("center_cosine", "nonnegative_center_cosine", "cone_fraction", "angular_margin"):
            np.testing.assert_allclose(value(one, "test", metric), one.arrays[f"test/{metric}"].mean(), rtol=1e-5)


def test_correctness_is_that_of_the_logits(study, measured):
    splits, kernel, bias = study
    for t, one in enumerate(measured):
        logits = splits["test"].features[t] @ kernel[t] + bias[t]
        np.testing.assert_array_equal(one.arrays["test/correct"], logits.argmax(1) == splits["test"].labels)
        signed = np.sign(one.arrays["test/label_margin"])
        np.testing.assert_array_equal(signed > 0, one.arrays["test/correct"])


def test_centers_sit_at_the_mean_norm_of_train_and_are_exact(study, measured):
    splits, _, _ = study
    for t, one in enumerate(measured):
        radius = np.linalg.norm(splits["train"].features[t], axis=1).mean()
        np.testing.assert_allclose(value(one, "train", "center_radius"), radius, rtol=1e-5)
        assert value(one, "train", "center_residual") < 1e-5


def test_a_head_without_bias_is_named_a_cone_by_construction(measured):
    assert [value(one, "train", "cone_by_construction") for one in measured] == [0, 0, 1]
    assert value(measured[2], "test", "cone_fraction") == 1


def test_a_trial_does_not_see_the_others(study, measured):
    splits, kernel, bias = study
    same = [1, 1, 1]
    alike = {name: probe.Features(split.features[same], split.labels) for name, split in splits.items()}
    for one in probe.measure(alike, kernel[same], bias[same]):
        assert one.rows == measured[1].rows


def test_chunks_change_nothing(study, measured, monkeypatch):
    monkeypatch.setattr(passes, "CHUNK", 32)  # train has chunks that end in its middle, and a last one that overlaps
    probe._program.cache_clear()
    for one, expected in zip(probe.measure(*study), measured):
        assert [row[:2] for row in one.rows] == [row[:2] for row in expected.rows]
        for row, whole in zip(one.rows, expected.rows):
            np.testing.assert_allclose(row.value, whole.value, rtol=1e-3, atol=1e-5, err_msg=row.metric)
        for name, array in expected.arrays.items():
            np.testing.assert_allclose(one.arrays[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
    probe._program.cache_clear()


def test_turning_every_space_changes_no_number(study, measured):
    splits, kernel, bias = study
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(WIDTH, WIDTH)))[0].astype(np.float32)
    turned = {name: probe.Features(split.features @ turn, split.labels) for name, split in splits.items()}
    kernel = np.einsum("de,tdk->tek", turn, kernel)
    skipped = {"center_nonnegative_agreement", "nonnegative_center_cosine", "nonnegative_center_cosine_centred"}
    for one, other in zip(probe.measure(turned, kernel, bias), measured):
        for row, expected in zip(one.rows, other.rows):
            # An orthant does not turn with the space, nor do random features; residuals are rounding.
            if row.metric not in skipped and "residual" not in row.metric and "t_star_random" not in row.metric:
                np.testing.assert_allclose(row.value, expected.value, rtol=5e-3, atol=2e-3, err_msg=row.metric)


def test_errors_name_the_cure(study):
    splits, kernel, bias = study
    with pytest.raises(ValueError, match="train split"):
        probe.measure({"test": splits["test"]}, kernel, bias)
    lacking = splits["train"]._replace(labels=np.where(LABELS["train"] == 1, 2, LABELS["train"]))
    with pytest.raises(ValueError, match=r"got 80 train examples without class 1$"):
        probe.measure(splits | {"train": lacking}, kernel, bias)
    with pytest.raises(ValueError, match=r"^kernel must be \[3, 12, K\]"):
        probe.measure(splits, kernel[:, :5], bias)


def test_the_regime_equals_float64(study):
    splits, kernel, bias = study
    found = probe.measure(splits, kernel, bias, smoothing_T=[0, 0.2, 0.2], floor_known_T=[True, True, False])
    labels = splits["train"].labels
    for t, (one, epsilon) in enumerate(zip(found, (0, 0.2, np.nan))):
        logits = splits["train"].features[t].astype(float) @ kernel[t] + bias[t]
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        target = (1 - epsilon) * np.eye(CLASSES)[labels] + epsilon / CLASSES
        rows = {row.metric: row.value for row in one.rows if row.split == "train"}
        assert (rows["width"], rows["classes"]) == (WIDTH, CLASSES)
        np.testing.assert_allclose(rows["train_accuracy"], np.mean(logits.argmax(1) == labels), rtol=1e-6)
        np.testing.assert_allclose(rows["train_nll"], -log_p[np.arange(len(labels)), labels].mean(), rtol=1e-4)
        np.testing.assert_allclose(rows["train_loss"], -(target * log_p).sum(1).mean(), rtol=1e-4)
        floor = -np.sum(target[0] * np.log(np.where(target[0] == 0, 1, target[0])))
        np.testing.assert_allclose(rows["train_loss_floor"], floor, atol=1e-6)


def test_a_trial_whose_features_are_all_zero_has_no_directions(study):
    splits, kernel, bias = study
    dead = {n: s._replace(features=s.features * np.float32([1, 0, 1])[:, None, None]) for n, s in splits.items()}
    alive, zero, _ = probe.measure(dead, kernel, bias)
    assert value(zero, "test", "feature_norm") == 0
    assert not math.isnan(value(zero, "train", "train_nll"))
    for split, metric in (("test", "center_cosine"), ("test", "weight_cosine"), ("test", "cone_fraction"),
                          ("test", "angular_margin"), ("train", "nc1"), ("train", "effective_rank")):  # fmt: skip
        assert math.isnan(value(zero, split, metric))
        assert not math.isnan(value(alive, split, metric))


def test_a_split_whose_features_are_all_zero_has_no_directions(study):
    splits, kernel, bias = study
    test = splits["test"]
    zero = splits | {"test": test._replace(features=test.features * np.float32([1, 0, 1])[:, None, None])}
    alive, dead, _ = probe.measure(zero, kernel, bias, baselines=[None, 0, 0])
    assert value(dead, "test", "feature_norm") == 0
    for metric in ("center_cosine", "cone_fraction", "angular_margin", "turn_ece", "norm_swap_ece_share"):
        assert math.isnan(value(dead, "test", metric))
    for metric in ("center_cosine", "nonnegative_center_cosine", "cone_fraction", "nc1"):
        assert not math.isnan(value(dead, "train", metric))
    assert not math.isnan(value(alive, "test", "cone_fraction"))
