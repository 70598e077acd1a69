import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize, nnls

from jaxreg.geometry import centers

STATIC = ("nonnegative",)
minimal_loss_points = jax.jit(centers.minimal_loss_points, static_argnames=STATIC)
max_margin_directions = jax.jit(centers.max_margin_directions, static_argnames=STATIC)


def random_head(seed, width=12, classes=5, scale=1.0):
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(width, classes)), 0.3 * rng.normal(size=classes)


def simplex_head(classes=4, width=7, seed=0):
    """Rows at the corners of a regular simplex, turned at random: [D, K]."""
    corners = np.eye(classes) - 1 / classes
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]
    return turn[:, :classes] @ corners


def reference(kernel, bias, k, radius, *, nonnegative=False, target=None):
    """scipy's SLSQP in float64 on log(CE), which keeps its gradient where CE itself vanishes."""
    rows = kernel.T

    def loss(z):
        logits = z @ kernel + bias
        if target is not None:
            top = logits.max()
            normal = top + np.log(np.exp(logits - top).sum())
            return normal - target @ logits, rows.T @ (np.exp(logits - normal) - target)
        gaps = np.delete(logits - logits[k], k)
        weights = np.exp(gaps - gaps.max())
        return gaps.max() + np.log(weights.sum()), (weights / weights.sum()) @ (np.delete(rows, k, 0) - rows[k])

    ball = {"type": "ineq", "fun": lambda z: radius**2 - z @ z, "jac": lambda z: -2 * z}
    bounds = [(0, None)] * len(kernel) if nonnegative else None
    start = rows[k] - rows.mean(0)
    start = np.abs(start) if nonnegative else start
    start *= 0.5 * radius / np.linalg.norm(start)
    options = {"ftol": 1e-14, "maxiter": 2000}
    return minimize(loss, start, jac=True, bounds=bounds, constraints=[ball], method="SLSQP", options=options).x


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("radius", [0.5, 4.0, 20.0])
def test_centers_equal_scipy(radius, nonnegative):
    kernel, bias = random_head(1)
    found = minimal_loss_points(
        jnp.asarray(kernel, jnp.float32),
        jnp.asarray(bias, jnp.float32),
        radius,
        nonnegative=nonnegative,
    )
    expected = np.stack([reference(kernel, bias, k, radius, nonnegative=nonnegative) for k in range(5)])
    np.testing.assert_allclose(found.points / radius, expected / radius, atol=1e-4)
    assert found.residual.max() < 1e-5


def test_soft_centers_equal_scipy_and_are_finite():
    kernel, bias = random_head(2)
    targets = np.asarray(centers.soft_targets(5, 0.1), float)
    found = minimal_loss_points(
        jnp.asarray(kernel, jnp.float32),
        jnp.asarray(bias, jnp.float32),
        1e3,
        targets_KK=jnp.asarray(targets, jnp.float32),
        tolerance=1e-9,
    )
    # Inside the ball the point with softmax(logits) = target is best: here its logits are known.
    logits = np.asarray(found.points) @ kernel + bias
    np.testing.assert_allclose(jax.nn.softmax(logits), targets, atol=1e-5)
    near = minimal_loss_points(
        jnp.asarray(kernel, jnp.float32),
        jnp.asarray(bias, jnp.float32),
        0.4,
        targets_KK=jnp.asarray(targets, jnp.float32),
    )
    expected = np.stack([reference(kernel, bias, k, 0.4, target=targets[k]) for k in range(5)])
    np.testing.assert_allclose(near.points / 0.4, expected / 0.4, atol=1e-4)


@pytest.mark.parametrize("radius", [0.01, 1.0, 50.0])
def test_centers_of_a_simplex_are_its_corners(radius):
    kernel = simplex_head()
    found = minimal_loss_points(jnp.asarray(kernel, jnp.float32), jnp.zeros(4), radius)
    np.testing.assert_allclose(
        found.points, radius * kernel.T / np.linalg.norm(kernel, axis=0)[:, None], atol=1e-5 * radius
    )


def test_small_radius_gives_the_row_less_the_mean_row():
    kernel, _ = random_head(3)
    found = minimal_loss_points(jnp.asarray(kernel, jnp.float32), jnp.zeros(5), 1e-4)
    rows = (kernel - kernel.mean(1, keepdims=True)).T
    np.testing.assert_allclose(found.points / 1e-4, rows / np.linalg.norm(rows, axis=1)[:, None], atol=1e-3)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_far_direction_is_the_hard_margin(nonnegative):
    kernel, _ = random_head(4)
    rows, width = kernel.T, len(kernel)
    found = max_margin_directions(jnp.asarray(kernel, jnp.float32), nonnegative=nonnegative)
    for k in range(5):
        apart = rows[k] - np.delete(rows, k, 0)
        start = rows[k] - rows.mean(0)
        start = np.abs(start) if nonnegative else start
        hard = minimize(  # the shortest v with (w_k - w_j).v >= 1
            lambda v: (v @ v / 2, v),
            start,
            jac=True,
            bounds=[(0, None)] * width if nonnegative else None,
            constraints=LinearConstraint(apart, 1, np.inf),
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 1000},
        ).x
        np.testing.assert_allclose(found.points[k], hard / np.linalg.norm(hard), atol=1e-4)


@pytest.mark.parametrize(("width", "classes"), [(64, 60), (64, 100), (128, 100)])
def test_far_directions_of_many_classes_equal_float64(width, classes):
    rows = np.random.default_rng(0).normal(size=(classes, width)).astype(np.float32)
    found = max_margin_directions(jnp.asarray(rows.T))
    rows = rows.astype(float)
    for k in (0, classes // 2, classes - 1):
        # The point of the hull next to the origin, up to its length: least |hull|^2 + (sum of weights - 1)^2.
        apart = (rows[k] - np.delete(rows, k, 0)).T
        weights, _ = nnls(np.vstack([apart, np.ones(classes - 1)]), np.append(np.zeros(width), 1))
        nearest = apart @ weights
        np.testing.assert_allclose(found.points[k], nearest / np.linalg.norm(nearest), atol=1e-4)


def test_a_growing_radius_reaches_the_far_direction():
    kernel, bias = random_head(5)
    kernel, bias = jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32)
    far = max_margin_directions(kernel).points
    cosines = [
        float(jnp.min(jnp.sum(minimal_loss_points(kernel, bias, r).points * far, 1) / r)) for r in (0.1, 3.0, 300.0)
    ]
    assert cosines[0] < cosines[1] < cosines[2]
    assert cosines[2] > 0.9999


def test_a_class_that_cannot_win_has_no_far_direction():
    kernel = jnp.array([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])  # the third row lies between the others
    np.testing.assert_allclose(max_margin_directions(kernel).points, [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], atol=1e-4)


def test_turning_the_space_turns_the_centers():
    kernel, bias = random_head(6)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    plain, turned = (
        minimal_loss_points(jnp.asarray(k, jnp.float32), jnp.asarray(bias, jnp.float32), 5.0).points
        for k in (kernel, turn @ kernel)
    )
    np.testing.assert_allclose(turned, plain @ turn.T, atol=1e-3)


def test_many_trials_at_once_equal_each_alone():
    heads = [random_head(s, width=30, classes=10, scale=0.5) for s in range(3)]
    kernels, biases = (jnp.asarray(np.stack(x), jnp.float32) for x in zip(*heads))
    radii = jnp.array([2.0, 9.0, 30.0])
    many = jax.jit(jax.vmap(centers.minimal_loss_points))(kernels, biases, radii)
    assert many.residual.max() < 1e-5
    for t in range(3):
        alone = minimal_loss_points(kernels[t], biases[t], radii[t])
        np.testing.assert_allclose(many.points[t] / radii[t], alone.points / radii[t], atol=1e-4)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_wide_heads_of_many_classes_converge(nonnegative):
    kernel, bias = random_head(7, width=128, classes=100, scale=0.2)
    found = minimal_loss_points(
        jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32), 12.0, nonnegative=nonnegative
    )
    assert found.residual.max() < 1e-5
    assert found.points.min() >= (0 if nonnegative else -np.inf)


def test_three_at_once_equal_each_alone():
    kernel, bias = (jnp.asarray(a, jnp.float32) for a in random_head(8))
    three = jax.jit(centers.three_minimal_loss_points)
    smoothed, plain = three(kernel, bias, 6.0, 0.1), three(kernel, bias, 6.0, 0.0)
    alone = [
        minimal_loss_points(kernel, bias, 6.0, nonnegative=False),
        minimal_loss_points(kernel, bias, 6.0, nonnegative=True),
        minimal_loss_points(kernel, bias, 6.0, targets_KK=centers.soft_targets(5, 0.1)),
    ]
    for found, expected in zip(smoothed, alone):
        np.testing.assert_allclose(found.points / 6, expected.points / 6, atol=1e-4)
        assert found.residual.max() < 1e-5
    np.testing.assert_array_equal(plain.soft.points, plain.free.points)
