import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.special

from jaxreg.calibration import posthoc, temperature
from support.drawn_logits import draw


def objective(parameters, logits, labels, anchor):
    scaled = logits * parameters[: logits.shape[1]] + parameters[logits.shape[1] :]
    nll = scipy.special.logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]
    return nll.mean() + posthoc.RIDGE / 2 * np.sum((parameters - anchor) ** 2)


def test_vector_scaling_is_the_minimum_that_scipy_finds():
    logits, labels = draw(1, 300, temperature=1.7)
    logits = logits * np.linspace(0.5, 2, 5, dtype=np.float32) + np.arange(5, dtype=np.float32)
    ones = jnp.ones(300)
    t = jax.jit(temperature.fit)(logits, labels).value
    found = jax.jit(posthoc.fit_vector)(logits, labels, ones, t)
    anchor = np.repeat([1 / float(t), 0.0], 5)
    best = scipy.optimize.minimize(objective, anchor, (logits.astype(np.float64), labels, anchor), tol=1e-10)
    np.testing.assert_allclose(found, best.x, atol=2e-3)
    assert objective(np.asarray(found, np.float64), logits.astype(np.float64), labels, anchor) <= best.fun + 1e-6


def test_vector_scaling_survives_separable_logits():
    # Every label right: the likelihood has no maximum, the ridge keeps the parameters finite.
    logits, _ = draw(2, 300)
    found = jax.jit(posthoc.fit_vector)(logits, logits.argmax(-1), jnp.ones(300), jnp.float32(0.01))
    assert np.isfinite(found).all()


def test_curves_of_batches_add():
    logits, labels = draw(4, 300)
    parameters = jnp.repeat(jnp.array([0.7, 0.0]), 5)
    curve = jax.jit(posthoc.curve)
    first = (np.arange(300) < 100).astype(np.float32)
    parts = jax.tree.map(np.add, *(curve(parameters, logits, labels, mask) for mask in (first, 1 - first)))
    whole = curve(parameters, logits, labels, np.ones(300, np.float32))
    for a, b in zip(jax.tree.leaves(parts), jax.tree.leaves(whole)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_the_curve_holds_the_derivatives():
    logits, labels = draw(6, 50, classes=3)
    ones, parameters = jnp.ones(50), jnp.array([1.1, 0.9, 1.0, 0.1, -0.2, 0.3])

    def loss(p):
        return posthoc.curve(p, logits, labels, ones).loss

    def three(p):
        return posthoc.curve(p, logits, labels, ones), jax.grad(loss)(p), jax.hessian(loss)(p)

    found, gradient, hessian = jax.jit(three)(parameters)
    np.testing.assert_allclose(found.gradient, gradient, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.hessian, hessian, rtol=1e-3, atol=2e-3)


def test_isotonic_pools_adjacent_violators():
    # Sorted by confidence the labels are 0, 1, 0, 1: the middle two violate the order and are pooled to 0.5.
    found = posthoc.isotonic(np.array([0.2, 0.4, 0.6, 0.8]), np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.9]))
    np.testing.assert_allclose(found, [0, 0.5, 0.5, 1])
