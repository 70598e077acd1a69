import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.geometry import displacement
from jaxreg.geometry import displacement as attacked_probe
from jaxreg.models.functional import Head

WIDTH, CLASSES, COUNT = 8, 4, 40
split_up = jax.jit(displacement.displacement)


def world(seed=0):
    rng = np.random.default_rng(seed)
    kernel, bias = rng.normal(size=(WIDTH, CLASSES)), rng.normal(size=CLASSES)
    clean, centers = rng.normal(size=(COUNT, WIDTH)), rng.normal(size=(CLASSES, WIDTH))
    labels = rng.integers(0, CLASSES, COUNT)
    cast = [jnp.asarray(a, jnp.float32) for a in (kernel, bias, clean, centers)]
    return Head(cast[0], cast[1]), cast[2], jnp.asarray(labels), cast[3]


def shares(found):
    return np.stack([found[f"{name}_share"] for name in ("radial", "label", "rival", "rest")])


def test_shrinking_is_radial_alone():
    head, clean, labels, centers = world()
    found = split_up(clean, 0.7 * clean, labels, head, centers)
    np.testing.assert_allclose(found["radial_cosine"], 1, atol=1e-5)
    np.testing.assert_allclose(shares(found)[0], 1, atol=1e-5)
    np.testing.assert_allclose(found["norm_change"], -0.3 * jnp.linalg.norm(clean, axis=1), rtol=1e-4)
    np.testing.assert_allclose(found["turn"], 0, atol=1e-4)


def test_shares_equal_a_float64_projection_and_sum_to_one():
    head, clean, labels, centers = world(1)
    attacked = clean + jnp.asarray(np.random.default_rng(2).normal(size=clean.shape), jnp.float32)
    found = split_up(clean, attacked, labels, head, centers)
    np.testing.assert_allclose(shares(found).sum(0), 1, atol=1e-5)
    for n in range(COUNT):
        h, d = np.asarray(clean[n], float), np.asarray(attacked[n] - clean[n], float)
        logits = np.asarray(attacked[n] @ head.kernel + head.bias).copy()
        logits[labels[n]] = -np.inf
        basis = np.linalg.qr(np.stack([-h, centers[labels[n]], centers[logits.argmax()]], 1).astype(float))[0]
        expected = (basis.T @ d) ** 2 / (d @ d)
        np.testing.assert_allclose(shares(found)[:3, n], expected, atol=1e-4)


def test_no_movement_has_no_shares():
    head, clean, labels, centers = world(3)
    found = split_up(clean, clean, labels, head, centers)
    np.testing.assert_array_equal(shares(found), 0)
    np.testing.assert_array_equal(found["radial_cosine"], 0)


def test_turning_the_space_changes_nothing():
    head, clean, labels, centers = world(4)
    rng = np.random.default_rng(5)
    attacked = clean + jnp.asarray(rng.normal(size=clean.shape), jnp.float32)
    turn = jnp.asarray(np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0], jnp.float32)
    plain = split_up(clean, attacked, labels, head, centers)
    turned = split_up(clean @ turn, attacked @ turn, labels, Head(turn.T @ head.kernel, head.bias), centers @ turn)
    for name, value in plain.items():
        np.testing.assert_allclose(value, turned[name], atol=1e-3, err_msg=name)


def test_the_probe_gives_the_means_of_every_trial():
    worlds = [world(seed) for seed in (7, 8)]
    clean = np.stack([w[1] for w in worlds])
    attacked = clean * np.array([0.5, 1.5])[:, None, None]
    kernel, bias = (np.stack([w[0][i] for w in worlds]) for i in (0, 1))
    labels, centers = np.asarray(worlds[0][2]), kernel.transpose(0, 2, 1)
    shrunk, grown = attacked_probe.measure_displacement(clean, attacked, labels, kernel, bias, centers)
    for one, sign in ((shrunk, 1), (grown, -1)):
        (row,) = [row for row in one.rows if row.metric == "adversarial_radial_cosine"]
        counted = one.arrays["test/adversarial_counted"].sum()
        np.testing.assert_allclose([row.value, row.n], [sign, counted], atol=1e-5)
        expected = np.where(one.arrays["test/adversarial_counted"], sign, np.nan)
        np.testing.assert_allclose(one.arrays["test/adversarial_radial_cosine"], expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"must be \[T, N, D\] both"):
        attacked_probe.measure_displacement(clean, attacked[:, :3], labels, kernel, bias, centers)


def test_means_leave_out_mistakes_and_images_that_were_not_attacked():
    head, clean, labels, centers = world(9)
    right = np.asarray(jnp.argmax(head.logits(clean), 1) == labels)
    clean, attacked = (np.stack([np.asarray(clean)] * 2) for _ in range(2))
    attacked[0, right] *= 0.5  # mistakes keep their image, as an attack leaves it
    attacked[1] = clean[1] * (1 + 1e-6)  # rounding, not an attack: which images differ is told
    differs = np.stack([right, right & (np.arange(COUNT) < COUNT // 2)])
    given = [np.stack([np.asarray(a)] * 2) for a in (head.kernel, head.bias, centers)]
    for told in ({}, {"differs_TN": differs}):
        first, second = attacked_probe.measure_displacement(clean, attacked, np.asarray(labels), *given, **told)
        rows = {row.metric: row for row in first.rows}
        np.testing.assert_allclose(rows["adversarial_radial_cosine"].value, 1, atol=1e-5)
        half = -0.5 * np.linalg.norm(clean[0, right], axis=1).mean()
        np.testing.assert_allclose(rows["adversarial_norm_change"].value, half, rtol=1e-4)
        assert {row.n for row in first.rows} == {right.sum()}
        np.testing.assert_array_equal(first.arrays["test/adversarial_counted"], right)
        np.testing.assert_array_equal(np.isfinite(first.arrays["test/adversarial_norm_change"]), right)
    assert {row.n for row in second.rows} == {differs[1].sum()}


def test_cosine_and_radius_go_together_over_right_examples():
    cosine = np.random.default_rng(0).random(200)
    radius = np.where(np.arange(200) < 100, 0.0, cosine + 0.01)  # rising with the cosine, but for clean mistakes
    assert displacement.relation(cosine, radius) == (
        "test",
        "cosine_radius_correlation",
        pytest.approx(1),
        100,
        None,
        None,
    )
    assert np.isnan(displacement.relation(0 * cosine, radius).value)
