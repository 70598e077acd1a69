"""Trials over a mesh: each one's numbers are those it has alone, and nothing crosses from trial to trial."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.robustness import run_attack
from jaxreg.runtime import parallel

MESHES = (1, 2, 8)  # devices that share a trial's batch


def gradient(weights, x):
    return jax.grad(lambda x: jnp.tanh(x @ weights).sum())(x)


@pytest.mark.parametrize("local", ["map", "vmap"])
@pytest.mark.parametrize("data", MESHES)
def test_a_shared_input_has_one_gradient_a_trial(data, local):
    weights = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    mesh = parallel.make_mesh(data)
    run = parallel.per_trial(gradient, mesh, local)
    got = run(parallel.put_trials(weights, mesh), parallel.put_shared(x, mesh))
    np.testing.assert_allclose(got[5], gradient(weights[5], x), rtol=1e-5)
    np.testing.assert_allclose(got, jax.vmap(gradient, (0, None))(weights, x), rtol=1e-5)


def test_an_attack_among_trials_is_the_attack_alone():
    rng = np.random.default_rng(0)
    kernels = rng.normal(size=(16, 48, 4)).astype(np.float32)
    images = rng.random((6, 4, 4, 3)).astype(np.float32)
    labels, ids = rng.integers(0, 4, 6), np.arange(6, dtype=np.uint32)

    def pgd(kernel, shared):
        images, labels, ids = shared
        found = run_attack(
            lambda x: x.reshape(len(x), -1) @ kernel, images, labels, 0.1, key=jax.random.key(0), ids=ids
        )
        return found.adversarial, found.robust

    shared = (images, labels.astype(np.int32), ids)
    alone = pgd(kernels[5], shared)
    for data in MESHES:
        mesh = parallel.make_mesh(data)
        run = parallel.per_trial(pgd, mesh)
        many = run(parallel.put_trials(kernels, mesh), parallel.put_shared(shared, mesh))
        np.testing.assert_allclose(many[0][5], alone[0], atol=1e-6)
        np.testing.assert_array_equal(many[1][5], alone[1])


def test_padding_changes_nothing():
    mesh = parallel.make_mesh()
    stack = np.arange(13.0, dtype=np.float32)
    assert parallel.padded(13, mesh) == 16
    got = parallel.per_trial(lambda a, b: a * b, mesh)(parallel.put_trials(stack, mesh), np.float32(2))
    np.testing.assert_array_equal(parallel.fetch(got, 13), 2 * stack)


def test_examples_dealt_out_to_devices_come_back_in_order_and_nothing_crosses():
    def halvings(rows, shared):  # as many as each device's own largest row needs: loops of different lengths
        x_N, names_N = rows
        last, steps = jax.lax.while_loop(
            lambda s: jnp.max(s[0]) > shared, lambda s: (s[0] / 2, s[1] + 1), (x_N, names_N[0] * 0)
        )
        return jnp.stack([last, x_N]), names_N * 2, steps

    x, names = 2.0 ** np.arange(24, dtype=np.float32), np.arange(24)
    run = parallel.per_example(halvings, jax.devices(), (1, 0, parallel.SUM))
    both, doubled, steps = run((jnp.asarray(x), jnp.asarray(names)), jnp.float32(1.0))
    np.testing.assert_array_equal(both[1], x)
    np.testing.assert_array_equal(both[0], 2.0 ** (np.arange(24) // 8 * 8 - 16.0))
    np.testing.assert_array_equal(doubled, 2 * names)
    assert steps == sum(range(16, 24))
    text = run.lower((jnp.asarray(x), jnp.asarray(names)), jnp.float32(1.0)).compile().as_text()
    assert not re.findall(r"all-reduce|all-gather|all-to-all|collective-permute", text)


def test_data_devices_must_divide():
    with pytest.raises(ValueError, match="data_devices must divide the 8 devices, got 3"):
        parallel.make_mesh(3)


def test_a_program_has_the_name_of_what_it_lifts():
    run = parallel.per_trial(functools.partial(functools.partial(gradient)), parallel.make_mesh())
    assert "module @jit_gradient" in run.lower(jnp.ones((16, 5)), jnp.ones((3, 5))).as_text()
