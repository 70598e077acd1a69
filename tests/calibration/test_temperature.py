import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxreg.calibration import temperature
from support.drawn_logits import draw, softmax
from support.goldens import arrays_of

GOLDEN = arrays_of("calibration_packages")

fit = jax.jit(temperature.fit)


def nll(logits, labels, at=1.0):
    return -np.mean(np.log(softmax(logits.astype(np.float64) / at)[np.arange(len(labels)), labels]))


def test_probmetrics_finds_the_same_temperature():
    found = fit(GOLDEN["logits"], GOLDEN["labels"])
    np.testing.assert_allclose(found.value, GOLDEN["probmetrics_temperature"], rtol=2e-5)
    assert found.at_bracket == 0


@pytest.mark.parametrize("scale", [0.05, 1.0, 12.0])
def test_scipy_finds_the_same_temperature(scale):
    logits, labels = draw(3, 200)
    scaled = logits * scale
    best = scipy.optimize.minimize_scalar(
        lambda log_t: nll(scaled, labels, np.exp(log_t)), bounds=(-4.6, 4.6), method="bounded", options={"xatol": 1e-9}
    )
    np.testing.assert_allclose(fit(scaled.astype(np.float32), labels).value, np.exp(best.x), rtol=1e-4)


@given(st.integers(0, 10_000), st.floats(-3, 3), st.floats(-2, 2))
@settings(max_examples=30, deadline=None)
def test_never_raises_the_nll_it_was_fitted_on_and_never_moves_the_argmax(seed, log_scale, log_t):
    logits, labels = draw(seed, 200, temperature=np.exp(log_t))
    logits = (logits * np.exp(log_scale)).astype(np.float32)
    found = float(fit(logits, labels).value)
    assert nll(logits, labels, found) <= nll(logits, labels) + 1e-6
    assert 1e-2 * 0.999 <= found <= 1e2 * 1.001
    assert (np.argmax(logits / np.float32(found), -1) == np.argmax(logits, -1)).all()


def test_both_ends_of_the_bracket_are_reported():
    # All right: the sharper the better, T = 0.01. All wrong: the flatter the better, T = 100.
    logits, _ = draw(0, 200)
    right, wrong = fit(logits, logits.argmax(-1)), fit(logits, logits.argmin(-1))
    np.testing.assert_allclose([right.value, wrong.value], [0.01, 100], rtol=1e-5)
    assert right.at_bracket == wrong.at_bracket == 1
    assert np.isnan([right.low, wrong.high]).all()


def test_the_interval_covers_the_true_temperature():
    # Labels drawn from softmax(z / 1.5): 1000 repetitions; 95 % coverage has a standard error of 0.7 %.
    draws = [draw(seed, 400, temperature=1.5) for seed in range(1000)]
    logits, labels = (np.stack(arrays) for arrays in zip(*draws))
    found = jax.jit(lambda z, y: jax.lax.map(lambda each: temperature.fit(*each), (z, y)))(logits, labels)
    covered = np.mean((found.low < 1.5) & (found.high > 1.5))
    assert 0.92 <= covered <= 0.98


def test_masked_examples_change_nothing_and_vmap_equals_one_by_one():
    logits, labels = draw(5, 200, temperature=2.0)
    mask = (np.arange(200) < 120).astype(np.float32)
    batch = jnp.stack([logits, logits * 3]), jnp.stack([labels, labels]), jnp.stack([mask, mask])
    together = jax.jit(jax.vmap(temperature.fit))(*batch).value
    alone = fit(logits[:120], labels[:120]).value
    np.testing.assert_allclose(together, [alone, 3 * alone], rtol=3e-5)
