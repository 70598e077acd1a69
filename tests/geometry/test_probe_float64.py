"""The probe against float64: two trials of different direction, length and bias, each the baseline of the other."""

import math

import numpy as np
import pytest

from jaxreg.geometry import probe, scaling
from jaxreg.geometry.rows import CALIBRATION_NOISE, MARGIN_NOISE
from support import geometry_reference as reference
from support.geometry_shapes import CLASSES, LABELS, WIDTH

LABELS_N = LABELS["test"]
SHORT = slice(0, 12)  # so short that the bias decides: no turn changes their class
PAIRS = (0, 1), (1, 0)  # trial, its baseline


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(20)
    kernel, bias = rng.normal(size=(2, WIDTH, CLASSES)), rng.normal(size=(2, CLASSES))
    rows, splits = np.swapaxes(kernel, 1, 2), {}
    noise, length = np.array([2.8, 1.0])[:, None, None], np.array([0.4, 1.2])[:, None, None]
    for name, y in LABELS.items():
        h = length * (rows[:, y] + 0.5 + noise * rng.normal(size=(2, len(y), WIDTH)))
        h[:, SHORT] *= 0.01
        splits[name] = probe.Features(h.astype(np.float32), y)
    return splits, kernel.astype(np.float32), bias.astype(np.float32)


@pytest.fixture(scope="module")
def measured(study):
    return probe.measure(*study, baselines=[1, 0])


@pytest.fixture(scope="module")
def trials(study, measured):
    """Features, kernel, bias in float64, and the centers found (another file compares those with scipy)."""
    splits, kernel, bias = study
    centers = [one.arrays["class/center"] for one in measured]
    parts = zip(splits["test"].features, kernel, bias, centers)
    return [tuple(np.asarray(a, float) for a in trial) for trial in parts]


def rows(one, split="test"):
    return {row.metric: row for row in one.rows if row.split == split}


def margins(h_ND, kernel, bias):
    return np.array([reference.margin(h, kernel, bias, y) for h, y in zip(h_ND, LABELS_N)])


def angles(trial):
    return np.array([reference.angle(h, trial[3][y]) for h, y in zip(trial[0], LABELS_N)])


def lengths(trial):
    return np.linalg.norm(trial[0], axis=1)


def test_arrays_equal_float64(measured, trials):
    for one, (h_ND, kernel, bias, _), trial in zip(measured, trials, trials):
        top_N = (h_ND @ kernel + bias).argmax(1)
        logits_NK = h_ND @ kernel + bias
        own_N = logits_NK[np.arange(len(h_ND)), LABELS_N]
        others_NK = np.where(np.arange(CLASSES) == LABELS_N[:, None], -np.inf, logits_NK)
        last_N = np.array([reference.last_change(h, kernel, bias) for h in h_ND])
        expected = {
            "center_angle": angles(trial),
            "cone_breakpoint": last_N,
            "cone_radius": last_N * lengths(trial),
            "weighted_norm": np.sqrt((kernel**2).sum()) * lengths(trial),
            "logit_norm": np.sqrt(((logits_NK - logits_NK.mean(1)[:, None]) ** 2).sum(1)),
            "logit_margin": own_N - others_NK.max(1),
            "t_star": [reference.first_change(h, kernel, bias) for h in h_ND],
            "t_star_bias10": [reference.first_change(h, kernel, 10 * bias) for h in h_ND],
            "label_margin": margins(h_ND, kernel, bias),
            "angular_margin": [reference.margin(h, kernel, bias, c) for h, c in zip(h_ND, top_N)],
            "correct": top_N == LABELS_N,
        }
        for name, values in expected.items():
            np.testing.assert_allclose(one.arrays[f"test/{name}"], values, rtol=2e-3, atol=2e-4, err_msg=name)


def test_t_star_is_the_last_breakpoint_where_the_prediction_is_final(measured):
    for one in measured:
        final_N, t_star_N = one.arrays["test/cone_fraction"], one.arrays["test/t_star"]
        assert 0.1 < final_N.mean() < 0.95
        last_N = one.arrays["test/cone_breakpoint"]
        np.testing.assert_allclose(t_star_N[final_N], last_N[final_N], rtol=1e-5)
        assert (t_star_N[~final_N] < last_N[~final_N]).all()
        for q in (50, 95):
            expected = np.percentile(t_star_N.astype(float), q)
            np.testing.assert_allclose(rows(one)[f"t_star/q{q}"].value, expected, rtol=1e-6)


def test_rows_by_class_and_correctness_equal_float64(measured, trials):
    for one, (h_ND, kernel, bias, _), trial in zip(measured, trials, trials):
        found, right_N = rows(one), (h_ND @ kernel + bias).argmax(1) == LABELS_N
        groups = {"correct": right_N, "wrong": ~right_N} | {f"class/{k}": k == LABELS_N for k in range(CLASSES)}
        for group, chosen_N in groups.items():
            row, norms = found[f"feature_norm/{group}"], lengths(trial)[chosen_N]
            half = 1.96 * norms.std(ddof=1) / math.sqrt(len(norms))
            assert row.n == chosen_N.sum() > 1
            expected = [norms.mean(), norms.mean() - half, norms.mean() + half]
            np.testing.assert_allclose([row.value, row.low, row.high], expected, rtol=1e-5, err_msg=group)
        np.testing.assert_allclose(found["feature_norm_sd"].value, lengths(trial).std(), rtol=1e-5)
        least_N = [reference.margin(h, kernel, bias, c) for h, c in zip(h_ND, (h_ND @ kernel + bias).argmax(1))]
        fixed = np.mean(np.array(least_N) == np.pi)
        assert 0.05 <= fixed < 0.5
        np.testing.assert_allclose(found["unturnable_fraction"].value, fixed, rtol=1e-6)


def test_scaled_and_tempered_curves_equal_float64(measured, trials):
    for one, (h_ND, kernel, bias, _) in zip(measured, trials):
        found = rows(one)
        for s in scaling.SCALES:
            scaled = reference.calibration(s * h_ND @ kernel + bias, LABELS_N)
            tempered = reference.calibration(s * (h_ND @ kernel + bias), LABELS_N)
            for kind, expected in {"scaled": scaled, "tempered": tempered}.items():
                values = [found[f"{kind}_{name}/{s:.3g}"].value for name in expected]
                np.testing.assert_allclose(values, list(expected.values()), rtol=1e-4, atol=1e-5, err_msg=f"{kind} {s}")
        assert abs(found["tempered_nll/2.83"].value - found["scaled_nll/2.83"].value) > 0.01


@pytest.mark.parametrize(("own", "base"), PAIRS)
def test_interventions_equal_float64(measured, trials, own, base):
    h_ND, kernel, bias, centers = trials[base]
    scale = lengths(trials[own]).mean() / lengths(trials[base]).mean()
    by = angles(trials[base]).mean() - angles(trials[own]).mean()
    assert abs(by) > 0.1
    assert abs(scale - 1) > 0.1
    turned_ND = np.array([reference.turned(h, centers[y], by) for h, y in zip(h_ND, LABELS_N)])
    goal, before = ({**plain(trials[t]), "margin": margins(*trials[t][:3]).mean()} for t in (own, base))
    found = {name: row.value for name, row in rows(measured[own]).items()}
    for done, changed_ND in {"norm_swap": scale * h_ND, "turn": turned_ND}.items():
        after = reference.calibration(changed_ND @ kernel + bias, LABELS_N)
        after["margin"] = margins(changed_ND, kernel, bias).mean()
        for name, value in after.items():
            np.testing.assert_allclose(found[f"{done}_{name}"], value, rtol=1e-3, atol=1e-4, err_msg=f"{done} {name}")
        for name, noise in {"ece": CALIBRATION_NOISE, "nll": CALIBRATION_NOISE, "margin": MARGIN_NOISE}.items():
            gap = before[name] - goal[name]
            assert abs(gap) > 2 * noise
            share = (before[name] - after[name]) / gap
            np.testing.assert_allclose(found[f"{done}_{name}_share"], share, rtol=5e-3, atol=5e-3, err_msg=name)


@pytest.mark.parametrize(("own", "base"), PAIRS)
def test_every_example_of_the_norm_swap_equals_float64(measured, trials, own, base):
    h_ND, kernel, bias, _ = trials[base]
    logits_NK = lengths(trials[own]).mean() / lengths(trials[base]).mean() * h_ND @ kernel + bias
    p_NK = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
    confidence_N = (p_NK / p_NK.sum(1, keepdims=True)).max(1)
    arrays, found = measured[own].arrays, rows(measured[own])
    np.testing.assert_allclose(arrays["test/norm_swap_confidence"], confidence_N, rtol=1e-4)
    np.testing.assert_array_equal(arrays["test/norm_swap_correct"], logits_NK.argmax(1) == LABELS_N)
    assert np.any(arrays["test/norm_swap_correct"] != measured[base].arrays["test/correct"])  # by the bias
    gap = arrays["test/norm_swap_confidence"].mean() - arrays["test/norm_swap_correct"].mean()
    np.testing.assert_allclose(found["norm_swap_confidence_gap"].value, gap, atol=1e-5)


def plain(trial):
    h_ND, kernel, bias, _ = trial
    return reference.calibration(h_ND @ kernel + bias, LABELS_N)


def test_centers_sit_at_the_radius_that_is_asked_for(study, measured):
    for one, by_default in zip(probe.measure(*study, radius=3.0), measured):
        np.testing.assert_allclose(rows(one, "train")["center_radius"].value, 3, rtol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(one.arrays["class/center"], axis=1), 3, rtol=1e-5)
        assert abs(rows(by_default, "train")["center_radius"].value - 3) > 0.1
