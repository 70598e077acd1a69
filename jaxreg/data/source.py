"""Where examples come from: what is known without decoding, and two functions that read."""

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from jaxreg.data.dataset import digests


def hash_order(ids: np.ndarray) -> np.ndarray:
    """Returns the positions [N] that sort `ids` (int or str [N], all different) by blake2b."""
    first, second = digests(ids).T
    return np.lexsort((second, first))


def held_out(validation: int | float, total: int) -> int:
    """Returns how many of `total` train examples are held out: `validation` itself, or that share, rounded.

    Raises: ValueError: unless at least one example goes to validation and at least one stays in train.
    """
    rule = f"validation must be a number of examples from 1 to {total - 1}, or a share of train in (0, 1)"
    wrong = f"{rule}, got {validation!r}: {total} train examples are there to share."
    if isinstance(validation, bool) or not np.isfinite(validation):
        raise ValueError(wrong)
    share = 0 < validation < 1
    if not share and validation != int(validation):
        raise ValueError(wrong)
    count = round(validation * total) if share else operator.index(int(validation))
    if not 1 <= count < total:
        raise ValueError(wrong)
    return count


CHUNK = 256  # images decoded at once


class Source(NamedTuple):
    """A dataset before it is read. Splits are named as stored: train, test, maybe validation."""

    name: str
    version: str
    classes: tuple[str, ...]
    scale: float  # images / scale is in [0, 1]
    image_shape: tuple[int, int, int]
    dtype: np.dtype  # uint8 or float32
    counts: Mapping[str, int]
    fingerprint: str  # changes with the files; empty where reading is as fast as a cache
    validation: int | float  # held out of train unless asked otherwise
    annotations: Callable[[str], tuple[np.ndarray, np.ndarray]]  # split -> labels [N], ids [N]
    images: Callable[[str, np.ndarray], np.ndarray]  # split, positions [B] -> [B, H, W, C]
    labels_alone: bool = False  # whether annotations are read without decoding images
    examine: Callable[[], None] = lambda: None  # looks at every value, where that takes no decoding


class Annotations(NamedTuple):
    """Labels int32 [N], ids [N] and stored positions [N] of one split, in the order in which it is used."""

    labels: np.ndarray
    ids: np.ndarray
    positions: np.ndarray


def annotations(source: Source, split: str) -> Annotations:
    """Reads and checks labels and ids: train in hash order, so that validation is its head; others as stored."""
    labels, ids = source.annotations(split)
    _check(source, split, labels, ids)
    order = hash_order(ids) if split == "train" else np.arange(len(ids))
    return Annotations(labels[order].astype(np.int32), ids[order], order)


def image_chunks(source: Source, split: str, positions: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the images at `positions`, [<= 256, H, W, C] at a time."""
    for start in range(0, len(positions), CHUNK):
        yield source.images(split, positions[start : start + CHUNK]).astype(source.dtype, copy=False)


def _check(source: Source, split: str, labels: np.ndarray, ids: np.ndarray) -> None:
    where, classes = f"dataset {source.name!r}, split {split!r}", len(source.classes)
    bad = labels[(labels < 0) | (labels >= classes)]
    if bad.size:
        cure = "unlabelled examples cannot be trained or measured on, choose another split or dataset"
        raise ValueError(f"{where}: labels must be in [0, {classes}), got {bad[0]} ({bad.size} outside): {cure}.")
    check_ids(f"dataset {source.name!r}", split, ids)


def check_ids(where: str, split: str, ids: np.ndarray) -> None:
    """Raises ValueError unless the ids of a split all differ."""
    repeated = len(ids) - len(np.unique(ids))
    if repeated:
        raise ValueError(f"{where}, split {split!r}: ids must all differ, {repeated} repeat: give each its own.")
