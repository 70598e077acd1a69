import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from jaxreg import claims, statistics
from support.claim_trials import ATTACK, HEALTHY, REVERSED, SOFT, TESTED, related, swapped, trials


def verdicts(frame, **kwargs):
    return {line["claim"]: line["verdict"] for line in claims.summarize(claims.evaluate(frame, **kwargs))}


def test_every_claim_has_a_case():
    assert set(TESTED) == set(REVERSED) == set(claims.CLAIMS)


def test_true_claims_are_supported():
    assert verdicts(trials(seeds=12, graded=8)) == dict.fromkeys(claims.CLAIMS, "supported")


@pytest.mark.parametrize("claim", claims.CLAIMS)
def test_false_claims_are_contradicted(claim):
    assert verdicts(trials(REVERSED[claim], graded=8))[claim] == "contradicted"


@pytest.mark.parametrize("claim", claims.CLAIMS)
def test_undecidable_claims_stay_inconclusive(claim):
    middle = {
        "cone_fraction": (0.95, 0.95),
        "adversarial_radial_cosine": (0.1, 0.01),
        "adversarial_norm_change": (0.1, 0.01),
    }
    level = {metric: middle.get(metric, HEALTHY[metric]) for metric in TESTED[claim]}
    assert verdicts(trials(level, noisy=TESTED[claim], graded=8))[claim] == "inconclusive"


def test_cones_in_all_examples_of_all_seeds_are_evidence_and_more_of_it_with_more_examples():
    frame = trials(seeds=3)
    perfect = frame.assign(value=frame["value"].where(frame["metric"] != "cone_fraction", 1.0))
    found = {n: claims.evaluate(perfect.assign(n=n)).query("claim == 'cone'") for n in (100, 500)}
    assert set(found[500]["verdict"]) == {"supported"}
    # t = 0.05 / (0.002 / sqrt(3)) with 2 degrees of freedom: p = 1 - t / sqrt(2 + t^2)
    t = 0.05 / (0.002 / 3**0.5)
    level = found[500][found[500]["test"] == "t, above 0.95"]
    np.testing.assert_allclose(level["p"], 1 - t / (2 + t**2) ** 0.5, rtol=1e-6)
    assert (found[100]["p"].to_numpy() > found[500]["p"].to_numpy()).all()
    assert set(claims.evaluate(perfect).query("claim == 'cone'")["verdict"]) == {"inconclusive"}  # n is not known


@pytest.mark.parametrize("claim", claims.CLAIMS)
def test_one_seed_gives_no_verdict(claim):
    one = trials(seeds=1, graded=8)  # 11 settings: enough for a correlation over settings
    table = claims.evaluate(related({"mixup": [0.5]}, one))
    assert table[["verdict", "low", "high", "p", "p_holm"]].isna().to_numpy().all()
    assert not table["sentence"].str.contains("interval|p [=<]").any()
    assert verdicts(one)[claim] is None


def test_numbers_are_those_of_a_paired_t_test():
    frame = trials()
    (row,) = claims.evaluate(frame).query("claim == 'norm' and setting == 'mixup'").to_dict("records")
    values = frame[frame["metric"] == "feature_norm"].pivot(index="seed", columns="regularizer", values="value")
    difference = values["mixup"] - values["none"]
    half = 2.364624 * difference.std() / np.sqrt(8)  # t quantile of 7 degrees of freedom, from tables
    np.testing.assert_allclose(
        [row["effect"], row["low"], row["high"]], difference.mean() + np.array([0, -half, half]), rtol=1e-5
    )
    assert row["n"] == 8


def test_holm_runs_over_all_tests_of_the_study():
    table = claims.evaluate(trials())
    np.testing.assert_allclose(table["p_holm"], statistics.holm(table["p"]))
    assert (table["p_holm"] >= table["p"])[table["p"].notna()].all()


def test_pairs_are_matched_by_seed_and_by_the_overrides_of_a_sweep():
    frame = trials()
    slow = frame.assign(hyperparameters=json.dumps({"learning_rate": 0.1}))
    fast = frame.assign(hyperparameters=json.dumps({"learning_rate": 1.0}), value=frame["value"] * 5)
    fast = fast[(fast["regularizer"] != "mixup") | (fast["seed"] > 2)]
    table = claims.evaluate(pd.concat([slow, fast])).query("claim == 'norm'").set_index("setting")
    ratio = (
        table.loc["label_smoothing(learning_rate=1)", "effect"]
        / table.loc["label_smoothing(learning_rate=0.1)", "effect"]
    )
    np.testing.assert_allclose(ratio, 5)
    assert table.loc["mixup(learning_rate=1)", "n"] == 5


def test_a_difference_of_ece_inside_the_noise_floor_is_not_called_one():
    frame = trials({"ece": (0.010, 0.005)}, noise=1e-4)
    floors = frame[frame["metric"] == "accuracy"].assign(metric="ece_floor", value=0.008, low=0.0, high=0.012)
    bare = claims.evaluate(frame).query("metric == 'ece' and claim == 'calibration'")
    assert (bare["verdict"] == "supported").all()
    kept = claims.evaluate(pd.concat([frame, floors])).query("metric == 'ece' and claim == 'calibration'")
    assert (kept["verdict"] == "inconclusive").all()
    assert kept["sentence"].str.contains("noise floor").all()


def test_robustness_is_tested_where_the_baseline_is_half_its_accuracy():
    frame = trials({"robust_accuracy/worst/0.3": (0.001, 0.002), "robust_accuracy/fgsm/0.3": (0.001, 0.002)})
    assert set(claims.evaluate(frame).query("claim == 'robustness'")["metric"].str.split("/").str[2]) == {"0.1"}


def test_controls_are_no_attacks():
    frame = trials({"robust_accuracy/transfer/0.1": (0.1, 0.7), "robust_accuracy/noise/0.1": (0.9, 0.95)})
    metrics = set(claims.evaluate(frame).query("claim == 'robustness'")["metric"])
    assert metrics == {ATTACK, "robust_accuracy/fgsm/0.1"}


def test_correlation_within_trials():
    rng = np.random.default_rng(0)
    cosine = rng.random(200)
    radius = cosine + 0.3 * rng.random(200)
    radius[:5] = np.inf
    each = [statistics.rank_correlation(cosine, radius) + 0.01 * i for i in range(8)]
    assert each[0] > 0.5
    assert np.isnan(statistics.rank_correlation(cosine, 0 * cosine))
    row = claims.evaluate(related({"mixup": each})).query("claim == 'mechanism' and setting == 'mixup'").iloc[0]
    assert row["verdict"] == "supported"
    np.testing.assert_allclose(row["effect"], np.mean(each))


WITHIN = {"supported": (0.3, 0.02), "contradicted": (-0.3, 0.02), "inconclusive": (0.05, 0.3)}  # mean, sd over trials


@pytest.mark.parametrize("verdict", WITHIN)
def test_correlation_within_trials_has_every_verdict(verdict):
    mean, sd = WITHIN[verdict]
    each = mean + sd * np.random.default_rng(1).normal(size=8)
    table = claims.evaluate(related({"mixup": each})).query("claim == 'mechanism'").set_index("setting")
    assert table.loc["mixup", "verdict"] == verdict
    assert "right without attack" in table.loc["mixup", "sentence"]


def test_correlations_within_trials_stay_in_their_study():
    rising, falling = related({"mixup": np.linspace(0.3, 0.4, 8)}), related({"mixup": -np.linspace(0.3, 0.4, 8)})
    both = pd.concat([rising.assign(study="one"), falling.assign(study="two")])
    table = claims.evaluate(both).query("metric == 'cosine_radius_correlation'").set_index("study")
    assert table["verdict"].to_dict() == {"one": "supported", "two": "contradicted"}


def test_a_gap_of_ece_inside_the_noise_floor_is_not_closed():
    row = swapped(own=0.0301, base=0.0300, after=0.0500)
    assert row["verdict"] == "inconclusive"
    assert "noise floor" in row["sentence"]
    assert swapped(own=0.0301, base=0.0300, after=0.0301, floor=0.0)["verdict"] == "inconclusive"  # never below 0.002


def test_what_counts_as_closing_a_gap_is_the_distance_left():
    assert swapped(own=0.03, base=0.05, after=0.04)["verdict"] == "supported"
    assert (
        swapped(own=0.05, base=0.03, after=0.04)["verdict"] == "supported"
    )  # the soft label is worse, and so it becomes
    assert swapped(own=0.03, base=0.05, after=0.02)["verdict"] == "supported"  # beyond, and yet nearer
    far = swapped(own=0.03, base=0.05, after=0.005, floor=0.004)  # beyond, and farther than before
    assert far["verdict"] == "contradicted"
    np.testing.assert_allclose(far["effect"], 0.02 - 0.025, rtol=0.05)


def test_doubtful_attacks_are_told_with_the_claim():
    words = trials({"verdict": (0.0, 0.0)})
    words.loc[(words["metric"] == "verdict") & (words["regularizer"] == "mixup") & (words["seed"] < 3), "value"] = 1.0
    lines = {line["claim"]: line["sentence"] for line in claims.summarize(claims.evaluate(words))}
    assert lines["robustness"].endswith("; 3 of 24 trials have a verdict other than reliable")
    assert "reliable" not in lines["accuracy"]


def test_what_was_not_measured_is_not_tested():
    frame = trials()
    table = claims.evaluate(frame[frame["metric"] == "feature_norm"])
    assert set(table["claim"]) == {"norm"}
    nothing = claims.evaluate(frame[frame["regularizer"] == "none"].query("metric == 'accuracy'"))
    assert nothing.empty
    assert "No claim was tested" in claims.as_text(nothing)


def test_a_penalty_is_no_soft_label_and_a_sum_is():
    frame = trials()
    other = frame[frame["regularizer"] == "mixup"]
    frame = pd.concat([frame, other.assign(regularizer="confidence_penalty"), other.assign(regularizer="cutmix+focal")])
    assert set(claims.evaluate(frame).query("claim == 'norm'")["setting"]) == {*SOFT, "cutmix+focal"}


def test_studies_are_tested_apart():
    both = pd.concat([trials().assign(study="one"), trials(REVERSED["norm"]).assign(study="two")])
    table = claims.evaluate(both)
    found = {(line["study"], line["claim"]): line["verdict"] for line in claims.summarize(table)}
    assert found["one", "norm"] == "supported"
    assert found["two", "norm"] == "contradicted"
    assert "[two] norm" in claims.as_text(table)


def test_more_settings_take_no_more_calls_and_no_longer_sentences(monkeypatch):
    one, calls, lengths = trials(REVERSED["norm"]), [], []
    for rates in (1, 20):
        frame = pd.concat(
            [one.assign(hyperparameters=json.dumps({"optimizer.learning_rate": r})) for r in range(rates)]
        )
        for module, name in ((statistics, "_effects"), (scipy.stats, "rankdata"), (pd.DataFrame, "pivot")):
            made = getattr(module, name)
            monkeypatch.setattr(
                module, name, lambda *given, _made=made, **kw: calls[-1].append(0) or _made(*given, **kw)
            )
        calls.append([])
        table = claims.evaluate(frame)
        monkeypatch.undo()
        lengths.append(len(table))
    assert lengths[1] > 15 * lengths[0]
    assert len(calls[0]) == len(calls[1]) > 0
    told = next(line["sentence"] for line in claims.summarize(table) if line["claim"] == "norm")
    assert told.endswith(" and 28 more settings (claims.csv)")
    assert told.count("optimizer.learning_rate") == 12


def test_two_trials_of_a_setting_at_one_seed_are_refused():
    with pytest.raises(ValueError, match="one trial a seed"):
        claims.evaluate(pd.concat([trials(), trials()]))


def test_saved_files_hold_every_test(tmp_path):
    table = claims.evaluate(trials(REVERSED["accuracy"]))
    claims.save(table, tmp_path)
    assert len(pd.read_csv(tmp_path / "claims.csv")) == len(table)
    saved = json.loads((tmp_path / "claims.json").read_text())
    assert sum(len(claim["tests"]) for claim in saved) == len(table)
    assert {c["claim"]: c["verdict"] for c in saved}["accuracy"] == "contradicted"
    text = claims.as_text(table)
    assert "CONTRADICTED accuracy: soft labels raise accuracy" in text
    assert text.count("\n") + 1 == len(table) + len(claims.CLAIMS)
