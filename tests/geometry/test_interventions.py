import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.geometry import cosines, interventions, probe
from support.geometry_shapes import CLASSES, LABELS, WIDTH


@pytest.mark.parametrize("turn", [0.3, -0.2, 0.0])
def test_turning_changes_the_angle_by_as_much_and_no_length(turn):
    rng = np.random.default_rng(0)
    h, c = (jnp.asarray(rng.normal(size=(30, 6)), jnp.float32) for _ in range(2))
    turned = interventions.turn_toward(h, c, turn)
    np.testing.assert_allclose(jnp.linalg.norm(turned, axis=1), jnp.linalg.norm(h, axis=1), rtol=1e-5)
    np.testing.assert_allclose(cosines.angle(turned, c), cosines.angle(h, c) - turn, atol=1e-5)
    np.testing.assert_allclose(cosines.angle(turned, h), abs(turn), atol=1e-5)


def test_turning_stops_at_the_center():
    h, c = jnp.array([[2.0, 0.0], [0.0, 0.0], [1.0, 0.0]]), jnp.array([[0.0, 5.0], [1.0, 0.0], [3.0, 0.0]])
    np.testing.assert_allclose(interventions.turn_toward(h, c, 9.0), [[0, 2], [0, 0], [1, 0]], atol=1e-6)


def test_share_closed():
    assert interventions.share_closed(0.10, 0.06, 0.02, 0.01) == pytest.approx(0.5)
    assert math.isnan(interventions.share_closed(0.10, 0.06, 0.095, 0.01))


@pytest.fixture(scope="module")
def pair():
    """A trial whose features are exactly those of its baseline at half the length: all of its ECE is length."""
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(1, WIDTH, CLASSES)).astype(np.float32)
    bias = np.zeros((1, CLASSES), np.float32)
    splits = {}
    for name, labels in LABELS.items():
        h = (kernel[0].T[labels] + 1.5 * rng.normal(size=(len(labels), WIDTH))).astype(np.float32)
        splits[name] = probe.Features(np.stack([h, h / 2]), labels)
    return probe.measure(splits, np.repeat(kernel, 2, 0), np.repeat(bias, 2, 0), baselines=[None, 0])


def values(measured):
    return {row.metric: row.value for row in measured.rows if row.split == "test"}


def test_the_norm_swap_closes_all_of_a_gap_made_by_length(pair):
    base, own = map(values, pair)
    assert own["norm_swap_ece_share"] == pytest.approx(1, abs=1e-3)
    assert own["norm_swap_nll_share"] == pytest.approx(1, abs=1e-3)
    assert own["norm_swap_ece"] == pytest.approx(own["scaled_ece/1"], abs=1e-5)
    assert base["scaled_ece/0.5"] == pytest.approx(own["scaled_ece/1"], abs=1e-5)
    assert own["norm_swap_margin"] == pytest.approx(base["label_margin"], abs=1e-4)  # no bias: length changes no angle
    assert math.isnan(own["turn_margin_share"])  # the directions are the same: there is no gap to close


def test_a_baseline_has_no_pair(pair):
    assert "norm_swap_ece" not in values(pair[0])
