"""What stands around the attacks: controls, audit, export, resuming, stochastic models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.robustness import control_methods, controls, export, gradient, loop, rows, run_attack
from jaxreg.robustness.attacks import numbers_of
from jaxreg.robustness.audit import Audit, audit
from jaxreg.robustness.balls import random_point
from jaxreg.robustness.controls import noisy
from jaxreg.robustness.eot import expectation
from jaxreg.robustness.loop import Attacked, Queue
from jaxreg.robustness.method import AttackNumbers, QueueRow
from jaxreg.robustness.trials import Evaluation
from jaxreg.runtime.workdir import Workdir
from support import small_networks

KEY = jax.random.key(9)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_noise_has_the_radius_and_stays_in_the_box(norm):
    x = jnp.asarray(small_networks.images(30, low=0.4, high=0.6))
    moved = np.asarray(noisy(x, jax.random.split(KEY, 30), 0.1, norm) - x, np.float64).reshape(30, -1)
    sizes = np.abs(moved).max(1) if norm == "linf" else np.linalg.norm(moved, axis=1)
    np.testing.assert_allclose(sizes, 0.1, rtol=1e-4)
    edge = np.asarray(noisy(jnp.ones((30, 3, 3, 1)), jax.random.split(KEY, 30), 0.1, norm))
    assert edge.max() == 1


def planted():
    x = small_networks.images(6)
    adversarial = np.clip(x + 0.1 * np.sign(x - 0.5), 0, 1).astype(np.float32)
    labels, logits = np.arange(6) % 3, np.eye(3)[[0, 1, 2, 0, 2, 1]].astype(np.float32)
    return [x, adversarial, logits, np.array([True] * 4 + [False] * 2), labels, 0.1, "linf"]


def test_an_honest_record_passes_the_audit():
    found = audit(*planted())
    assert found.holds
    assert found.mismatches == 0


@pytest.mark.parametrize(
    ("place", "change", "field"),
    [
        (1, lambda a: a + 2e-5 * np.sign(a - 0.5), "excess"),
        (1, lambda a: a - np.eye(9).reshape(9, 3, 3, 1)[:6].astype(np.float32), "outside"),
        (3, lambda a: ~a, "mismatches"),
        (2, lambda a: a * np.nan, "mismatches"),
    ],
)
def test_the_audit_sees_what_is_wrong(place, change, field):
    record = planted()
    record[place] = change(record[place]).astype(record[place].dtype)
    found = audit(*record)
    assert not found.holds
    assert getattr(found, field) > 0
    assert isinstance(found, Audit)


def test_an_export_comes_back_and_needs_nothing_but_numpy(tmp_path):
    x = small_networks.images(5)
    sent = export.Exported(x, np.arange(5) + 7, np.arange(5), np.arange(5) > 2, 8 / 255, "linf")
    export.save(tmp_path / "deep" / "adversarial.npz", sent)
    back = export.load(tmp_path / "deep" / "adversarial.npz")
    for name in sent._fields:
        np.testing.assert_array_equal(getattr(back, name), getattr(sent, name))
    with np.load(tmp_path / "deep" / "adversarial.npz") as plain:
        np.testing.assert_array_equal(plain["ids"], np.arange(5) + 7)
    with pytest.raises(ValueError, match="one number of examples"):
        export.save(tmp_path / "bad.npz", sent._replace(ids=np.arange(4)))


@pytest.mark.parametrize("radii", [(8 / 255, 0.1), (0.1, 0.10001), (0.1, 0.10000001, 0.2)])
def test_a_workdir_is_exported_with_its_exact_radii(tmp_path, radii):
    radii, count = np.unique(np.float32(radii)), 4
    points = small_networks.images(count * len(radii)).reshape(1, len(radii), count, 3, 3, 1)
    robust = np.random.default_rng(0).uniform(size=(1, len(radii), count)) < 0.5
    outcome = Attacked(points, robust, np.zeros((1, count)), ~robust, np.zeros(1))
    logits = np.zeros((1, len(radii), count, 3), np.float32)
    evaluation = Evaluation(None, points[0, 0], np.arange(count) % 3, np.arange(count), logits[:, 0], radii, "l2")
    (measured,) = rows.measured(rows.Findings({}, outcome, logits, logits, {}), evaluation, 1, "test", "worst")
    assert len({row.metric for row in measured.rows if row.metric.startswith("robust_accuracy")}) == len(radii)
    for folder in ("probes/robustness", "predictions/one"):
        (tmp_path / folder).mkdir(parents=True)
    np.savez(tmp_path / "probes/robustness/one.npz", **measured.arrays)
    np.savez(tmp_path / "predictions/one/test.npz", ids=np.arange(9) + 5, labels=np.arange(9) % 3)
    paths = export.of_workdir(Workdir(tmp_path))
    assert len(set(paths)) == len(radii)
    for e, path in enumerate(paths):
        back = export.load(path)
        assert (back.eps, back.norm) == (float(radii[e]), "l2")
        np.testing.assert_array_equal(back.adversarial, points[0, e])
        np.testing.assert_array_equal(back.robust, robust[0, e])
        np.testing.assert_array_equal(back.ids, np.arange(count) + 5)


def test_a_tie_is_no_mismatch_and_a_clear_margin_is():
    record = planted()
    for margin, mismatches in ((1e-5, 0), (-1e-5, 0), (-0.1, 1 / 6)):
        logits = record[2].copy()
        logits[0] = [1.0, 1.0 - margin, 0.0]  # label 0, called robust
        found = audit(*record[:2], logits, *record[3:])
        assert found.mismatches == pytest.approx(mismatches)


def test_draws_of_noise_are_independent_of_the_start():
    x, keys = jnp.asarray(small_networks.images(4)), jax.random.split(KEY, 4)
    zero = jnp.zeros(4, jnp.int32)
    row = QueueRow(x, zero, zero, jnp.full(4, 0.05), keys)
    drawn = control_methods.step(lambda x: x.reshape(4, -1), row, x, zero, AttackNumbers(0, 1, 1.0, 1.0), "l2").state
    radius_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)  # from which the start's distance comes
    same = x + 0.05 * random_point(radius_keys, x, True, "l2")
    assert np.abs(drawn - same).max() > 1e-3


def test_the_strongest_point_of_a_linear_model_is_its_corner():
    logits_fn, w, _ = small_networks.linear(classes=2)
    x = small_networks.images(16)
    labels = small_networks.predicted(logits_fn, x)
    labels[:4] = 1 - labels[:4]  # also of what is misclassified already
    eps = np.full((1, 16), 0.1, np.float32)
    keys = jax.random.split(KEY, (16, 1))
    zero = jnp.zeros((16, 1), jnp.int32)
    queue = Queue(jnp.asarray(x), jnp.asarray(labels), keys, zero, jnp.asarray(eps), jnp.full(16, jnp.inf))
    run = jax.jit(functools.partial(loop.run, gradient.method("linf"), logits_fn, slots=16))
    found = run(queue, numbers_of(controls.STRONGEST))
    away = np.where(labels == 0, 1, -1)[:, None] * np.sign(w[:, 1] - w[:, 0])
    np.testing.assert_allclose(found.adversarial[0], x + 0.1 * away.reshape(x.shape), atol=1e-6)


def test_expectation_sees_the_same_draws_wherever_an_image_stands():
    net = small_networks.mlp()
    mean = expectation(lambda x, key: net(x + 0.3 * jax.random.normal(key, x.shape)), KEY, 4)
    x = jnp.asarray(small_networks.images(6))
    np.testing.assert_allclose(mean(x[::-1])[::-1], mean(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mean(x[2:3]), mean(x)[2:3], rtol=1e-5, atol=1e-5)


def test_expectation_is_the_log_of_mean_probabilities_and_can_be_attacked():
    net = small_networks.mlp()

    def stochastic(x, key):
        return net(x) + jax.random.normal(key, (1, 4))

    mean = expectation(stochastic, KEY, 8)
    x = small_networks.images(20)
    each = [jax.nn.softmax(stochastic(jnp.asarray(x), key)) for key in jax.random.split(KEY, 8)]
    np.testing.assert_allclose(jax.nn.softmax(mean(jnp.asarray(x))), np.mean(each, axis=0), rtol=1e-4)
    labels = small_networks.predicted(mean, x)
    got = run_attack(mean, x, labels, 0.05, "pgd_ce", key=KEY)
    np.testing.assert_array_equal(small_networks.predicted(mean, got.adversarial) == labels, got.robust)
    assert 0 < np.mean(got.robust) < 1
    with pytest.raises(ValueError, match="samples must be at least 1"):
        expectation(stochastic, KEY, 0)
