"""What must hold of logits, labels and ids before anything is measured: one clear error, naming trial and example."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Raw logits of all trials [T, N, K], or one array [N, K] for each trial; the labels [N] and ids [N] they share."""

    logits: np.ndarray | Sequence[np.ndarray]
    labels: np.ndarray
    ids: np.ndarray


def check(splits: Mapping[str, Split], trials: Sequence[str]) -> None:
    """Raises ValueError on the first thing that is wrong with any split of any trial."""
    if "validation" not in splits:
        raise ValueError(f"calibration is fitted on the split 'validation', got {sorted(splits)}: predict it first.")
    classes = {int(np.shape(logits)[-1]) for split in splits.values() for logits in split.logits}
    if len(classes) != 1 or min(classes) < 2:
        raise ValueError(f"all logits must have the same number of classes, at least 2, got {sorted(classes)}.")
    for name, split in splits.items():
        _check_examples(name, split, min(classes))
        if len(split.logits) != len(trials):
            raise ValueError(f"{name}: logits of {len(split.logits)} trials, but {len(trials)} trials are named.")
        for trial, logits_NK in zip(trials, split.logits):
            _check_logits(f"{name}, trial {trial}", logits_NK, split.ids)


def _check_examples(name: str, split: Split, classes: int) -> None:
    labels, ids = np.asarray(split.labels), np.asarray(split.ids)
    if len(labels) == 0:
        raise ValueError(f"{name}: the split is empty: calibration needs at least one example.")
    if ids.shape != labels.shape or labels.ndim != 1:
        raise ValueError(f"{name}: labels {labels.shape} and ids {ids.shape} must be [N] of the same examples.")
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        raise ValueError(f"{name}: example {unique[counts > 1][0]} comes {counts.max()} times: ids must be different.")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes) | (labels != np.floor(labels)))
    if len(wrong):
        n = wrong[0]
        raise ValueError(f"{name}, example {ids[n]}: label must be a class 0 to {classes - 1}, got {labels[n]}.")


def _check_logits(place: str, logits_NK: np.ndarray, ids: np.ndarray) -> None:
    if logits_NK.ndim != 2 or len(logits_NK) != len(ids):
        raise ValueError(f"{place}: logits {logits_NK.shape} do not match {len(ids)} labels and ids: expected [N, K].")
    wrong = np.flatnonzero(~np.isfinite(logits_NK).all(-1))
    if len(wrong):
        bad = logits_NK[wrong[0]][~np.isfinite(logits_NK[wrong[0]])][0]
        raise ValueError(
            f"{place}, example {ids[wrong[0]]}: logit {bad} is not finite ({len(wrong)} examples): did it diverge?"
        )
