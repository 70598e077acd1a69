from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import data, probes
from jaxreg.geometry import cosines, norms
from jaxreg.probes.geometry import GeometrySettings, splits_of
from jaxreg.spec import ProbesSpec, SpecError


def test_lengths():
    features = jnp.array([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(norms.norm(features), [5, 0])
    np.testing.assert_allclose(norms.rms(features), [2.5, 0])


def test_common_mode_is_one_for_equal_and_zero_for_opposite_features():
    h = jnp.array([[1.0, 2.0]])
    assert norms.common_mode(jnp.concatenate([h, h])) == 1
    assert norms.common_mode(jnp.concatenate([h, -h])) == 0
    assert norms.common_mode(0 * h) == 0


def test_class_means():
    means = norms.class_means(jnp.array([[1.0], [3.0], [5.0]]), jnp.array([0, 0, 2]), 3)
    np.testing.assert_allclose(means, [[2], [0], [5]])


def test_angle_is_exact_where_an_arc_cosine_is_not():
    a = jnp.array([1.0, 0.0])
    for turn in (0.0, 1e-5, 0.3, np.pi / 2, np.pi):
        np.testing.assert_allclose(
            cosines.angle(a, 7 * jnp.array([np.cos(turn), np.sin(turn)])), turn, rtol=1e-5, atol=1e-7
        )


def vectors(seed=0, classes=4, width=6):
    rng = np.random.default_rng(seed)
    center, weight, mean, soft, inside = rng.normal(size=(5, classes, width)).astype(np.float32)
    return cosines.ClassVectors(center, weight, mean, soft, rng.normal(size=width).astype(np.float32), np.abs(inside))


def test_label_cosines_equal_numpy():
    rng, v = np.random.default_rng(1), vectors()
    h, y = rng.normal(size=(9, 6)).astype(np.float32), rng.integers(0, 4, 9)
    found = cosines.label_cosines(jnp.asarray(h), jnp.asarray(y), v)

    def expected(features, table):
        return [f @ table[k] / np.linalg.norm(f) / np.linalg.norm(table[k]) for f, k in zip(features, y)]

    for name in ("center", "weight", "mean", "soft_center", "nonnegative_center"):
        table = getattr(v, name)
        np.testing.assert_allclose(found[f"{name}_cosine"], expected(h, table), atol=1e-5)
        np.testing.assert_allclose(
            found[f"{name}_cosine_centred"], expected(h - v.mean_D, table - table.mean(0)), atol=1e-5
        )


def test_without_points_in_the_orthant_their_cosines_are_left_out():
    found = cosines.label_cosines(jnp.ones((2, 6)), jnp.array([0, 1]), vectors()._replace(nonnegative_center=None))
    assert "center_cosine" in found
    assert not any(name.startswith("nonnegative") for name in found)


def test_zero_features_have_cosine_zero_and_turning_changes_nothing():
    v, h, y = vectors(), jnp.ones((2, 6)).at[1].set(0), jnp.array([0, 1])
    turn = jnp.linalg.qr(jnp.asarray(np.random.default_rng(0).normal(size=(6, 6)), jnp.float32))[0]
    plain = cosines.label_cosines(h, y, v)
    assert plain["center_cosine"][1] == 0
    turned = cosines.label_cosines(h @ turn, y, cosines.ClassVectors(*(x @ turn for x in v)))
    for name, value in plain.items():
        np.testing.assert_allclose(value, turned[name], atol=1e-5)


def test_centers_agree_with_themselves():
    v = vectors()
    same = cosines.agreement(v._replace(weight=2 * v.center, mean=-v.center))
    np.testing.assert_allclose(same["center_weight_agreement"], 1, rtol=1e-6)
    np.testing.assert_allclose(same["center_mean_agreement_centred"], -1, rtol=1e-6)


def test_a_class_without_examples_is_named():
    norms.check_classes(np.array([2, 0, 1]), 3)
    with pytest.raises(ValueError, match="got 3 train examples without class 1, 3"):
        norms.check_classes(np.array([2, 0, 2]), 4)


def test_train_images_that_lack_a_class_are_refused_before_training():
    split = data.Split(np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 4, np.arange(40))
    dataset = SimpleNamespace(splits={"train": split}, classes=("a", "b", "c", "d"))

    def checked(only, **looked):
        probes.check_data(ProbesSpec(settings={"geometry": GeometrySettings(**looked)}, only=(only,)), dataset)

    checked("geometry", train_examples=4)
    with pytest.raises(SpecError, match=r"probes.geometry.train_examples: .*without class 3: raise it from 3"):
        checked("geometry", train_examples=3)
    with pytest.raises(SpecError, match=r"probes.geometry.snapshot_examples: .* leave over_training out"):
        checked("over_training", snapshot_examples=2)
    checked("over_training", snapshot_examples=2, snapshots=0)


def test_geometry_looks_at_as_many_train_images_as_it_is_told():
    split = data.Split(np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 4, np.arange(40))
    dataset = SimpleNamespace(splits={"train": split})
    assert len(splits_of(dataset, GeometrySettings(train_examples=3))["train"]) == 3
    assert len(splits_of(dataset, GeometrySettings())["train"]) == 40
