import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.calibration import smooth_error
from support.drawn_logits import softmax
from support.goldens import arrays_of

GOLDEN = arrays_of("calibration_packages")

find = jax.jit(smooth_error.smece)


def confidences(temperature=1.0):
    p = softmax(GOLDEN["logits"].astype(np.float64) / temperature)
    correct = p.argmax(-1) == GOLDEN["labels"]
    return p.max(-1).astype(np.float32), correct.astype(np.float32), np.ones(len(p), np.float32)


def test_relplot_agrees():
    # relplot bisects the bandwidth in steps of 1/1024 and integrates on 200 points.
    np.testing.assert_allclose(find(*confidences()), GOLDEN["relplot_smece"], atol=1e-3)
    np.testing.assert_allclose(find(*confidences(1.7)), GOLDEN["relplot_smece_calibrated"], atol=1e-3)


def test_relplot_agrees_at_one_bandwidth():
    confidence, correct, mask = confidences(1.7)
    residual = smooth_error.on_grid(jnp.asarray(confidence), jnp.asarray(confidence - correct))
    found = smooth_error.error_at(residual, mask.sum(), jnp.float32(0.05))
    np.testing.assert_allclose(found, GOLDEN["relplot_at_bandwidth"], rtol=3e-3)


def test_the_error_equals_its_bandwidth():
    confidence, correct, mask = confidences(1.7)
    residual = smooth_error.on_grid(jnp.asarray(confidence), jnp.asarray(confidence - correct))
    error, sigma = smooth_error.of_residuals(residual, mask.sum())
    np.testing.assert_allclose(error, sigma, atol=2e-4)
    confidence, correct, mask = confidences()
    residual = smooth_error.on_grid(jnp.asarray(confidence), jnp.asarray(confidence - correct))
    np.testing.assert_allclose(smooth_error.of_residuals(residual, mask.sum())[1], GOLDEN["relplot_width"], atol=1e-3)


def test_certain_and_sometimes_wrong():
    # All mass at confidence 1, three of four right: |residual| integrates to 0.25 at every bandwidth, because the
    # kernel is reflected at 1 and loses nothing. (A kernel that counts the point on the border once loses half.)
    found = find(np.ones(600, np.float32), (np.arange(600) % 4 > 0).astype(np.float32), np.ones(600, np.float32))
    np.testing.assert_allclose(found, 0.25, atol=1e-4)


def test_smoothing_is_the_reflected_gaussian():
    # Against the sum over images of each point, mirrored at 0 and 1, in float64.
    sigma, points, weights = 0.1, np.array([0.0, 0.3, 1.0]), np.array([1.0, 2.0, 0.5])
    grid = np.linspace(0, 1, smooth_error.GRID)
    images = np.concatenate([points + 2 * k for k in range(-2, 3)] + [-points + 2 * k for k in range(-2, 3)])
    kernel = np.exp(-((grid[:, None] - images) ** 2) / (2 * sigma**2)) / np.sqrt(2 * np.pi) / sigma
    expected = kernel @ np.tile(weights, 10)
    on_grid = smooth_error.on_grid(jnp.asarray(points, jnp.float32), jnp.asarray(weights, jnp.float32))
    np.testing.assert_allclose(smooth_error.smooth(on_grid, jnp.float32(sigma)), expected, rtol=1e-4, atol=1e-4)


def test_order_and_padding_change_nothing():
    confidence, correct, mask = confidences(1.7)
    mask = (np.arange(600) < 400).astype(np.float32)
    turned = np.random.default_rng(0).permutation(600)
    here, there = find(confidence, correct, mask), find(confidence[turned], correct[turned], mask[turned])
    np.testing.assert_allclose(here, there, atol=1e-6)
    parts = [
        smooth_error.on_grid(jnp.asarray(confidence), jnp.asarray((confidence - correct) * m)) for m in (mask, 1 - mask)
    ]
    np.testing.assert_allclose(
        sum(parts), smooth_error.on_grid(jnp.asarray(confidence), jnp.asarray(confidence - correct)), atol=1e-4
    )
