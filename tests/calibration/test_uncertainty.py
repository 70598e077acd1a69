import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxreg.calibration import bins, metrics, selective, uncertainty
from jaxreg.calibration.ranking import rank
from support.drawn_logits import draw

KEY = jax.random.key(3)


@jax.jit
def resampled(logits, labels, ids):
    """Sums of the data and of 400 replicates."""
    each, mask = metrics.examples(logits, labels), jnp.ones(len(labels))
    width = bins.equal_width(each.confidence)
    mass = bins.equal_mass(rank(each.confidence, mask), mask.sum())
    order = rank(each.confidence, mask)
    top = each.confidence, each.correct, mask, order
    influence = selective.influence(*top[1:], selective.aurc(*top), selective.auroc(*top))
    columns = jnp.stack([mask, each.correct, each.confidence, each.nll, each.brier, *influence], -1)
    uniform = uncertainty.uniforms(KEY, ids, 400)
    weights = jnp.concatenate([mask[:, None], uncertainty.poisson_weights(uniform)], -1)
    return uncertainty.resample(weights, columns, width, mass)


def look(logits, labels, ids=None):
    ids = np.arange(len(labels), dtype=np.uint32) if ids is None else ids
    return uncertainty.unpack(np.asarray(resampled(logits, labels, ids), np.float64))  # on the host


def test_weights_are_poisson():
    weights = np.asarray(uncertainty.poisson_weights(uncertainty.uniforms(KEY, jnp.arange(500, dtype=jnp.uint32), 400)))
    seen = np.bincount(weights.astype(int).ravel(), minlength=6)[:6] / weights.size
    np.testing.assert_allclose(seen, scipy.stats.poisson(1).pmf(range(6)), atol=0.004)  # standard error 0.0011


def test_replicate_zero_holds_the_data():
    logits, labels = draw(0, 500)
    sums = jax.jit(lambda *data: metrics.summary(metrics.sums_of(*data)))(logits, labels)
    found = look(logits, labels)
    np.testing.assert_allclose(found.nll[0] / found.count[0], sums["nll"], rtol=1e-5)
    np.testing.assert_allclose(bins.ece(found.width)[0], sums["ece"], atol=1e-6)
    np.testing.assert_allclose(found.mass.count[0], [34] * 5 + [33] * 10, rtol=1e-6)


@pytest.mark.parametrize("metric", ["accuracy", "nll", "brier", "confidence", "confidence_gap"])
def test_intervals_of_means_are_those_of_scipy(metric):
    logits, labels = draw(1, 500)
    each = metrics.examples(logits, labels)
    values = {"accuracy": each.correct, "confidence_gap": each.confidence - each.correct}
    values = np.asarray(values.get(metric, getattr(each, metric, None)), np.float64)
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=0)
    low, high = uncertainty.intervals(metrics.summary(look(logits, labels)))[metric]
    width = np.ptp(expected.confidence_interval)
    np.testing.assert_allclose([low, high], expected.confidence_interval, atol=0.15 * width)


def test_every_interval_holds_its_estimate():
    found = metrics.summary(look(*draw(2, 500, temperature=2.0)))
    assert {"accuracy", "nll", "ece", "ece_adaptive", "auroc"} <= set(found)
    for name, (low, high) in uncertainty.intervals(found).items():
        assert low < found[name][0] < high, name


def test_draws_follow_the_id_not_the_place():
    logits, labels = draw(3, 500)
    turned = np.random.default_rng(0).permutation(500)
    here, there = look(logits, labels), look(logits[turned], labels[turned], turned.astype(np.uint32))
    for a, b in zip(jax.tree.leaves(here), jax.tree.leaves(there)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-3)
