import numpy as np
import pandas as pd
import pytest
from geometry_shapes import CLASSES, LABELS, WIDTH

from jaxreg.geometry import figures, over_training, probe

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
    others = {name: probe.Split(np.ones((TRIALS, len(y), WIDTH)), y) for name, y in LABELS.items()}
    last = probe.measure(others | {"train": probe.Split(features[:, -1], labels)}, kernel[:, -1], bias[:, -1])
    for t, one in enumerate(last):
        rows = {row.metric: row.value for row in one.rows if row.split == "train"}
        for name in set(found) - {"accuracy", "cone_radius", "center_residual"}:
            np.testing.assert_allclose(found[name][t, -1], rows[name], rtol=2e-4, atol=1e-5, err_msg=name)


def test_collapse_is_seen_to_come(found):
    assert found["nc1"].shape == (TRIALS, SNAPSHOTS)
    assert (np.diff(found["nc1"], axis=1) < 0).all()
    assert (found["center_residual"] < 1e-5).all()


def test_curves_can_be_drawn(found):
    frames = over_training.as_frame(found, [0, 10, 20])
    named = [f.assign(regularizer=r, seed=0) for f, r in zip(frames, ("none", "mixup"))]
    rows = named[1][named[1]["metric"] == "nc1"]
    np.testing.assert_allclose(rows["value"], found["nc1"][1])
    assert len(figures.over_training(pd.concat(named)).axes) == len(figures.OVER_TRAINING)


def test_wrong_shapes_are_named(snapshots):
    features, labels, kernel, bias = snapshots
    with pytest.raises(ValueError, match="snapshots need a kernel"):
        over_training.measure_snapshots(features, labels[:-1], kernel, bias)
