import numpy as np
import pytest

from jaxreg.geometry import over_training, probe
from support.geometry_shapes import CLASSES, LABELS, WIDTH

TRIALS, SNAPSHOTS = 2, 3


@pytest.fixture(scope="module")
def snapshots():
    """Features that draw nearer to their class mean from one snapshot to the next."""
    rng = np.random.default_rng(0)
    labels = LABELS["train"]
    kernel = rng.normal(size=(TRIALS, SNAPSHOTS, WIDTH, CLASSES)).astype(np.float32)
    bias = 0.1 * rng.normal(size=(TRIALS, SNAPSHOTS, CLASSES)).astype(np.float32)
    corner = rng.normal(size=(CLASSES, WIDTH))[labels]
    noise = rng.normal(size=(TRIALS, SNAPSHOTS, len(labels), WIDTH)) / np.array([1, 2, 4])[:, None, None]
    return (corner + noise).astype(np.float32), labels, kernel, bias


@pytest.fixture(scope="module")
def found(snapshots):
    return over_training.measure_snapshots(*snapshots)


def test_a_snapshot_has_the_numbers_of_the_probe(snapshots, found):
    features, labels, kernel, bias = snapshots
    others = {name: probe.Features(np.ones((TRIALS, len(y), WIDTH)), y) for name, y in LABELS.items()}
    last = probe.measure(others | {"train": probe.Features(features[:, -1], labels)}, kernel[:, -1], bias[:, -1])
    for t, one in enumerate(last):
        rows = {row.metric: row.value for row in one.rows if row.split == "train"}
        for name in set(found) - {"accuracy", "center", "center_residual"}:
            np.testing.assert_allclose(found[name][t, -1], rows[name], rtol=2e-4, atol=1e-5, err_msg=name)


def test_collapse_is_seen_to_come(found):
    assert found["nc1"].shape == (TRIALS, SNAPSHOTS)
    assert (np.diff(found["nc1"], axis=1) < 0).all()
    assert (found["center_residual"] < 1e-5).all()


def test_rows_name_metric_and_step(found):
    measured = over_training.measured(found, [0, 10, 20], 80)
    assert len(measured) == TRIALS
    values = {row.metric: row.value for row in measured[1].rows}
    np.testing.assert_allclose([values[f"over_training/nc1@{s}"] for s in (0, 10, 20)], found["nc1"][1])
    assert {row.n for row in measured[1].rows} == {80}
    assert not any("center@" in name for name in values)


def test_spaces_for_maps_come_back_as_they_were(snapshots, found):
    features, labels, kernel, bias = snapshots
    arrays = over_training.space_arrays(1, [0, 10, 20], features, labels, kernel, bias, found["center"])
    assert over_training.steps_of(arrays) == [0, 10, 20]
    space = over_training.space(arrays, 10)
    np.testing.assert_array_equal(space.features_ND, features[1, 1])
    np.testing.assert_array_equal(space.head.kernel, kernel[1, 1])
    np.testing.assert_array_equal(space.centers_KD, found["center"][1, 1])


def test_wrong_shapes_are_named(snapshots):
    features, labels, kernel, bias = snapshots
    with pytest.raises(ValueError, match=r"labels must be numbers of classes \[N\]"):
        over_training.measure_snapshots(features, labels[:-1], kernel, bias)
    with pytest.raises(ValueError, match="without class 3"):
        over_training.measure_snapshots(features, np.where(labels == 3, 0, labels), kernel, bias)
