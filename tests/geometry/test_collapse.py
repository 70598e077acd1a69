import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.geometry import collapse, norms
from support import geometry_reference as reference


def measure(features, labels, kernel, predictions):
    return _measure(
        *(jnp.asarray(a, jnp.float32) for a in (features, kernel)), jnp.asarray(labels), jnp.asarray(predictions)
    )


@jax.jit
def _measure(features, kernel, labels, predictions):
    means = norms.class_means(features, labels, kernel.shape[1])
    return collapse.collapse(features, labels, kernel, predictions, means)._asdict()


@pytest.mark.parametrize(("classes", "width"), [(5, 12), (10, 64), (4, 3)])
def test_collapse_equals_float64(classes, width):
    rng = np.random.default_rng(classes)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 600)])
    features = rng.normal(size=(classes, width))[labels] + 0.4 * rng.normal(size=(len(labels), width)) + 5
    kernel, predictions = rng.normal(size=(width, classes)), rng.integers(0, classes, len(labels))
    expected = reference.collapse(features, labels, kernel, predictions)
    for name, value in measure(features, labels, kernel, predictions).items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-3, err_msg=name)


@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6])
def test_very_collapsed_features_equal_float64(noise):
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(10), rng.integers(0, 10, 5000)])
    features = rng.normal(size=(10, 32))[labels] + noise * rng.normal(size=(len(labels), 32))
    features = np.float32(features).astype(float)
    kernel = rng.normal(size=(32, 10))
    found, expected = measure(features, labels, kernel, labels), reference.collapse(features, labels, kernel, labels)
    for name in ("nc1", "within_class_variance", "within_class_share"):
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-2 if noise < 1e-5 else 1e-3, err_msg=name)
    np.testing.assert_allclose(found["effective_rank"], expected["effective_rank"], rtol=1e-3)


def test_what_is_undefined_is_nan():
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(5), 30)
    kernel = rng.normal(size=(8, 5))
    equal = measure(np.tile(rng.normal(size=8), (150, 1)), labels, kernel, labels)
    undefined = {"nc1", "nc2_norm", "nc2_angle", "nc3", "nc4", "within_class_share", "effective_rank"}
    assert {name for name, value in equal.items() if np.isnan(value)} == undefined
    noise = rng.normal(size=(30, 8))
    same_means = measure(np.tile(noise - noise.mean(0), (5, 1)) + 3, labels, kernel, labels)
    assert {name for name, value in same_means.items() if np.isnan(value)} == undefined - {
        "within_class_share",
        "effective_rank",
    }
    np.testing.assert_allclose(same_means["within_class_share"], 1, rtol=1e-6)
    no_head = measure(rng.normal(size=(5, 8))[labels] + np.tile(noise, (5, 1)), labels, 0 * kernel, labels)
    assert {name for name, value in no_head.items() if np.isnan(value)} == {"nc3"}


def test_a_turned_simplex_is_full_collapse():
    classes, width = 6, 10
    corners = np.eye(classes) - 1 / classes
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(width, width)))[0][:, :classes]
    labels = np.repeat(np.arange(classes), 7)
    features = (corners @ turn.T)[labels] + 0.3
    found = measure(features, labels, turn @ corners, labels)
    for name in ("nc1", "nc2_norm", "nc2_angle", "nc3", "nc4", "within_class_variance", "within_class_share"):
        np.testing.assert_allclose(found[name], 0, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(found["effective_rank"], classes - 1, rtol=1e-4)


def test_turning_the_space_changes_nothing():
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(4), 20)
    features, kernel = rng.normal(size=(4, 8))[labels] + 0.2 * rng.normal(size=(80, 8)), rng.normal(size=(8, 4))
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    plain, turned = measure(features, labels, kernel, labels), measure(features @ turn.T, labels, turn @ kernel, labels)
    for name, value in plain.items():
        np.testing.assert_allclose(value, turned[name], rtol=1e-3, atol=1e-6, err_msg=name)


def test_a_large_common_mean_does_not_cancel():
    rng = np.random.default_rng(4)
    labels = np.repeat(np.arange(3), 30)
    features = 0.1 * rng.normal(size=(3, 5))[labels] + 0.01 * rng.normal(size=(90, 5))
    near = measure(features, labels, np.ones((5, 3)), labels)["nc1"]
    far = measure(features + 50, labels, np.ones((5, 3)), labels)["nc1"]
    np.testing.assert_allclose(near, far, rtol=1e-2)


def test_the_nearest_mean_is_found_at_any_offset():
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(3), 30)
    features = (0.1 * rng.normal(size=(3, 5))[labels] + 0.02 * rng.normal(size=(90, 5)) + 500).astype(np.float32)
    expected = reference.collapse(features.astype(float), labels, np.ones((5, 3)), labels)["nc4"]
    np.testing.assert_allclose(measure(features, labels, np.ones((5, 3)), labels)["nc4"], expected, atol=1e-6)
