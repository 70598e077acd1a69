"""Snapshots: which steps are kept, that they stay, and that a broken one is left out."""

import jax
import numpy as np
import pytest

from jaxreg.runtime import parallel
from jaxreg.training.checkpoint import Snapshots, Weights, schedule
from jaxreg.training.loop import _resident


def stacks(step):
    return parallel.put_trials({"w": np.full((2, 3), step, np.float32)}, parallel.make_mesh(devices=jax.devices()[:1]))


@pytest.mark.parametrize(
    ("wanted", "steps", "dispatch", "kept"),
    [
        (0, 270, 18, ()),
        (2, 270, 18, (0, 270)),
        (8, 270, 18, (0, 18, 36, 72, 108, 180, 270)),
        (4, 40, 100, (0, 40)),
        ((5, 0, 500, 5), 40, 10, (0, 5)),
    ],
)
def test_schedule(wanted, steps, dispatch, kept):
    assert schedule(wanted, steps, dispatch) == kept


def test_all_that_is_scheduled_is_kept_once_and_a_broken_one_is_left_out(tmp_path):
    with Snapshots(tmp_path, (0, 10, 20)) as snapshots:
        for step in (0, 5, 10, 20):
            snapshots.take(step, stacks(step), {})
        snapshots.take(10, stacks(99), {})  # there already
    for file in (tmp_path / "20" / "state").rglob("d/*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with Snapshots(tmp_path, (0, 10, 20)) as snapshots:
        found = dict(snapshots.read(Weights(stacks(0), {}), 1))
    assert sorted(found) == [0, 10]
    np.testing.assert_array_equal(found[10].params["w"], np.full((1, 3), 10))


def test_no_dispatch_crosses_a_stop():
    made = []
    counts = [count for count, _ in _resident(lambda n: made.append(n) or str, None, 10, [0, 15, 40], 10)]
    assert counts == [5, 10, 10, 5]
    assert made == [5, 10]
