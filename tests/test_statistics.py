import json
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from jaxreg import statistics


def frame(values):
    """Rows of a results table from {(regularizer, seed): value}."""
    rows = [
        {"regularizer": name, "hyperparameters": "{}", "seed": seed, "split": "test", "metric": "ece", "value": value}
        for (name, seed), value in values.items()
    ]
    return pd.DataFrame(rows)


NONE, SOFT = [0.10, 0.12, 0.09, 0.13, 0.11], [0.07, 0.10, 0.08, 0.09, 0.10]


def five():
    return frame({("none", s): v for s, v in enumerate(NONE)} | {("mixup", s): v for s, v in enumerate(SOFT)})


def test_effect_is_the_paired_test_of_scipy():
    found, test = statistics.effect(SOFT, NONE), scipy.stats.ttest_rel(SOFT, NONE)
    assert found.difference == pytest.approx(np.mean(SOFT) - np.mean(NONE))
    assert (found.t, found.p) == pytest.approx((test.statistic, test.pvalue))
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found.p_wilcoxon == pytest.approx(scipy.stats.wilcoxon(SOFT, NONE).pvalue)
    assert found.n == 5


@pytest.mark.parametrize("n", [2, 7, 50, 51])
def test_tests_are_those_of_scipy_for_any_number_of_pairs(n):
    rng = np.random.default_rng(n)
    for differences in (*rng.normal(0.3, 1.0, (20, n)), np.r_[0.0, rng.normal(size=n - 1)], np.r_[1.0, -1.0, 2:n]):
        with warnings.catch_warnings(action="ignore"):
            found, t = statistics.effect(differences, np.zeros(n)), scipy.stats.ttest_1samp(differences, 0.0)
            ranked = scipy.stats.wilcoxon(differences).pvalue
        assert (found.t, found.p) == pytest.approx((t.statistic, t.pvalue))
        assert found.p_wilcoxon == pytest.approx(ranked)


def test_a_missing_seed_and_a_missing_value_are_no_pairs():
    cells = {
        ("none", 0): 1.0,
        ("none", 1): 2.0,
        ("none", 2): 4.0,
        ("mixup", 1): 3.0,
        ("mixup", 2): np.nan,
        ("mixup", 3): 9.0,
    }
    (line,) = statistics.paired(frame(cells), "ece").to_dict("records")
    assert (line["mean"], line["baseline_mean"], line["difference"], line["n"]) == (3.0, 2.0, 1.0, 1)


def test_interval_by_hand():
    # Differences 1, 2, 3: mean 2, sd 1, standard error 1/sqrt(3), t_0.975 with 2 degrees = 4.302653.
    found = statistics.effect([1, 2, 3], [0, 0, 0])
    assert (found.low, found.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))


def test_one_pair_has_no_interval_and_no_test():
    found = statistics.effect([0.2], [0.5])
    assert found.difference == pytest.approx(-0.3)
    assert found.n == 1
    assert np.isnan([found.low, found.high, found.sd, found.t, found.p, found.p_wilcoxon]).all()


def test_pairs_that_are_not_finite_are_left_out():
    found = statistics.effect([1.0, np.nan, 2.0, np.inf, 4.0], [0.0, 0.0, 0.0, 0.0, 0.0])
    assert found.n == 3
    assert found.difference == pytest.approx(7 / 3)


def test_differences_without_spread():
    same, shifted = statistics.effect([1, 2, 3], [1, 2, 3]), statistics.effect([2, 3, 4], [1, 2, 3])
    assert (same.difference, same.low, same.high, same.p, same.p_wilcoxon) == (0, 0, 0, 1, 1)
    # Three coins that fell on one side: 2 / 2^3. Nothing is known of the spread, so there is no interval.
    assert (shifted.difference, shifted.p) == (1, 0.25)
    assert np.isnan([shifted.low, shifted.high, shifted.t]).all()


@pytest.mark.parametrize("noise", [0.0, 1e-9, 3e-8])
def test_two_equal_differences_prove_nothing(noise):
    # A t-test of a spread that is rounding alone would say p = 0, or 1e-7.
    found = statistics.effect([0.91 + noise, 0.92], [0.90, 0.91])
    assert found.p == 0.5
    assert np.isnan(found.low)


def test_lists_of_two_lengths_are_refused():
    with pytest.raises(ValueError, match="two lists of one length"):
        statistics.effect([1.0, 2.0], [1.0])


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.5.
    np.testing.assert_allclose(statistics.holm([0.03, 0.01, 0.5, 0.02]), [0.06, 0.04, 0.5, 0.06])
    # A test that was not made is not counted: two remain.
    np.testing.assert_allclose(statistics.holm([0.03, np.nan, 0.01]), [0.03, np.nan, 0.02])
    assert len(statistics.holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_helps_and_keeps_the_order(p):
    adjusted = statistics.holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    assert (adjusted <= np.minimum(1, len(p) * np.asarray(p)) + 1e-12).all()  # never worse than Bonferroni


def test_paired_matches_seeds_not_rows():
    table = statistics.paired(five().sample(frac=1, random_state=0), "ece")
    row = table.iloc[0]
    assert (row.regularizer, row.n) == ("mixup", 5)
    assert (row["mean"], row.baseline_mean) == pytest.approx((np.mean(SOFT), np.mean(NONE)))
    assert row.p == pytest.approx(scipy.stats.ttest_rel(SOFT, NONE).pvalue)
    assert row.p_holm == row.p


def test_paired_keeps_settings_apart_and_corrects_over_them():
    rows = five()
    other = rows[rows.regularizer == "mixup"].assign(hyperparameters=json.dumps({"alpha": 2.0}), value=[0.2] * 5)
    table = statistics.paired(pd.concat([rows, other]), "ece")
    assert table.hyperparameters.tolist() == ['{"alpha": 2.0}', "{}"]
    np.testing.assert_allclose(table.p_holm, statistics.holm(table.p))


def test_seeds_without_a_baseline_are_left_out():
    rows = five()
    table = statistics.paired(rows[~((rows.regularizer == "none") & (rows.seed < 4))], "ece")
    assert table.n.tolist() == [1]
    assert np.isnan(table.low[0])


def test_what_cannot_be_paired_is_named():
    rows = five()
    with pytest.raises(ValueError, match="no rows of metric 'acc' on split 'test'; known: \\['ece'\\]"):
        statistics.paired(rows, "acc")
    with pytest.raises(ValueError, match="no baseline 'focal' among \\['mixup', 'none'\\]"):
        statistics.paired(rows, "ece", baseline="focal")
    with pytest.raises(ValueError, match="comes twice for"):
        statistics.paired(pd.concat([rows, rows]), "ece")


def test_a_sweep_is_compared_with_the_baseline_of_its_own_overrides():
    slow, fast = (five().assign(hyperparameters=json.dumps({"lr": lr})) for lr in (0.1, 0.5))
    fast["value"] *= 2
    table = statistics.paired(pd.concat([slow, fast]), "ece").set_index("hyperparameters")
    np.testing.assert_allclose(table["baseline_mean"], [np.mean(NONE), 2 * np.mean(NONE)])
    np.testing.assert_allclose(
        table["difference"], np.mean(SOFT) - np.mean(NONE) * np.array([1, 2]) + [0, np.mean(SOFT)]
    )
    alone = pd.concat([slow, fast[fast["regularizer"] == "mixup"].assign(hyperparameters='{"lr": 0.9}')])
    assert len(statistics.paired(alone, "ece")) == 1  # no baseline was trained at 0.9


def test_shares_that_tie_but_for_their_last_bit_tie():
    counts = np.array([470, 488, 491, 470]), np.array([467, 491, 494, 468])
    assert statistics.effect(counts[0] / 500, counts[1] / 500).p_wilcoxon == 1
    random = np.random.default_rng(0)
    for n in (4, 9, 20):
        own, base = random.integers(460, 500, (2, 30, n))
        for one, other in zip(own, base):
            assert statistics.effect(one / 500, other / 500).p_wilcoxon == statistics.effect(one, other).p_wilcoxon


def test_means_are_over_the_pairs():
    rows = [("none", s, v) for s, v in enumerate((0.1, 0.1, 0.9))] + [
        ("mixup", s, v) for s, v in enumerate((0.3, 0.4, np.nan))
    ]
    frame = pd.DataFrame(rows, columns=["regularizer", "seed", "value"])
    (row,) = statistics.paired(frame.assign(hyperparameters="{}", split="test", metric="m"), "m").itertuples()
    assert (row.n, row.mean, row.baseline_mean) == (2, pytest.approx(0.35), pytest.approx(0.1))
    assert row.difference == pytest.approx(row.mean - row.baseline_mean)
