"""A device holds the features of its own trials, a group at a time; beyond them, the memory of a piece."""

import collections

import jax
import numpy as np
import pytest

from jaxreg.geometry import displacement, over_training, probe, trial
from jaxreg.models.functional import Head
from jaxreg.runtime import parallel, passes
from jaxreg.runtime.passes import CHUNK
from support.geometry_shapes import CLASSES, LABELS, WIDTH


def working(chunks):
    """Bytes beyond inputs and results, with so many pieces of examples to train on and to test."""
    trials, width, classes = 2, 256, 3
    mesh, size = parallel.make_mesh(), chunks * CHUNK
    head = Head(np.zeros((trials, width, classes), np.float32), np.zeros((trials, classes), np.float32))
    features = {name: np.zeros((trials, size, width), np.float32) for name in ("train", "test")}
    given = parallel.put_trials((features, head, np.zeros(trials, np.float32)), mesh)
    shared = parallel.put_shared((dict.fromkeys(features, np.zeros(size, np.int32)), np.float32(0)), mesh)
    compiled = probe._program(trial.measure_placed, mesh, "full").lower(given, shared).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_does_not_grow_with_examples():
    copied = 4 * CHUNK * 256 * 4  # what a copy of the features of one split of one trial would add
    assert working(6) - working(2) < copied / 4  # a few numbers an example, before they are the results


class Lazy(collections.abc.Sequence):
    """Arrays of trials that are made when they are asked for, as if read from files."""

    def __init__(self, stack):
        self._stack = stack

    def __len__(self):
        return len(self._stack)

    def __getitem__(self, t):
        return self._stack[t].copy()


TRIALS = 24  # three a device


def of_splits(given):
    splits = {name: probe.Features(given(TRIALS, len(y), WIDTH), y) for name, y in LABELS.items()}
    found = probe.measure(splits, *heads(TRIALS), baselines=[None, *[0] * (TRIALS - 1)])
    return [({row[:2]: row[2:] for row in one.rows}, one.arrays) for one in found]


def of_snapshots(given):
    features = given(TRIALS, 3, len(LABELS["train"]), WIDTH)
    return over_training.measure_snapshots(features, LABELS["train"], *heads(TRIALS, 3))


def of_displacement(given):
    clean, attacked, centers = (given(TRIALS, count, WIDTH) for count in (200, 200, CLASSES))
    centers = np.stack(list(centers))
    found = displacement.measure_displacement(clean, attacked, LABELS["test"], *heads(TRIALS), centers)
    return [({row[:2]: row[2:] for row in one.rows}, one.arrays) for one in found]


def heads(*lead):
    rng = np.random.default_rng(60)
    return rng.normal(size=(*lead, WIDTH, CLASSES)), rng.normal(size=(*lead, CLASSES))


def made(kind, seen):
    """Makes features, and adds their bytes to `seen`."""
    rng = np.random.default_rng(61)

    def make(*shape):
        stack = rng.normal(size=shape).astype(np.float32)
        seen.append(stack.nbytes)
        return kind(stack)

    return make


def held():
    """By device, the bytes of all arrays that are alive."""
    sizes = collections.Counter()
    for array in jax.live_arrays():
        for shard in array.addressable_shards:
            sizes[shard.device.id] += shard.data.nbytes
    return sizes


@pytest.mark.parametrize("measure", [of_splits, of_snapshots, of_displacement])
def test_no_stack_is_placed_whole_and_groups_change_nothing(measure, monkeypatch):
    whole = []
    expected = measure(made(np.asarray, whole))
    monkeypatch.setattr(passes, "GROUP_BYTES", 1)  # one trial a device
    before, most, put = held(), [], jax.device_put

    def watched(*args, **kwargs):
        placed = put(*args, **kwargs)
        most.append(max((held() - before).values()))
        return placed

    monkeypatch.setattr(jax, "device_put", watched)
    found = measure(made(Lazy, []))
    # Of three trials a device at most two at a time, with their heads and results.
    assert max(most) < sum(whole) / 3
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
