"""Datasets by name: `digits`, `arrays:DIRECTORY`, or the name of any image-classification dataset of TFDS.

A new kind is one file with `source(argument, data_dir) -> Source`, one line in `DATASETS`, and one test case.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxreg.data import arrays, cache, digits, tfds_source
from jaxreg.data.dataset import Dataset, Split, moments
from jaxreg.data.source import Source, annotations, held_out

SPLITS = ("train", "validation", "test")  # what a study uses; other stored splits are never read
DATASETS = {"digits": digits.source, "arrays": arrays.source, "tfds": tfds_source.source}

__all__ = ["DATASETS", "Dataset", "Description", "Split", "annotated", "describe", "load", "open_source"]


class Description(NamedTuple):
    """What a dataset is, known without decoding it."""

    name: str
    image_shape: tuple[int, int, int]
    dtype: np.dtype
    num_classes: int
    counts: Mapping[str, int]  # train, validation, test after the hold-out
    unused: int  # examples of a validation split of its own, where another one is held out of train


def open_source(name: str, data_dir: str | None = None) -> Source:
    """Finds a dataset: `digits`, `arrays:DIR`, `[tfds:]NAME[/CONFIG][:VERSION][@TEST_SPLIT]`.

    Raises: ValueError: in one line that lists the known kinds, if there is no such dataset or it cannot be used.
    """
    kind, _, argument = name.partition(":")
    if kind not in DATASETS:
        kind, argument = "tfds", name
    source = DATASETS[kind](argument, data_dir)
    missing = {"train", "test"} - set(source.counts)
    if missing:
        has = ", ".join(f"{split} ({count})" for split, count in source.counts.items()) or "none"
        raise ValueError(f"dataset {name!r} needs the splits train and test, got {has}: {_cure(kind, source)}.")
    used = {split: source.counts[split] for split in SPLITS if split in source.counts}
    return source._replace(counts=used)


def _cure(kind: str, source: Source) -> str:
    others = [split for split in source.counts if split != "train"]
    if kind == "tfds" and others:
        return f"name the labelled split to test on, as in {source.name}@{others[0]}"
    return "store a test split, for example as arrays:DIR with train.npz and test.npz"


def describe(name: str, *, data_dir: str | None = None, validation: int | float | None = None) -> Description:
    """Returns shape, classes and examples a split without decoding an image; raises as `load` does.

    Arrays are looked at whole.
    """
    source = open_source(name, data_dir)
    source.examine()
    count = _held_out(source, validation)
    counts = {"train": source.counts["train"] - count, "validation": count, "test": source.counts["test"]}
    own = source.counts.get("validation", 0)
    if count == 0:
        counts["validation"] = own
    return Description(name, source.image_shape, source.dtype, len(source.classes), counts, own if count else 0)


def load(
    name: str,
    *,
    data_dir: str | None = None,
    validation: int | float | None = None,
    cache_dir: str | None = None,
) -> Dataset:
    """Reads a dataset, from `cache_dir` where it was decoded before.

    Args:
      validation: examples, or a share in (0, 1), to hold out of train by the hash of their ids. None takes the
        dataset's own validation split, or else its default (145 of digits, a tenth of others).
    Raises: ValueError: in one line with value, rule and cure.
    """
    source = open_source(name, data_dir)
    count = _held_out(source, validation)
    stored, contents = cache.splits(source, cache_dir)
    splits = _with_hold_out(stored, count)
    return Dataset(name, source.classes, source.scale, splits, *moments(splits["train"].images, source.scale), contents)


def annotated(name: str, *, data_dir: str | None = None, validation: int | float | None = None) -> Dataset | None:
    """The dataset with its labels and ids and black images; None where labels cannot be read without the images.

    Raises: ValueError: as `load` does for labels and ids.
    """
    source = open_source(name, data_dir)
    if not source.labels_alone:
        return None
    black = np.zeros((), source.dtype)
    read = {split: annotations(source, split) for split in source.counts}
    stored = {
        split: Split(np.broadcast_to(black, (len(own.labels), *source.image_shape)), own.labels, own.ids)
        for split, own in read.items()
    }
    zero = np.zeros(source.image_shape[-1:], np.float32)
    splits = _with_hold_out(stored, _held_out(source, validation))
    return Dataset(name, source.classes, source.scale, splits, zero, zero + 1)


def _with_hold_out(stored: Mapping[str, Split], count: int) -> dict[str, Split]:
    """Train, validation and test; `count` examples of train are validation, or 0 where there is one."""
    validation = stored["train"][:count] if count else stored["validation"]
    return {"train": stored["train"][count:], "validation": validation, "test": stored["test"]}


def _held_out(source: Source, validation: int | float | None) -> int:
    if validation is None and "validation" in source.counts:
        return 0
    return held_out(source.validation if validation is None else validation, source.counts["train"])
