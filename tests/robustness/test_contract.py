"""What every attack of the table promises, in both norms: joining the table is joining these tests."""

import functools
from typing import NamedTuple

import jax
import numpy as np
import pytest

from jaxreg.robustness import ATTACKS, METHODS, run_attack
from jaxreg.robustness.audit import sizes
from support import small_networks

KEY, COUNT, SHAPE = jax.random.key(5), 16, (5, 5, 1)
RADII = {"linf": [0.0, 0.02, 0.3], "l2": [0.0, 0.06, 1.2]}  # at the second one most examples withstand


class Case(NamedTuple):
    """How an attack of the table is run, few steps and targets for the sake of time, and how far it gets."""

    steps: int = 12
    targets: int = 0
    left: int = 4  # examples at least that withstand the second radius
    breaks: bool = True  # whether some right predictions fall at the third


CASES = {
    "fgsm": Case(steps=1),
    "bim": Case(steps=10),
    "pgd_ce": Case(),
    "pgd_margin": Case(),
    "pgd_dlr": Case(),
    "apgd_ce": Case(),
    "apgd_dlr": Case(),
    "apgd_t": Case(targets=2),
    "fab_t": Case(targets=2),
    "square": Case(),
    "noise": Case(breaks=False),
    "minimal": Case(left=0),
}
EVERY = [(name, norm) for name in CASES for norm in RADII]


def test_every_attack_has_a_case():
    assert list(CASES) == list(ATTACKS)
    assert {ATTACKS[name].method for name in CASES} == set(METHODS)


@functools.cache
def examples():
    x = small_networks.images(COUNT, shape=SHAPE, low=0.0, high=1.0)
    labels = small_networks.predicted(small_networks.mlp(shape=SHAPE), x)
    labels[:3] = (labels[:3] + 1) % 4
    return x, labels, np.arange(COUNT) * 7 + 3


@functools.cache
def whole(name, norm):
    return run(name, norm, slice(None))


def run(name, norm, rows, **how):
    x, labels, ids = (a[rows] for a in examples())
    attack = ATTACKS[name]._replace(steps=CASES[name].steps, targets=CASES[name].targets)
    return run_attack(
        small_networks.mlp(shape=SHAPE), x, labels, RADII[norm], attack, key=KEY, norm=norm, ids=ids, **how
    )


@pytest.mark.parametrize(("name", "norm"), EVERY)
def test_every_point_lies_in_ball_and_box_and_is_what_the_mask_says(name, norm):
    found, (x, labels, _) = whole(name, norm), examples()
    excess = sizes(np.asarray(found.adversarial) - x, norm) - np.array(RADII[norm])[:, None]
    assert excess.max() <= 1e-6
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1
    for e in range(3):
        right = small_networks.predicted(small_networks.mlp(shape=SHAPE), found.adversarial[e]) == labels
        np.testing.assert_array_equal(right, found.robust[e])


@pytest.mark.parametrize(("name", "norm"), EVERY)
def test_radius_zero_is_the_clean_accuracy_and_a_larger_one_never_helps(name, norm):
    found, (x, labels, _) = whole(name, norm), examples()
    robust = np.asarray(found.robust)
    np.testing.assert_array_equal(robust[0], small_networks.predicted(small_networks.mlp(shape=SHAPE), x) == labels)
    np.testing.assert_allclose(found.adversarial[0], x, atol=1e-6)
    assert np.all(robust[1:] <= robust[:-1])
    assert robust[1].sum() >= CASES[name].left
    assert robust[2].sum() < robust[0].sum() or not CASES[name].breaks
    smallest = np.asarray(found.smallest)
    np.testing.assert_array_equal(smallest < 0, ~robust[0])
    np.testing.assert_array_equal(smallest <= np.array(RADII[norm], np.float32)[:, None], ~robust)


@pytest.mark.parametrize(("name", "norm"), EVERY)
def test_neighbours_and_order_change_nothing(name, norm):
    order = np.random.default_rng(0).permutation(COUNT)
    for rows in (order, order[: COUNT - 1]):
        other, all_ = run(name, norm, rows), whole(name, norm)
        np.testing.assert_array_equal(other.robust, all_.robust[:, rows])
        np.testing.assert_allclose(other.adversarial, all_.adversarial[:, rows], atol=1e-5)


@pytest.mark.parametrize(("name", "norm"), [("apgd_ce", "linf"), ("square", "l2"), ("fab_t", "l2"), ("noise", "l2")])
def test_the_batch_changes_nothing(name, norm):
    all_ = whole(name, norm)
    one = run(name, norm, slice(None), slots=1)
    np.testing.assert_array_equal(one.robust, all_.robust)
    np.testing.assert_allclose(one.adversarial, all_.adversarial, atol=1e-5)
