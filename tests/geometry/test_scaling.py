import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from jaxreg.calibration import temperature
from jaxreg.geometry import scaling
from jaxreg.models.functional import Head


def split(products, labels):
    """Features whose products with the last layer of `head` are these."""
    return jnp.asarray(products), jnp.asarray(labels)


def head(bias):
    return Head(jnp.eye(len(bias)), jnp.asarray(bias))


def data(seed, bias=1.0, count=400, classes=5, sharp=3.0):
    """Products whose logits, divided by `sharp`, are calibrated."""
    rng = np.random.default_rng(seed)
    calm = rng.normal(size=(count, classes))
    p = np.exp(calm) / np.exp(calm).sum(1, keepdims=True)
    labels = np.array([rng.choice(classes, p=row) for row in p])
    offset = bias * rng.normal(size=classes)
    return (sharp * calm - offset).astype(np.float32), offset.astype(np.float32), labels


def nll(logits, labels):
    logits = logits.astype(np.float64)
    top = logits.max(1, keepdims=True)
    return np.mean(top[:, 0] + np.log(np.exp(logits - top).sum(1)) - logits[np.arange(len(labels)), labels])


@pytest.mark.parametrize("seed", range(3))
def test_best_scale_equals_scipy(seed):
    products, bias, labels = data(seed)
    both = split(products, labels)
    found = jax.jit(scaling.measure)(both, both, head(bias))["best_scale"]
    best = minimize_scalar(
        lambda e: nll(np.exp(e) * products + bias, labels),
        bounds=(-4.6, 4.6),
        method="bounded",
        options={"xatol": 1e-8},
    )
    np.testing.assert_allclose(found, np.exp(best.x), rtol=1e-3)


def test_without_bias_the_best_scale_is_one_over_temperature():
    products, bias, labels = data(3)
    logits = products + bias
    heat = jax.jit(temperature.fit)(logits, labels).value
    found = jax.jit(scaling.measure)(split(logits, labels), split(logits, labels), head(0 * bias))
    np.testing.assert_allclose(found["best_scale"], 1 / heat, rtol=1e-4)
    np.testing.assert_allclose(heat, 3, rtol=0.25)
    np.testing.assert_allclose(found["best_scale"], found["inverse_temperature"], rtol=1e-5)
    np.testing.assert_allclose(found["ece_best_scale"], found["ece_temperature"], atol=1e-5)


def test_curve_equals_numpy_and_keeps_accuracy_without_bias():
    products, bias, labels = data(4)
    scales = jnp.array([0.2, 1.0, 3.0])
    found = jax.jit(scaling.curve)(*split(products, labels), head(bias), scales, jnp.ones(3))
    for i, s in enumerate(scales):
        logits = float(s) * products + bias
        np.testing.assert_allclose(found["nll"][i], nll(logits, labels), rtol=1e-4)
        p = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        confidence, right = p.max(1), p.argmax(1) == labels
        place = np.clip(np.ceil(confidence * 15) - 1, 0, 14)
        ece = sum(abs(np.sum((right - confidence)[place == m])) for m in range(15)) / len(labels)
        np.testing.assert_allclose(found["ece"][i], ece, atol=1e-5)
    plain = jax.jit(scaling.curve)(*split(products, labels), head(0 * bias), scales, jnp.ones(3))["accuracy"]
    assert (plain == plain[0]).all()


def test_both_ways_are_measured_where_they_were_not_fitted():
    (products, bias, labels), (others, _, other_labels) = data(5), data(6)
    found = jax.jit(scaling.measure)(split(products, labels), split(others, other_labels), head(bias))
    scale, inverse = float(found["best_scale"]), float(found["inverse_temperature"])
    np.testing.assert_allclose(found["nll_best_scale"], nll(scale * others + bias, other_labels), rtol=1e-4)
    np.testing.assert_allclose(found["nll_temperature"], nll(inverse * (others + bias), other_labels), rtol=1e-4)
    np.testing.assert_allclose(found["nll"][scaling.SCALES.index(1.0)], nll(others + bias, other_labels), rtol=1e-4)


def test_a_search_that_ends_at_its_bracket_says_so():
    products, bias, labels = data(7)
    sure = 30 * np.eye(5, dtype=np.float32)[labels]  # without an error the NLL falls for ever
    shape = (split(sure, labels), split(products, labels), head(bias))
    measure = jax.jit(scaling.measure)
    found = measure(*shape)
    np.testing.assert_allclose([found["best_scale_at_bracket"], found["inverse_temperature_at_bracket"]], 1)
    np.testing.assert_allclose(found["best_scale"], 100, rtol=1e-3)
    found = measure(split(products, labels), *shape[1:])
    np.testing.assert_allclose([found["best_scale_at_bracket"], found["inverse_temperature_at_bracket"]], 0)
