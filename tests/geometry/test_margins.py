import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxreg.geometry import margins

angular_margin = jax.jit(margins.angular_margin)
rival_angles = jax.jit(margins.rival_angles)


def head(seed, width=3, classes=4, bias=0.5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(width, classes)), bias * rng.normal(size=classes)


def searched(h, kernel, bias, steps=100001, seed=0):
    """The least angle to a random point of the sphere |x| = |h| in another class, then refined: float64."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(steps, len(h)))
    points *= np.linalg.norm(h) / np.linalg.norm(points, axis=1)[:, None]
    other = points[np.argmax(points @ kernel + bias, 1) != np.argmax(h @ kernel + bias)]
    return np.arccos(np.max(other @ h) / (h @ h)) if len(other) else np.pi


@pytest.mark.parametrize("seed", range(3))
def test_margin_equals_a_search_on_the_sphere(seed):
    kernel, bias = head(seed)
    features = 2 * np.random.default_rng(seed + 9).normal(size=(6, 3))
    predictions = np.argmax(features @ kernel + bias, 1)
    found = angular_margin(*(jnp.asarray(a, jnp.float32) for a in (features, kernel, bias)), jnp.asarray(predictions))
    expected = np.array([searched(h, kernel, bias) for h in features])
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert (found <= expected + 1e-4).all()  # a search can only find larger angles


@pytest.mark.parametrize("seed", range(3))
def test_angle_to_each_rival_equals_the_nearest_level_point(seed):
    kernel, bias = head(seed, width=5, bias=0.2)
    h = np.random.default_rng(seed).normal(size=5) * 3
    c = int(np.argmax(h @ kernel + bias))
    found = rival_angles(*(jnp.asarray(a, jnp.float32) for a in (h[None], kernel, bias)), jnp.asarray([c]))[0]
    for j in set(range(4)) - {c}:
        v, beta = kernel[:, c] - kernel[:, j], bias[c] - bias[j]
        level = [
            {"type": "eq", "fun": lambda x: x @ x - h @ h, "jac": lambda x: 2 * x},
            {"type": "eq", "fun": lambda x, v=v, beta=beta: v @ x + beta, "jac": lambda x, v=v: v},
        ]
        near = minimize(
            lambda x: (-(x @ h), -h), h - v, jac=True, constraints=level, options={"ftol": 1e-13, "maxiter": 500}
        )
        np.testing.assert_allclose(found[j], np.arccos(near.x @ h / (h @ h)), atol=2e-3)


def test_known_angles():
    kernel, bias = jnp.array([[1.0, -1.0], [0.0, 0.0]]), jnp.zeros(2)
    features = jnp.array([[1.0, 0.0], [1.0, 1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(
        angular_margin(features, kernel, bias, jnp.zeros(3, int)), np.array([2, 1, -1]) * np.pi / 4, atol=1e-6
    )


def test_an_unreachable_rival_gives_pi():
    kernel = jnp.array([[0.1, 0.0], [0.0, 0.1]])
    assert angular_margin(jnp.ones((1, 2)), kernel, jnp.array([9.0, 0.0]), jnp.array([0]))[0] == np.float32(np.pi)
    assert angular_margin(jnp.ones((1, 2)), kernel, jnp.array([0.0, 9.0]), jnp.array([0]))[0] == np.float32(-np.pi)
    assert angular_margin(jnp.zeros((1, 2)), kernel, jnp.zeros(2), jnp.array([0]))[0] == np.float32(np.pi)


def test_near_equal_rows_keep_their_distance():
    rng = np.random.default_rng(3)
    kernel = np.repeat(rng.normal(size=(64, 1)), 3, 1) + np.array([0, 1e-4, 3e-4]) * rng.normal(size=(64, 3))
    kernel = kernel.astype(np.float32)
    expected = np.linalg.norm(kernel.T[:, None].astype(float) - kernel.T, axis=-1)
    np.testing.assert_allclose(jax.jit(margins.distances)(jnp.asarray(kernel)), expected, rtol=1e-5)
    # A bias that half the distance outweighs is met on the sphere: with a distance of 0 it would be pi.
    found = rival_angles(jnp.asarray(kernel.T[:1]), kernel, jnp.array([0, 0, 1e-4]), jnp.array([0]))[0]
    assert (np.abs(found[1:]) < 3).all()


def test_turning_the_space_changes_no_margin():
    kernel, bias = head(5, width=6)
    features = np.random.default_rng(5).normal(size=(20, 6))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    classes = jnp.asarray(np.argmax(features @ kernel + bias, 1))
    plain = angular_margin(*(jnp.asarray(a, jnp.float32) for a in (features, kernel, bias)), classes)
    turned = angular_margin(*(jnp.asarray(a, jnp.float32) for a in (features @ turn.T, turn @ kernel, bias)), classes)
    np.testing.assert_allclose(plain, turned, atol=1e-4)
    assert (plain >= 0).all()


@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_collapsed_features_of_two_classes_keep_their_digits(bias):
    rng = np.random.default_rng(0)
    kernel, bias = np.float32(rng.normal(size=(64, 2))), np.float32([bias, 0])
    away = kernel[:, 0] - kernel[:, 1]
    labels = np.arange(200) % 2
    off = np.geomspace(1e-6, 1e-1, 200)[:, None] * rng.normal(size=(200, 64))
    features = np.float32((1 - 2 * labels)[:, None] * away + off)
    h, v = features.astype(float), (1 - 2 * labels)[:, None] * (kernel[:, 0].astype(float) - kernel[:, 1])
    along = np.sum(h * v, 1) / np.linalg.norm(v, axis=1)
    rest = np.linalg.norm(h - along[:, None] * v / np.linalg.norm(v, axis=1, keepdims=True), axis=1)
    level = np.arccos(-(1 - 2 * labels) * bias[0] / np.linalg.norm(h, axis=1) / np.linalg.norm(v, axis=1))
    found = angular_margin(features, kernel, bias, jnp.asarray(labels))
    np.testing.assert_allclose(found, level - np.arctan2(rest, along), atol=2e-6)
