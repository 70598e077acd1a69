"""What must hold of features, last layers and labels, of one network or of stacks: one clear error, naming which."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.models.functional import Head

Arrays = np.ndarray | Array


def check_network(
    features_ND: Arrays, kernel_DK: Arrays, bias_K: Arrays, labels_N: Arrays
) -> tuple[Array, Head, np.ndarray]:
    """Features, last layer and labels as the probe takes them, float32 and int32.

    Raises: ValueError: if shapes disagree, there is no example, a label is no class, or a number is not finite.
    """
    features, kernel, bias, labels = map(np.asarray, (features_ND, kernel_DK, bias_K, labels_N))
    _check_shapes(features, kernel, bias)
    narrow = check_labels("", labels, len(features), len(bias))
    return _finite("example", "feature", features), _head(kernel, bias), narrow


def check_labels(split: str, labels_N: Arrays, count: int, classes: int) -> np.ndarray:
    """The labels of `count` examples as int32. Raises: ValueError: naming split and example of one that is no class."""
    labels, where = np.asarray(labels_N), f"{split}, " if split else ""
    if labels.shape != (count,) or labels.dtype.kind not in "iubf":
        got = f"{labels.dtype} {labels.shape}"
        raise ValueError(f"{where}labels must be numbers [N] = ({count},), got {got}: give each example its class.")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes) | (labels != np.floor(labels)))
    if len(wrong):
        raise ValueError(
            f"{where}example {wrong[0]}: label must be a class 0 to {classes - 1}, got {labels[wrong[0]]}: "
            "number the classes as the columns of the kernel."
        )
    return labels.astype(np.int32)


def check_heads(kernels: Arrays, biases: Arrays, lead: tuple[int, ...], width: int) -> Head:
    """The last layers of stacks, [*lead, D, K] and [*lead, K], float32. Raises: ValueError: if shapes disagree."""
    kernel, bias = np.shape(kernels), np.shape(biases)
    if len(kernel) != len(lead) + 2 or kernel[:-1] != (*lead, width) or kernel[-1] < 2:
        told = f"kernels must be [{', '.join(map(str, (*lead, width)))}, K] with at least 2 classes, got {kernel}"
        raise ValueError(f"{told}: stack one [D, K] a trial.")
    if bias != (*lead, kernel[-1]):
        told = f"biases must be {(*lead, kernel[-1])}, got {bias}"
        raise ValueError(f"{told}: stack one [K] a trial, zeros for a layer without.")
    return Head(jnp.asarray(kernels, jnp.float32), jnp.asarray(biases, jnp.float32))


def check_finite(heads: Head) -> None:
    """Raises ValueError naming the first trial whose last layer is not finite."""
    for name, given in (("kernel", heads.kernel), ("bias", heads.bias)):
        wrong = np.flatnonzero(~np.isfinite(np.asarray(given).reshape(len(given), -1)).all(1))
        if len(wrong):
            raise ValueError(f"trial {wrong[0]}: its {name} is not finite: did training diverge? Leave the trial out.")


def check_lengths(split: str, lengths_TN: np.ndarray) -> None:
    """Raises ValueError naming trial and example whose feature has no finite length in float32."""
    wrong = np.argwhere(~np.isfinite(lengths_TN))
    if len(wrong):
        trial, example = wrong[0]
        told = f"{split}, trial {trial}, example {example}: the feature is not finite, or its square is no float32"
        raise ValueError(f"{told} ({len(wrong)} in all): did training diverge? Leave the trial out.")


def _head(kernel: np.ndarray, bias: np.ndarray) -> Head:
    rows_KD, bias_K1 = _finite("class", "kernel", kernel.T), _finite("class", "bias", bias[:, None])
    return Head(rows_KD.T, bias_K1[:, 0])


def _check_shapes(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> None:
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features must be [N, D], neither of them 0, got {features.shape}: give each example a row.")
    width = features.shape[1]
    if kernel.ndim != 2 or len(kernel) != width or kernel.shape[1] < 2:
        rule = f"kernel must be [D, K] = ({width}, K) with at least 2 classes"
        raise ValueError(f"{rule}, got {kernel.shape}: is it transposed, as PyTorch keeps it?")
    if bias.shape != kernel.shape[1:]:
        raise ValueError(f"bias must be [K] = {kernel.shape[1:]}, got {bias.shape}: give zeros for a layer without.")


def _finite(place: str, what: str, given: np.ndarray) -> Array:
    """float32, after a look at each row: its squares must have a sum in float32, as they have one in every length."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = given.astype(np.float32)
        wrong = np.flatnonzero(~np.isfinite(np.einsum("ij,ij->i", narrow, narrow)))
    if len(wrong):
        row = given[wrong[0]]
        bad = row[~np.isfinite(row)] if not np.isfinite(row).all() else row[[np.abs(row).argmax()]]
        told = "is too large, its square is no float32" if np.isfinite(bad[0]) else "is not finite"
        raise ValueError(f"{place} {wrong[0]}: {what} {bad[0]} {told} ({len(wrong)} in all): did training diverge?")
    return jnp.asarray(narrow)
