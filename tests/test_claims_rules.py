"""Rules of the claims that only an odd study shows: which rows count, at which radius, how much is noise."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from jaxreg import claims, regularizers
from jaxreg.claims import attacks, findings, mechanism, words
from jaxreg.claims import settings as study
from jaxreg.regularizers import Regularizer
from support.claim_trials import ATTACK, trials


def row_of(frame, claim, metric, setting="mixup"):
    (row,) = claims.evaluate(frame).query("claim == @claim and metric == @metric and setting == @setting").itertuples()
    return row


def test_a_verdict_needs_the_adjusted_p():
    """Of many tests one with p of 2 % is not decided, and alone it is."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=6)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    difference = -0.2 + noise * 0.2 / 3.6 * 6**0.5  # t = -3.6 of 5 degrees of freedom: p = 0.0155
    frame = trials(seeds=6)
    both = frame["metric"] == "feature_norm"
    base = frame.loc[both & (frame["regularizer"] == "none"), "value"].to_numpy()
    for name in ("mixup", "label_smoothing"):
        frame.loc[both & (frame["regularizer"] == name), "value"] = base + difference
    kept = both | ((frame["metric"] == "accuracy") & (frame["regularizer"] == "none"))
    alone = frame[kept & (frame["regularizer"] != "label_smoothing")]
    assert row_of(alone, "norm", "feature_norm").p == pytest.approx(0.0155, abs=2e-4)
    assert row_of(alone, "norm", "feature_norm").verdict == "supported"
    three = pd.concat([frame[kept], *(_another(frame[kept], k) for k in range(3))])
    row = row_of(three, "norm", "feature_norm")
    assert row.p < findings.ALPHA < row.p_holm
    assert row.verdict == "inconclusive"


def _another(frame, k):
    """The same trials at another value of a sweep."""
    return frame.assign(hyperparameters=json.dumps({"optimizer.learning_rate": k}))


@pytest.mark.parametrize(("margin", "verdict"), [(0.0025, "supported"), (0.0015, "inconclusive")])
def test_without_a_floor_gaps_below_the_least_one_are_noise(margin, verdict):
    # The gap is 3 points; what the norm closes of it is on either side of 0.2 points.
    frame = trials({"norm_swap_ece": (np.nan, 1.0)})
    soft, little = frame["regularizer"] != "none", 1e-6 * frame["seed"]
    frame.loc[frame["metric"] == "norm_swap_ece", "value"] = 0.05 - margin + little
    frame.loc[frame["metric"] == "ece", "value"] = np.where(soft, 0.02, 0.05)[frame["metric"] == "ece"]
    assert row_of(frame, "temperature", "norm_swap_ece").verdict == verdict


def test_beyond_the_margin_is_tested_on_both_sides():
    own, base = np.array([0.032, 0.03, 0.034, 0.031]), np.zeros(4)
    (one,) = findings.same(["a"], "m", [own], [base], 0.02, ["said"], words.ECE)
    t = (own.mean() - 0.02) / (own.std(ddof=1) / 2)
    assert one.p_against == pytest.approx(2 * scipy.stats.t.sf(t, 3))


def test_other_splits_are_not_tested():
    frame = trials()
    other = frame.assign(split="validation", value=100.0)
    pd.testing.assert_frame_equal(claims.evaluate(pd.concat([frame, other])), claims.evaluate(frame))


def test_seeds_without_a_partner_are_left_out():
    frame = trials(seeds=6)
    lone = frame[(frame["regularizer"] != "none") | (frame["seed"] < 4)]
    (pair, *_) = study.read(lone).pairs
    assert list(pair.own.index) == list(pair.base.index) == [0, 1, 2, 3]
    lone = frame[(frame["regularizer"] == "none") | (frame["seed"] < 4)]
    assert [len(pair.base) for pair in study.read(lone).pairs] == [4, 4]


def test_the_step_of_a_share_is_that_of_the_fewest_examples():
    frame = trials(seeds=2).assign(n=500)
    frame.loc[frame["regularizer"] == "mixup", "n"] = 100
    assert study.read(frame).steps == {"cone_fraction": 0.01}


def radii(values, accuracy=0.9):
    """A study whose baseline has robust accuracies by (attack, radius)."""
    changes = {f"robust_accuracy/{attack}/{eps}": (value, value) for (attack, eps), value in values.items()}
    frame = trials(changes, seeds=3, noise=1e-6)
    known = {*changes, "accuracy"}
    frame.loc[frame["metric"] == "accuracy", "value"] = accuracy
    return study.read(frame[frame["metric"].isin(known)])


def test_the_radius_is_where_most_attacks_ran_and_the_baseline_is_at_half_its_accuracy():
    halves = {("worst", "0.1"): 0.85, ("worst", "0.2"): 0.44, ("worst", "0.3"): 0.02}
    assert attacks.radius(radii(halves)) == "0.2"
    assert attacks.radius(radii(halves | {("worst", "0.2"): 0.8, ("worst", "0.3"): 0.3})) == "0.3"  # 0.45 is half
    assert attacks.radius(radii(halves | {("pgd", "0.3"): 0.02})) == "0.3"  # two attacks there
    assert attacks.radius(radii({("worst", "0"): 0.45, ("worst", "0.1"): 0.8})) == "0.1"  # radius 0 is no attack


def test_where_features_moved_is_the_radius_of_the_probe():
    frame = trials({"robust_accuracy/worst/0.3": (0.1, 0.2)})
    at = frame[frame["metric"] == "adversarial_norm_change"].assign(metric="adversarial_eps", value=0.3)
    assert "at radius 0.3," in row_of(pd.concat([frame, at]), "origin", "adversarial_norm_change").sentence
    assert "under the worst attack, over" in row_of(frame, "origin", "adversarial_norm_change").sentence


def test_each_correlation_bears_on_its_own_part():
    table = claims.evaluate(trials(graded=8)).query("claim == 'mechanism'").set_index("metric")
    assert table.loc["center_cosine", "part"] == "a higher cosine with robustness"
    assert table.loc["feature_norm", "part"] == "a smaller norm with calibration"


def settings(values):
    """A study of settings (regularizer, override): two numbers each, at two seeds."""
    rows = [
        ("focal", json.dumps({"gamma": float(g)} | ({"optimizer.learning_rate": o} if o else {})), s, "test", m, v)
        for (g, o), both in values.items()
        for m, v in zip(("feature_norm", "ece"), both)
        for s in range(2)
    ]
    frame = pd.DataFrame(rows, columns=["regularizer", "hyperparameters", "seed", "split", "metric", "value"])
    return mechanism.units(study.read(frame), "feature_norm", "ece")


def test_what_an_override_does_to_all_is_taken_off():
    values = {(g, o): (10 * o + g, 5 * o - g) for g in (1, 2, 3) for o in (1, 2)}
    found = settings(values)
    np.testing.assert_allclose([unit.mean(1) for unit in found], [[-1, 1], [0, 0], [1, -1]], atol=1e-9)
    # A fourth that one override alone has moves no mean: it lies where the others of its override put it.
    found = settings(values | {(7, 2): (20 + 7, 10 - 7)})
    np.testing.assert_allclose([unit.mean(1) for unit in found], [[-1, 1], [0, 0], [1, -1], [5, -5]], atol=1e-9)


def test_the_interval_of_a_rank_correlation_is_bonett_and_wrights():
    r, n = 0.6, 12
    wide = 1.959964 * np.sqrt((1 + 0.18) / 9)
    np.testing.assert_allclose(
        mechanism._interval(r, n), [np.tanh(np.arctanh(r) + way * wide) for way in (-1, 1)], rtol=1e-3
    )


def test_means_that_differ_by_rounding_are_ties():
    values = [np.array([[0.1 + 0.2], [k]]) for k in range(3)] + [np.array([[0.3], [k]]) for k in range(3, 6)]
    assert np.isnan(mechanism.correlation("m", values, ("one", "other")).effect)


def test_cones_are_the_same_within_two_points():
    for apart, verdict in ((0.012, "supported"), (0.03, "contradicted")):
        frame = trials({"cone_fraction": (0.999, 0.999 - apart)}, noise=1e-5)
        table = claims.evaluate(frame).query("claim == 'cone' and test.str.startswith('equivalence')")
        assert set(table["verdict"]) == {verdict}


def test_one_trial_without_a_bias_is_told():
    frame = trials()
    made = frame[frame["metric"] == "accuracy"].assign(metric="cone_by_construction", split="train", value=0.0)
    made.loc[(made["regularizer"] == "mixup") & (made["seed"] == 0), "value"] = 1.0
    lines = {line["claim"]: line["sentence"] for line in claims.summarize(claims.evaluate(pd.concat([frame, made])))}
    assert "in 1 of 3 settings there are trials without a bias" in lines["cone"]


def test_cosines_are_told_as_cosines_and_shares_in_percent():
    table = claims.evaluate(trials())
    said = {row.metric: row.said for row in table.itertuples() if row.setting == "mixup"}
    assert "point of least loss is 0.5" in said["center_cosine"]
    assert "%" not in said["center_cosine"]
    assert "%" in said[ATTACK]


def test_settings_that_agree_to_six_digits_stay_two():
    rates = (0.12345678, 0.12345679)
    parts = [
        trials(seeds=4).assign(
            hyperparameters=json.dumps({"optimizer.learning_rate": rate}), value=lambda f, r=rate: f["value"] * (r * 8)
        )
        for rate in rates
    ]
    found = study.read(pd.concat(parts))
    assert len(found.settings) == 6  # none and two soft labels, at two rates
    assert [pair.name for pair in found.pairs if "mixup" in pair.name] == [
        f"mixup(optimizer.learning_rate={rate})" for rate in rates
    ]
    for pair in found.pairs:
        pd.testing.assert_frame_equal(pair.base, found.settings[pair.name.replace(pair.name.split("(")[0], "none")])


def test_claims_are_about_every_regularizer_whose_targets_are_soft(monkeypatch):
    new = Regularizer(soften=lambda targets_BK, hyper: 0.9 * targets_BK + 0.1 * targets_BK[::-1])
    monkeypatch.setattr(regularizers, "REGULARIZERS", {**regularizers.REGULARIZERS, "softened": new})
    frame = trials(seeds=4)
    frame = pd.concat([frame, frame[frame["regularizer"] == "mixup"].assign(regularizer="softened")])
    assert "softened" in set(claims.evaluate(frame).query("claim == 'norm'")["setting"])
