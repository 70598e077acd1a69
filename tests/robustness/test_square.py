"""Square, noise and the search for minimal radii."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.robustness import ATTACKS, minimal_eps, robustness_curve, run_attack, square
from jaxreg.robustness.balls import size
from jaxreg.robustness.method import AttackNumbers, QueueRow
from support import small_networks

KEY = jax.random.key(3)
SHAPE = (12, 12, 2)
propose_linf, propose_l2 = jax.jit(square.propose_linf), jax.jit(square.propose_l2)


def row(count=20, eps=0.2):
    x = jnp.asarray(small_networks.images(count, shape=SHAPE, low=0.4, high=0.6))
    zero = jnp.zeros(count, jnp.int32)
    return QueueRow(x, zero, zero, jnp.full(count, eps), jax.random.split(KEY, count))


def test_shares_halve_as_in_the_paper():
    queries = np.array([0, 10, 11, 50, 51, 200, 201, 501, 1001, 2001, 4001, 6001, 8001])
    halved = [0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9]
    np.testing.assert_allclose(square.share(jnp.asarray(queries), 10000), 0.8 / 2.0 ** np.array(halved))
    np.testing.assert_allclose(square.share(jnp.asarray(queries[queries < 1000] // 10), 1000)[:2], [0.8, 0.8])


def test_linf_proposals_change_one_square_to_the_faces_of_the_ball():
    data, numbers = row(), AttackNumbers(1, 10000, 1.0, 1.0)
    k = jnp.full(20, 60)
    best = jax.jit(square.start_linf)(data, numbers).x
    np.testing.assert_allclose(np.abs(best - data.clean_BHWC), 0.2, atol=1e-6)  # stripes of +-eps
    np.testing.assert_array_equal(np.ptp(np.sign(best - data.clean_BHWC), axis=1), 0)
    moved = np.asarray(propose_linf(data, best, k, numbers) - data.clean_BHWC)
    np.testing.assert_allclose(np.abs(moved), 0.2, atol=1e-6)
    changed = np.abs(moved - (best - data.clean_BHWC)).max(-1) > 1e-3
    side = round(np.sqrt(0.2 * 144))
    for mask in changed:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert len(rows) == 0 or max(np.ptp(rows), np.ptp(columns)) < side
    places = {(m.any(1).argmax(), m.any(0).argmax()) for m in changed if m.any()}
    assert len(places) > 5  # each example has its own window


def test_l2_proposals_use_the_whole_radius():
    data, numbers = row(eps=0.5), AttackNumbers(1, 10000, 1.0, 1.0)
    best = jax.jit(square.start_l2)(data, numbers).x
    np.testing.assert_allclose(size(best - data.clean_BHWC, "l2"), 0.5, rtol=1e-5)
    for k in (1, 60, 3000):
        moved = propose_l2(data, best, jnp.full(20, k), numbers)
        assert np.all(np.isfinite(moved))
        np.testing.assert_allclose(size(moved - data.clean_BHWC, "l2"), 0.5, rtol=1e-5)
        assert np.abs(moved - best).max() > 1e-3


def test_bumps_are_the_papers_pair_of_pyramids():
    i = jnp.arange(6)[None]
    bumps = jax.jit(square.bumps)
    got = np.asarray(bumps(i, i, jnp.array([6]), jnp.array([False])))[0]
    half = np.zeros((3, 6))  # by the nested squares of algorithm 3 about place (1, 3)
    for m in range(4):
        half[max(1 - m, 0) : 1 + m + 1, max(3 - m, 0) : 3 + m + 1] += 1 / (m + 1) ** 2
    half /= np.linalg.norm(half)
    np.testing.assert_allclose(got, np.concatenate([half, -half]) / np.sqrt(2), atol=1e-6)
    turned = np.asarray(bumps(i, i, jnp.array([6]), jnp.array([True])))[0]
    np.testing.assert_allclose(turned, got.T, atol=1e-6)


def test_square_finds_what_a_linear_model_gives_and_noise_does_not():
    norm = "linf"
    logits_fn, w, b = small_networks.linear(shape=(8, 8, 1))
    x = small_networks.images(48, shape=(8, 8, 1))
    labels = small_networks.predicted(logits_fn, x)
    exact = small_networks.linear_min_eps(w, b, x, labels, norm)
    eps = 1.5 * np.median(exact)
    got = run_attack(logits_fn, x, labels, eps, ATTACKS["square"]._replace(steps=300), key=KEY, norm=norm)
    noise = run_attack(logits_fn, x, labels, eps, "noise", key=KEY, norm=norm)
    assert np.all(got.robust[exact > eps])  # nothing beyond the possible
    assert np.mean(~np.asarray(got.robust)[exact < eps / 1.5]) > 0.5
    assert np.mean(noise.robust) > np.mean(got.robust)
    delta = np.asarray(got.adversarial) - x
    assert size(jnp.asarray(delta), norm).max() <= eps + 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_minimal_radius_of_a_linear_model(norm):
    logits_fn, w, b = small_networks.linear()
    x = small_networks.images(48)
    labels = small_networks.predicted(logits_fn, x)
    exact = small_networks.linear_min_eps(w, b, x, labels, norm)
    limit = float(np.sort(exact)[-5] * 1.001)
    radius, x_adv = minimal_eps(logits_fn, x, labels, limit, key=KEY, norm=norm)
    reached = exact < limit
    assert np.all(radius >= exact * (1 - 1e-4))
    np.testing.assert_allclose(radius[reached][:-1], exact[reached][:-1], rtol=0.01)
    assert np.all(np.isinf(radius[exact > limit]))
    assert np.all(small_networks.predicted(logits_fn, x_adv)[reached] != labels[reached])


def test_minimal_radius_with_few_classes_and_by_id():
    logits_fn, w, b = small_networks.linear(classes=3)
    x = small_networks.images(12)
    labels, ids = small_networks.predicted(logits_fn, x), np.arange(12) + 4
    exact = small_networks.linear_min_eps(w, b, x, labels, "linf")
    radius, _ = minimal_eps(logits_fn, x, labels, 1.0, key=KEY, ids=ids)  # of the three targets asked for, two exist
    np.testing.assert_allclose(radius, exact, rtol=0.01)
    devices = jax.devices()  # dealt out to them in another order
    turned, _ = minimal_eps(logits_fn, x[::-1], labels[::-1], 1.0, key=KEY, ids=ids[::-1], devices=devices)
    np.testing.assert_allclose(turned[::-1], radius, rtol=1e-5)
    with pytest.raises(ValueError, match="ids must be one for each"):
        minimal_eps(logits_fn, x, labels, 1.0, key=KEY, ids=ids[:3])


def test_the_curve_is_the_share_of_larger_minimal_radii():
    radii, share = robustness_curve(np.array([0.0, 0.1, 0.3, np.inf, 0.1]))
    np.testing.assert_allclose(radii, [0, 0.1, 0.3])
    np.testing.assert_allclose(share, [0.8, 0.4, 0.2])
