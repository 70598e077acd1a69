"""The geometry probe: every number on norms, centers, cones, margins and collapse, for all trials of a program."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg import parallel
from jaxreg.geometry import centers, collapse, cosines, norms, summary
from jaxreg.geometry.examples import Head, measure_examples
from jaxreg.probe import Measured

Tree = Any


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
    mesh: Any = None,
) -> list[Measured]:
    """Measures all trials with one compiled program.

    Args:
      splits: by name; "train", un-augmented, is needed: it gives class means, the default radius, and collapse.
      radius: length of the class centers; 0 means each trial's mean feature norm on train.
      mesh: from `parallel.make_mesh`; by default all devices, trials side by side.
    Returns: for each trial its rows, and arrays [N] named SPLIT/METRIC.
    Raises: ValueError: if there is no train split, or the shapes of features and last layer disagree.
    """
    _check(splits, kernel_TDK)
    mesh = parallel.make_mesh() if mesh is None else mesh
    labels = {name: np.asarray(split.labels_N, np.int32) for name, split in splits.items()}
    stacked = {name: jnp.asarray(split.features_TND, jnp.float32) for name, split in splits.items()}
    heads = Head(jnp.asarray(kernel_TDK, jnp.float32), jnp.asarray(bias_TK, jnp.float32))
    shared = (labels, np.float32(radius))
    found = _program(mesh)(parallel.put_trials((stacked, heads), mesh), parallel.put_shared(shared, mesh))
    found = parallel.fetch(found, len(heads.kernel_DK))
    trials = [jax.tree.map(lambda a, t=t: a[t], found) for t in range(len(heads.kernel_DK))]
    return [summary.measured(trial, labels) for trial in trials]


def measure_trial(trial: tuple[Mapping[str, Array], Head], shared: tuple[Mapping[str, Array], Array]) -> Tree:
    """One trial's numbers: "examples" by split [N], "classes" by split and "trial" (scalars), "centers" (vectors)."""
    (features, head), (labels, radius) = trial, shared
    with jax.default_matmul_precision("highest"):
        train = features["train"]
        means_KD = norms.class_means(train, labels["train"], head.bias_K.shape[0])
        radius = jnp.where(radius > 0, radius, jnp.mean(norms.norm(train)))
        solved, inside = centers.both_minimal_loss_points(*head, radius)
        vectors = cosines.ClassVectors(solved.points, head.kernel_DK.T, means_KD, train.mean(0))
        predictions_N = jnp.argmax(train @ head.kernel_DK + head.bias_K, 1)
        return {
            "examples": _all_splits(features, labels, head, vectors),
            "common_mode": {name: norms.common_mode(features[name]) for name in features},
            "collapse": collapse.collapse(train, labels["train"], head.kernel_DK, predictions_N, means_KD)._asdict(),
            "centers": _about_centers(head, radius, (solved, inside), vectors),
            "no_bias": jnp.ptp(head.bias_K) == 0,
        }


@functools.lru_cache(maxsize=4)
def _program(mesh: Any) -> Any:
    """Kept, so that a second program of the same shapes compiles nothing."""
    return parallel.per_trial(measure_trial, mesh)


def _all_splits(features: Mapping[str, Array], labels: Mapping[str, Array], head: Head, vectors: Any) -> Tree:
    """The examples of all splits as one batch, which compiles once, and apart again."""
    names = list(features)
    ends = np.cumsum([len(labels[name]) for name in names])[:-1]
    joined = measure_examples(
        jnp.concatenate([features[name] for name in names]),
        jnp.concatenate([labels[name] for name in names]),
        head,
        vectors,
    )
    parts = {metric: jnp.split(array, ends) for metric, array in joined.items()}
    return {name: {metric: part[i] for metric, part in parts.items()} for i, name in enumerate(names)}


def _about_centers(head: Head, radius: Array, both: tuple[Any, Any], vectors: cosines.ClassVectors) -> Tree:
    """How exact the centers are, how they relate to rows and means, to other radii and to the positive orthant."""
    solved, inside = both
    far = centers.max_margin_directions(head.kernel_DK)
    return {
        "center_radius": radius,
        "center_residual": jnp.max(solved.residual),
        "center_residual_nonnegative": jnp.max(inside.residual),
        "center_residual_far": jnp.max(far.residual),
        "center_far_agreement": cosines.cosine(solved.points, far.points).mean(),
        "center_nonnegative_agreement": cosines.cosine(solved.points, inside.points).mean(),
        **cosines.agreement(vectors),
    }


def _check(splits: Mapping[str, Split], kernel_TDK: np.ndarray | Array) -> None:
    if "train" not in splits:
        raise ValueError(f"geometry needs the un-augmented train split, got {sorted(splits)}: predict it first.")
    trials, width, _ = kernel_TDK.shape
    for name, split in splits.items():
        expected = (trials, len(split.labels_N), width)
        if split.features_TND.shape != expected:
            raise ValueError(f"features of {name} must be [T, N, D] = {expected}, got {split.features_TND.shape}.")
