"""Norms, cosines, cones, collapse at a schedule of steps: the same numbers as the probe, of snapshots of a trial."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg.arithmetic import single
from jaxreg.checks import Arrays, check_heads, check_labels, stacked_features
from jaxreg.geometry import centers, collapse, cosines, norms
from jaxreg.geometry.maps import Space
from jaxreg.geometry.rows import PLAIN
from jaxreg.geometry.trial import measure_examples
from jaxreg.measured import Measured, Row
from jaxreg.models.functional import Head
from jaxreg.runtime import parallel
from jaxreg.runtime.compiling import Effort
from jaxreg.runtime.passes import Tree, trial_groups

MEANS = ("feature_norm", "center_cosine", "weight_cosine", "mean_cosine", "cone_fraction", "angular_margin")
FAR = ("cone_breakpoint", "cone_radius")  # of these what 95 % of the examples stay below
PREFIX = "over_training/"
SHOWN = 500  # examples kept for maps
UNTURNED = (*PLAIN, "accuracy", "cone_by_construction")  # what zero features have, too
PARTS = ("features", "kernel", "bias", "center")


@single
def measure_snapshots(
    features_TSND: Arrays | Sequence[Arrays],
    labels_N: Shaped[Arrays, " N"],
    kernel_TSDK: Shaped[Arrays, "T S D K"],
    bias_TSK: Shaped[Arrays, "T S K"],
    *,
    mesh: parallel.Mesh | None = None,
) -> dict[str, np.ndarray]:
    """Measures S snapshots of T trials on one split: arrays [T, S] by metric. One compiled program.

    Centers sit at the mean feature norm of their own snapshot; class means and collapse are of the examples given.
    Args: features_TSND: un-augmented training features, or a subset of them with every class present; a stack, or a
      sequence of arrays [S, N, D], one a trial, that may be read from files when it is asked for them.
    Returns: the metrics of the probe; among them `cone_by_construction`, 1 where the last layer has no bias; and
      `center`, the class centers [T, S, K, D].
    Raises: ValueError: if shapes disagree, a label is no class, a class has no example, or a number is not finite.
    """
    shape = np.shape(features_TSND[0])
    if len(shape) != 3:
        raise ValueError(f"features of a trial must be [S, N, D], got {shape}: stack its snapshots.")
    trials, (snapshots, count, width) = len(features_TSND), shape
    heads = check_heads(kernel_TSDK, bias_TSK, (trials, snapshots), width)
    labels = check_labels("", labels_N, heads.bias.shape[-1], count=count)
    norms.check_classes(labels, heads.bias.shape[-1])

    def read(group: range) -> Tree:
        each = [
            stacked_features(f"trial {t}", features_TSND[t], range(snapshots), shape[1:], "snapshot") for t in group
        ]
        return np.stack(each), *(a[group] for a in heads)

    groups = trial_groups(trials, math.prod(shape) * 4, mesh)
    shared = parallel.put_shared(labels, groups.mesh)
    each = groups.results(_program(groups.mesh, groups.effort), read, shared)
    found = {name: np.stack([one[name] for one in each]) for name in each[0]}
    far = {f"{name}/q95": np.percentile(found.pop(name), 95, axis=2) for name in FAR}
    return found | far


def measured(found: Mapping[str, np.ndarray], steps: Sequence[int], count: int, split: str = "train") -> list[Measured]:
    """For each trial its curves as rows `over_training/METRIC@STEP`, each over `count` examples; no arrays.

    nan where all features are zero, for what needs a direction.
    """
    curves = {name: _known(name, value, found["feature_norm"]) for name, value in found.items() if value.ndim == 2}
    return [
        Measured(
            [
                Row(split, f"{PREFIX}{name}@{step}", float(number), count)
                for name, value in curves.items()
                for step, number in zip(steps, value[t])
            ],
            {},
        )
        for t in range(len(found["center"]))
    ]


def _known(name: str, value_TS: np.ndarray, norm_TS: np.ndarray) -> np.ndarray:
    return value_TS if name.startswith(UNTURNED) else np.where(norm_TS > 0, value_TS, np.nan)


def space_arrays(
    t: int,
    steps: Sequence[int],
    features_TSND: Shaped[np.ndarray, "T S N D"],
    labels_N: Shaped[np.ndarray, " N"],
    *vectors: np.ndarray,
) -> dict[str, np.ndarray]:
    """What maps of trial t need: at every step the first `SHOWN` features, and `vectors`: kernels, biases, centers."""
    found = {"labels": np.asarray(labels_N)[:SHOWN]}
    for s, step in enumerate(steps):
        parts = (features_TSND[t, s, :SHOWN], *(vector[t, s] for vector in vectors))
        found |= {f"{name}@{step}": np.asarray(part) for name, part in zip(PARTS, parts)}
    return found


def steps_of(arrays: Mapping[str, np.ndarray]) -> list[int]:
    """The steps whose space `space_arrays` saved, ascending."""
    return sorted(int(name.split("@")[1]) for name in arrays if name.startswith("features@"))


def space(arrays: Mapping[str, np.ndarray], step: int) -> Space:
    """The space at one of those steps."""
    features_ND, kernel_DK, bias_K, centers_KD = (arrays[f"{name}@{step}"] for name in PARTS)
    return Space(features_ND, arrays["labels"], Head(jnp.asarray(kernel_DK), jnp.asarray(bias_K)), centers_KD)


@functools.lru_cache(maxsize=4)
def _program(mesh: parallel.Mesh, effort: Effort) -> Callable[..., Tree]:

    def snapshots(trial: Tree, labels_N: Array) -> Tree:
        return jax.lax.map(lambda one: _snapshot(one, labels_N), trial)

    return parallel.per_trial(snapshots, mesh, effort=effort)


def _snapshot(snapshot: tuple[Array, Array, Array], labels_N: Array) -> dict[str, Array]:
    features_ND, kernel_DK, bias_K = snapshot
    head = Head(kernel_DK, bias_K)
    with jax.default_matmul_precision("highest"):
        means_KD = norms.class_means(features_ND, labels_N, bias_K.shape[0])
        solved = centers.minimal_loss_points(*head, jnp.mean(norms.norm(features_ND)))
        vectors = cosines.ClassVectors(solved.points, kernel_DK.T, means_KD, solved.points, features_ND.mean(0))
        names = (*MEANS, *FAR, "prediction", "correct")
        examples = measure_examples({"": (features_ND, labels_N)}, head, vectors, names)[""]
        return {
            **{name: jnp.mean(examples[name]) for name in MEANS},
            **{name: examples[name] for name in FAR},
            "accuracy": jnp.mean(examples["correct"]),
            "common_mode": norms.common_mode(features_ND),
            "center_residual": jnp.max(solved.residual),
            "center": solved.points,
            "cone_by_construction": (jnp.ptp(bias_K) == 0).astype(jnp.float32),
            **collapse.collapse(features_ND, labels_N, kernel_DK, examples["prediction"], means_KD)._asdict(),
        }
