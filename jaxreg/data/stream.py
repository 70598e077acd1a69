"""Batches for sets too large for the device: read by index in threads, one batch shared by all trials.

Step s is a function of (seed, s) alone: the stream starts anywhere at once, without replaying what came before.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxreg.data.dataset import Split


class Chunk(NamedTuple):
    """The batches of S consecutive steps."""

    images_SBHWC: np.ndarray  # as stored
    labels_SB: np.ndarray  # int32
    key_ids_SB: np.ndarray  # uint32


def batches(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    start_step: int,
    steps_a_chunk: int,
    threads: int = 4,
    ahead: int = 4,
) -> Iterator[Chunk]:
    """Yields chunks of `steps_a_chunk` batches from `start_step` on, without end.

    Each epoch is a permutation of the whole split, drawn from `seed` in [0, 2^32) and the epoch; batches run on across
    epochs, so none is short and none is dropped. `threads` read up to `ahead` chunks before they are asked for.

    Raises: ValueError: if `batch_size` is below 1 or above the number of examples.
    """
    import grain

    if not 1 <= batch_size <= len(split):
        raise ValueError(
            f"batch_size must be in [1, {len(split)}], the examples there are, got {batch_size}: lower it."
        )
    steps: Any = grain.MapDataset.range(len(split)).shuffle(seed=seed).repeat().batch(batch_size)
    chunks = steps[start_step:].batch(steps_a_chunk).map(lambda rows_SB: _gather(split, rows_SB))
    return iter(chunks.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)))


def _gather(split: Split, rows_SB: np.ndarray) -> Chunk:
    flat = rows_SB.reshape(-1)
    order = np.argsort(flat)  # one pass over the file, in its order
    images = np.empty((flat.size, *split.images.shape[1:]), split.images.dtype)
    images[order] = split.images[flat[order]]
    shaped = images.reshape(*rows_SB.shape, *images.shape[1:])
    return Chunk(shaped, np.asarray(split.labels)[rows_SB], split.key_ids[rows_SB])
