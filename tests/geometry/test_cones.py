import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.geometry import cones

cone = jax.jit(cones.cone)


def brute_force(features, kernel, bias, grid):
    """The prediction at every t of the grid, in float64: [N, S]."""
    return np.argmax(grid[None, :, None] * (features @ kernel)[:, None, :] + bias, -1)


@pytest.mark.parametrize("seed", range(5))
def test_last_breakpoint_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    features, kernel, bias = rng.normal(size=(60, 8)), rng.normal(size=(8, 6)), 4 * rng.normal(size=6)
    found = cone(*(jnp.asarray(a, jnp.float32) for a in (features, kernel, bias)))
    grid = np.geomspace(1e-4, 1e4, 20001)
    classes = brute_force(features, kernel, bias, grid)
    np.testing.assert_array_equal(found.winner, classes[:, -1])
    changed = classes != classes[:, -1:]
    last = np.where(changed.any(1), grid[np.minimum(len(grid) - 1 - changed[:, ::-1].argmax(1) + 1, len(grid) - 1)], 0)
    np.testing.assert_allclose(found.breakpoint, last, rtol=2e-3)
    np.testing.assert_allclose(found.radius, last * np.linalg.norm(features, axis=1), rtol=2e-3)
    at_one = np.argmax(features @ kernel + bias, -1)
    final = np.array([(classes[i, grid >= 1] == at_one[i]).all() for i in range(60)])
    np.testing.assert_array_equal(found.final(), final)
    assert 0 < final.mean() < 1


def test_without_bias_every_region_is_a_cone():
    rng = np.random.default_rng(0)
    features, kernel = rng.normal(size=(50, 4)), rng.normal(size=(4, 7))
    found = cone(jnp.asarray(features, jnp.float32), jnp.asarray(kernel, jnp.float32), jnp.full(7, 0.3))
    assert found.final().all()
    assert (found.breakpoint == 0).all()


def test_a_large_bias_removes_the_cone():
    features, kernel = jnp.array([[1.0, 0.0], [0.5, 2.0]]), jnp.eye(2)
    found = cone(features, kernel, jnp.array([0.0, 100.0]))
    np.testing.assert_allclose(found.breakpoint, [100, 0])
    np.testing.assert_array_equal(found.final(), [False, True])


def test_ties_go_to_the_larger_bias_and_zero_features_have_no_breakpoint():
    kernel = jnp.array([[1.0, 1.0, 0.0]])
    found = cone(jnp.array([[2.0], [0.0]]), kernel, jnp.array([0.0, 1.0, 3.0]))
    np.testing.assert_array_equal(found.winner, [1, 2])
    np.testing.assert_allclose(found.breakpoint, [1.0, 0.0])


@pytest.mark.parametrize("width", [1, 2, 3])
def test_compiling_changes_nothing_in_few_dimensions(width):
    # With one dimension the product is so cheap that a compiler takes it twice, once fused with the difference.
    rng = np.random.default_rng(width)
    features, kernel, bias = (np.float32(rng.normal(size=s)) for s in ((500, width), (width, 10), 10))
    found, plain = cone(features, kernel, bias), cones.cone(jnp.asarray(features), jnp.asarray(kernel), bias)
    slopes = (features @ kernel).astype(float)
    falls, winner = slopes.max(1, keepdims=True) - slopes, slopes.argmax(1)
    begin = np.where(falls > 0, (bias - bias[winner][:, None]) / np.where(falls > 0, falls, 1), 0).max(1)
    np.testing.assert_allclose(found.breakpoint, np.maximum(begin, 0), rtol=1e-3)
    np.testing.assert_array_equal(found.winner, plain.winner)
    np.testing.assert_array_equal(found.final(), plain.final())
