import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxreg.calibration import bins
from jaxreg.calibration.ranking import ascend, rank, running_total

SIZE = 200  # everything is padded to it, so that few programs are compiled


@functools.partial(jax.jit, static_argnums=3)
def _width(confidence, correct, mask, count):
    return bins.bins_of(bins.equal_width(confidence, count), confidence, correct, mask)


@functools.partial(jax.jit, static_argnums=3)
def _mass(confidence, correct, mask, count):
    return bins.bins_of(bins.equal_mass(rank(confidence, mask), mask.sum(), count), confidence, correct, mask)


@functools.partial(jax.jit, static_argnums=3)
def _sorted(confidence, correct, mask, count):
    return bins.adaptive(ascend(confidence, correct, mask), count)


def padded(kind, confidence, correct, count, mask):
    mask = np.ones(len(confidence)) if mask is None else mask
    return kind(*(np.pad(np.asarray(a, np.float32), (0, SIZE - len(a))) for a in (confidence, correct, mask)), count)


def width_bins(confidence, correct, count=15, mask=None):
    return padded(_width, confidence, correct, count, mask)


def mass_bins(confidence, correct, count=15, mask=None):
    return padded(_mass, confidence, correct, count, mask)


def test_bins_are_closed_on_the_right_and_hold_both_ends():
    # Four bins (0, .25], (.25, .5], (.5, .75], (.75, 1]: edges belong below, 0 to the first bin, 1 to the last.
    place = jnp.argmax(bins.equal_width(jnp.array([0.0, 0.25, 0.2500001, 0.5, 0.75, 0.7500001, 1.0]), 4), -1)
    assert place.tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_every_value_is_in_exactly_one_bin():
    values = jnp.linspace(0, 1, 3001)
    assert bins.equal_width(values, 15).sum(-1).tolist() == [1.0] * 3001


def test_ece_by_hand():
    # Bin (.4, .6]: two examples, confidence 0.5, accuracy 0.5: gap 0. Bin (.8, 1]: two, confidence 0.9, accuracy 0.5:
    # gap 0.4, weight 2/4. ECE = 0.2, MCE = 0.4 with a count of 2; the three other bins are empty.
    found = width_bins([0.5, 0.5, 0.9, 0.9], [1, 0, 1, 0], 5)
    np.testing.assert_allclose([bins.ece(found), bins.mce(found), bins.mce_count(found)], [0.2, 0.4, 2], rtol=1e-6)


def test_saturated_confidences_count():
    # A softmax rounded to bfloat16 says exactly 1 for most examples. Three of four are right, so the gap is 0.25.
    found = width_bins([1.0, 1.0, 1.0, 1.0], [1, 1, 0, 1])
    assert found.count.tolist() == [0.0] * 14 + [4.0]
    assert float(bins.ece(found)) == 0.25
    assert float(bins.mce(found)) == 0.25


def test_debiased_by_hand():
    # Bin of 4: (0.75 - 0.5)^2 - 0.75 * 0.25 / 3 = 0; bin of 2: (0.5 - 1)^2 - 0.25 / 1 = 0; bin of 1 adds nothing.
    assert float(bins.debiased(width_bins([0.5] * 4 + [1.0] * 2 + [0.1], [1, 1, 1, 0, 1, 0, 1], 5))) == 0.0
    # Confidence 0.9 and 0 of 3 right: 0.81 - 0 = 0.81, whose root is 0.9.
    np.testing.assert_allclose(bins.debiased(width_bins([0.9] * 3, [0] * 3)), 0.9, rtol=1e-6)


@pytest.mark.parametrize("size", [15, 150, 151, 164, 7, 1])
def test_equal_mass_is_sort_and_split(size):
    random = np.random.default_rng(size)
    confidence, correct = random.random(size).astype(np.float32), random.integers(0, 2, size)
    order = np.argsort(confidence)
    parts = [(confidence[i].astype(float), correct[i]) for i in np.array_split(order, 15)]
    expected = sum(abs(c.sum() - a.sum()) for c, a in parts) / size
    found = mass_bins(confidence, correct)
    assert found.count.tolist() == [len(c) for c, _ in parts]
    np.testing.assert_allclose(bins.ece(found), expected, atol=1e-6)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 1 / 3, 0.9, 1.0]), st.booleans()), min_size=1, max_size=60))
@settings(max_examples=25, deadline=None)
def test_the_sorted_form_of_equal_mass_bins_is_that_of_the_ranking(examples):
    confidence, correct = np.array(examples, np.float32).T
    found, expected = padded(_sorted, confidence, correct, 15, None), mass_bins(confidence, correct)
    np.testing.assert_allclose(jax.tree.leaves(found), jax.tree.leaves(expected), atol=1e-4)


def test_ties_do_not_collapse_equal_mass_bins():
    # Quantile edges would all be 0.9: one bin. Sort and split gives three bins of two; the five tied examples, 3 of 5
    # right, share theirs evenly. Bin 1: 0.1 (wrong) and one tied: |0 + 0.6 - 0.1 - 0.9| = 0.4; bins 2 and 3:
    # |1.2 - 1.8| = 0.6 each. ECE = (0.4 + 0.6 + 0.6) / 6.
    found = mass_bins([0.9, 0.9, 0.1, 0.9, 0.9, 0.9], [1, 0, 0, 1, 1, 0], 3)
    assert found.count.tolist() == pytest.approx([2, 2, 2])
    np.testing.assert_allclose(bins.ece(found), 1.6 / 6, rtol=1e-6)


def test_fewer_examples_than_bins():
    # Each example is alone in a bin: mean of |conf - correct|.
    found = mass_bins([0.2, 0.9], [1, 0])
    np.testing.assert_allclose(bins.ece(found), (0.8 + 0.9) / 2, rtol=1e-6)
    np.testing.assert_allclose(bins.ece(width_bins([0.2, 0.9], [1, 0])), (0.8 + 0.9) / 2, rtol=1e-6)


def test_masked_examples_change_nothing():
    whole = mass_bins([0.3, 0.3, 0.8], [1, 0, 1], 2)
    padded = mass_bins([0.3, 0.0, 0.3, 0.8, 1.0], [1, 1, 0, 1, 0], 2, mask=[1, 0, 1, 1, 0])
    np.testing.assert_allclose(jax.tree.leaves(whole), jax.tree.leaves(padded), atol=1e-6)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 1 / 3, 0.9, 1.0]), st.booleans()), min_size=2, max_size=40))
@settings(max_examples=25, deadline=None)
def test_order_changes_no_bin(examples):
    confidence, correct = np.array(examples, np.float32).T
    turned = np.random.default_rng(len(examples)).permutation(len(examples))
    for one in (mass_bins, width_bins):
        here, there = one(confidence, correct, 5), one(confidence[turned], correct[turned], 5)
        np.testing.assert_allclose(jax.tree.leaves(here), jax.tree.leaves(there), atol=1e-4)


def test_the_host_bins_as_the_device_does():
    # All edges of 15 bins, correctly rounded, and their float32 neighbours.
    edges = np.arange(16, dtype=np.float32) / np.float32(15)
    near = [np.nextafter(edges, np.float32(side)) for side in (2, -1)]
    confidence = np.clip(np.concatenate([edges, *near]), 0, 1)
    correct = np.arange(len(confidence)) % 3 / 2
    found, expected = bins.on_host(confidence, correct), width_bins(confidence, correct)
    np.testing.assert_allclose(jax.tree.leaves(found), jax.tree.leaves(expected), atol=1e-5)


def test_running_total_is_exact():
    counts = np.random.default_rng(0).integers(0, 2, 3000)
    np.testing.assert_array_equal(jax.jit(running_total)(counts), np.concatenate([[0], np.cumsum(counts)]))


def test_rank_against_numpy():
    values = np.random.default_rng(1).integers(0, 30, 200) / 30
    mask = np.arange(200) < 170
    low, high, order = jax.jit(rank)(jnp.asarray(values, jnp.float32), jnp.asarray(mask, jnp.float32))
    known = np.sort(values[mask])
    np.testing.assert_array_equal(np.asarray(low)[mask], np.searchsorted(known, values[mask], "left"))
    np.testing.assert_array_equal(np.asarray(high)[mask], np.searchsorted(known, values[mask], "right"))
    assert sorted(order.tolist()) == list(range(200))
