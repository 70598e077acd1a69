import itertools

import numpy as np
import pytest

from jaxreg.data.dataset import Split
from jaxreg.data.stream import batches

N, B = 5003, 143  # 34.98 batches an epoch; Grain's shuffle is slow on sets much smaller than this


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (N, 3, 3, 1)).astype(np.uint8))
    return Split(np.load(path, mmap_mode="r"), np.arange(N, dtype=np.int32), np.arange(N) * 3)


def take(split, start, chunks, steps_a_chunk=3, seed=0, batch_size=B):
    stream = batches(split, batch_size=batch_size, seed=seed, start_step=start, steps_a_chunk=steps_a_chunk)
    found = list(itertools.islice(stream, chunks))
    return [np.concatenate(parts) for parts in zip(*found)]


def test_shapes_and_that_rows_belong_together(split):
    images, labels, key_ids = take(split, 0, 2)
    assert (images.shape, images.dtype) == ((6, B, 3, 3, 1), np.uint8)
    assert (labels.dtype, key_ids.dtype) == (np.int32, np.uint32)
    np.testing.assert_array_equal(images, split.images[labels])  # a label is its row here
    np.testing.assert_array_equal(key_ids, split.key_ids[labels])


@pytest.mark.parametrize(("start", "steps_a_chunk"), [(1, 1), (3, 2), (7, 5), (33, 2)])
def test_equal_wherever_it_starts_and_however_it_is_cut(split, start, steps_a_chunk):
    whole = take(split, 0, 13)  # 39 steps: into the second epoch
    for mine, other in zip(take(split, start, 2, steps_a_chunk), whole):
        np.testing.assert_array_equal(mine, other[start : start + 2 * steps_a_chunk])


def test_each_epoch_is_another_permutation_of_the_whole(split):
    _, labels, _ = take(split, 0, 24)
    epochs = labels.reshape(-1)[: 2 * N].reshape(2, N)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(N))
    assert not np.array_equal(*epochs)


def test_seeds_differ(split):
    assert not np.array_equal(take(split, 0, 1)[1], take(split, 0, 1, seed=1)[1])


@pytest.mark.parametrize("batch_size", [0, N + 1])
def test_a_batch_larger_than_the_data_is_refused(split, batch_size):
    with pytest.raises(ValueError, match=r"batch_size must be in \[1, 5003\]"):
        take(split, 0, 1, batch_size=batch_size)
