"""Centers of heads that projected gradients do not finish, against float64 points that prove themselves optimal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import root

from jaxreg.geometry import centers
from jaxreg.runtime import parallel

SMOOTHING = 0.1
three = jax.jit(centers.three_minimal_loss_points)


def head(width, classes, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    kernel = scale * rng.normal(size=(width, classes)) / np.sqrt(width)
    return np.float32(kernel), np.float32(0.1 * rng.normal(size=classes))


def optimum(kernel, bias, k, radius, near, *, soft=False, nonnegative=False):
    """float64: the root of the KKT conditions that is next to `near`; convex, so where they hold is the minimum."""
    kernel, bias, near = (np.asarray(a, float) for a in (kernel, bias, near))
    kernel, classes = kernel - kernel.mean(1, keepdims=True), len(bias)
    target = np.eye(classes)[k] * (1 - SMOOTHING * soft) + soft * SMOOTHING / classes
    free = near > 1e-5 * radius if nonnegative else np.ones(len(near), bool)
    bound = np.linalg.norm(near) > radius * (1 - 1e-4)

    def odds(z):
        logits = z @ kernel + bias
        if not soft:
            logits[k] = -np.inf
        weights = np.exp(logits - logits.max())
        return weights / weights.sum()

    basis = np.eye(len(near))[:, free]
    if soft and len(near) > classes:
        basis = np.linalg.qr(kernel)[0][:, : classes - 1]
    rows = basis.T @ kernel

    def conditions(x):
        z, m = x[:-1], x[-1]
        p = odds(basis @ z)
        curve = (rows * p) @ rows.T - np.outer(rows @ p, rows @ p) + m * np.eye(len(z))
        last = (z @ z / radius**2 - 1, 2 * z / radius**2, 0) if bound else (m, 0 * z, 1)
        jacobian = np.block([[curve, z[:, None]], [last[1][None], np.array([[last[2]]])]])
        return np.append(rows @ (p - target) + m * z, last[0]), jacobian

    start = basis.T @ near
    slope = rows @ (odds(near) - target)
    found = root(conditions, np.append(start, -slope @ start / radius**2 * bound), jac=True, tol=1e-13).x
    z, multiplier = basis @ found[:-1], found[-1]
    slope = kernel @ (odds(z) - target) + multiplier * z
    size = np.linalg.norm(kernel, axis=0).max()
    assert np.abs(slope[free]).max() < 1e-9 * size
    assert multiplier >= -1e-12
    assert np.linalg.norm(z) < radius * (1 + 1e-9)
    if nonnegative:
        assert slope[~free].min() > -1e-9 * size
        assert z.min() >= 0
    return z


def check(kernel, bias, radius, classes, atol=1e-4):
    found = three(jnp.asarray(kernel), jnp.asarray(bias), radius, SMOOTHING)
    for name, one in found._asdict().items():
        assert one.residual.max() < 1e-5, name
        for k in classes:
            given = {"soft": name == "soft", "nonnegative": name == "nonnegative"}
            expected = optimum(kernel, bias, k, radius, one.points[k], **given)
            apart = np.asarray(one.points[k]) - expected
            np.testing.assert_allclose(apart / np.linalg.norm(expected), 0, atol=atol, err_msg=f"{name} {k}")


@pytest.mark.parametrize(("width", "radius"), [(64, 10.0), (64, 30.0), (128, 10.0), (128, 30.0)])
def test_smoothed_centers_of_many_classes_equal_float64(width, radius):
    check(*head(width, 100), radius, (0, 50, 99))


def test_smoothed_centers_that_need_no_newton_equal_float64():
    check(*head(64, 10), 30.0, range(10))


@pytest.mark.parametrize("radius", [10.0, 40.0])
def test_equal_rows(radius):
    kernel, bias = head(64, 100)
    kernel[:, 1], bias[1] = kernel[:, 0], bias[0]
    kernel[:, 5] = kernel[:, 4]
    found = three(jnp.asarray(kernel), jnp.asarray(bias), radius, SMOOTHING)
    for one in found:
        assert one.residual.max() < 1e-5
    np.testing.assert_allclose(found.soft.points[0] / radius, found.soft.points[1] / radius, atol=1e-4)


def test_equal_rows_of_all_classes_have_no_slope():
    found = three(jnp.ones((64, 100)), jnp.zeros(100), 10.0, SMOOTHING)
    for one in found:
        assert (one.residual < 1e-9).all()
        assert (one.points == 0).all()


def test_a_radius_of_zero_gives_zero_points():
    kernel, bias = head(12, 16)
    for one in three(jnp.asarray(kernel), jnp.asarray(bias), 0.0, SMOOTHING):
        assert (one.points == 0).all()
        assert one.residual.max() < 1e-5


@pytest.mark.parametrize(("scale", "radius"), [(1.0, 300.0), (100.0, 3.0), (3.0, 300.0)])
def test_logits_of_a_thousand(scale, radius):
    check(*head(64, 100, scale), radius, (0, 99))


def test_units_change_no_direction():
    kernel, bias = (jnp.asarray(a) for a in head(64, 100))
    plain, scaled = three(kernel, bias, 30.0, SMOOTHING), three(kernel * 1e4, bias, 30.0 * 1e-4, SMOOTHING)
    for one, other in zip(plain, scaled):
        np.testing.assert_allclose(one.points / 30, other.points / 30e-4, atol=1e-5)


def test_a_trial_on_a_mesh_equals_itself_alone():
    heads = [head(64, 100, seed=s) for s in range(8)]  # batched Cholesky of two devices once waited for ever
    kernels, biases = (np.stack(x) for x in zip(*heads))
    mesh = parallel.make_mesh()
    program = parallel.per_trial(lambda one, radius: centers.three_minimal_loss_points(*one, radius, SMOOTHING), mesh)
    given = parallel.put_trials((kernels, biases), mesh)
    found = parallel.fetch(program(given, parallel.put_shared(np.float32(10), mesh)), 8)
    alone = three(jnp.asarray(kernels[3]), jnp.asarray(biases[3]), 10.0, SMOOTHING)
    for many, one in zip(found, alone):
        np.testing.assert_allclose(many.points[3] / 10, one.points / 10, atol=1e-5)
