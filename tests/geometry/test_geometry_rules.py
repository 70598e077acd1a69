"""Rules of geometry that only one odd case shows; right answers are by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.geometry import centers, cones, cosines, displacement, trial
from jaxreg.geometry.newton import Descent
from jaxreg.models.functional import Head


def test_a_prediction_that_changes_at_the_feature_itself_does_not_hold_from_there():
    # Along t the logits are t + 1 and 2 t: equal at t = 1, where the first is predicted; beyond it the second wins.
    # With a bias of 1/2 they cross at t = 1/2, with 2 at t = 2.
    for bias, final in ((1.0, False), (0.5, True), (2.0, False)):
        found = cones.cone(jnp.ones((1, 1)), jnp.array([[1.0, 2.0]]), jnp.array([bias, 0.0]))
        assert found.breakpoint.tolist() == [bias]
        assert found.winner.tolist() == [1]
        assert found.final().tolist() == [final]


def test_right_without_attack_is_right_with_the_bias():
    # Without it the classes of the two features would be 0 and 1; with it both are 1.
    clean = np.array([[[1.0, 0.0], [0.0, 1.0], [3.0, 0.0]]], np.float32)
    kernel, bias, rows = np.eye(2)[None], np.array([[0.0, 2.0]]), np.eye(2)[None]
    for labels, counted in (([1, 1, 1], [True, True, False]), ([0, 0, 0], [False, False, True])):
        (found,) = displacement.measure_displacement(clean, 0.5 * clean, np.array(labels), kernel, bias, rows)
        assert found.arrays["test/adversarial_counted"].tolist() == counted
        assert {row.n for row in found.rows} == {sum(counted)}


@pytest.fixture(scope="module")
def about():
    """What is said of three kinds of centers of two classes in the plane, at 0, 45 and 90 degrees to the free ones."""
    free, axis = jnp.eye(2), jnp.array([1.0, 0.0])
    half = jnp.array([[1.0, 0.0], [1.0, 1.0]])  # 0 and 45 degrees
    soft = jnp.array([[0.0, 3.0], [0.0, 1.0]])  # 90 and 0 degrees
    residuals = ([1e-6, 3e-6], [2e-5, 1e-5], [4e-4, 5e-4])
    parts = [Descent(points, jnp.array(left), jnp.int32(1)) for points, left in zip((free, half, soft), residuals)]
    vectors = cosines.ClassVectors(free, free, free, soft, 0 * axis, half)
    known = trial.SolvedTrial(
        axis[None], axis, axis, Head(jnp.eye(2), jnp.zeros(2)), 0, jnp.float32(2), centers.TrialCenters(*parts), vectors
    )
    return jax.jit(trial._centers)(known)


def test_a_residual_is_the_largest_of_its_own_centers(about):
    np.testing.assert_allclose(about["center_residual"], 3e-6)
    np.testing.assert_allclose(about["center_residual_nonnegative"], 2e-5)
    np.testing.assert_allclose(about["center_residual_soft"], 5e-4)


def test_an_agreement_is_the_mean_cosine_to_its_own_centers(about):
    np.testing.assert_allclose(about["center_nonnegative_agreement"], (1 + np.sqrt(0.5)) / 2, rtol=1e-6)
    np.testing.assert_allclose(about["center_soft_agreement"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(about["soft_center_norm"], 2, rtol=1e-6)
