"""Each claim on made-up trials where it is true, false, equivalent, undecided, or cannot be judged."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from jaxreg import claims, robustness
from jaxreg.claims import effects, family, gain, over_settings, power, trials
from jaxreg.claims.judgement import smallest_of
from jaxreg.setting import Setting
from jaxreg.spec import ClaimsSpec
from jaxreg.statistics import influence
from support.claim_trials import EQUAL, FALSE, NONE, SOFT, study

SPEC = ClaimsSpec(radius=0.1)
WIDE = dataclasses.replace(
    SPEC, norm=0.5, cosine=0.3, calibration_before=0.2, robustness=0.3, mechanism=0.5, accuracy=0.04
)


@pytest.fixture(scope="module")
def true():
    return claims.judge(study())


def of(found, claim, setting=SOFT):
    (one,) = [one for one in found if one.claim == claim and one.setting == setting]
    return one


@pytest.mark.parametrize("claim", claims.CLAIMS)
def test_a_true_claim_is_supported(true, claim):
    assert of(true, claim).verdict == "supported", of(true, claim)


@pytest.mark.parametrize("claim", claims.CLAIMS)
def test_a_false_claim_is_contradicted(claim):
    found = of(claims.judge(study(**FALSE[claim])), claim)
    assert found.verdict == "contradicted", found
    assert not found.reason


@pytest.mark.parametrize("claim", EQUAL)
def test_no_effect_is_equivalent_where_the_interval_is_narrow(claim):
    found = of(claims.judge(study(spec=WIDE, **EQUAL[claim])), claim)
    assert found.verdict == "equivalent", found


@pytest.mark.parametrize("claim", EQUAL)
def test_what_scatters_is_inconclusive_and_says_how_many_seeds_would_decide(claim):
    found = of(claims.judge(study(seeds=3, scatter=0.05, **EQUAL[claim])), claim)
    assert found.verdict == "inconclusive", found
    planned = found.planned
    assert planned.find or planned.examples or planned == (None, None, None)
    assert (planned.find or 99) > 3


@pytest.mark.parametrize(
    ("claim", "changes", "reason"),
    [
        ("accuracy", {"signal": (6.0, 6.1)}, "no headroom"),
        ("robustness", {"verdict": 0.9}, "unreliable"),
        ("mechanism", {"verdict": 0.9}, "unreliable"),
        ("origin", {"verdict": 0.9}, "unreliable"),
        ("temperature", {"sharpness": (1.0, 1.0), "spread": (0.0, 0.0)}, "nothing to explain"),
        ("norm", {"seeds": 1}, "single seed"),
        ("robustness", {"spec": ClaimsSpec(radius=0.3)}, "radius 0.3 was not attacked"),
    ],
)
def test_what_cannot_be_judged_says_why(claim, changes, reason):
    found = of(claims.judge(study(**changes)), claim)
    assert found.verdict == "not judged"
    assert reason in found.reason


def test_a_cone_without_a_bias_is_one_by_construction():
    source = study()
    source.rows.loc[source.rows["metric"] == "cone_by_construction", "value"] = 1.0
    assert "by construction" in of(claims.judge(source), "cone").reason


def test_a_control_that_does_the_same_takes_the_support_away():
    """Noise that moves features as attacks do; features that shrink no farther than random ones."""
    noise = claims.judge(study(noise=(0.5, 0.5)))
    assert of(noise, "origin").verdict == "inconclusive"
    assert of(claims.judge(study(cone=(0.6, 0.6))), "cone").verdict == "contradicted"


def test_a_few_suspect_trials_and_checks_that_a_baseline_does_not_have_keep_nothing_from_being_judged():
    source = study()
    soft, check = source.rows["regularizer"] != "none", source.rows["metric"] == "verdict/transfer"
    for count, verdict in ((3, "supported"), (10, "supported")):
        rows = source.rows.copy()
        rows.loc[rows[soft & check].index[:count], "value"] = 0.5
        assert of(claims.judge(source._replace(rows=rows)), "robustness").verdict == verdict
    rows = pd.concat(
        [rows, rows[soft & check].head(1).assign(trial="none-0", regularizer="none", hyperparameters="{}")]
    )
    assert "in 11 of 20 trials" in of(claims.judge(source._replace(rows=rows)), "robustness").reason


def test_what_is_not_measured_is_not_judged():
    source = study()
    without = source._replace(array=lambda probe, *name: None if probe == "robustness" else source.array(probe, *name))
    found = claims.judge(without)
    assert of(found, "norm").verdict == "supported"
    assert of(found, "robustness") == of(found, "robustness")._replace(verdict="not judged", decision=None)
    assert "was attacked" in of(found, "robustness").reason


def test_interval_and_verdict_never_disagree(true):
    everything = [*true, *(one for changes in FALSE.values() for one in claims.judge(study(seeds=4, **changes)))]
    for one in everything:
        if one.verdict in ("", "not judged"):
            continue
        direction, (effect, low, high) = claims.CLAIMS[one.claim].direction, one.numbers
        assert low <= effect <= high
        bound = claims.CLAIMS[one.claim].bound
        inside = (low > bound, high < bound) if direction > 0 else (high < bound, low > bound)
        smallest = smallest_of(one.claim, SPEC)
        same = smallest is not None and max(abs(low), abs(high)) < smallest
        said = "equivalent" if same else "supported" if inside[0] else "contradicted" if inside[1] else "inconclusive"
        assert one.verdict == said
        assert (one.decision.p < 0.05) == (inside[0] or inside[1])


def test_the_family_follows_from_the_config_alone(true):
    two = (NONE, SOFT, Setting.of("label_smoothing", {"epsilon": 0.2}), Setting.of("mixup", {"alpha": 1.0}))
    more = claims.judge(study(settings=two))
    assert [one.role for one in more if one.claim == "norm"] == ["primary", "another strength", "primary"]
    named = dataclasses.replace(SPEC, primary=(("label_smoothing", {"epsilon": 0.2}),))
    alone = claims.judge(study(settings=two, spec=named))
    assert [one.verdict for one in alone if one.claim == "norm"] == ["", "supported", ""]
    wide = [one.decision for one in more if one.claim == "norm" and one.role == "primary"]
    narrow = of(true, "norm").decision
    assert wide[0].high - wide[0].low > narrow.high - narrow.low  # of 21 judgements instead of 11
    assert family.size({one.setting: one.role for one in true}) == 11


def test_a_strength_or_a_secondary_number_changes_no_verdict(true):
    settings = (NONE, SOFT, Setting.of("label_smoothing", {"epsilon": 0.2}))
    more = claims.judge(study(settings=settings))
    for claim in claims.CLAIMS:
        assert of(more, claim).decision == of(true, claim).decision


def test_two_calibrated_networks_are_seldom_contradicted():
    """Confident or not: of 20 studies of calibrated networks at most one, by chance."""
    level = {"sharpness": (1.0, 1.0), "spread": (0.0, 0.0), "signal": (3.4, 2.2)}
    found = [
        of(claims.judge(study(seeds=4, examples=200, scatter=0.02 + i / 1e6, **level)), "calibration_before")
        for i in range(20)
    ]
    assert sum(one.verdict == "contradicted" for one in found) <= 1


def test_tables_tell_effect_interval_and_reason(true, tmp_path):
    table = claims.table(true, SPEC)
    (norm,) = table[(table["claim"] == "norm")].to_dict("records")
    assert norm["effect"] < 0
    assert norm["low"] < norm["effect"] < norm["high"] < 0
    assert norm["text"].endswith("%")
    assert norm["smallest"] == "5 %"
    assert norm["sentence"].startswith("label_smoothing(epsilon=0.1): −19 [−2")
    assert norm["sentence"].endswith(": supported.")
    claims.save(table, claims.beside(study()), power.scatters(true), tmp_path)
    saved = json.loads((tmp_path / "claims.json").read_text())
    assert [one["claim"] for one in saved] == list(claims.CLAIMS)
    assert saved[0]["cells"] == {"label_smoothing(epsilon=0.1)": "supported"}
    assert norm["sentence"] in (tmp_path / "claims.txt").read_text()
    assert (tmp_path / "beside.csv").read_text().count("\n") > 10


def test_the_grid_has_a_letter_a_judgement(true):
    lines = claims.grid(claims.table(true, SPEC)).splitlines()
    heads = [line.strip() for line in lines[:2]]
    assert heads == ["none", "label_smoothing(epsilon=0.1)"]
    assert [line.split()[1:] for line in lines[2:-1]] == [["S"], ["S"], ["S", "S"], *[["S"]] * 7]


def test_no_baseline_is_no_judgement():
    source = study()
    alone = source._replace(rows=source.rows[source.rows["regularizer"] != "none"])
    found = claims.table(claims.judge(alone), SPEC)
    assert found.empty or not set(found["verdict"]) - {""}
    assert "No claim" in claims.as_text(found) or claims.grid(found) == ""


def test_a_seed_that_one_side_lacks_is_left_out(true):
    source = study()
    lost = source.rows[~((source.rows["regularizer"] == "none") & (source.rows["seed"] == 3))]
    assert of(claims.judge(source._replace(rows=lost)), "norm").decision.n == 9
    again = source._replace(rows=source.rows.assign(seed=source.rows["seed"].replace(3, 2)))
    with pytest.raises(ValueError, match="one trial a seed"):
        claims.judge(again)


def test_correlations_over_settings_are_shown_with_their_n():
    settings = (NONE, *(Setting.of("label_smoothing", {"epsilon": e}) for e in (0.05, 0.1, 0.2, 0.3)))
    source = study(seeds=2, settings=settings)
    found = over_settings.correlations(source.rows, SPEC)
    assert list(found["n"]) == [5, 5]
    assert found["p"].between(2 / 120 - 1e-9, 1).all()
    perfect = over_settings.permuted(np.arange(5.0), np.arange(5.0))
    assert perfect == pytest.approx(2 / 120)


def test_planned_power_comes_from_components_that_were_saved(true):
    like = power.from_json(power.as_json(power.scatters(true)))
    assert like == power.scatters(true)
    few, many = (power.needed(SPEC, like, [SOFT], 3, 400, images, 11) for images in (50, 400))
    seeds = {one.claim: (one.plan.find or 99) for one in many}
    assert set(seeds) == {name for name, claim in claims.CLAIMS.items() if claim.smallest}
    assert seeds["norm"] < 13
    by_claim = {one.claim: one for one in few}
    assert by_claim["robustness"].power <= {one.claim: one for one in many}["robustness"].power
    assert by_claim["norm"] == {one.claim: one for one in many}["norm"]  # of all images, attacked or not
    told = power.as_text(many, 3)
    assert "power, n = 3" in told
    assert told.count("label_smoothing") == len(many)
    other = Setting.of("mixup", {"alpha": 1.0})
    assert power.needed(SPEC, like, [other], 3, 400, 400, 11)[0].plan == many[0].plan  # like what there is


def test_the_gain_is_drawn_from_minimal_radii_and_says_where_it_vanishes():
    source = study(mechanism=(0.0, 0.0))
    pair = next(pair for pair in trials.pairs_of(source) if pair.own.setting == SOFT)
    own, base = (side.array("robustness", "min_eps") for side in pair)
    found = gain.curve(pair)
    _, steps = robustness.gain_curve(own, base)
    assert found.gain.effect.max() == pytest.approx(steps.max(), abs=0.02)
    middle = len(found.radii) // 2
    expected = (own > found.radii[middle]).mean() - (base > found.radii[middle]).mean()
    assert found.gain.effect[middle] == pytest.approx(expected)
    better = source._replace(array=lambda probe, trial, name: shifted(source.array(probe, trial, name), trial, name))
    wide = gain.curve(next(pair for pair in trials.pairs_of(better) if pair.own.setting == SOFT))
    assert (wide.gain.low > 0).any()
    assert wide.until < wide.crosses or wide.crosses is None
    with pytest.raises(trials.Unmeasured, match="min_eps"):
        gain.curve(next(trials.pairs_of(source._replace(array=lambda *_: None))))


def shifted(values, trial, name):
    """Minimal radii of soft labels, larger where they are small and smaller where they are large."""
    soft = name == "min_eps" and trial.startswith("label_smoothing")
    return 0.1 + (values - 0.1) * 0.3 + 0.01 if soft else values


def soft_pair(source):
    return next(pair for pair in trials.pairs_of(source) if pair.own.setting == SOFT)


def test_temperature_is_fitted_on_validation_and_measured_on_test():
    pair = soft_pair(study(seeds=2))
    own, base = (
        influence.tempered_ece(influence.Tempered.fitted(*side.predicted("test"), *side.predicted("validation")))
        for side in pair
    )
    found = effects.calibration_after(pair)
    np.testing.assert_allclose(found.value_S, own.value_S - base.value_S)
    moved = own.influence["validation"] - base.influence["validation"]
    np.testing.assert_allclose(found.influence["validation"], moved)


def test_the_mechanism_holds_all_that_is_given_fixed():
    pair = soft_pair(study(seeds=2))
    kept, radius = pair.right(400), pair.own.array("robustness", "min_eps")
    columns = [pair.own.array("geometry", f"test/{name}") for name in ("center_cosine", "norm", "logit_margin")]
    cosine, *given = (values[:, kept] for values in columns)
    expected = influence.partial_rank(cosine, radius[:, kept], *given).value_S
    np.testing.assert_allclose(effects.mechanism(pair, "norm", "logit_margin").value_S, expected)
