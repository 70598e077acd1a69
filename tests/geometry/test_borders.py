"""NumPy arrays of any length, splits without examples, trials whose features have all died."""

import jax.numpy as jnp
import numpy as np
import pytest
from geometry_shapes import CLASSES, LABELS, WIDTH

from jaxreg.geometry import chunks, interventions, norms, over_training, probe
from jaxreg.geometry.examples import Head

COUNT = 70


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 32)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(40)
    draw = [rng.normal(size=shape).astype(np.float32) for shape in ((COUNT, 6), (6, 3), (3,), (3, 6))]
    return *draw, np.arange(COUNT) % 3


def test_numpy_arrays_longer_than_a_chunk_are_measured_as_jax_arrays_are(world, small_chunks):
    h, kernel, bias, centers, y = world
    change = interventions.Change(1.5, 0.2)
    found = interventions.intervene(h, y, Head(kernel, bias), centers, change)
    head = Head(jnp.asarray(kernel), jnp.asarray(bias))
    expected = interventions.intervene(jnp.asarray(h), jnp.asarray(y), head, jnp.asarray(centers), change)
    assert found == expected
    np.testing.assert_allclose(norms.class_means(h, y, 3), [h[y == k].mean(0) for k in range(3)], atol=1e-6)


def test_parts_of_numpy_are_cut_and_joined(world, small_chunks):
    h, *_, y = world
    parts = {"long": (h, y), "short": (h[:5], y[:5])}
    found = chunks.each(lambda h_BD, y_B: {"sum": h_BD.sum(1), "label": y_B}, parts)
    for name, (h_ND, y_N) in parts.items():
        np.testing.assert_allclose(found[name]["sum"], h_ND.sum(1), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found[name]["label"], y_N)


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_split_is_named(split):
    kernel, bias = np.ones((1, WIDTH, CLASSES)), np.zeros((1, CLASSES))
    splits = {name: probe.Split(np.ones((1, len(y), WIDTH)), y) for name, y in LABELS.items()}
    splits[split] = probe.Split(np.ones((1, 0, WIDTH)), np.zeros(0, int))
    with pytest.raises(ValueError, match=f"^{split}: the split is empty: give it an example, or leave it out.$"):
        probe.measure(splits, kernel, bias)


def test_snapshots_of_zero_features_have_no_directions():
    rng = np.random.default_rng(41)
    features = rng.normal(size=(2, 3, len(LABELS["train"]), WIDTH)).astype(np.float32)
    features[1, 2] = 0  # died at the last snapshot
    head = [rng.normal(size=(2, 3, *shape)).astype(np.float32) for shape in ((WIDTH, CLASSES), (CLASSES,))]
    found = over_training.measure_snapshots(features, LABELS["train"], *head)
    alive, died = over_training.measured(found, [0, 10, 20], len(LABELS["train"]))
    assert all(np.isfinite(row.value) for row in (*alive.rows, *died.rows) if not row.metric.endswith("@20"))
    last = {row.metric.split("/", 1)[1].removesuffix("@20"): row.value for row in died.rows if row.metric[-3:] == "@20"}
    finite = {name for name, value in last.items() if np.isfinite(value)}
    assert finite == {"feature_norm", "common_mode", "accuracy", "cone_by_construction"}
    assert (last["feature_norm"], last["common_mode"]) == (0, 0)
    assert {"cone_fraction", "angular_margin", "cone_breakpoint/q95", "nc1", "nc4", "center_cosine"} <= set(last)
    assert all(np.isfinite(row.value) for row in alive.rows)
