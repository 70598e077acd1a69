"""Rules of calibration that only one odd case shows; every right answer is derived apart from the code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import sklearn.metrics

from jaxreg import calibration
from jaxreg.calibration import (
    Logits,
    bins,
    figures,
    floors,
    human,
    metrics,
    posthoc,
    selective,
    smooth_error,
    uncertainty,
)
from jaxreg.calibration import temperature as scaling
from jaxreg.calibration.ranking import rank
from jaxreg.calibration.rows import ISOTONIC
from jaxreg.calibration.trial import VARIANTS
from support.drawn_logits import draw

SIZES = {"validation": 20, "test": 180}


@functools.cache
def rows():
    """Rows of test of one trial whose two logits are always equal: p = 1/2 of both classes."""
    splits = {
        name: Logits(np.zeros((size, 2), np.float32), np.arange(size) % 2, 1000 * place + np.arange(size))
        for place, (name, size) in enumerate(SIZES.items())
    }
    (found,) = calibration.measure(splits, replicates=10)
    return {row.metric: row for row in found.rows if row.split == "test"}


def test_the_first_of_equal_largest_logits_is_predicted():
    logits = jnp.array([[2.0, 2.0, 1.0], [0.0, 3.0, 3.0], [5.0, 5.0, 5.0]])
    each = metrics.examples(logits, jnp.array([0, 2, 2]))
    assert each.prediction.tolist() == np.argmax(logits, -1).tolist() == [0, 1, 0]
    assert each.correct.tolist() == [1, 0, 0]


def test_what_is_the_same_after_temperature_comes_once():
    for name in ("accuracy", "brier_uncertainty"):
        assert {name, f"{name}_vector_scaling"} <= set(rows())
        assert f"{name}_ts" not in rows()
    assert "brier_ts" in rows()


def test_the_class_floor_of_a_split_is_that_of_its_own_size():
    # Of N labels n fall on class 0: both classes have the gap |n/N - 1/2|, n of Binomial(N, 1/2). Divided by the 20
    # examples of validation it would be nine times as much.
    size = SIZES["test"]
    count = np.arange(size + 1)
    gap, chance = abs(count / size - 0.5), scipy.stats.binom.pmf(count, size, 0.5)
    mean = gap @ chance
    error = np.sqrt((gap**2 @ chance - mean**2) / floors.LABELLED)
    assert rows()["ece_classwise_floor"].value == pytest.approx(mean, abs=3 * error)


@pytest.mark.parametrize("suffix", [*VARIANTS, ISOTONIC])
def test_every_way_of_calibrating_has_a_floor_for_its_ece(suffix):
    assert f"ece_floor{suffix}" in rows()
    assert floors.floor_of(f"ece{suffix}") == f"ece_floor{suffix}"


def test_noise_reaches_as_far_as_the_higher_floor():
    assert floors.reach("ece", [(0.0, 0.02), (0.01, 0.05)]) == 0.05
    assert floors.reach("ece_classwise", [(0.02, 0.03), (0.01, 0.05)]) == pytest.approx(0.05 - 0.01)


def test_the_ends_of_few_draws_are_those_of_student_by_hand():
    # Mean 12, sd sqrt(10 / 4), and of the tables t_0.975 with 4 degrees = 2.776445: 12 -+ t sd sqrt(1 + 1/5).
    reach = 2.776445 * np.sqrt(10 / 4) * np.sqrt(6 / 5)
    mean, ends = floors.summary(np.array([10.0, 11.0, 12.0, 13.0, 14.0]))
    assert mean == 12
    assert ends == pytest.approx((12 - reach, 12 + reach), rel=1e-6)


@jax.jit
def influence(confidence, correct):
    """Of [N] each, the values [2, N] for AURC and AUROC."""
    mask = jnp.ones(len(correct))
    top = confidence, correct, mask, rank(confidence, mask)
    return selective.influence(*top[1:], selective.aurc(*top), selective.auroc(*top))


@pytest.mark.parametrize("levels", [400, 10, 3, 1])
def test_the_influence_on_aurc_is_that_of_leaving_an_example_out(levels):
    random, size = np.random.default_rng(0), 400
    confidence = (np.ceil(levels * random.random(size)) / levels).astype(np.float32)
    correct = (random.random(size) < 0.3 + 0.6 * confidence).astype(np.float32)

    def area(kept):
        """Errors among the n most confident in expectation over the orders of ties: linear between their ends."""
        order = np.argsort(-confidence[kept], kind="stable")
        sure, errors = confidence[kept][order], np.cumsum(1 - correct[kept][order].astype(float))
        ends = np.append(np.flatnonzero(np.diff(sure)), len(sure) - 1)
        n = np.arange(1, len(sure) + 1)
        return np.mean(np.interp(n, [0, *(ends + 1)], [0, *errors[ends]]) / n)

    # The pseudo-values of the jackknife, N A - (N - 1) A without the example: equal up to terms of order 1/N.
    whole = area(np.arange(size))
    expected = [size * whole - (size - 1) * area(np.delete(np.arange(size), n)) for n in range(size)]
    np.testing.assert_allclose(influence(confidence, correct)[0], expected, atol=0.08)
    assert np.std(influence(confidence, correct)[0]) == pytest.approx(np.std(expected), rel=0.01)
    assert np.ptp(expected) > 0.9


def test_the_influence_on_auroc_counts_ties_half():
    random, size, step = np.random.default_rng(1), 60, 1e-4
    confidence = (np.ceil(4 * random.random(size)) / 4).astype(np.float32)
    correct = (random.random(size) < confidence).astype(np.float32)

    def area(n, weight):
        return sklearn.metrics.roc_auc_score(
            correct, confidence, sample_weight=np.where(np.arange(size) == n, weight, 1)
        )

    # AUROC and N times its derivative by the weight of the example.
    slopes = np.array([(area(n, 1 + step) - area(n, 1 - step)) / (2 * step) for n in range(size)])
    np.testing.assert_allclose(influence(confidence, correct)[1], area(0, 1) + size * slopes, atol=1e-4)


def marks(axis):
    """Heights of the marks of the noise floor."""
    return [line.get_ydata()[0] for line in axis.lines if line.get_marker() == "_"]


def test_each_panel_has_the_floor_of_its_own():
    share = np.full(3, 0.9)
    points = figures.Points(
        share, share / 10, share / 20, np.array([0.01, 0.02, 0.03]), np.array([0.004, 0.005, 0.006])
    )
    before, after = figures.ece_against_accuracy({"none": points}, {"none": "black"}).axes
    assert marks(before) == pytest.approx([2.0])
    assert marks(after) == pytest.approx([0.5])


def test_the_outline_under_a_diagram_is_that_after_temperature():
    # In four bins: before temperature 3 of 5 in (0.75, 1], one in (0.25, 0.5], one in (0.5, 0.75]; after it all five
    # in (0.25, 0.5].
    confidence = np.array([[0.9, 0.8, 0.95, 0.4, 0.6]], np.float32)
    seen = figures.Seen(confidence, np.full((1, 5), 0.3, np.float32), np.ones((1, 5)))
    lower = figures.reliability({"a": seen}, bins=4).axes[1]
    (outline,) = [patch.get_data().values for patch in lower.patches if hasattr(patch, "get_data")]
    np.testing.assert_allclose(
        [bar.get_height() for bar in lower.patches if hasattr(bar, "get_height")], [0, 20, 20, 60]
    )
    np.testing.assert_allclose(outline, [0, 100, 0, 0])


def test_the_interval_of_temperature_is_the_sandwich_in_float64():
    # Two examples in three have labels of a cold model, one of a hot one: no T is right, and errors scatter otherwise
    # than the curvature of the likelihood says.
    z, cold = draw(0, 600, temperature=0.3)
    _, hot = draw(0, 600, temperature=20.0)
    y = np.where(np.arange(600) % 3 > 0, cold, hot)
    wide = z.astype(float) - z.max(-1, keepdims=True)

    def derivatives(b):
        """Of the NLL by b = 1/T: gradients [N] and the sum of the curvatures."""
        p = np.exp(b * wide)
        p /= p.sum(-1, keepdims=True)
        mean = (p * wide).sum(-1)
        return mean - wide[np.arange(600), y], ((p * wide**2).sum(-1) - mean**2).sum()

    b = scipy.optimize.brentq(lambda b: derivatives(b)[0].sum(), 0.01, 100)
    gradients, curvature = derivatives(b)
    error = np.sqrt((gradients**2).sum()) / (b * curvature)  # of log b: the variance is square / curvature^2
    assert error > 1.2 / (b * np.sqrt(curvature))  # what the curvature alone says
    found = jax.jit(scaling.fit)(z, y)
    expected = np.exp(np.array([0, -1, 1]) * scipy.stats.norm.ppf(0.975) * error) / b
    np.testing.assert_allclose([found.value, found.low, found.high], expected, rtol=1e-3)


def test_isotonic_regression_never_falls():
    # The surer, the more often wrong: the best increasing map is the mean.
    found = posthoc.isotonic(np.array([0.2, 0.4, 0.6, 0.8]), np.array([1, 1, 0, 0]), np.array([0.1, 0.5, 0.9]))
    np.testing.assert_allclose(found, 0.5)


def test_a_bin_of_two_has_a_variance_and_a_bin_of_one_has_none():
    # Two wrong ones at 0.9: a gap of 0.9 and no scatter; one right at 0.2, which adds nothing but is counted.
    found = bins.debiased(bins.on_host(np.array([0.9, 0.9, 0.2]), np.array([0, 0, 1])))
    assert found == pytest.approx(np.sqrt(2 / 3 * 0.9**2))


def test_smece_finds_bandwidths_below_one_percent():
    # Opposite residuals, each 0.2 % of the examples, at two points 10 steps of the grid apart: under Gaussians of width
    # s they leave 2 * 0.002 (2 Phi(d / 2s) - 1), by the area between two of them. It is s itself at about 0.0034.
    apart, share = 10 / (smooth_error.GRID - 1), 0.002

    def excess(s):
        return 2 * share * (2 * scipy.stats.norm.cdf(apart / (2 * s)) - 1) - s

    expected = scipy.optimize.brentq(excess, 1e-4, 0.1)
    assert 0.001 < expected < 0.005
    residual = np.zeros(smooth_error.GRID, np.float32)
    residual[[512, 522]] = 1000 * share, -1000 * share
    error, sigma = jax.jit(smooth_error.of_residuals)(residual, jnp.float32(1000))
    np.testing.assert_allclose([error, sigma], expected, atol=1.5e-4)


def test_a_label_between_two_classes_is_none():
    with pytest.raises(ValueError, match=r"example 2: label must be a class 0 to 2, got 1\.5"):
        calibration.ece(3 * np.eye(3), np.array([0, 1, 1.5]))
    assert calibration.ece(3 * np.eye(3), np.array([0.0, 1.0, 2.0])) == calibration.ece(
        3 * np.eye(3), np.array([0, 1, 2])
    )


@pytest.mark.parametrize("counts", [[3, -1], [3, -0.5]])
def test_votes_below_zero_are_refused_where_the_sum_is_above(tmp_path, counts):
    np.savez(tmp_path / "votes.npz", id=np.array([4, 5]), counts=np.array([[1, 1], counts]))
    with pytest.raises(ValueError, match="id 5: counts must be finite, >= 0"):
        human.load(tmp_path / "votes.npz")


def test_one_example_without_votes_is_one_too_many():
    table = {one: np.array([1.0, 0.0]) for one in range(9)}
    with pytest.raises(ValueError, match="human labels know 9 of 10 examples of test, not 9"):
        human.check_ids(table, {"validation": np.arange(100, 110), "test": np.arange(10)})
    human.check_ids(table, {"validation": np.arange(100, 110), "test": np.arange(9)})


def test_percentiles_are_those_of_the_replicates_alone():
    # Of 1, 2, ..., 39 the 2.5, 50 and 97.5 % points are 1.95, 20 and 38.05; the estimate, 100, is none of them.
    assert uncertainty.interval(np.r_[100.0, 1:40], 0, 200) == pytest.approx((81.95, 118.05))


def test_the_interval_of_brier_may_lie_above_one():
    # One bin, and sums of ten examples whose Brier score is 1.5, then 1.11, 1.12, ..., 1.89 (their middle is 1.5).
    total = np.ones((40, 7 + 6))
    total[:, 0], total[:, 4] = 10, 10 * np.r_[1.5, 1.1 + 0.02 * np.arange(1, 40)]
    low, high = uncertainty.intervals(metrics.summary(uncertainty.unpack(total)))["brier"]
    assert (low, high) == pytest.approx((1.1 + 0.02 * 1.95, 1.1 + 0.02 * 38.05))


def test_groups_are_drawn_apart_from_examples():
    # Else the replicates of the class errors would be those of the examples 0 to 127. Of 128 * 50 independent pairs the
    # correlation has a standard error of 1/80.
    key = jax.random.key(0)
    of_groups = uncertainty.group_weights(key, 50)[1:]
    own = uncertainty.poisson_weights(uncertainty.uniforms(key, jnp.arange(uncertainty.GROUPS, dtype=jnp.uint32), 50)).T
    assert abs(np.corrcoef(np.ravel(of_groups), np.ravel(own))[0, 1]) < 4 / 80
