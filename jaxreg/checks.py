"""What must hold of logits, labels and ids before anything is measured: one clear error, naming trial and example."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Split(NamedTuple):
    """Raw logits of all trials [T, N, K], or one array [N, K] for each trial; the labels [N] and ids [N] they share.

    One array [N, K] is one trial. Without ids examples are numbered from 0.
    """

    logits: np.ndarray | Sequence[np.ndarray]
    labels: np.ndarray
    ids: np.ndarray | None = None

    def complete(self) -> "Split":
        """The same with its trials on the first axis, and with ids."""
        logits: Any = self.logits
        logits = logits[None] if getattr(logits, "ndim", 0) == 2 else logits  # a sequence has no ndim
        labels = np.asarray(self.labels)
        return Split(logits, labels, np.arange(labels.size).reshape(labels.shape) if self.ids is None else self.ids)


def check(splits: Mapping[str, Split], trials: Sequence[str]) -> int:
    """Raises ValueError on the first thing that is wrong with any complete split, but not with logits where they lie.

    Those are checked by `check_logits` when they are read: they may be in files. Returns the number of classes.
    """
    if "validation" not in splits:
        raise ValueError(f"calibration is fitted on the split 'validation', got {sorted(splits)}: predict it first.")
    for name, split in splits.items():
        if len(split.logits) != len(trials):
            raise ValueError(f"{name}: logits of {len(split.logits)} trials, but {len(trials)} trials are named.")
    if not trials:
        raise ValueError("there are no trials: calibration needs the logits of at least one.")
    classes = {int(np.shape(split.logits[0])[-1]) for split in splits.values()}
    if len(classes) != 1 or min(classes) < 2:
        raise ValueError(f"all logits must have the same number of classes, at least 2, got {sorted(classes)}.")
    for name, split in splits.items():
        check_examples(name, split, min(classes))
    check_apart({name: (split.ids, split.labels, split.logits[0]) for name, split in splits.items()})
    return min(classes)


def check_apart(examples: Mapping[str, tuple[Any, ...]]) -> None:
    """Raises ValueError where a split shares examples with "validation": it is judged by them.

    `examples`: ids by name, and what is known of each example (labels, logits), first axes [N]. Splits that are
    numbered each from 0 share ids, not examples: then something that is known of them differs.
    """
    ids, *known = map(np.asarray, examples["validation"])
    for name in [name for name in examples if name != "validation"]:
        own_ids, *own = map(np.asarray, examples[name])
        both, here, there = np.intersect1d(ids, own_ids, return_indices=True)
        if len(both) and all(np.array_equal(a[here], b[there]) for a, b in zip(known, own)):
            raise ValueError(
                f"example {both[0]} is in validation and in {name} ({len(both)} are, with the same labels): "
                "what is fitted on one must be measured on others; give examples of both splits different ids."
            )


def check_count(name: str, value: Any, least: int) -> None:
    """Raises ValueError unless `value` is a whole number from `least` on."""
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be a whole number, at least {least}, got {value!r}.")


def check_examples(name: str, split: Split, classes: int) -> None:
    """Raises ValueError unless a split has examples, their ids differ and their labels are classes."""
    labels, ids = np.asarray(split.labels), np.asarray(split.ids)
    if labels.ndim != 1 or labels.dtype.kind not in "iubf":
        told = f"shape {labels.shape} of {labels.dtype}"
        raise ValueError(f"{name}: labels must be numbers of classes [N], got {told}: of one-hot rows take the argmax.")
    if len(labels) == 0:
        raise ValueError(f"{name}: the split is empty: calibration needs at least one example.")
    if ids.shape != labels.shape:
        raise ValueError(f"{name}: labels {labels.shape} and ids {ids.shape} must be [N] of the same examples.")
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        raise ValueError(f"{name}: example {unique[counts > 1][0]} comes {counts.max()} times: ids must be different.")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes) | (labels != np.floor(labels)))
    if len(wrong):
        n = wrong[0]
        raise ValueError(f"{name}, example {ids[n]}: label must be a class 0 to {classes - 1}, got {labels[n]}.")


def narrowed(logits_NK: np.ndarray) -> np.ndarray:
    """The same as float32. Of wider logits the largest of the row is taken off first: an offset takes digits."""
    with np.errstate(over="ignore", invalid="ignore"):  # a check names what is not finite, or too large for float32
        wide = logits_NK.dtype.itemsize > 4 and logits_NK.ndim == 2 and logits_NK.shape[1] > 0
        less = logits_NK - logits_NK.max(-1, keepdims=True) if wide else logits_NK
        return less.astype(np.float32, copy=False)


def check_logits(place: str, given: np.ndarray, logits_NK: np.ndarray, ids: np.ndarray) -> None:
    """Raises ValueError unless `given` are logits of `ids`, and finite as the float32 `logits_NK` that they became."""
    if given.ndim != 2 or len(given) != len(ids):
        raise ValueError(f"{place}: logits {given.shape} do not match {len(ids)} labels and ids: expected [N, K].")
    if given.shape[1] != logits_NK.shape[1]:
        classes = sorted({given.shape[1], logits_NK.shape[1]})
        raise ValueError(f"{place}: all logits must have the same number of classes, at least 2, got {classes}.")
    if not np.isfinite(logits_NK).all():
        wrong = np.flatnonzero(~np.isfinite(logits_NK).all(-1))
        row = given[wrong[0]]
        bad = row[np.abs(row).argmax()] if np.isfinite(row).all() else row[~np.isfinite(row)][0]
        told = "is too large for float32" if np.isfinite(bad) else "is not finite"
        raise ValueError(
            f"{place}, example {ids[wrong[0]]}: logit {bad} {told} ({len(wrong)} examples): did it diverge?"
        )
