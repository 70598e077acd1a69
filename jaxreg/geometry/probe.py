"""The geometry probe: every number on norms, centers, cones, margins and collapse, for all trials of a program."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.geometry import interventions, norms
from jaxreg.geometry import rows as summary
from jaxreg.geometry.check import check_finite, check_heads, check_labels, check_lengths
from jaxreg.geometry.trial import measure_placed
from jaxreg.measured import Measured, Row
from jaxreg.models.functional import Head
from jaxreg.runtime import parallel
from jaxreg.runtime.passes import Placed

Tree = Any
REPORTED = "test"  # the split on which trials are compared with their baselines


class Split(NamedTuple):
    """Features [T, N, D] of every trial on one split, and the labels [N] that they share."""

    features_TND: np.ndarray | Array
    labels_N: np.ndarray | Array


def measure(
    splits: Mapping[str, Split],
    kernel_TDK: np.ndarray | Array,
    bias_TK: np.ndarray | Array,
    *,
    radius: float = 0.0,
    smoothing_T: Sequence[float] | None = None,
    floor_known_T: Sequence[bool] | None = None,
    baselines: Sequence[int | None] | None = None,
    mesh: Any = None,
) -> list[Measured]:
    """Measures all trials with one compiled program, and a second one for the pairs of trial and baseline.

    Args:
      splits: by name; "train", un-augmented, is needed: it gives class means, the default radius, and collapse.
        "validation" and "test" together give the scaling of features; "test" the interventions.
      radius: length of the class centers; 0 means each trial's mean feature norm on train.
      smoothing_T: each trial's label smoothing epsilon: the centers of its own soft targets; default 0.
      floor_known_T: whether a trial's loss is the cross-entropy to targets of the label alone; default True. The
        entropy of mixed targets cannot be told from one example.
      baselines: for each trial the index of its baseline, None without one; default: no interventions.
      mesh: from `parallel.make_mesh`; by default all devices, trials side by side.
    Returns: for each trial its rows, and arrays [N] named SPLIT/METRIC.
    Raises: ValueError: if there is no train split or it lacks a class, a split is empty, shapes disagree, a label is no
      class, or a number is not finite: naming split, trial and example.
    """
    heads, labels = _check(splits, kernel_TDK, bias_TK)
    mesh = parallel.make_mesh() if mesh is None else mesh
    count = len(kernel_TDK)
    _check_trials(count, smoothing_T, floor_known_T, baselines)
    stacked = {name: jnp.asarray(split.features_TND, jnp.float32) for name, split in splits.items()}
    smoothing = np.zeros(count, np.float32) if smoothing_T is None else np.asarray(smoothing_T, np.float32)
    given = parallel.put_trials((stacked, heads, smoothing), mesh)
    shared = parallel.put_shared((labels, np.float32(radius)), mesh)
    found = parallel.fetch(_program(measure_placed, mesh)(given, shared), count)
    for name, arrays in found["examples"].items():
        check_lengths(name, arrays["feature_norm"])
    trials = [jax.tree.map(lambda a, t=t: a[t], found) for t in range(count)]
    known = [True] * count if floor_known_T is None else floor_known_T
    measured = [summary.measured(trial, labels, own) for trial, own in zip(trials, known)]
    if baselines is not None and REPORTED in splits:
        pairs = _intervene(trials, splits[REPORTED], heads, baselines, mesh)
        measured = [one._replace(rows=one.rows + pairs[t]) for t, one in enumerate(measured)]
    return measured


@functools.lru_cache(maxsize=8)
def _program(fn: Any, mesh: Any) -> Any:
    """Kept, so that a second program of the same shapes compiles nothing."""
    return parallel.per_trial(fn, mesh, "place")


def _intervene(
    trials: Sequence[Tree], split: Split, heads: Head, baselines: Sequence[int | None], mesh: Any
) -> list[list[Row]]:
    """Rows of each trial that has a baseline: what its norm and its angle would do to the baseline."""
    of = [t if b is None else b for t, b in enumerate(baselines)]
    lengths = np.array([trial["examples"][REPORTED]["feature_norm"].mean() for trial in trials])
    angles = np.array([trial["examples"][REPORTED]["center_angle"].mean() for trial in trials])
    change = interventions.Change(lengths / np.maximum(lengths[of], 1e-30), angles[of] - angles)
    centers = np.stack([trial["vectors"]["center"] for trial in trials])
    features = np.asarray(split.features_TND, np.float32)[of]
    given = (features, Head(heads.kernel[jnp.asarray(of)], heads.bias[jnp.asarray(of)]), centers[of], change)
    shared = parallel.put_shared(np.asarray(split.labels_N, np.int32), mesh)
    found = _program(_one_pair, mesh)(parallel.put_trials(given, mesh), shared)
    found = parallel.fetch(found, len(trials))
    return [
        [] if b is None else summary.pair_rows(REPORTED, {k: v[t] for k, v in found.items()}, trials[t], trials[b])
        for t, b in enumerate(baselines)
    ]


def _one_pair(pairs: tuple[Tree, Array], labels_N: Array) -> dict[str, Array]:
    (features_TND, *rest), trial = pairs
    head, centers_KD, change = jax.tree.map(lambda a: a[trial], rest)
    with jax.default_matmul_precision("highest"):
        return interventions.intervene(Placed(features_TND, trial), labels_N, head, centers_KD, change)


def _check(
    splits: Mapping[str, Split], kernel_TDK: np.ndarray | Array, bias_TK: np.ndarray | Array
) -> tuple[Head, dict[str, np.ndarray]]:
    """Last layers and labels as the program takes them."""
    if "train" not in splits:
        raise ValueError(f"geometry needs the un-augmented train split, got {sorted(splits)}: predict it first.")
    shape = np.shape(splits["train"].features_TND)
    if len(shape) != 3:
        raise ValueError(f"features of train must be [T, N, D], got {shape}: stack one [N, D] a trial.")
    heads, labels = check_heads(kernel_TDK, bias_TK, shape[:1], shape[2]), {}
    check_finite(heads)
    for name, split in splits.items():
        if len(split.labels_N) == 0:
            raise ValueError(f"{name}: the split is empty: give it an example, or leave it out.")
        expected = (shape[0], len(split.labels_N), shape[2])
        if split.features_TND.shape != expected:
            raise ValueError(f"features of {name} must be [T, N, D] = {expected}, got {split.features_TND.shape}.")
        labels[name] = check_labels(name, split.labels_N, expected[1], heads.bias.shape[1])
    norms.check_classes(labels["train"], heads.bias.shape[1])
    return heads, labels


def _check_trials(
    count: int,
    smoothing: Sequence[float] | None,
    floor_known: Sequence[bool] | None,
    baselines: Sequence[int | None] | None,
) -> None:
    given = {"smoothing_T": smoothing, "floor_known_T": floor_known, "baselines": baselines}
    for name, values in given.items():
        if values is not None and len(values) != count:
            raise ValueError(f"{name} must have a value a trial, {count}, got {len(values)}.")
    for trial, base in enumerate(baselines or ()):
        if base is not None and not 0 <= base < count:
            rule = f"must be a trial from 0 to {count - 1}, or None"
            raise ValueError(f"baselines: that of trial {trial} {rule}, got {base}.")
