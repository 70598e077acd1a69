"""Suites on one model."""

import jax
import numpy as np
import pytest

from jaxreg.robustness import ATTACKS, Suite, run_attack, run_suite
from jaxreg.robustness.attacks import SUITES, suite
from support import small_networks

KEY, EPS = jax.random.key(4), 0.08


@pytest.fixture(scope="module")
def runs():
    logits_fn, x = small_networks.mlp(), small_networks.images(48)
    labels = small_networks.predicted(logits_fn, x)
    labels[:3] = (labels[:3] + 1) % 4
    attacks = {
        "fgsm": ATTACKS["fgsm"],
        "apgd_ce": ATTACKS["apgd_ce"]._replace(steps=20),
        "apgd_t": ATTACKS["apgd_t"]._replace(steps=10, targets=1, restarts=1),
    }
    found = {
        cascade: run_suite(logits_fn, x, labels, EPS, Suite(attacks, cascade), key=KEY) for cascade in (False, True)
    }
    alone = {name: run_attack(logits_fn, x, labels, EPS, attack, key=KEY).robust for name, attack in attacks.items()}
    return logits_fn, x, labels, found, alone


def test_worst_case_is_the_intersection(runs):
    _, _, _, found, alone = runs
    for name, mask in alone.items():
        np.testing.assert_array_equal(found[False].masks[name], mask)
    np.testing.assert_array_equal(found[False].robust, np.all(list(alone.values()), axis=0))
    assert 0 < found[False].robust.mean() < np.min([np.mean(mask) for mask in alone.values()]) + 1e-9


def test_a_cascade_finds_the_same_worst_case_and_reports_what_is_left(runs):
    _, _, _, found, alone = runs
    left = np.ones(48, bool)
    for name, mask in alone.items():
        left &= np.asarray(mask)
        np.testing.assert_array_equal(found[True].masks[name], left)
    np.testing.assert_array_equal(found[True].robust, found[False].robust)


def test_adversaries_fool_within_the_radius(runs):
    logits_fn, x, labels, found, _ = runs
    for result in found.values():
        assert np.abs(result.adversarial.astype(np.float64) - x).max() <= EPS + 1e-6
        np.testing.assert_array_equal(small_networks.predicted(logits_fn, result.adversarial) == labels, result.robust)


def test_bad_use_is_named():
    with pytest.raises(ValueError, match="got uint8: divide by 255"):
        run_suite(small_networks.mlp(), np.zeros((2, 3, 3, 1), np.uint8), np.zeros(2, int), EPS, key=KEY)


def test_the_named_suites():
    assert set(SUITES) == {"paper", "pgd", "quick", "strong", "autoattack"}
    assert {a.loss for a in SUITES["quick"].attacks.values()} == {"ce", "margin", "targeted_dlr"}
    standard = {name: (a.steps, a.targets, a.restarts) for name, a in SUITES["autoattack"].attacks.items()}
    assert standard == {"apgd_ce": (100, 0, 1), "apgd_t": (100, 9, 1), "fab_t": (100, 9, 1), "square": (5000, 0, 1)}
    assert SUITES["autoattack"].cascade
    assert {name: a.targets for name, a in suite("autoattack", 5).attacks.items()}["fab_t"] == 4
    with pytest.raises(ValueError, match="Unknown suite 'fast'; known"):
        suite("fast", 10)
