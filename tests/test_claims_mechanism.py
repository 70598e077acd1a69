"""Relations over settings: what n is, which test it is, how often it is wrong."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from jaxreg import claims
from jaxreg.claims import mechanism
from support.claim_trials import trials


def over_settings(frame, metric):
    return claims.evaluate(frame).query("claim == 'mechanism' and metric == @metric").iloc[0]


def test_correlation_over_settings_tells_that_of_the_trials_too():
    frame = trials({"feature_norm": (11.0, 8.0), "ece": (0.08, 0.02)}, graded=8)
    lone = frame[(frame["regularizer"] == "mixup") & (frame["metric"] == "ece")].index
    for given in (frame, frame.drop(lone)):  # a setting that lacks one of the two is left out, and shifts nobody
        row = over_settings(given, "feature_norm")
        assert row["n"] == (11 if given is frame else 10)
        assert row["verdict"] == "supported"
        assert f"over all {8 * row['n']} trials" in row["sentence"]
        assert row["sentence"].startswith("over the means of all settings: ")


def test_four_settings_are_too_few_for_a_correlation_and_say_so():
    row = over_settings(trials(graded=1), "feature_norm")
    assert np.isnan([row["low"], row["high"], row["p"]]).all()
    assert pd.isna(row["verdict"])
    assert "even a perfect order of 4 has p = 0.083: a test needs 5" in row["sentence"]


def clustered(seed, settings, relation, overrides=1, seeds=5):
    """Settings whose means are random, a relation between them or not, and seeds close to the means.

    With several `overrides` each setting has a trial at each, where both numbers are shifted for all settings.
    """
    rng = np.random.default_rng(seed)
    one_G, shift_O2 = rng.normal(size=settings), rng.normal(size=(overrides, 2))
    other_G = relation * one_G + (0.2 if relation else 1.0) * rng.normal(size=settings)
    rows = []
    for g, o in np.ndindex(settings, overrides):
        key = {"gamma": 1.0 + g} | ({"optimizer.learning_rate": 0.1 * (o + 1)} if overrides > 1 else {})
        for metric, mean in (("feature_norm", 10 + one_G[g] + shift_O2[o, 0]), ("ece", other_G[g] + shift_O2[o, 1])):
            values = mean + 0.2 * rng.normal(size=seeds)
            rows += [("focal", json.dumps(key), s, "test", metric, value) for s, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["regularizer", "hyperparameters", "seed", "split", "metric", "value"])


@pytest.mark.parametrize(("settings", "overrides"), [(4, 1), (4, 3), (8, 1), (8, 2)])
def test_settings_without_a_relation_seldom_get_a_verdict(settings, overrides):
    found = [over_settings(clustered(i, settings, 0.0, overrides), "feature_norm")["verdict"] for i in range(120)]
    false = sum(verdict in ("supported", "contradicted") for verdict in found)
    assert false <= scipy.stats.binom.ppf(0.999, 120, 0.05)  # with trials as n: 48
    assert settings > 4 or false == 0


@pytest.mark.parametrize(("relation", "verdict"), [(1.0, "supported"), (-1.0, "contradicted")])
def test_many_settings_with_a_relation_get_their_verdict(relation, verdict):
    found = [over_settings(clustered(i, 12, relation, 1 + i % 2), "feature_norm")["verdict"] for i in range(30)]
    assert found.count(verdict) >= 28


def test_settings_of_several_widths_are_compared_by_their_norm_over_the_root_of_it():
    frame = clustered(0, 8, 1.0)
    wide = frame["hyperparameters"].map(lambda text: 16 if json.loads(text)["gamma"] > 4 else 1)
    rms = frame[frame["metric"] == "feature_norm"].assign(metric="feature_rms")
    longer = frame.assign(value=frame["value"].where(frame["metric"] != "feature_norm", frame["value"] * wide**0.5))
    assert over_settings(pd.concat([longer, rms]), "feature_rms")["effect"] > 0.9
    assert over_settings(longer, "feature_norm")["effect"] < 0.9


@pytest.mark.parametrize("settings", [5, 6])
def test_the_test_over_settings_goes_through_all_orders(settings):
    one, other = np.random.default_rng(settings).normal(size=(2, settings)).round(0)  # with ties
    for side, found in zip(("greater", "less"), mechanism.permuted(one, other)):
        exact = scipy.stats.permutation_test(
            (one,),
            lambda moved: scipy.stats.spearmanr(moved, other).statistic,
            permutation_type="pairings",
            n_resamples=np.inf,
            alternative=side,
        )
        np.testing.assert_allclose(found, exact.pvalue)


def test_errors_inside_the_noise_floor_have_no_order():
    """Seven settings whose ECE rises with the norm: from 1.00 to 1.12 %, or to 4 %, where noise reaches 1.55 %."""
    for rise, verdict in ((0.0002, "inconclusive"), (0.005, "contradicted")):
        rows = [
            ("focal", json.dumps({"gamma": float(g)}), s, "test", metric, value + 1e-6 * s, 0.006, 0.0155)
            for g in range(7)
            for s in range(3)
            for metric, value in (("feature_norm", 10.0 - g), ("ece", 0.01 + rise * g), ("ece_floor", 0.01))
        ]
        names = ["regularizer", "hyperparameters", "seed", "split", "metric", "value", "low", "high"]
        row = over_settings(pd.DataFrame(rows, columns=names), "feature_norm")
        assert row["effect"] == -1
        assert row["verdict"] == verdict
        assert ("noise floor" in row["sentence"]) == (verdict == "inconclusive")
