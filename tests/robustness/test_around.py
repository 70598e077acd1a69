"""What stands around the attacks: controls, audit, export, resuming, stochastic models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.robustness import export, run_attack
from jaxreg.robustness.audit import Audit, audit
from jaxreg.robustness.controls import noisy
from jaxreg.robustness.eot import expectation
from jaxreg.robustness.intervals import metric, wilson
from tests.robustness import nets

KEY = jax.random.key(9)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_noise_has_the_radius_and_stays_in_the_box(norm):
    x = jnp.asarray(nets.images(30, low=0.4, high=0.6))
    moved = np.asarray(noisy(x, jax.random.split(KEY, 30), 0.1, norm) - x, np.float64).reshape(30, -1)
    sizes = np.abs(moved).max(1) if norm == "linf" else np.linalg.norm(moved, axis=1)
    np.testing.assert_allclose(sizes, 0.1, rtol=1e-4)
    edge = np.asarray(noisy(jnp.ones((30, 3, 3, 1)), jax.random.split(KEY, 30), 0.1, norm))
    assert edge.max() == 1


def planted():
    x = nets.images(6)
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
    x = nets.images(5)
    sent = export.Exported(x, np.arange(5) + 7, np.arange(5), np.arange(5) > 2, 8 / 255, "linf")
    export.save(tmp_path / "deep" / "adversarial.npz", sent)
    back = export.load(tmp_path / "deep" / "adversarial.npz")
    for name in sent._fields:
        np.testing.assert_array_equal(getattr(back, name), getattr(sent, name))
    with np.load(tmp_path / "deep" / "adversarial.npz") as plain:
        np.testing.assert_array_equal(plain["ids"], np.arange(5) + 7)
    with pytest.raises(ValueError, match="one number of examples"):
        export.save(tmp_path / "bad.npz", sent._replace(ids=np.arange(4)))


def test_expectation_is_the_log_of_mean_probabilities_and_can_be_attacked():
    net = nets.mlp()

    def stochastic(x, key):
        return net(x) + jax.random.normal(key, (1, 4))

    mean = expectation(stochastic, KEY, 8)
    x = nets.images(20)
    each = [jax.nn.softmax(stochastic(jnp.asarray(x), key)) for key in jax.random.split(KEY, 8)]
    np.testing.assert_allclose(jax.nn.softmax(mean(jnp.asarray(x))), np.mean(each, axis=0), rtol=1e-4)
    labels = nets.predicted(mean, x)
    got = run_attack(mean, x, labels, 0.05, "pgd_ce", key=KEY)
    np.testing.assert_array_equal(nets.predicted(mean, got.adversarial) == labels, got.robust)
    assert 0 < np.mean(got.robust) < 1
    with pytest.raises(ValueError, match="samples must be at least 1"):
        expectation(stochastic, KEY, 0)


def test_wilson_intervals():
    # Agresti and Coull 1998, table: 0 of 10 and 5 of 10 at 95 %.
    np.testing.assert_allclose(wilson(0, 10), (0.0, 0.27753), atol=1e-5)
    np.testing.assert_allclose(wilson(5, 10), (0.23659, 0.76341), atol=1e-5)
    with pytest.raises(ValueError, match="at least 1 example"):
        wilson(0, 0)
    assert metric("pgd_ce", 8 / 255) == "robust_accuracy/pgd_ce/0.03137"
