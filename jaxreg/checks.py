"""What must hold of logits, labels and ids before anything is measured: one clear error, naming trial and example."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


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


# --- attacks: values inside jit are not checked ---
ROUNDING = 1e-2  # how far from 1 the sum of probabilities may be: bfloat16 has eight bits


def check_attack_inputs(
    images: Array | np.ndarray, labels: Array | np.ndarray, ids: Array | np.ndarray | None, eps: Array | np.ndarray
) -> None:
    """Raises ValueError unless images are floats in [0, 1], radii at least 0, and each image has its label and id.

    Labels and ids (None: no ids) are integers [N].
    """
    if not _is_traced(eps) and not np.all(np.asarray(eps) >= 0):
        raise ValueError(f"eps must be 0 or more, got {np.min(np.asarray(eps))}.")
    if images.dtype not in (jnp.float32, jnp.float64):
        cure = "divide by 255 as float32" if jnp.issubdtype(images.dtype, jnp.integer) else "cast within the model"
        raise ValueError(f"images must be float32 (or float64), to hold a radius to 1e-6, got {images.dtype}: {cure}.")
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images must be [N, H, W, C] with at least one image, got the shape {images.shape}.")
    for name, values in {"labels": labels, "ids": ids}.items():
        if values is None:
            continue
        if np.shape(values) != (len(images),):
            raise ValueError(f"{name} must be one for each of {len(images)} images, got the shape {np.shape(values)}.")
        if not jnp.issubdtype(values.dtype, jnp.integer):
            raise ValueError(f"{name} must be integers, got {values.dtype}: cast them.")
    if _is_traced(images):
        return
    low, high = float(jnp.min(images)), float(jnp.max(images))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images must lie in [0, 1], got [{low:g}, {high:g}]: divide by 255, normalise in the model.")


def check_attacked_labels(labels: Array | np.ndarray, classes: int) -> None:
    """Raises ValueError for a label that is no class; a label below 0 means that the example is not attacked."""
    if not _is_traced(labels) and int(jnp.max(labels)) >= classes:
        raise ValueError(f"labels must be below {classes}, the number of logits, got {int(jnp.max(labels))}.")


def check_raw_logits(logits: Array | np.ndarray) -> None:
    """Raises ValueError where the outputs [..., K] are probabilities: rows that sum to 1 with no entry below 0."""
    if not _is_traced(logits) and np.all(are_probabilities(logits)):
        raise ValueError("logits_fn returns probabilities (rows sum to 1): return raw logits, before the softmax.")


def are_probabilities(logits: Array | np.ndarray) -> np.ndarray:
    """Whether rows [..., K] of two or more classes are at least 0 and sum to 1, up to the rounding of bfloat16."""
    rows = np.asarray(logits, np.float32)
    return (rows.shape[-1] > 1) & np.all(rows >= 0, axis=-1) & (np.abs(rows.sum(-1) - 1) < ROUNDING)


def _is_traced(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)
