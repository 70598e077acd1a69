import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxreg.calibration import bins, class_bins, metrics
from support.drawn_logits import draw, softmax
from support.goldens import arrays_of

GOLDEN = arrays_of("calibration_packages")

sums_of = jax.jit(metrics.sums_of, static_argnums=3)


def summary(logits, labels, mask=None, count=15):
    mask = np.ones(len(labels), np.float32) if mask is None else mask
    return {name: float(value) for name, value in metrics.summary(sums_of(logits, labels, mask, count)).items()}


def classwise(p, y, count=15):
    """ECE of every class by a loop in float64."""
    place = np.clip(np.ceil(p * count).astype(int) - 1, 0, count - 1)
    gap = 0.0
    for k in range(p.shape[1]):
        for m in range(count):
            inside = place[:, k] == m
            gap += abs(p[inside, k].sum() - (y[inside] == k).sum()) / len(y)
    return gap / p.shape[1]


def murphy(p, y, count=15):
    """Reliability, resolution, uncertainty by a loop in float64."""
    place, parts = np.clip(np.ceil(p * count).astype(int) - 1, 0, count - 1), np.zeros(3)
    for k in range(p.shape[1]):
        base = (y == k).mean()
        parts[2] += base * (1 - base)
        for m in range(count):
            inside = place[:, k] == m
            if inside.any():
                rate = (y[inside] == k).mean()
                parts[:2] += inside.mean() * np.array([(p[inside, k].mean() - rate) ** 2, (rate - base) ** 2])
    return parts


# Where a value comes from outside, and how close it must be. A metric without a case here fails the test below.
CASES = {
    "accuracy": lambda z, y: sklearn.metrics.accuracy_score(y, z.argmax(-1)),
    "nll": lambda z, y: sklearn.metrics.log_loss(y, softmax(z)),
    "brier": lambda z, y: np.mean([np.sum((p - np.eye(len(p))[k]) ** 2) for p, k in zip(softmax(z), y)]),
    "brier_reliability": lambda z, y: murphy(softmax(z), y)[0],
    "brier_resolution": lambda z, y: murphy(softmax(z), y)[1],
    "brier_uncertainty": lambda z, y: murphy(softmax(z), y)[2],
    "brier_within": lambda z, y: CASES["brier"](z, y) - murphy(softmax(z), y) @ [1, -1, 1],
    "confidence": lambda z, y: softmax(z).max(-1).mean(),
    "confidence_gap": lambda z, y: softmax(z).max(-1).mean() - (z.argmax(-1) == y).mean(),
    "ece": lambda z, y: GOLDEN["netcal_ece"],
    "ece_debiased": lambda z, y: debiased(softmax(z).max(-1), z.argmax(-1) == y),
    "ece_classwise": lambda z, y: classwise(softmax(z), y),
    "mce": lambda z, y: GOLDEN["netcal_mce"],
}


def debiased(confidence, correct, count=15):
    total, place = 0.0, np.ceil(confidence * count)
    for m in np.unique(place):
        inside = place == m
        n, accuracy = inside.sum(), correct[inside].mean()
        if n > 1:
            total += n * ((confidence[inside].mean() - accuracy) ** 2 - accuracy * (1 - accuracy) / (n - 1))
    return np.sqrt(max(total / len(correct), 0))


def test_every_metric_has_a_case():
    assert set(CASES) == set(summary(GOLDEN["logits"], GOLDEN["labels"]))


@pytest.mark.parametrize("name", sorted(CASES))
def test_against_an_independent_reference(name):
    logits, labels = GOLDEN["logits"], GOLDEN["labels"]
    np.testing.assert_allclose(summary(logits, labels)[name], CASES[name](logits, labels), atol=2e-6)


def test_torchmetrics_and_torch_agree():
    found = summary(GOLDEN["logits"], GOLDEN["labels"])
    np.testing.assert_allclose(found["ece"], GOLDEN["torchmetrics_l1"], atol=1e-6)
    np.testing.assert_allclose(found["mce"], GOLDEN["torchmetrics_max"], atol=1e-6)
    np.testing.assert_allclose(found["nll"], GOLDEN["torch_nll"], rtol=1e-6)


def test_brier_parts_are_exact_where_forecasts_do_not_vary_within_a_bin():
    # Two forecasts, (.9, .1) and (.3, .7): each has its bin, so Brier = reliability - resolution + uncertainty.
    logits = np.log(np.array([[0.9, 0.1]] * 6 + [[0.3, 0.7]] * 4, np.float32))
    found = summary(logits, np.array([0, 0, 0, 1, 1, 0, 1, 1, 1, 0], np.int32))
    assert found["brier_within"] == pytest.approx(0, abs=1e-6)


def test_one_class_predicted_with_certainty():
    # A confidence of exactly 1 and every label right: no error of any kind; every label wrong: all that there is.
    logits = np.tile(np.array([1e4, 0.0, 0.0], np.float32), (7, 1))
    right, wrong = summary(logits, np.zeros(7, np.int32)), summary(logits, np.ones(7, np.int32))
    assert [right[name] for name in ("ece", "mce", "brier", "nll", "confidence")] == [0, 0, 0, 0, 1]
    assert [wrong[name] for name in ("ece", "mce", "brier", "nll", "confidence_gap")] == [1, 1, 2, 1e4, 1]


def test_bfloat16_logits_are_widened_before_the_softmax():
    # softmax((6, 0)) = 0.9975: bfloat16 would round it to 1.0 and report no doubt at all.
    found = summary(jnp.array([[6.0, 0.0]] * 3, jnp.bfloat16), np.zeros(3, np.int32))
    assert found["confidence"] == pytest.approx(1 / (1 + np.exp(-6)), rel=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 63))
@settings(max_examples=20, deadline=None)
def test_merged_batches_equal_the_whole(seed, cut):
    logits, labels = draw(seed, 64)
    size = np.arange(64)
    whole = sums_of(logits, labels, np.ones(64, np.float32), 15)
    parts = [sums_of(logits, labels, (part).astype(np.float32), 15) for part in (size < cut, size >= cut)]
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts[0] + parts[1])):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_order_and_ragged_tail_change_nothing(seed):
    logits, labels = draw(seed, 64)
    mask = (np.arange(64) < 50).astype(np.float32)
    turned = np.random.default_rng(seed).permutation(64)
    junk = np.where(mask[:, None] > 0, logits, 123.0).astype(np.float32)
    here, there = summary(logits, labels, mask), summary(junk[turned], labels[turned], mask[turned])
    assert here == pytest.approx(there, abs=2e-6)


def test_both_forms_of_class_bins_put_every_value_in_the_same_place():
    # All edges of 7 and 15 bins in float32, their neighbours, both ends, and what no rounding helps.
    edges = np.concatenate([np.arange(m + 1, dtype=np.float32) / np.float32(m) for m in (7, 15)])
    values = np.concatenate([edges, np.nextafter(edges, np.float32(2)), np.nextafter(edges, np.float32(-1)), [1e-20]])
    p = np.clip(values, 0, 1).astype(np.float32)[:, None]
    each = np.arange(len(p), dtype=np.int32)  # every value is a group of its own
    for count in (7, 15):
        empty = jnp.zeros((len(p), 1, count)), jnp.zeros((len(p), 1, count))
        first, second = (
            jax.jit(form)(*empty, p, np.ones(len(p), np.float32), each)
            for form in (class_bins.extracted, class_bins.compared)
        )
        for a, b in zip(first, second):
            np.testing.assert_array_equal(a, b)
        assert first[0].sum() == len(p)
        np.testing.assert_allclose(first[1].sum((1, 2)), p[:, 0], atol=1e-40)  # below it numbers are flushed to 0
        assert ((first[1] > 0).sum((1, 2)) == (p[:, 0] > 1e-40)).all()


@pytest.mark.parametrize("size", [2, 16, 17, 40])
def test_both_forms_of_class_bins_agree_on_many_classes(size):
    # Up to 14 probabilities of an example lie beyond the first bin; some sets span several words of bits.
    logits, labels = draw(size, 64, size, scale=0.7)
    p, mask = jax.nn.softmax(logits), (np.arange(64) % 5 > 0).astype(np.float32)
    empty = jnp.ones((3, size, 15)), jnp.ones((3, size, 15))
    found = [jax.jit(form)(*empty, p, mask, labels % 3) for form in (class_bins.extracted, class_bins.compared)]
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-6)


def test_gaps_of_groups_add_to_those_of_all():
    logits, labels = draw(9, 64)
    groups, mask = np.arange(64, dtype=np.int32) % 4, (np.arange(64) < 50).astype(np.float32)
    p = jax.nn.softmax(logits)
    found = jax.jit(lambda: class_bins.add(class_bins.empty(0.0, p.shape[-1], 4, 15), p, labels, mask, groups))()
    whole = sums_of(logits, labels, mask, 15).classes
    for a, b in zip(jax.tree.leaves(class_bins.bins_of(found)), jax.tree.leaves(whole)):
        np.testing.assert_allclose(a, b, atol=1e-5)
    third = sums_of(logits, labels, mask * (groups == 2), 15).classes
    np.testing.assert_allclose((found.confidence - found.correct)[2], third.confidence - third.correct, atol=1e-5)


def test_under_vmap_and_map():
    many = [draw(seed, 64) for seed in range(3)]
    logits, labels = (jnp.stack(arrays) for arrays in zip(*many))

    def one(z, y):
        return {"ece": bins.ece(metrics.sums_of(z, y).width)}

    alone = [summary(z, y)["ece"] for z, y in zip(logits, labels)]
    mapped = jax.jit(lambda *many: jax.lax.map(lambda each: one(*each), many))
    for lifted in (jax.jit(jax.vmap(one)), mapped):
        np.testing.assert_allclose(lifted(logits, labels)["ece"], alone, atol=1e-6)


def test_numpy_sums_give_the_same_numbers():
    sums = sums_of(GOLDEN["logits"], GOLDEN["labels"], np.ones(600, np.float32), 15)
    wide = jax.tree.map(lambda a: np.asarray(a, np.float64), sums)
    assert isinstance(bins.ece(wide.width), np.float64)
    assert metrics.summary(wide) == pytest.approx({k: float(v) for k, v in metrics.summary(sums).items()}, abs=1e-6)
