import itertools

import numpy as np
import pytest

from jaxreg.data.dataset import Split
from jaxreg.data.stream import batches

N = 23


@pytest.fixture
def split(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (N, 4, 4, 3)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    return Split(np.load(tmp_path / "images.npy", mmap_mode="r"), np.arange(N, dtype=np.int32), np.arange(N) * 3)


def take(split, start, chunks, steps_a_chunk=3, seed=0, batch_size=5):
    stream = batches(split, batch_size=batch_size, seed=seed, start_step=start, steps_a_chunk=steps_a_chunk)
    found = list(itertools.islice(stream, chunks))
    return [np.concatenate(parts) for parts in zip(*found)]


def test_shapes_and_that_rows_belong_together(split):
    images, labels, key_ids = take(split, 0, 2)
    assert (images.shape, images.dtype) == ((6, 5, 4, 4, 3), np.uint8)
    assert (labels.dtype, key_ids.dtype) == (np.int32, np.uint32)
    np.testing.assert_array_equal(images, split.images[labels])  # a label is its row here
    np.testing.assert_array_equal(key_ids, split.key_ids[labels])


@pytest.mark.parametrize("start", [1, 3, 7, 40])
@pytest.mark.parametrize("steps_a_chunk", [1, 2, 5])
def test_equal_wherever_it_starts_and_however_it_is_cut(split, start, steps_a_chunk):
    whole = take(split, 0, 17)
    later = take(split, start, 2, steps_a_chunk)
    for mine, other in zip(later, whole):
        np.testing.assert_array_equal(mine, other[start : start + 2 * steps_a_chunk])


def test_each_epoch_is_another_permutation_of_the_whole(split):
    _, labels, _ = take(split, 0, 23)
    epochs = labels.reshape(-1)[: 3 * N].reshape(3, N)
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(N))
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3


def test_seeds_differ(split):
    assert not np.array_equal(take(split, 0, 2)[1], take(split, 0, 2, seed=1)[1])


@pytest.mark.parametrize("batch_size", [0, N + 1])
def test_a_batch_larger_than_the_data_is_refused(split, batch_size):
    with pytest.raises(ValueError, match=r"batch_size must be in \[1, 23\]"):
        take(split, 0, 1, batch_size=batch_size)
