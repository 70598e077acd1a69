"""The verdict of a claim from those of its tests, and what is said of both."""

import numpy as np
import pandas as pd
import pytest

from jaxreg import claims
from support.claim_trials import ATTACK, SOFT, related, swapped, trials


def told(*tests):
    """What is said of a claim from (setting, part, verdict) a test."""
    table = pd.DataFrame(tests, columns=["setting", "part", "verdict"])
    (line,) = claims.summarize(table.assign(claim="c", statement="s", caveat="", figure="f"))
    return line["verdict"], line["sentence"]


FOR, AGAINST, OPEN = "supported", "contradicted", "inconclusive"
RULE = {  # tests, and the verdict of the claim: (setting, part, verdict)
    "all": ([("a", "p", FOR), ("b", "p", FOR)], FOR),
    "one of three": ([("a", "p", FOR), ("b", "p", OPEN), ("c", "p", OPEN)], OPEN),
    "two of three": ([("a", "p", FOR), ("b", "p", FOR), ("c", "p", OPEN)], OPEN),
    "each setting by one test": ([("a", "p", FOR), ("a", "p", OPEN), ("b", "p", FOR)], FOR),
    "a part undecided": ([("a", "p", FOR), ("a", "q", OPEN)], OPEN),
    "a part untested": ([("a", "p", FOR), ("a", "q", None)], OPEN),
    "every setting and every part, but not together": (
        [("a", "p", FOR), ("a", "q", OPEN), ("b", "p", OPEN), ("b", "q", FOR)],
        OPEN,
    ),
    "a part untested for one setting": ([("a", "p", FOR), ("a", "q", FOR), ("b", "p", FOR), ("b", "q", None)], OPEN),
    "a part that is about one setting": ([("a", "p", FOR), ("b", "p", FOR), ("b", "q", FOR)], FOR),
    "a setting of one seed": ([("a", "p", FOR), ("b", "p", None)], FOR),
    "mixed": ([("a", "p", FOR), ("b", "p", AGAINST)], OPEN),
    "mixed in one setting": ([("a", "p", FOR), ("a", "p", AGAINST), ("b", "p", FOR)], OPEN),
    "nothing decided": ([("a", "p", OPEN)], OPEN),
    "nothing tested": ([("a", "p", None), ("b", "p", None)], None),
}


@pytest.mark.parametrize("case", RULE)
def test_the_verdict_of_a_claim_is_the_same_rule_for_both_sides(case):
    tests, verdict = RULE[case]
    other = {FOR: AGAINST, AGAINST: FOR}
    turned = [(setting, part, other.get(one, one)) for setting, part, one in tests]
    assert told(*tests)[0] == verdict
    assert told(*turned)[0] == other.get(verdict, verdict)


def test_mixed_evidence_and_what_was_not_tested_are_told():
    assert told(("a", "p", FOR), ("b", "p", AGAINST))[1] == (
        "the evidence is mixed: 1 of 2 tests support it, 1 contradict it: b"
    )
    said = told(("a", "p", FOR), ("a", "q", None))[1]
    assert said.endswith("1 more test has no verdict, and so nothing is said of q")
    said = told(("a", "p", FOR), ("a", "q", OPEN), ("b", "p", OPEN))[1]
    assert said == "1 of 3 tests support it, 0 contradict it; undecided: q, b"
    assert told(("a", "p", None), ("a", "q", None))[1] == "no test has a verdict"
    tests = [("a", "p", AGAINST), ("b", "p", AGAINST), ("a", "q", OPEN), ("b", "q", AGAINST)]
    assert told(*tests)[1] == "0 of 4 tests support it, 3 contradict it: a, b; contradicted: p; undecided: q for a"
    said = told(*tests[:2], ("a", "q", AGAINST), ("b", "q", None))[1]
    assert said.endswith("contradicted: p; 1 more test has no verdict, and so nothing is said of q for b")
    many = [("a", "q", FOR), *((f"s{i}", "p", FOR) for i in range(100)), *((f"s{i}", "q", OPEN) for i in range(100))]
    said = told(*many, ("a", "p", FOR))[1]
    assert said.endswith("undecided: q for " + " and ".join(f"s{i}" for i in range(12)) + " and 88 more (claims.csv)")


PARTS = {  # what a study may lack, and of which claim nothing can be said then
    "ece_ts|nll_ts": ("calibration", "after temperature scaling"),
    "ece|nll": ("calibration", "before temperature scaling"),
    "norm_swap_ece": ("temperature", "the length of the soft label"),
    "ece_best_scale": ("temperature", "the best scale"),
    "tempered_ece/0.5": ("temperature", "all scales"),
    "adversarial_norm_change": ("origin", "mean change of the length of the features"),
    "feature_norm": ("mechanism", "a smaller norm with calibration"),
    "robust_accuracy/.*": ("mechanism", "a higher cosine with robustness"),
}


@pytest.mark.parametrize("lacking", PARTS)
def test_a_claim_is_not_supported_when_a_part_of_it_was_not_measured(lacking):
    claim, part = PARTS[lacking]
    frame = trials(seeds=12, graded=8)
    frame = frame[~frame["metric"].str.fullmatch(lacking)]
    lines = {line["claim"]: line for line in claims.summarize(claims.evaluate(frame))}
    assert lines[claim]["verdict"] == "inconclusive"
    assert f"so nothing is said of {part}" in lines[claim]["sentence"]


def test_a_setting_that_lacks_a_part_is_named():
    frame = trials(seeds=12)
    frame = frame[(frame["regularizer"] != "mixup") | ~frame["metric"].isin(["ece_ts", "nll_ts"])]
    table = claims.evaluate(frame)
    line = next(line for line in claims.summarize(table) if line["claim"] == "calibration")
    assert line["verdict"] == "inconclusive"
    assert line["sentence"].endswith("so nothing is said of after temperature scaling for mixup")
    (said,) = table.query("claim == 'calibration' and setting == 'mixup' and n == 0")["sentence"]
    assert said == "mixup: after temperature scaling was not measured: no verdict."


def test_without_soft_labels_nothing_is_said_of_them():
    frame = trials(seeds=12)
    table = claims.evaluate(frame[frame["regularizer"] == "none"])
    lines = {line["claim"]: line for line in claims.summarize(table)}
    for claim, part in (("cone", "with or without soft labels"), ("temperature", "the length of the soft label")):
        assert lines[claim]["verdict"] == "inconclusive"
        assert f"so nothing is said of {part}" in lines[claim]["sentence"]


@pytest.mark.filterwarnings("error")
def test_numbers_that_are_missing_at_every_seed_make_no_sentence():
    frame = trials(seeds=4)
    frame.loc[(frame["regularizer"] == "mixup"), "value"] = np.nan
    frame.loc[(frame["regularizer"] == "none") & (frame["metric"] == "norm_swap_ece"), "value"] = np.nan
    table = claims.evaluate(frame)
    assert not table["sentence"].str.contains("nan").any()
    assert set(table.loc[table["setting"] == "mixup", "sentence"].str.extract(r"(was not measured|seeds)")[0]) == {
        "was not measured"
    }


def test_sentences_are_read_without_the_code():
    frame = trials(graded=8)
    at = frame[frame["metric"] == "adversarial_norm_change"].assign(metric="adversarial_eps", value=0.1)
    table = claims.evaluate(related({"mixup": np.linspace(0.4, 0.6, 8)}, pd.concat([frame, at])))
    read = {(row.claim, row.metric, row.setting): row.sentence for row in table.itertuples()}
    assert read["calibration", "ece", "mixup"].startswith("mixup: ECE is 1.9")
    for part in (
        " % against 7.9",
        " % for none, lower by 5.93 points; 95 % interval of the difference [-6.",
        "n = 8 seeds",
    ):
        assert part in read["calibration", "ece", "mixup"]
    assert "; test: paired t; p < 0.0001 after Holm's correction: supported." in read["calibration", "ece", "mixup"]
    assert "accuracy under the worst case of all attacks at radius 0.1 is 50" in read["robustness", ATTACK, "mixup"]
    assert "is on average 0.50; 95 % interval [0." in read["mechanism", "cosine_radius_correlation", "mixup"]
    origin = read["origin", "adversarial_radial_cosine", "mixup"]
    assert "at radius 0.1, over the test images that are right without attack and whose adversary is another" in origin
    ids = set(table["metric"]) - {"accuracy", "ece", "nll", ""}
    assert not [sentence for sentence in read.values() if any(name in sentence for name in ids)]


def test_shares_stay_within_their_ends_and_say_so():
    frame = trials({"cone_fraction": (0.998, 0.9995)}, seeds=3).assign(n=500)
    high = frame["metric"] == "cone_fraction"
    frame.loc[high, "value"] = frame.loc[high, "value"].clip(upper=1.0)
    table = claims.evaluate(frame).query("test == 't, above 0.95'")
    assert (table["high"] <= 1).all()
    assert (table["low"] < table["effect"]).all()
    cut = table[table["high"] == 1]
    assert len(cut) > 0
    assert cut["sentence"].str.contains("interval cut at 100 %", regex=False).all()


def test_cones_without_a_bias_are_told_to_be_made():
    frame = trials()
    made = frame[frame["metric"] == "accuracy"].assign(metric="cone_by_construction", split="train", value=0.0)
    made.loc[made["regularizer"] == "mixup", "value"] = 1.0
    for rows, whom in ((made, "1 of 3 settings"), (made.assign(value=1.0), "every setting")):
        table = claims.evaluate(pd.concat([frame, rows]))
        line = {line["claim"]: line["sentence"] for line in claims.summarize(table)}["cone"]
        assert line.endswith(f"in {whom} there are trials without a bias, whose regions are cones by construction")
        cones = table.query("claim == 'cone'").groupby("setting")["sentence"]
        told_of = {name for name, own in cones if own.str.contains("by construction in 100 % of the trials").all()}
        assert told_of == ({"none", *SOFT} if whom == "every setting" else {"mixup"})
    assert "construction" not in claims.as_text(claims.evaluate(frame))


def test_what_was_closed_is_told_as_a_share_and_only_beyond_the_noise_floor():
    row = swapped(own=0.12, base=0.02, after=0.04)
    assert row["verdict"] == "supported"
    assert "nearer by 1.98 points, 20 % of the way" in row["said"]
    row = swapped(own=0.12, base=0.02, after=0.025)  # the gap is beyond the floor of 0.8 points, what was closed is not
    assert row["verdict"] == "inconclusive"
    assert "noise floor" in row["said"]


def test_two_ways_to_scale_differ_only_beyond_the_noise_floor():
    frame = trials({"ece_best_scale": (0.06, 0.06)}, noise=1e-4)
    ends = frame[frame["metric"] == "accuracy"].assign(metric="ece_floor_ts", value=0.02, low=0.0, high=0.04)
    for rows, verdict in ((frame, "contradicted"), (pd.concat([frame, ends]), "inconclusive")):
        assert set(claims.evaluate(rows).query("metric == 'ece_best_scale'")["verdict"]) == {verdict}
    near = pd.concat([trials(noise=1e-4), ends])  # that they are the same needs no difference
    assert set(claims.evaluate(near).query("metric == 'ece_best_scale'")["verdict"]) == {"supported"}
