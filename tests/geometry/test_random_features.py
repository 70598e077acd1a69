"""Random features of given lengths: uniform, tied to example and seed, and measured like a trial's own."""

import numpy as np
import pytest

from jaxreg.data.dataset import key_ids
from jaxreg.geometry import isotropic, probe
from support import geometry_reference as reference
from support.geometry_shapes import CLASSES, LABELS, WIDTH

SEEDS = (3, 4, 3)
COUNT = len(LABELS["test"])
IDS = np.array([f"image-{n}" for n in range(COUNT)])


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(50)
    kernel, bias = rng.normal(size=(3, WIDTH, CLASSES)), rng.normal(size=(3, CLASSES))
    splits = {name: probe.Features(rng.normal(size=(3, len(y), WIDTH)), y) for name, y in LABELS.items()}
    splits["test"] = splits["test"]._replace(ids=IDS)
    return splits, kernel.astype(np.float32), bias.astype(np.float32)


@pytest.fixture(scope="module")
def measured(study):
    return probe.measure(*study, seeds_T=SEEDS)


def drawn(study, t, ids=IDS):
    lengths = np.linalg.norm(study[0]["test"].features[t], axis=1).astype(np.float32)
    return np.asarray(isotropic.random_features(lengths, key_ids(ids), SEEDS[t], WIDTH), float), lengths


def test_they_have_the_lengths_and_the_moments_of_uniform_directions():
    many = np.asarray(isotropic.random_features(np.full(4000, 2, np.float32), np.arange(4000), 0, 5), float)
    np.testing.assert_allclose(np.linalg.norm(many, axis=1), 2, rtol=1e-5)
    np.testing.assert_allclose(many.mean(0), 0, atol=0.06)
    np.testing.assert_allclose(many.T @ many / 4000, 4 / 5 * np.eye(5), atol=0.06)


def test_a_direction_is_that_of_the_example_and_the_seed_alone(study):
    (first, own), (second, other), (third, _) = (drawn(study, t) for t in range(3))
    np.testing.assert_allclose(first / own[:, None], third / np.linalg.norm(third, axis=1)[:, None], atol=1e-6)
    assert np.abs(first / own[:, None] - second / other[:, None]).max(1).min() > 1e-3
    backwards, _ = drawn(study, 0, IDS[::-1])
    lengths = np.linalg.norm(backwards, axis=1)[:, None]
    np.testing.assert_allclose(backwards / lengths, (first / own[:, None])[::-1], atol=1e-6)


def test_arrays_and_rows_equal_float64(study, measured):
    _, kernel, bias = study
    for t, one in enumerate(measured):
        h_ND, rows = drawn(study, t)[0], {row.metric: row for row in one.rows if row.split == "test"}
        np.testing.assert_array_equal(one.arrays["test/id"], IDS)
        for name, times in {"t_star_random": 1, "t_star_random_bias10": 10}.items():
            weights = kernel[t].astype(float), times * bias[t].astype(float)
            expected = [reference.first_change(h, *weights) for h in h_ND]
            np.testing.assert_allclose(one.arrays[f"test/{name}"], expected, rtol=2e-3, atol=2e-4)
            for q in (50, 95):
                row = rows[f"{name}/q{q}"]
                np.testing.assert_allclose(row.value, np.percentile(one.arrays[f"test/{name}"], q), rtol=1e-5)
                assert row.n == COUNT


def test_without_ids_and_seeds_examples_are_numbered_and_the_seed_is_zero(study):
    splits, kernel, bias = study
    plain = probe.measure(splits | {"test": splits["test"]._replace(ids=None)}, kernel, bias)
    told = probe.measure(
        splits | {"test": splits["test"]._replace(ids=np.arange(COUNT))}, kernel, bias, seeds_T=[0] * 3
    )
    for one, other in zip(plain, told):
        np.testing.assert_array_equal(one.arrays["test/t_star_random"], other.arrays["test/t_star_random"])
    with pytest.raises(ValueError, match="seeds_T must have a value a trial, 3, got 2"):
        probe.measure(splits, kernel, bias, seeds_T=[0, 1])


def test_zero_features_have_no_random_ones(study):
    splits, kernel, bias = study
    dead = splits | {"test": splits["test"]._replace(features=0 * splits["test"].features)}
    for one in probe.measure(dead, kernel, bias):
        assert all(np.isnan(row.value) for row in one.rows if row.metric.startswith("t_star") and row.split == "test")
