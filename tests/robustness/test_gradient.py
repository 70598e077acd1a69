"""FGSM, BIM, PGD: closed forms on linear models, and the laws of the loop they run in."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.robustness import ATTACKS, balls, run_attack, run_suite
from jaxreg.robustness.network import capacity
from support import small_networks

KEY = jax.random.key(7)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd_ce", "pgd_margin"])
def test_two_class_linear_model_breaks_exactly_at_its_margin(name, norm):
    logits_fn, w, b = small_networks.linear(classes=2)
    x = small_networks.images(48)
    labels = small_networks.predicted(logits_fn, x)
    exact = small_networks.linear_min_eps(w, b, x, labels, norm)
    radii = np.mean([np.sort(exact)[[5, 15, 30]], np.sort(exact)[[6, 16, 31]]], axis=0)
    got = run_attack(logits_fn, x, labels, radii, name, key=KEY, norm=norm)
    # From a random start in l2 the direction turns to the best one by a factor 1 / (1 + step) a step: not quite there.
    off_edge = np.abs(exact / radii[:, None] - 1) > (0.01 if norm == "l2" and "pgd" in name else 1e-5)
    np.testing.assert_array_equal(np.asarray(got.robust)[off_edge], (exact > radii[:, None])[off_edge])
    assert np.mean(off_edge) > 0.9


@pytest.mark.parametrize("nats", [10, 35, 69])
@pytest.mark.parametrize("name", ["fgsm", "bim", "apgd_ce", "minimal", "fab_t"])
def test_a_sure_network_is_as_easy_to_fool_in_l2(name, nats):
    """At 69 nats gradients of the cross-entropy are near 1e-30: their squares are 0 in float32."""
    w = np.random.default_rng(2).normal(size=(9, 1))
    x = small_networks.images(16)
    slope = (x.reshape(16, -1) - 0.5) @ w
    scale = nats / 2 / np.abs(slope).max()  # the margin is twice the logit

    def logits_fn(x):
        return (x.reshape(x.shape[0], -1) - 0.5) @ jnp.asarray(w * scale * [[1, -1]], x.dtype)

    distances = np.abs(slope[:, 0]) / np.linalg.norm(w)
    attack = ATTACKS[name]._replace(random_start=False, targets=min(ATTACKS[name].targets, 1))
    eps = 1.01 * distances.max()
    found = run_attack(logits_fn, x, small_networks.predicted(logits_fn, x), eps, attack, key=KEY, norm="l2")
    assert not found.robust.any()


@pytest.mark.parametrize("name", ["minimal", "fab_t", "pgd_margin"])
def test_the_unit_of_logits_changes_no_step_in_l2(name):
    """Networks whose logits are tiny are attacked as the same networks in other units: gradients near 1e-24."""
    logits_fn, x = small_networks.linear()[0], small_networks.images(16)
    labels, attack = (
        small_networks.predicted(logits_fn, x),
        ATTACKS[name]._replace(targets=min(ATTACKS[name].targets, 3)),
    )
    plain, tiny = (
        run_attack(lambda x, unit=unit: unit * logits_fn(x), x, labels, [0.05, 0.1, 0.3], attack, key=KEY, norm="l2")
        for unit in (1, 2.0**-80)
    )
    assert 0 < np.mean(plain.robust) < 1
    np.testing.assert_array_equal(tiny.robust, plain.robust)
    np.testing.assert_allclose(tiny.adversarial, plain.adversarial, atol=1e-5)


@pytest.mark.parametrize("size", 10.0 ** -np.arange(0, 34, 3))
def test_steps_have_the_length_one_whatever_the_gradient(size):
    gradient = size * np.random.default_rng(0).normal(size=(4, 5, 5, 1))
    step = balls.steepest(jnp.asarray(gradient, jnp.float32), "l2")
    exact = gradient / np.sqrt(np.sum(gradient**2, axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(step, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_adversaries_stay_in_ball_and_box_and_fool(norm):
    logits_fn = small_networks.mlp()
    x = small_networks.images(48, low=0.0, high=1.0)
    labels = small_networks.predicted(logits_fn, x)
    eps = 0.15 if norm == "linf" else 0.4
    got = run_attack(logits_fn, x, labels, eps, "pgd_margin", key=KEY, norm=norm)
    delta = (np.asarray(got.adversarial, np.float64) - x).reshape(48, -1)
    size = np.abs(delta).max(1) if norm == "linf" else np.sqrt((delta**2).sum(1))
    assert size.max() <= eps + 1e-6
    assert got.adversarial.min() >= 0
    assert got.adversarial.max() <= 1
    np.testing.assert_array_equal(small_networks.predicted(logits_fn, got.adversarial) == labels, got.robust)
    assert 0 < np.mean(got.robust) < 1


def test_radius_zero_is_clean_accuracy():
    logits_fn, x = small_networks.mlp(), small_networks.images(48)
    labels = small_networks.predicted(logits_fn, x)
    labels[::5] = (labels[::5] + 1) % 4
    got = run_attack(logits_fn, x, labels, 0.0, key=KEY)
    np.testing.assert_array_equal(got.robust, small_networks.predicted(logits_fn, x) == labels)
    np.testing.assert_array_equal(got.adversarial, x)
    np.testing.assert_array_equal(got.smallest == -1, np.arange(48) % 5 == 0)


def test_results_do_not_depend_on_batch_size_order_or_devices():
    name = "pgd_ce"
    logits_fn, x = small_networks.mlp(), small_networks.images(45)  # no multiple of 8
    labels, ids, radii = small_networks.predicted(logits_fn, x), np.arange(45) * 3 + 5, [0.2, 0.05, 0.1]
    whole = run_attack(logits_fn, x, labels, radii, name, key=KEY, ids=ids, slots=256)  # holds every row at once
    order = np.random.default_rng(0).permutation(45)
    for slots, devices in ((1, None), (16, jax.devices())):
        how = {"ids": ids[order], "slots": slots, "devices": devices}
        other = run_attack(logits_fn, x[order], labels[order], radii, name, key=KEY, **how)
        np.testing.assert_array_equal(other.robust, whole.robust[:, order])
        np.testing.assert_array_equal(other.smallest, whole.smallest[order])
        np.testing.assert_allclose(other.adversarial, whole.adversarial[:, order], atol=1e-6)
    with pytest.raises(ValueError, match="devices must be left out inside jit"):
        jax.jit(lambda x: run_attack(logits_fn, x, labels, radii, key=KEY, devices=jax.devices()))(x)


@pytest.mark.usefixtures("every_batch_size")
def test_the_last_rows_run_in_smaller_batches_and_the_last_evaluation_takes_no_gradient():
    logits_fn, x = small_networks.mlp(), small_networks.images(256)
    labels, forward, backward = small_networks.predicted(logits_fn, x), collections.Counter(), collections.Counter()

    @jax.custom_vjp
    def watched(x):
        jax.debug.callback(lambda: forward.update([len(x)]))
        return logits_fn(x)

    def back(x, g):
        jax.debug.callback(lambda: backward.update([len(x)]))
        return jax.vjp(logits_fn, x)[1](g)

    watched.defvjp(lambda x: (watched(x), x), back)
    got = run_attack(watched, x, labels, 0.05, "pgd_ce", key=KEY, slots=256, early_exit=False)
    jax.effects_barrier()
    assert forward == {256: 21, 1: 1}  # 20 steps from the start; the clean images one by one, batched
    assert backward == {256: 20}
    few = run_attack(logits_fn, x, labels, 0.05, "pgd_ce", key=KEY, slots=64, early_exit=False)
    np.testing.assert_array_equal(got.robust, few.robust)
    np.testing.assert_allclose(got.adversarial, few.adversarial, atol=1e-6)
    assert got.evaluations == few.evaluations == 256 * 21
    highest = ATTACKS["pgd_ce"]._replace(highest=True)  # whose last point must count: it may be the highest
    points = [run_attack(logits_fn, x, labels, 0.05, highest, key=KEY, slots=n).adversarial for n in (256, 64)]
    np.testing.assert_allclose(*points, atol=1e-6)
    forward.clear()
    few_labels = np.where(np.arange(256) < 216, -1, labels)  # 40 rows for 256 slots
    small = run_attack(watched, x, few_labels, 0.05, "pgd_ce", key=KEY, slots=256)
    jax.effects_barrier()
    assert forward[256] <= 3  # the clean images and the first points
    assert forward[64] + forward[16] >= 20  # steps of the 40 rows, and of the 16 that are left after some
    assert forward[64] > 0
    assert forward[16] > 0
    whole = run_attack(logits_fn, x, labels, 0.05, "pgd_ce", key=KEY, slots=64)
    np.testing.assert_array_equal(small.robust[216:], whole.robust[216:])
    assert 0 < np.mean(small.robust[216:]) < 1
    np.testing.assert_allclose(small.adversarial[216:], whole.adversarial[216:], atol=1e-6)


def test_radii_together_equal_radii_alone_and_any_order():
    logits_fn, x = small_networks.mlp(), small_networks.images(48)
    labels, radii = small_networks.predicted(logits_fn, x), [0.2, 0.05, 0.1]
    together = run_attack(logits_fn, x, labels, radii, "pgd_ce", key=KEY)
    alone = [np.asarray(run_attack(logits_fn, x, labels, r, "pgd_ce", key=KEY).robust) for r in radii]
    np.testing.assert_array_equal(together.robust[1], alone[1])
    np.testing.assert_array_equal(together.robust[2], alone[1] & alone[2])  # a smaller ball lies in a larger one
    np.testing.assert_array_equal(together.robust[0], alone[0] & alone[1] & alone[2])


def test_early_exit_changes_cost_and_no_mask():
    logits_fn, x = small_networks.mlp(), small_networks.images(48)
    labels = small_networks.predicted(logits_fn, x)
    run = functools.partial(run_attack, logits_fn, x, labels, [0.05, 0.1, 0.2], "pgd_ce", key=KEY)
    fast, slow = run(), run(early_exit=False)
    np.testing.assert_array_equal(fast.robust, slow.robust)
    assert slow.evaluations == 3 * 48 * 21
    assert fast.evaluations < 0.7 * slow.evaluations


def test_radii_may_be_traced():
    logits_fn, x = small_networks.mlp(), small_networks.images(20)
    run = functools.partial(run_attack, logits_fn, x, small_networks.predicted(logits_fn, x), key=KEY)
    for eps in (np.float32(0.1), np.float32([0.2, 0.05])):
        inside, outside = jax.jit(run)(eps), run(eps)
        assert inside.hits.shape == inside.robust.shape == outside.robust.shape == (*eps.shape, 20)
        np.testing.assert_array_equal(inside.robust, outside.robust)
        np.testing.assert_allclose(inside.adversarial, outside.adversarial, atol=1e-6)


def test_restarts_only_help_and_the_first_is_the_single_run():
    logits_fn, x = small_networks.mlp(), small_networks.images(48)
    labels = small_networks.predicted(logits_fn, x)
    weak = ATTACKS["pgd_ce"]._replace(steps=1, step_size=0.5)
    one = run_attack(logits_fn, x, labels, 0.1, weak, key=KEY)
    ten = run_attack(logits_fn, x, labels, 0.1, weak._replace(restarts=10), key=KEY)
    assert np.all(one.robust | ~ten.robust)
    assert np.sum(ten.robust) < np.sum(one.robust)
    broken = ~np.asarray(one.robust)
    np.testing.assert_allclose(ten.adversarial[broken], one.adversarial[broken], atol=1e-6)


def test_one_program_serves_losses_steps_radii_and_starts():
    net, x = small_networks.mlp(), small_networks.images(20)
    labels, traces = small_networks.predicted(net, x), []

    def logits_fn(x):
        traces.append(x.shape)
        return net(x)

    results = {}
    for name in ("fgsm", "bim", "pgd_ce", "pgd_margin", "pgd_dlr"):
        for radii in ([0.02, 0.1], [0.1, 0.3]):
            results[name, radii[0]] = run_attack(logits_fn, x, labels, radii, name, key=KEY).robust.sum()
    compiled = [shape for shape in traces if shape == (40, *x.shape[1:])]
    assert len(compiled) <= 2  # one program, whose body JAX may trace twice
    assert len({int(v) for v in results.values()}) > 1


def test_sizes_share_a_program():
    """Compilations grow neither with N and E within a capacity, nor with seeds, radii or a ragged last batch."""
    net, traces = small_networks.mlp(), []

    def logits_fn(x):
        traces.append(x.shape)
        return net(x)

    def run(count, radii, seed=0):
        x = small_networks.images(count)
        return run_attack(
            logits_fn, x, small_networks.predicted(net, x), radii, "fgsm", key=jax.random.key(seed), slots=8
        )

    whole, compiled = run(40, [0.02, 0.1, 0.2]), len(traces)
    for count, radii, seed in ((39, [0.02, 0.1, 0.2], 1), (37, [0.3, 0.01, 0.1, 0.0], 2), (38, [0.05, 0.1, 0.1], 3)):
        found = run(count, radii, seed)
        assert found.adversarial.shape == (len(radii), count, 3, 3, 1)
        assert found.robust.shape == (len(radii), count)
        assert found.smallest.shape == (count,)
    assert len(traces) == compiled
    np.testing.assert_array_equal(run(37, [0.1, 0.02, 0.2]).robust, np.asarray(whole.robust)[[1, 0, 2], :37])
    assert [capacity(n) for n in (1, 7, 8, 9, 17, 100, 250, 257, 10000)] == [1, 7, 8, 10, 20, 112, 256, 320, 10240]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": small_networks.images(4) * 255}, "divide by 255"),
        ({"eps": -0.1}, "eps must be 0 or more"),
        ({"attack": "pdg"}, "Unknown attack 'pdg'; known"),
        ({"attack": ATTACKS["pgd_ce"]._replace(steps=0)}, r"steps must be a whole number, at least 1, got 0\."),
        ({"attack": ATTACKS["pgd_ce"]._replace(loss="hinge")}, "Unknown loss 'hinge'"),
        ({"norm": "l1"}, "norm must be one of"),
        ({"attack": ATTACKS["square"]._replace(highest=True)}, "highest needs method 'gradient'"),
        ({"attack": ATTACKS["pgd_ce"]._replace(loss="targeted_ce")}, "the loss 'targeted_ce' needs targets"),
        ({"attack": ATTACKS["fab_t"]._replace(targets=0)}, "the method 'fab' needs targets"),
        ({"attack": ATTACKS["pgd_ce"]._replace(steps=1.5)}, r"steps must be a whole number, at least 1, got 1\.5"),
        ({"eps": 8}, "eps must be at most 1 in linf, as images are, got 8: give 8 / 255"),
        ({"eps": "8/255"}, "eps must be a number or a list of numbers, got '8/255'"),
        ({"key": 0}, r"key must be one typed key, got 0: give jax.random.key\(0\)"),
        ({"key": jax.random.split(KEY)}, "key must be one typed key"),
        ({"images": np.full((4, 3, 9, 9), 0.5, np.float32)}, "channels first: transpose them"),
        ({"logits_fn": lambda x: np.tanh(np.asarray(x)).reshape(4, -1)}, "JAX cannot trace logits_fn"),
        ({"logits_fn": lambda x: x.detach()}, "JAX cannot trace logits_fn .*has no attribute"),
        ({"logits_fn": lambda x: x.mean((1, 2, 3))}, r"logits_fn must return logits \[B, K\] .* got \[B\]"),
        ({"ids": np.arange(3)}, "ids must be one for each of 4 images"),
        ({"labels": np.zeros(3, int)}, "labels must be one for each of 4 images"),
        ({"labels": np.full(4, 4)}, "labels must be below 4"),
        ({"labels": np.zeros(4)}, "labels must be integers"),
        ({"images": np.zeros((4, 3, 3, 1), np.uint8)}, "got uint8: divide by 255"),
        ({"images": jnp.zeros((4, 3, 3, 1), jnp.bfloat16)}, "got bfloat16: cast within the model"),
        ({"eps": float("nan")}, "eps must be 0 or more"),
        ({"logits_fn": lambda x: jax.nn.softmax(small_networks.mlp()(x).astype(jnp.bfloat16))}, "before the softmax"),
        ({"logits_fn": lambda x: jax.nn.softmax(small_networks.mlp()(x))}, "before the softmax"),
        ({"logits_fn": small_networks.linear(classes=2)[0], "attack": "pgd_dlr"}, "at least 3 classes"),
        (
            {
                "logits_fn": small_networks.linear(classes=3)[0],
                "attack": ATTACKS["pgd_ce"]._replace(loss="targeted_dlr"),
            },
            "at least 4 classes",
        ),
    ],
)
def test_bad_use_is_named(change, words):
    good = {
        "logits_fn": small_networks.mlp(),
        "images": small_networks.images(4),
        "labels": np.zeros(4, int),
        "eps": 0.1,
        "attack": "pgd_ce",
        "key": KEY,
    }
    with pytest.raises(ValueError, match=words):
        run_attack(**(good | change))


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_draws_do_not_depend_on_the_implementation_of_keys(implementation):
    x, logits_fn = small_networks.images(12), small_networks.mlp()
    labels, ids = small_networks.predicted(logits_fn, x), np.arange(12)
    key = jax.random.key(3, impl=implementation)
    found, turned = (
        run_attack(logits_fn, x[order], labels[order], 0.1, "noise", key=key, ids=ids[order]).adversarial[order]
        for order in (ids, ids[::-1])
    )
    np.testing.assert_array_equal(found, turned)


def test_results_print_as_a_short_summary():
    x, logits_fn = small_networks.images(4), small_networks.mlp()
    labels = small_networks.predicted(logits_fn, x)
    told = repr(run_attack(logits_fn, x, labels, [0.0, 1.0], key=KEY))
    assert told == "Attacked(4 examples at 2 radii: robust 1.000, 0.000)"
    told = repr(run_suite(logits_fn, x, labels, 0.0, "pgd", key=KEY))
    assert told == "Ensemble(4 examples: robust 1.000; fgsm 1.000, pgd_ce 1.000)"
