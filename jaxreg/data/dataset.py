"""A dataset in memory or mapped from disk: images as stored, labels, and the ids that name its examples."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping

import numpy as np

_ROWS = 256  # of uint8 images at once: their sums of squares stay below 2^24, exact in float32


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples of one split: images [N, H, W, C] uint8 or float32, labels int32 [N], ids int64 or str [N]."""

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    @functools.cached_property
    def key_ids(self) -> np.ndarray:
        """What random keys of an example derive from: uint32 [N], see `key_ids`."""
        return key_ids(self.ids)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice) -> "Split":
        return Split(self.images[rows], self.labels[rows], self.ids[rows])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Splits train, validation, test; x = images / scale is in [0, 1]; mean, std [C] of x over the train images.

    `contents` tells each split as it is stored, before the hold-out, from any other: 32 hex digits of all in it.
    """

    name: str
    classes: tuple[str, ...]
    scale: float
    splits: Mapping[str, Split]
    mean: np.ndarray
    std: np.ndarray
    contents: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.splits["train"].images.shape[1:]


def digests(ids: np.ndarray) -> np.ndarray:
    """Returns the first 16 bytes of blake2b(str(id)) as big-endian numbers, uint64 [N, 2]: the same on any machine."""
    joined = b"".join(hashlib.blake2b(str(one).encode()).digest()[:16] for one in ids.tolist())
    return np.frombuffer(joined, ">u8").reshape(-1, 2).astype(np.uint64)


def key_ids(ids: np.ndarray) -> np.ndarray:
    """Returns the first four bytes of blake2b(str(id)), uint32 [N].

    Two of N examples share one with probability near N^2 / 2^33: they then draw equal random numbers, nothing worse.
    """
    return (digests(ids)[:, 0] >> np.uint64(32)).astype(np.uint32)


def moments(images: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation of images / scale, float32 [C] each; a constant channel's deviation is 1."""
    wide = np.dtype(np.float32 if images.dtype == np.uint8 else np.float64)
    total, squares = np.zeros(images[0].size), np.zeros(images[0].size)
    for start in range(0, len(images), _ROWS):
        rows = images[start : start + _ROWS].reshape(-1, total.size).astype(wide)
        total += rows.sum(0)
        squares += np.einsum("nd,nd->d", rows, rows)
    count = images.size / images.shape[-1]
    mean = total.reshape(-1, images.shape[-1]).sum(0) / count / scale
    square = squares.reshape(-1, images.shape[-1]).sum(0) / count / scale**2
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return mean.astype(np.float32), np.where(std > 1e-7, std, 1).astype(np.float32)
