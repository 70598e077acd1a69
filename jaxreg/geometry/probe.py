"""The geometry probe: every number on norms, centers, cones, margins and collapse, for all trials of a program."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Shaped

from jaxreg.arithmetic import single
from jaxreg.checks import Arrays, check_heads, check_ids, check_labels, stacked_features
from jaxreg.data.dataset import key_ids
from jaxreg.geometry import interventions, isotropic, norms, rows
from jaxreg.geometry.trial import KEPT, measure_placed
from jaxreg.measured import Measured
from jaxreg.models.functional import Head
from jaxreg.runtime import parallel
from jaxreg.runtime.compiling import Effort, kept
from jaxreg.runtime.passes import Tree, fetch_trials, trial_groups

REPORTED = "test"  # the split on which trials are compared with their baselines


class Features(NamedTuple):
    """Features of all trials on one split [T, N, D], or one array [N, D] for each trial; labels and ids [N] they share.

    A sequence may read its arrays from files when it is asked for them: one trial after another. Without ids examples
    are numbered from 0.
    """

    features: Arrays | Sequence[Arrays]
    labels: Arrays
    ids: Arrays | None = None


@kept
@single
def measure(
    splits: Mapping[str, Features],
    kernel_TDK: Shaped[Arrays, "T D K"],
    bias_TK: Shaped[Arrays, "T K"],
    *,
    radius: float = 0.0,
    smoothing_T: Sequence[float] | None = None,
    floor_known_T: Sequence[bool] | None = None,
    baselines: Sequence[int | None] | None = None,
    seeds_T: Sequence[int] | None = None,
    mesh: parallel.Mesh | None = None,
) -> list[Measured]:
    """Measures all trials with one compiled program, and two small ones: random features, and pairs with a baseline.

    Args:
      splits: by name; "train", un-augmented, is needed: it gives class means, the default radius, and collapse.
        "validation" and "test" together give the scaling of features; "test" the interventions and random features.
      radius: length of the class centers; 0 means each trial's mean feature norm on train.
      smoothing_T: each trial's label smoothing epsilon: the centers of its own soft targets; default 0.
      floor_known_T: whether a trial's loss is the cross-entropy to targets of the label alone; default True. The
        entropy of mixed targets cannot be told from one example.
      baselines: for each trial the index of its baseline, None without one; default: no interventions.
      seeds_T: of the random features that those of "test" are compared with; default 0. Trials of one seed share them.
      mesh: from `parallel.make_mesh`; by default all devices, trials side by side.
    Returns: for each trial its rows, and arrays [N] named SPLIT/METRIC, the ids of "test" as test/id.
    Raises: ValueError: if there is no train split or it lacks a class, a split is empty, shapes disagree, a label is no
      class, or a number is not finite: naming split, trial and example.
    """
    heads, labels = _checked(splits, kernel_TDK, bias_TK)
    count, width, _ = heads.kernel.shape
    _check_trials(count, smoothing_T, floor_known_T, baselines, seeds_T)
    ids = {name: check_ids(name, split.ids, split.labels) for name, split in splits.items()}
    smoothing = np.zeros(count, np.float32) if smoothing_T is None else np.asarray(smoothing_T, np.float32)
    groups = trial_groups(count, sum(map(len, labels.values())) * width * 4, mesh)
    shared = parallel.put_shared((labels, np.float32(radius)), groups.mesh)
    read = functools.partial(_read, splits, labels, heads, smoothing)
    trials = groups.results(_program(measure_placed, groups.mesh, groups.effort), read, shared)
    known = [True] * count if floor_known_T is None else floor_known_T
    measured = [rows.measured(trial, labels, own) for trial, own in zip(trials, known)]
    if REPORTED not in splits:
        return measured
    seeds = np.zeros(count, np.uint32) if seeds_T is None else np.asarray(seeds_T, np.uint32)
    drawn = _random(trials, heads, ids[REPORTED], seeds, groups.mesh)
    measured = [rows.with_random(one, own, ids[REPORTED], REPORTED) for one, own in zip(measured, drawn)]
    if baselines is None:
        return measured
    pairs = _intervene(trials, splits[REPORTED], labels[REPORTED], heads, baselines, groups.mesh)
    return [Measured(one.rows + own.rows, one.arrays | own.arrays) for one, own in zip(measured, pairs)]


def _read(
    splits: Mapping[str, Features], labels: Mapping[str, np.ndarray], heads: Head, smoothing: np.ndarray, group: range
) -> Tree:
    """What `measure_placed` is given of a group of trials: features by split, last layers, label smoothing."""
    shapes = {name: (len(own), len(heads.kernel[0])) for name, own in labels.items()}
    features = {name: stacked_features(name, splits[name].features, group, shapes[name]) for name in splits}
    return features, *jax.tree.map(lambda a: a[group], (heads, smoothing))


def _random(
    trials: Sequence[Tree], heads: Head, ids_N: np.ndarray, seeds_T: np.ndarray, mesh: parallel.Mesh
) -> list[dict[str, np.ndarray]]:
    """What random features of the lengths of each trial's own show, arrays [N]."""
    norms_TN = np.stack([trial["examples"][REPORTED]["feature_norm"] for trial in trials])
    given = parallel.put_trials((norms_TN, heads, seeds_T), mesh)
    program = _program(isotropic.measure_trial, mesh, "cheap", "map")
    return fetch_trials(program(given, parallel.put_shared(key_ids(ids_N), mesh)), len(trials))


@functools.lru_cache(maxsize=8)
def _program(
    fn: Callable[..., Tree], mesh: parallel.Mesh, effort: Effort, local: parallel.Local = "place"
) -> Callable[..., Tree]:
    """Kept, so that a second program of the same shapes compiles nothing."""
    return parallel.per_trial(fn, mesh, local, effort=effort)


def _intervene(
    trials: Sequence[Tree],
    split: Features,
    labels_N: np.ndarray,
    heads: Head,
    baselines: Sequence[int | None],
    mesh: parallel.Mesh,
) -> list[Measured]:
    """Of each trial that has a baseline: what its norm and its angle would do to the baseline."""
    of = np.array([t if b is None else b for t, b in enumerate(baselines)])
    examples = [trial["examples"][REPORTED] for trial in trials]
    lengths, angles = (np.array([one[name].mean() for one in examples]) for name in ("feature_norm", "center_angle"))
    change = interventions.Change(lengths / np.maximum(lengths[of], 1e-30), angles[of] - angles)
    centers = np.stack([trial["vectors"]["center"] for trial in trials])
    shape = len(labels_N), centers.shape[-1]
    groups = trial_groups(len(trials), shape[0] * shape[1] * 4, mesh)

    def read(group: range) -> Tree:
        bases = of[group]
        features = stacked_features(REPORTED, split.features, bases, shape)
        own = jax.tree.map(lambda a: a[bases], (heads, centers))
        return features, *own, jax.tree.map(lambda a: a[group], change)

    program, shared = _program(interventions.measure_placed, mesh, groups.effort), parallel.put_shared(labels_N, mesh)
    found = groups.results(program, read, shared)
    return [
        Measured([], {}) if b is None else rows.of_pair(REPORTED, found[t], trials[t], trials[b])
        for t, b in enumerate(baselines)
    ]


def _checked(splits: Mapping[str, Features], kernel_TDK: Arrays, bias_TK: Arrays) -> tuple[Head, dict[str, np.ndarray]]:
    """Last layers and labels as the program takes them. Features are checked when they are read."""
    if KEPT not in splits:
        raise ValueError(f"geometry needs the un-augmented train split, got {sorted(splits)}: predict it first.")
    count = len(splits[KEPT].features)
    for name, split in splits.items():
        if len(split.features) != count or count == 0:
            rule = f"features of {len(split.features)} trials, those of {KEPT} of {count}"
            raise ValueError(f"{name}: {rule}: give each trial its [N, D], at least one.")
    heads = check_heads(kernel_TDK, bias_TK, (count,), np.shape(splits[KEPT].features[0])[-1])
    labels = {name: check_labels(name, split.labels, heads.bias.shape[1]) for name, split in splits.items()}
    norms.check_classes(labels[KEPT], heads.bias.shape[1])
    return heads, labels


def _check_trials(
    count: int,
    smoothing: Sequence[float] | None,
    floor_known: Sequence[bool] | None,
    baselines: Sequence[int | None] | None,
    seeds: Sequence[int] | None,
) -> None:
    given = {"smoothing_T": smoothing, "floor_known_T": floor_known, "baselines": baselines, "seeds_T": seeds}
    for name, values in given.items():
        if values is not None and len(values) != count:
            raise ValueError(f"{name} must have a value a trial, {count}, got {len(values)}.")
    for trial, base in enumerate(baselines or ()):
        if base is not None and not 0 <= base < count:
            rule = f"must be a trial from 0 to {count - 1}, or None"
            raise ValueError(f"baselines: that of trial {trial} {rule}, got {base}.")
