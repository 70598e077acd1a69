"""FAB and its projection against the reference implementation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.robustness import fab, run_attack
from jaxreg.robustness.attacks import ATTACKS
from jaxreg.robustness.method import AttackNumbers, QueueRow
from jaxreg.robustness.trial import targets_of
from support import small_networks
from support.goldens import arrays_of


@pytest.fixture(scope="module")
def golden():
    return arrays_of("robustness_autoattack")


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection_onto_a_hyperplane_within_the_box(golden, norm):
    with jax.enable_x64(True):
        point, w, b = (jnp.asarray(golden[f"projection/{name}"]) for name in ("points", "w", "b"))
        move = np.asarray(fab.to_hyperplane(point, w, b, norm))
    reached = np.abs(np.sum(golden["projection/w"] * (golden["projection/points"] + move), 1) - golden["projection/b"])
    in_reach = reached < 1e-9
    assert 20 <= in_reach.sum() < 40
    measure = (lambda m: np.abs(m).max(1)) if norm == "linf" else (lambda m: np.linalg.norm(m, axis=1))
    np.testing.assert_allclose(measure(move), measure(golden[f"projection/{norm}"]), rtol=1e-6)
    moved = golden["projection/points"] + move
    assert moved.min() >= -1e-12
    assert moved.max() <= 1 + 1e-12


@functools.partial(jax.jit, static_argnames=("logits_fn", "norm"))
def distances(logits_fn, row, norm):
    numbers = AttackNumbers(0, 20, 1.0, 0.0)

    def body(k, state):
        return fab.step(logits_fn, row, state, jnp.full(row.label_B.shape, k), numbers, norm).state

    return jax.lax.fori_loop(0, 20, body, fab.start(row, numbers)).distance_B


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_distances_are_those_of_the_reference(golden, norm):
    w1, b1, w2 = (jnp.asarray(golden[name], jnp.float32) for name in ("w1", "b1", "w2"))

    def logits_fn(x):
        return jnp.tanh((x.reshape(x.shape[0], -1) - 0.5) @ w1 + b1[None]) @ w2

    x, labels = jnp.asarray(golden["x"], jnp.float32), jnp.asarray(golden["labels"], jnp.int32)
    targets = targets_of(logits_fn(x), labels, targets=3, passes=3)
    keys = jax.random.split(jax.random.key(0), len(x))
    for rank in (2, 3, 4):
        row = QueueRow(x, labels, targets[:, rank - 2], jnp.full(len(x), 1.0), keys)
        np.testing.assert_allclose(distances(logits_fn, row, norm), golden[f"fab/{norm}/{rank}"], rtol=2e-3)


def test_breaks_a_linear_model_at_its_margin():
    logits_fn, w, b = small_networks.linear()
    x = small_networks.images(48)
    labels = small_networks.predicted(logits_fn, x)
    exact = small_networks.linear_min_eps(w, b, x, labels, "linf")
    radii = np.mean([np.sort(exact)[[5, 15, 30]], np.sort(exact)[[6, 16, 31]]], axis=0)
    attack = ATTACKS["fab_t"]._replace(targets=3, steps=40)
    got = run_attack(logits_fn, x, labels, radii, attack, key=jax.random.key(1))
    np.testing.assert_array_equal(got.robust, exact > radii[:, None])
