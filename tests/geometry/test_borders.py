"""NumPy arrays of any length, splits without examples, trials whose features have all died."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.geometry import cone, displacement, interventions, minimal_loss_points, network, norms, over_training, probe
from jaxreg.models.functional import Head
from jaxreg.runtime import passes
from support.geometry_shapes import CLASSES, LABELS, WIDTH

COUNT = 70


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(passes, "CHUNK", 32)


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
    found = passes.each(lambda h_BD, y_B: {"sum": h_BD.sum(1), "label": y_B}, parts)
    for name, (h_ND, y_N) in parts.items():
        np.testing.assert_allclose(found[name]["sum"], h_ND.sum(1), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found[name]["label"], y_N)


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_split_is_named(split):
    kernel, bias = np.ones((1, WIDTH, CLASSES)), np.zeros((1, CLASSES))
    splits = {name: probe.Features(np.ones((1, len(y), WIDTH)), y) for name, y in LABELS.items()}
    splits[split] = probe.Features(np.ones((1, 0, WIDTH)), np.zeros(0, int))
    with pytest.raises(ValueError, match=f"^{split}: the split is empty: give it an example, or leave it out.$"):
        probe.measure(splits, kernel, bias)


def stacks(trials=2):
    """Splits and last layers of trials that are measured without complaint."""
    rng = np.random.default_rng(42)
    splits = {name: probe.Features(rng.normal(size=(trials, len(y), WIDTH)), y) for name, y in LABELS.items()}
    return splits, rng.normal(size=(trials, WIDTH, CLASSES)), rng.normal(size=(trials, CLASSES)), {}


def planted(place, value, name=None):
    """An edit that puts a value in the place of one of `stacks`, into the features of a split where it is named."""

    def edit(splits, kernel, bias, more):
        if name is None:
            (kernel if len(place) == 3 else bias)[place] = value
        else:
            splits[name].features[place] = value

    return edit


def relabelled(name, label):
    def edit(splits, kernel, bias, more):
        labels = splits[name].labels.astype(type(label))
        labels[4] = label
        splits[name] = splits[name]._replace(labels=labels)

    return edit


WRONG = {
    "a feature is nan": (planted((1, 3), np.nan, "test"), "^test, trial 1, example 3: feature nan is not finite"),
    "a feature is too long": (planted((0, 2), 1e30, "train"), "^train, trial 0, example 2: .* no float32"),
    "a kernel is inf": (planted((1, 0, 0), np.inf), "^trial 1, class 0: kernel inf is not finite"),
    "a bias is nan": (planted((1, 0), np.nan), "^trial 1, class 0: bias nan is not finite"),
    "a label beyond the classes": (relabelled("test", CLASSES), f"^test, example 4: label must be .* got {CLASSES}"),
    "a label below them": (relabelled("validation", -1), "^validation, example 4: label must be a class .* got -1"),
    "a train label beyond": (relabelled("train", 99), "^train, example 4: label must be a class .* got 99"),
    "a smoothing too few": (lambda *a: a[3].update(smoothing_T=[0.1]), "^smoothing_T must have a value a trial, 2"),
    "a floor too many": (lambda *a: a[3].update(floor_known_T=[True] * 3), "^floor_known_T must .* 2, got 3"),
    "a baseline beyond": (lambda *a: a[3].update(baselines=[None, 5]), "^baselines: that of trial 1 .* got 5"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_measured_is_named(case):
    edit, message = WRONG[case]
    splits, kernel, bias, more = stacks()
    edit(splits, kernel, bias, more)
    with pytest.raises(ValueError, match=message):
        probe.measure(splits, kernel, bias, **more)


@pytest.mark.usefixtures("as_users")
@pytest.mark.parametrize(
    ("kernel", "bias", "message"),
    [
        ((WIDTH, CLASSES), (2, CLASSES), r"^kernel must be \[2, .*, K\] .* stack one \[D, K\] a trial"),
        ((2, CLASSES, WIDTH), (2, CLASSES), "^kernel must be"),
        ((2, WIDTH, CLASSES), (1, CLASSES), "^bias must be"),
        ((2, WIDTH, CLASSES), (2, CLASSES - 1), "^bias must be"),
    ],
)
def test_last_layers_of_another_shape_are_named(kernel, bias, message):
    splits, *_ = stacks()
    features, labels, _ = splits["train"]
    with pytest.raises(ValueError, match=message):
        probe.measure(splits, np.ones(kernel), np.ones(bias))
    with pytest.raises(ValueError, match=message):
        displacement.measure_displacement(features, features, labels, np.ones(kernel), np.ones(bias), features)
    with pytest.raises(ValueError, match=r"^(kernel|bias) must be"):
        over_training.measure_snapshots(features[:, None], labels, np.ones(kernel), np.ones(bias))


@pytest.mark.usefixtures("as_users")
def test_displacements_that_cannot_be_measured_are_named():
    splits, kernel, bias, _ = stacks()
    features, labels, _ = splits["test"]
    centers = np.ones((2, CLASSES, WIDTH))
    with pytest.raises(ValueError, match=r"^test, example 0: label must be a class"):
        displacement.measure_displacement(features, features, labels + CLASSES, kernel, bias, centers)
    with pytest.raises(ValueError, match=r"^centers must be \[T, K, D\]"):
        displacement.measure_displacement(features, features, labels, kernel, bias, centers[:1])
    with pytest.raises(ValueError, match=r"^clean and attacked features must be"):
        displacement.measure_displacement(features, features[:, 1:], labels, kernel, bias, centers)


def test_labels_that_are_no_numbers_and_radii_below_zero_are_named():
    splits, kernel, bias, _ = stacks()
    features, labels, _ = splits["train"]
    with pytest.raises(ValueError, match=r"^labels must be numbers of classes \[N\]"):
        network.measure_network(features[0], kernel[0], bias[0], labels.astype(str))
    with pytest.raises(ValueError, match=r"^radius must be finite and at least 0, got -1"):
        minimal_loss_points(kernel[0], bias[0], -1)


@pytest.mark.parametrize("where", range(3))
def test_what_is_not_finite_is_no_cone(where):
    arrays = [np.ones((2, WIDTH)), np.ones((WIDTH, CLASSES)), np.arange(CLASSES, dtype=float)]
    arrays[where][..., 0] = np.nan
    found = cone(*map(jnp.asarray, arrays))
    assert np.isnan(found.breakpoint).all()
    assert np.isnan(found.radius).all()
    assert not found.final().any()


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
