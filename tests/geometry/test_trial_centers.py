import jax
import jax.numpy as jnp

from jaxreg.geometry import trial


def test_classes_that_no_direction_lets_win_are_left_out_of_the_mean():
    assert trial._mean_where(jnp.array([True, False]), jnp.array([0.5, 0.0])) == 0.5
    assert jnp.isnan(trial._mean_where(jnp.array([False]), jnp.array([0.0])))


def test_far_agreement_counts_the_winnable_alone():
    kernel = jnp.array([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])  # the third row lies between the others
    features = {"train": jnp.array([[2.0, 0.1], [-2.0, 0.0], [0.1, 1.0]])}
    given = (features, trial.Head(kernel, jnp.zeros(3)), jnp.float32(0)), ({"train": jnp.arange(3)}, jnp.float32(0))
    scalars = jax.jit(trial.measure_trial)(*given)["scalars"]
    (found,) = [one["center_far_agreement"] for one in scalars if "center_far_agreement" in one]
    assert abs(found - 1) < 1e-4
