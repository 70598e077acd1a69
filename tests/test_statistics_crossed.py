"""Intervals over seeds and examples, influence, decisions and plans, against closed forms and simulation."""

import numpy as np
import pytest
import scipy.stats

from jaxreg.statistics import band, benjamini_hochberg, decide, influence, plan, spread
from jaxreg.statistics.crossed import Components, Sample
from jaxreg.statistics.decision import read
from jaxreg.statistics.estimates import TEST, VALIDATION, combined
from jaxreg.statistics.planning import power, power_of_equivalence

SEEDS, EXAMPLES = 5, 120


def crossed(rng, effect=0.0, seeds=SEEDS, examples=EXAMPLES, sd=(0.05, 0.2, 0.4)):
    """Differences [S, N] of a random seed, a random example and a rest."""
    between, across, rest = sd
    return (
        effect
        + between * rng.normal(size=(seeds, 1))
        + across * rng.normal(size=(1, examples))
        + rest * rng.normal(size=(seeds, examples))
    )


def test_the_error_of_a_mean_is_that_of_two_crossed_factors():
    v = crossed(np.random.default_rng(0), sd=(0.1, 0.2, 0.4))
    n, N = v.shape
    seeds = N * np.sum((v.mean(1) - v.mean()) ** 2) / (n - 1)
    examples = n * np.sum((v.mean(0) - v.mean()) ** 2) / (N - 1)
    rest = v - v.mean(0) - v.mean(1)[:, None] + v.mean()
    left = np.sum(rest**2) / ((n - 1) * (N - 1))
    found = spread(influence.mean(v))
    variance = (seeds + examples - left) / (n * N)
    assert found.effect == pytest.approx(v.mean(), abs=1e-12)
    assert found.error == pytest.approx(np.sqrt(variance), rel=1e-10)
    terms = seeds / (n * N), (examples - left) / (n * N)
    assert found.df == pytest.approx(variance**2 / (terms[0] ** 2 / (n - 1) + terms[1] ** 2 / (N - 1)), rel=1e-9)
    sample = found.components.samples[TEST]
    assert (sample.examples, sample.rest, sample.size) == pytest.approx(((examples - left) / n, left, N))
    assert found.components.seeds == pytest.approx((seeds - left) / N)


@pytest.mark.parametrize("sd", [(0.05, 0.2, 0.4), (0.0, 0.3, 0.4), (0.1, 0.0, 0.2)])
def test_intervals_cover(sd):
    """1,000 draws: 95 % up to the scatter of such a share (0.7 points), and never much less."""
    rng = np.random.default_rng(1)
    inside = [np.prod(spread(influence.mean(crossed(rng, sd=sd))).interval()) < 0 for _ in range(1000)]
    assert 0.93 < np.mean(inside) < 0.985


def test_the_error_is_at_least_that_of_examples_alone():
    v = np.tile(np.random.default_rng(2).normal(size=EXAMPLES), (SEEDS, 1))  # all seeds are one
    found = spread(influence.mean(v))
    assert found.error == pytest.approx(v[0].std(ddof=1) / np.sqrt(EXAMPLES))
    assert found.df == EXAMPLES - 1


def moved(statistic, *columns, step=1e-4):
    """By how much the statistic moves as each example in turn gains weight, times N: weights are repeated examples."""
    count = len(columns[0])
    whole = statistic(*columns, np.ones(count))
    found = []
    for place in range(count):
        weight = np.ones(count)
        weight[place] += step
        found.append((statistic(*columns, weight) - whole) / step * count)
    return np.array(found) - np.mean(found)


def test_influence_is_what_weight_does():
    rng = np.random.default_rng(3)
    v = rng.gamma(4, size=(1, 60))
    found = influence.log_mean(v)
    expected = moved(lambda v, w: np.log(np.average(v, weights=w)), v[0])
    np.testing.assert_allclose(found.influence[TEST][0], expected, atol=1e-3)
    assert found.value_S[0] == pytest.approx(np.log(v.mean()))


def weighted_ece(confidence, correct, weight):
    """The first-order part of the debiased error: what unbiases it is of the order 1 / N."""
    total, place = 0.0, np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)
    for m in range(15):
        inside = place == m
        if inside.sum() >= 2:
            gap = np.average((correct - confidence)[inside], weights=weight[inside])
            total += weight[inside].sum() / weight.sum() * gap**2
    return total


def test_influence_on_the_calibration_error_is_what_weight_does():
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0.4, 1, size=(1, 400))
    correct = (rng.uniform(size=(1, 400)) < confidence**2).astype(float)
    found = influence.debiased_ece(confidence, correct)
    slope = moved(weighted_ece, confidence[0], correct[0]) / (2 * found.value_S[0])
    np.testing.assert_allclose(found.influence[TEST][0], slope, atol=2e-2 * np.abs(slope).max())


def test_the_calibration_error_is_the_probes():
    from jaxreg import calibration

    rng = np.random.default_rng(5)
    logits, labels = rng.normal(size=(500, 7)).astype(np.float32) * 2, rng.integers(0, 7, 500)
    p = scipy.special.softmax(logits.astype(float), -1)
    found = influence.debiased_ece(p.max(-1)[None], (p.argmax(-1) == labels)[None].astype(float))
    assert found.value_S[0] == pytest.approx(calibration.ece_debiased(logits, labels), abs=1e-5)


def networks(rng, seeds=2, count=300, held=150, classes=5):
    labels, held_labels = rng.integers(0, classes, count), rng.integers(0, classes, held)
    hot = lambda own: 2.0 * (np.arange(classes) == own[:, None])  # noqa: E731
    logits = 2 * (hot(labels) + rng.normal(size=(seeds, count, classes)))
    held_logits = 2 * (hot(held_labels) + rng.normal(size=(seeds, held, classes)))
    return logits, labels, held_logits, held_labels


def tempered_by(weights, logits, labels, held, held_labels):
    """NLL of test examples at the temperature of weighted held-out ones, by brute force."""
    from scipy.optimize import minimize_scalar

    def nll(b, z, y):
        return scipy.special.logsumexp(b * z, -1) - b * z[np.arange(len(y)), y]

    best = minimize_scalar(
        lambda b: weights @ nll(b, held, held_labels), bounds=(0.01, 10), method="bounded", options={"xatol": 1e-12}
    )
    return nll(best.x, logits, labels).mean()


def test_held_out_examples_move_what_their_temperature_moves():
    logits, labels, held, held_labels = networks(np.random.default_rng(6), seeds=1)
    of = influence.Tempered.fitted(logits, labels, held, held_labels)
    found = influence.tempered_nll(of)
    count = len(held_labels)
    expected = []
    for place in range(20):
        weights = np.ones(count)
        weights[place] += 0.05
        moved = tempered_by(weights, logits[0], labels, held[0], held_labels)
        expected.append((moved - tempered_by(np.ones(count), logits[0], labels, held[0], held_labels)) / 0.05 * count)
    own = found.influence[VALIDATION][0, :20]
    assert np.corrcoef(own, expected)[0, 1] > 0.995
    assert own.std() == pytest.approx(np.std(expected), rel=0.1)
    assert influence.tempered_ece(of).influence[VALIDATION].shape == held.shape[:2]


def test_a_partial_rank_correlation_is_that_of_residuals_of_ranks():
    rng = np.random.default_rng(7)
    given = rng.normal(size=(2, 80))
    one, other = given + rng.normal(size=(2, 80)), given + rng.normal(size=(2, 80))
    found = influence.partial_rank(one, other, given)
    for s in range(2):
        x, y, z = (scipy.stats.rankdata(v[s]) for v in (one, other, given))
        design = np.stack([np.ones(80), z], 1)
        left = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y)]
        assert found.value_S[s] == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-9)
        columns = [v[s] for v in (one, other, given)]
        without = [influence.partial_rank(*(np.delete(v, i)[None] for v in columns)).value_S[0] for i in range(80)]
        np.testing.assert_allclose(found.influence[TEST][s], 79 * (np.mean(without) - without), atol=1e-9)
    assert influence.partial_rank(one, other).value_S[0] == pytest.approx(scipy.stats.spearmanr(one[0], other[0])[0])


def test_influence_scatters_as_the_number_does():
    """Quantiles and rank correlations: the predicted standard error is that of a thousand samples, to a tenth."""
    rng = np.random.default_rng(8)
    v = rng.lognormal(size=(400, 300))
    predicted = np.sqrt(np.mean(influence.log_quantile(v[:100], 0.95).influence[TEST] ** 2) / 300)
    assert predicted == pytest.approx(np.quantile(np.log(v), 0.95, axis=1).std(), rel=0.2)
    x = rng.normal(size=(60, 200))
    y = 0.7 * x + rng.normal(size=(60, 200))
    found = influence.partial_rank(x, y)
    assert np.sqrt(np.mean(found.influence[TEST] ** 2) / 200) == pytest.approx(found.value_S.std(), rel=0.25)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-0.5, 0.5, "equivalent"), (0.1, 0.9, "equivalent"), (0.1, 1.1, "supported"), (-1.1, -0.1, "contradicted"),
     (-0.5, 1.5, "inconclusive"), (float("nan"), float("nan"), None)],
)  # fmt: skip
def test_the_verdict_is_read_from_the_interval(low, high, said):
    assert read(low, high, 1.0) == said


def test_a_family_widens_the_interval_and_the_p_value_agrees():
    one = influence.mean(crossed(np.random.default_rng(9), effect=0.2))
    alone, among = decide([one]), decide([one], family=30)
    assert among.low < alone.low < alone.high < among.high
    assert among.p == pytest.approx(min(1, 30 * alone.p))
    for alpha in (alone.p * 1.001, alone.p * 0.999):
        assert (decide([one], alpha=alpha).verdict == "supported") == (alone.p < alpha)


def test_an_intersection_needs_all_parts():
    rng = np.random.default_rng(10)
    high, low, none = (influence.mean(crossed(rng, effect)) for effect in (0.5, -0.5, 0.0))
    assert decide([high, high.shifted(0.1)]).verdict == "supported"
    assert decide([high, none]).verdict == "inconclusive"
    assert decide([high, low]).verdict == "contradicted"
    found = decide([high, low])
    assert found.high == pytest.approx(spread(low).interval(0.025)[1])
    assert found.low == pytest.approx(spread(low).interval(0.05)[0])


def test_one_seed_decides_nothing():
    found = decide([influence.mean(np.ones((1, 9)))], 0.1)
    assert found.verdict is None
    assert np.isnan(found.p)
    assert np.isnan(found.low)


def test_planned_seeds_find_what_they_should():
    """The chance that is planned is the one that simulated studies have."""
    rng, sd = np.random.default_rng(11), (0.05, 0.2, 0.4)
    parts = Components(sd[0] ** 2, {TEST: Sample(sd[1] ** 2, sd[2] ** 2, EXAMPLES)})
    chance = power(parts, 6, 0.12, 0.05)
    found = [decide([influence.mean(crossed(rng, 0.12, 6, sd=sd))]).low > 0 for _ in range(600)]
    assert np.mean(found) == pytest.approx(chance, abs=0.06)
    same = power_of_equivalence(parts, 6, 0.1, 0.05)
    inside = [decide([influence.mean(crossed(rng, 0.0, 6, sd=sd))], 0.1).verdict == "equivalent" for _ in range(600)]
    assert np.mean(inside) == pytest.approx(same, abs=0.08)


def test_a_plan_names_seeds_or_examples():
    few = Components(0.05**2, {TEST: Sample(0.01**2, 0.1**2, 500)})
    found = plan([few], 0.1)
    assert power(few, found.find, 0.1, 0.05) >= 0.8 > power(few, found.find - 1, 0.1, 0.05)
    many = Components(0.001**2, {TEST: Sample(0.5**2, 0.1**2, 100)})
    needed = plan([many], 0.05)
    assert needed.find is None
    assert power(many, 40, 0.05, 0.05, needed.examples) >= 0.8
    assert power(many, 40, 0.05, 0.05, needed.examples // 2) < 0.8
    assert plan([few, many], 0.05).find is None
    with pytest.raises(ValueError, match="above 0"):
        plan([few], 0.0)


def test_sums_of_estimates_need_the_same_examples():
    one, other = influence.mean(np.ones((2, 3))), influence.mean(np.ones((2, 4)))
    with pytest.raises(ValueError, match="same seeds and examples"):
        one - other
    both = combined((2.0, one), (-0.5, one))
    assert both.value_S.tolist() == [1.5, 1.5]


def test_values_are_checked():
    with pytest.raises(ValueError, match="finite, got 1"):
        influence.mean(np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match=r"\[seeds, examples\]"):
        influence.mean(np.ones(3))


def test_false_discoveries_are_those_of_benjamini_and_hochberg():
    p = np.array([0.01, np.nan, 0.04, 0.03])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.03, np.nan, 0.04, 0.04])


def test_a_band_holds_for_the_whole_curve():
    """Of 300 curves of 8 points without an effect at most 9 % leave the band anywhere; single intervals far more do."""
    rng, left, single = np.random.default_rng(12), 0, 0
    for _ in range(300):
        shared, rest = crossed(rng, sd=(0.05, 0.2, 0.2)), [crossed(rng, sd=(0.05, 0.2, 0.4)) for _ in range(8)]
        points = [influence.mean(shared + one) for one in rest]
        found = band(points)
        left += bool(((found.low > 0) | (found.high < 0)).any())
        single += any(np.prod(spread(point).interval()) > 0 for point in points)
    assert left / 300 < 0.09 < single / 300


def test_a_band_of_one_point_is_its_interval():
    point = influence.mean(crossed(np.random.default_rng(13), effect=0.3))
    found, alone = band([point, point]), spread(point)
    low, high = alone.interval()
    assert found.low[0] == pytest.approx(low, abs=0.1 * (high - low))
    assert found.high[0] == pytest.approx(high, abs=0.1 * (high - low))
    assert np.isnan(band([influence.mean(np.ones((1, 5)))]).low).all()


def test_a_quantile_between_far_values_or_of_equal_ones_has_an_influence():
    far = np.where(np.arange(40) < 36, 1e-9, 0.5)[None].repeat(2, 0)
    for values in (far, np.ones((2, 40))):
        assert np.isfinite(influence.log_quantile(values, 0.9).influence[TEST]).all()
