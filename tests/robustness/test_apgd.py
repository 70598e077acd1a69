"""APGD against the reference implementation, step for step, and against closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.robustness import ATTACKS, gradient, losses, run_attack
from jaxreg.robustness.method import AttackNumbers, QueueRow
from jaxreg.robustness.trial import targets_of
from support import small_networks
from support.goldens import arrays_of

EPS = {"linf": 0.02, "l2": 0.1}


@pytest.fixture(scope="module")
def golden():
    return arrays_of("robustness_autoattack")


def network(golden, dtype):
    w1, b1, w2 = (jnp.asarray(golden[name], dtype) for name in ("w1", "b1", "w2"))
    return lambda x: jnp.tanh((x.reshape(x.shape[0], -1) - 0.5) @ w1 + b1[None]) @ w2


@functools.partial(jax.jit, static_argnames=("logits_fn", "norm"))
def climb(logits_fn, row, start, numbers, norm):
    """The whole path of one run: whether every point was right, the best loss, the best point."""

    def body(k, carry):
        state, robust = carry
        out = gradient.step(logits_fn, row, state, jnp.full(row.label_B.shape, k), numbers, norm)
        return out.state, robust & ~out.fooled_B

    first = gradient.begin(start, row, numbers), row.label_B >= 0
    state, robust = jax.lax.fori_loop(0, numbers.steps + 1, body, first)
    return robust, state.schedule.best_loss_B, state.best


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["float64", "float32"])
def test_agrees_with_the_reference_per_example(golden, name, norm):
    # In l2 the loss is flat along the sphere about its best point, and the reference adds 1e-12 to a gradient's length.
    near = 1e-8 if norm == "linf" else 1e-4
    with jax.enable_x64(name == "float64"):
        logits_fn = network(golden, name)
        x, start = jnp.asarray(golden["x"], name), jnp.asarray(golden[f"start_{norm}"], name)
        labels, targets = (jnp.asarray(golden[key], jnp.int32) for key in ("labels", "targets"))
        keys = jax.random.split(jax.random.key(0), len(x))
        row = QueueRow(x, labels, targets, jnp.full(len(x), EPS[norm], name), keys)
        for loss in ("ce", "dlr", "targeted_dlr"):
            for steps in (7, 40):
                numbers = AttackNumbers(losses.number_of(loss), steps, 2.0, 1.0, 1.0)
                robust, best_loss, best = climb(logits_fn, row, start, numbers, norm)
                key = f"apgd/{name}/{norm}/{loss}/{steps}"
                np.testing.assert_array_equal(robust, golden[f"{key}/robust"], err_msg=key)
                if name == "float64":
                    np.testing.assert_allclose(best_loss, golden[f"{key}/loss"], rtol=1e-9, atol=1e-9, err_msg=key)
                    np.testing.assert_allclose(best, golden[f"{key}/best"], atol=near, err_msg=key)
                else:
                    np.testing.assert_allclose(best_loss, golden[f"{key}/loss"], rtol=1e-3, atol=1e-3, err_msg=key)


def test_checkpoint_windows_are_those_of_the_paper():
    # int(0.22 n), int(0.06 n), int(0.03 n) as floats round them, at every n in use.
    n = np.arange(1, 20001)
    for share in (22, 6, 3):
        np.testing.assert_array_equal(share * n // 100, [int(share / 100 * k) for k in n])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_targeted_run_equals_the_certified_radius_of_a_linear_model(norm):
    logits_fn, w, b = small_networks.linear()
    x = small_networks.images(48)
    labels = small_networks.predicted(logits_fn, x)
    exact = small_networks.linear_min_eps(w, b, x, labels, norm)
    radii = np.mean([np.sort(exact)[[5, 15, 30]], np.sort(exact)[[6, 16, 31]]], axis=0)
    got = run_attack(
        logits_fn, x, labels, radii, ATTACKS["apgd_t"]._replace(targets=3), key=jax.random.key(1), norm=norm
    )
    np.testing.assert_array_equal(got.robust, exact > radii[:, None])


def test_targets_are_the_likeliest_wrong_classes():
    logits = jnp.array([[0.1, 3.0, 2.0, -1.0], [5.0, 1.0, 2.0, 4.0]])
    got = targets_of(logits, jnp.array([1, 3]), targets=3, passes=6)
    np.testing.assert_array_equal(got, [[2, 0, 3, 2, 0, 3], [0, 2, 1, 0, 2, 1]])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_whole_runs_leave_the_same_examples_standing_as_the_reference(golden, norm):
    arrays = {name.removeprefix("whole/"): value for name, value in golden.items() if name.startswith("whole/")}
    logits_fn = network(arrays, "float32")
    x, eps = arrays["x"].astype(np.float32), {"linf": 0.03, "l2": 0.15}[norm]
    labels, masks = small_networks.predicted(logits_fn, x), {}
    for loss in ("ce", "dlr", "targeted_dlr"):
        targets = 1 if loss == "targeted_dlr" else 0
        attack = ATTACKS["apgd_ce"]._replace(loss=loss, steps=20, targets=targets, random_start=False)
        masks[loss] = np.asarray(run_attack(logits_fn, x, labels, eps, attack, key=jax.random.key(0), norm=norm).robust)
        np.testing.assert_array_equal(masks[loss], arrays[f"{norm}/{loss}/robust"], err_msg=loss)
    pairs = (("ce", "dlr"), ("ce", "targeted_dlr"), ("dlr", "targeted_dlr"))
    assert all(np.sum(masks[one] != masks[other]) >= 3 for one, other in pairs)  # no loss passes for another
