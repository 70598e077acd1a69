"""Calibration of many kinds of input: against float64 by loops, its intervals and its noise floor."""

import numpy as np
import pytest

from jaxreg.measured import Row
from jaxreg.robustness import attacked_calibration, corruptions
from support.drawn_logits import softmax

SIZE, CLASSES, KINDS = 400, 5, 24


@pytest.fixture(scope="module")
def drawn():
    """Logits [1, V, N, K] whose labels are drawn from their own probabilities, but for the last kind, and the rows."""
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, SIZE).astype(np.int32)
    x = 1.5 * np.eye(CLASSES)[labels] + random.normal(size=(KINDS, SIZE, CLASSES))
    logits = (1.5 * x).astype(np.float32)  # log p(y | x) of equal priors
    logits[-1] *= 3
    names = [f"kind/{v}" for v in range(KINDS)]
    (rows,) = attacked_calibration.rows(logits[None], labels, 7 + np.arange(SIZE), "attacked", names, "test")
    return logits, labels, {row.metric: row for row in rows}


def ece(p, right):
    top, place = p.max(-1), np.clip(np.ceil(p.max(-1) * 15) - 1, 0, 14)
    return sum(abs((top - right)[place == m].sum()) for m in range(15)) / len(p)


@pytest.mark.parametrize("kind", [0, KINDS - 1])
def test_numbers_are_those_of_float64_by_loops(drawn, kind):
    logits, labels, rows = drawn
    p = softmax(logits[kind])
    right = p.argmax(-1) == labels
    expected = {
        "ece": ece(p, right),
        "nll": -np.log(p[np.arange(SIZE), labels]).mean(),
        "confidence": p.max(-1).mean(),
        "confidence_gap": p.max(-1).mean() - right.mean(),
    }
    for metric, value in expected.items():
        assert rows[f"attacked_{metric}/kind/{kind}"].value == pytest.approx(value, abs=2e-6)
        assert rows[f"attacked_{metric}/kind/{kind}"].n == SIZE


@pytest.mark.parametrize("kind", [0, KINDS - 1])
def test_the_floor_is_that_of_a_simulation_in_float64(drawn, kind):
    p, random = softmax(drawn[0][kind]), np.random.default_rng(1)
    simulated = np.array([ece(p, random.random(SIZE) < p.max(-1)) for _ in range(300)])
    row = drawn[2][f"attacked_ece_floor/kind/{kind}"]
    error = simulated.std() * np.sqrt(1 / attacked_calibration.DRAWS + 1 / len(simulated))
    assert abs(row.value - simulated.mean()) < 3.5 * error
    np.testing.assert_allclose([row.low, row.high], np.percentile(simulated, [2.5, 97.5]), atol=0.8 * simulated.std())


def test_perfect_models_are_inside_their_floor_and_one_too_sure_is_not(drawn):
    errors, floors = ([drawn[2][f"attacked_{name}/kind/{v}"] for v in range(KINDS)] for name in ("ece", "ece_floor"))
    inside = [floor.low <= error.value <= floor.high for error, floor in zip(errors, floors)]
    assert np.mean(inside[:-1]) >= 0.8
    assert not inside[-1]


def test_draws_follow_the_ids_and_not_the_place(drawn):
    logits, labels, rows = drawn
    back = (logits[None, :1, ::-1], labels[::-1], (7 + np.arange(SIZE))[::-1], "attacked", ["kind/0"], "test")
    (again,), (other,) = attacked_calibration.rows(*back), attacked_calibration.rows(*back, seed=1)
    assert len(again) == len(other) == len(attacked_calibration.METRICS) + 1
    for one in again:
        np.testing.assert_allclose(*(np.array(row[2:], float) for row in (one, rows[one.metric])), atol=2e-6)
    *_, floor = other
    assert floor.value != pytest.approx(rows[floor.metric].value, abs=1e-5)


def test_the_floor_of_a_mean_has_the_mean_of_its_ends():
    rows = [Row("test", "corruption_ece_floor/fog/1", 0.02, 9, 0.01, 0.03), Row("test", "corruption_ece/fog/1", 0.1, 9)]
    rows += [
        Row("test", "corruption_ece_floor/fog/3", 0.04, 9, 0.02, 0.07),
        Row("test", "corruption_ece/fog/3", 0.3, 9),
    ]
    floor, error = corruptions._means(rows, "test", 9)
    assert (floor.metric, error.metric) == ("corruption_ece_floor/mean", "corruption_ece/mean")
    assert (floor.value, floor.low, floor.high) == pytest.approx((0.03, 0.015, 0.05))
    assert (error.value, error.low, error.high) == (pytest.approx(0.2), None, None)


def test_intervals_are_those_of_a_bootstrap_in_float64(drawn):
    logits, labels, rows = drawn
    p = softmax(logits[0])
    each = {"nll": -np.log(p[np.arange(SIZE), labels]), "confidence": p.max(-1)}
    each["confidence_gap"] = each["confidence"] - (p.argmax(-1) == labels)
    for metric, values in each.items():
        row, half = rows[f"attacked_{metric}/kind/0"], 1.96 * values.std(ddof=1) / SIZE**0.5
        np.testing.assert_allclose([row.low, row.high], row.value + np.array([-half, half]), atol=0.25 * half)
    random, right = np.random.default_rng(2), p.argmax(-1) == labels
    again = [ece(p[chosen], right[chosen]) for chosen in random.integers(0, SIZE, (400, SIZE))]
    row, wide = rows["attacked_ece/kind/0"], np.ptp(np.percentile(again, [2.5, 97.5]))
    assert row.low < row.value < row.high
    assert row.high - row.low == pytest.approx(wide, rel=0.25)
