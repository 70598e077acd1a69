"""Optimizers and schedules against optax's own, and their numbers as traced values."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg.spec import OptimizerSpec
from jaxreg.training.optimizer import make_optimizer, numbers_of, structure_of

STEPS = 100


def spec(**given):
    return OptimizerSpec(**{"name": "sgd", "learning_rate": 0.1, "weight_decay": 0.0, **given})


def rates(one, steps=STEPS):
    optimizer, numbers = make_optimizer(one, steps), numbers_of([one], 0)
    return jax.vmap(lambda step: optimizer.learning_rate(numbers, step))(jnp.arange(steps))


def test_cosine_is_optax_cosine():
    expected = jax.vmap(optax.cosine_decay_schedule(0.1, STEPS))(jnp.arange(STEPS))
    np.testing.assert_allclose(rates(spec(schedule="cosine")), expected, rtol=1e-5, atol=1e-8)


def test_warmup_then_cosine():
    got = rates(spec(schedule="cosine", warmup_steps=10))
    np.testing.assert_allclose(got[:10], 0.1 * np.arange(1, 11) / 10, rtol=1e-6)
    expected = jax.vmap(optax.cosine_decay_schedule(0.1, STEPS - 10))(jnp.arange(STEPS - 10))
    np.testing.assert_allclose(got[10:], expected, rtol=1e-5, atol=1e-8)


def test_step_schedule_is_optax_piecewise():
    got = rates(spec(schedule="step", boundaries=(0.5, 0.75), decay=0.1))
    expected = jax.vmap(optax.piecewise_constant_schedule(0.1, {50: 0.1, 75: 0.1}))(jnp.arange(STEPS))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def reference(one):
    decayed = {"kernel": True, "bias": False, "scale": False}
    if one.name == "sgd":
        chain = [optax.add_decayed_weights(one.weight_decay, decayed), optax.sgd(0.1, one.momentum, one.nesterov)]
        return optax.chain(*chain)
    nesterov = one.name == "nadamw"
    return optax.adamw(0.1, one.b1, one.b2, weight_decay=one.weight_decay, mask=decayed, nesterov=nesterov)


@pytest.mark.parametrize("name", ["sgd", "adamw", "nadamw"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_five_steps_are_those_of_optax(name, nesterov):
    one = spec(name=name, nesterov=nesterov, weight_decay=0.01, schedule="constant", momentum=0.8, b1=0.85)
    optimizer, numbers, other = make_optimizer(one, STEPS), numbers_of([one], 0), reference(one)
    key = jax.random.key(0)
    params = {"kernel": jax.random.normal(key, (3, 4)), "bias": jnp.ones(4), "scale": jnp.ones(4)}
    twin, state, twin_state = params, optimizer.init(params), other.init(params)
    for step in range(5):
        grads = jax.tree.map(lambda p, step=step: jnp.sin(p + step), params)
        params, state = jax.jit(optimizer.update)(grads, state, params, numbers, step)
        updates, twin_state = other.update(jax.tree.map(lambda p, s=step: jnp.sin(p + s), twin), twin_state, twin)
        twin = optax.apply_updates(twin, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5), params, twin)


def test_weight_decay_leaves_biases_and_norms_alone():
    one = spec(weight_decay=0.5, schedule="constant")
    params = {"conv": {"kernel": jnp.ones((3, 3, 1, 2))}, "norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)}}
    optimizer = make_optimizer(one, STEPS)
    zero = jax.tree.map(jnp.zeros_like, params)
    moved, _ = optimizer.update(zero, optimizer.init(params), params, numbers_of([one], 0), 0)
    assert (moved["conv"]["kernel"] < 1).all()
    jax.tree.map(lambda a: np.testing.assert_array_equal(a, 1), moved["norm"])


def test_numbers_are_stacked_and_structure_is_not():
    two = [spec(learning_rate=0.1), spec(learning_rate=0.2, momentum=0.5, warmup_steps=3)]
    numbers = numbers_of(two)
    np.testing.assert_allclose(numbers["learning_rate"], [0.1, 0.2])
    np.testing.assert_allclose(numbers["momentum"], [0.9, 0.5])
    assert numbers["boundaries"].shape == (2, 2)
    assert structure_of(two[0]) == structure_of(two[1]) != structure_of(spec(name="adamw"))


def test_the_first_step_of_adamw_is_that_of_its_paper():
    """From 0 with gradient 1 the first step is the rate, whatever `nesterov` says, which is an option of sgd."""
    steps = {}
    for name in ("adamw", "nadamw"):
        one = spec(name=name, nesterov=True, schedule="constant")
        optimizer, params = make_optimizer(one, STEPS), {"kernel": jnp.zeros((1, 1))}
        moved, _ = optimizer.update(
            {"kernel": jnp.ones((1, 1))}, optimizer.init(params), params, numbers_of([one], 0), jnp.asarray(0)
        )
        steps[name] = float(moved["kernel"][0, 0])
    assert steps == {"adamw": pytest.approx(-0.1, rel=1e-5), "nadamw": pytest.approx(-0.147368, rel=1e-4)}
    assert spec(name="adamw", nesterov=True) == spec(name="adamw", nesterov=False)
