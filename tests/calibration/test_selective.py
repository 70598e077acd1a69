import itertools

import jax
import numpy as np
import pytest
import sklearn.metrics

from jaxreg.calibration import selective

aurc, auroc = jax.jit(selective.aurc), jax.jit(selective.auroc)
ONES = np.ones(200, np.float32)


def simulate(levels):
    random = np.random.default_rng(levels)
    confidence = np.round(random.random(200) * levels) / levels
    return confidence.astype(np.float32), (random.random(200) < confidence).astype(np.float32)


def risk_coverage(correct_by_confidence):
    return np.mean(np.cumsum(1 - correct_by_confidence) / np.arange(1, len(correct_by_confidence) + 1))


@pytest.mark.parametrize("levels", [3, 10, 10**6])
def test_scikit_learn_finds_the_same_auroc(levels):
    confidence, correct = simulate(levels)
    np.testing.assert_allclose(
        auroc(confidence, correct, ONES), sklearn.metrics.roc_auc_score(correct, confidence), rtol=1e-5
    )


def test_aurc_without_ties_is_the_mean_of_the_risks():
    confidence, correct = simulate(10**6)
    expected = risk_coverage(correct[np.argsort(-confidence)])
    np.testing.assert_allclose(aurc(confidence, correct, ONES), expected, rtol=1e-5)


def test_aurc_of_ties_is_the_mean_over_their_orders():
    # 0.9 (right), then 0.5 three times (right, wrong, wrong) in all 6 orders, then 0.1 (wrong).
    expected = np.mean([risk_coverage(np.array([1, *order, 0])) for order in itertools.permutations([1, 0, 0])])
    confidence = np.pad([0.5, 0.9, 0.5, 0.1, 0.5], (0, 195)).astype(np.float32)
    correct = np.pad([1, 1, 0, 0, 0], (0, 195)).astype(np.float32)
    mask = (np.arange(200) < 5).astype(np.float32)
    np.testing.assert_allclose(aurc(confidence, correct, mask), expected, rtol=1e-5)


def test_padding_and_order_change_nothing():
    confidence, correct = simulate(10)
    mask = (np.arange(200) < 150).astype(np.float32)
    turned = np.random.default_rng(1).permutation(200)
    for metric in (aurc, auroc):
        here, there = metric(confidence, correct, mask), metric(confidence[turned], correct[turned], mask[turned])
        np.testing.assert_allclose(here, there, rtol=1e-6)
    np.testing.assert_allclose(
        auroc(confidence, correct, mask), sklearn.metrics.roc_auc_score(correct[:150], confidence[:150]), rtol=1e-5
    )


def test_nothing_to_tell_apart():
    confidence, _ = simulate(10)
    assert np.isnan(auroc(confidence, ONES, ONES))
    assert aurc(confidence, ONES, ONES) == 0
    assert aurc(confidence, 0 * ONES, ONES) == pytest.approx(1)
