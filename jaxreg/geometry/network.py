"""Geometry of one network in one call: features [N, D], its last layer and labels [N] in, the probe's numbers out.

Features are the input of the last layer, `logits = features @ kernel + bias`: any floats, of NumPy or JAX. N, D and K
of one call compile a program once, and later calls of that shape are fast. For many networks: `measure`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg.arithmetic import single
from jaxreg.calibration.metrics import predicted
from jaxreg.checks import Arrays, check_heads, check_labels, checked_features
from jaxreg.geometry import collapse, norms, rows
from jaxreg.geometry.trial import KEPT, measure_trial
from jaxreg.models.functional import Head
from jaxreg.runtime.compiling import cheaply, kept

OF_MEANS = ("nc1", "nc2_norm", "nc2_angle", "nc3", "nc4", "within_class_variance", "within_class_share")
_measure: Callable[..., Any] = cheaply(measure_trial)


class Network(NamedTuple):
    """Numbers, arrays [N] of each example, and class vectors [K, D] (`mean_D`: [D]), each by name."""

    numbers: dict[str, float]
    examples: dict[str, np.ndarray]
    classes: dict[str, np.ndarray]


@kept
@single
def measure_network(
    features_ND: Shaped[Arrays, "N D"],
    kernel_DK: Shaped[Arrays, "D K"],
    bias_K: Shaped[Arrays, " K"],
    labels_N: Shaped[Arrays, " N"],
    *,
    radius: float = 0.0,
    smoothing: float = 0.0,
) -> Network:
    """Norms, cosines to class centers, cones, margins and neural collapse of one network. Angles in radians.

    Args:
      radius: length of the class centers; 0: the mean length of the features.
      smoothing: the label smoothing epsilon of the targets that `soft_center` and `loss` are of.
    Returns: `numbers`: means over examples and the rest of docs/measures.md under its names, without `train_`; among
      them `center_residual`, the KKT residual of the centers, and collapse, a matter of un-augmented training features.
      `examples`: `norm`, `center_cosine`, `weight_cosine`, `mean_cosine`, `cone_fraction` (bool), `cone_breakpoint`,
      `angular_margin`, `label_margin` and so on. `classes`: `center`, `weight`, `mean`, `soft_center`.
      NaN: what needs the mean of every class where one has no example, and numbers of directions of zero features
      (or shorter than 1e-19: their squares are no float32).
    Raises: ValueError: if shapes disagree, there is no example, a label is no class, or a number is not finite.
    """
    features, head, labels = _checked(features_ND, kernel_DK, bias_K, labels_N)
    if not (isinstance(radius, int | float | np.number) and math.isfinite(radius) and radius >= 0):
        raise ValueError(f"radius must be finite and at least 0, got {radius!r}: 0 is the mean length of the features.")
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must be in [0, 1), got {smoothing}: 0 is no label smoothing.")
    given = ({KEPT: features}, head, np.float32(smoothing)), ({KEPT: labels}, np.float32(radius))
    found = rows.measured(jax.tree.map(np.asarray, _measure(*given)), {KEPT: labels})
    numbers = {row.metric.removeprefix("train_"): row.value for row in found.rows}
    examples, classes = (_under(found.arrays, place) for place in (f"{KEPT}/", "class/"))
    return _without_missing(Network(numbers, examples, classes), labels)


@single
def neural_collapse(
    features_ND: Shaped[Arrays, "N D"],
    kernel_DK: Shaped[Arrays, "D K"],
    bias_K: Shaped[Arrays, " K"],
    labels_N: Shaped[Arrays, " N"],
) -> collapse.Collapse:
    """`collapse.collapse` of features around the means of their own classes: numbers.

    Raises: ValueError: as `measure_network`, and if a class has no example.
    """
    features, head, labels = _checked(features_ND, kernel_DK, bias_K, labels_N)
    norms.check_classes(labels, len(head.bias))
    return jax.tree.map(float, _collapse(features, head, labels))


def _checked(
    features_ND: Arrays, kernel_DK: Arrays, bias_K: Arrays, labels_N: Arrays
) -> tuple[np.ndarray, Head, np.ndarray]:
    """Features, last layer and labels as the probe takes them, float32 and int32."""
    shape = np.shape(features_ND)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"features must be [N, D], neither of them 0, got {shape}: give each example a row.")
    head = check_heads(kernel_DK, bias_K, (), shape[1])
    labels = check_labels("", labels_N, len(head.bias), count=shape[0])
    return checked_features("", features_ND, shape), head, labels


@cheaply
def _collapse(features_ND: Array, head: Head, labels_N: Array) -> collapse.Collapse:
    with jax.default_matmul_precision("highest"):
        means_KD = norms.class_means(features_ND, labels_N, len(head.bias))
        predictions_N = predicted(head.logits(features_ND))
        return collapse.collapse(features_ND, labels_N, head.kernel, predictions_N, means_KD)


def _under(arrays: dict[str, np.ndarray], place: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(place): array for name, array in arrays.items() if name.startswith(place)}


def _without_missing(found: Network, labels_N: np.ndarray) -> Network:
    """Where a class has no example it has no mean, and what needs all means is NaN."""
    missing_K = np.bincount(labels_N, minlength=len(found.classes["mean"])) == 0
    if not missing_K.any():
        return found
    lacking = [name for name in found.numbers if name in (*OF_MEANS, "mean_cosine_centred") or "mean_agree" in name]
    nothing = np.full(len(labels_N), np.nan, np.float32)
    return Network(
        found.numbers | dict.fromkeys(lacking, math.nan),
        found.examples | {"mean_cosine_centred": nothing},
        found.classes | {"mean": np.where(missing_K[:, None], np.nan, found.classes["mean"])},
    )
